-- Quotas of domains and tenants, beside those of accounts. A root's counters
-- are split in slots, so that the accounts of a domain or tenant do not wait for one row: each account counts in one of them.
-- Where the root has a limit, every slot has a grant, and the grants sum to the limit: what fits its slot fits the root.
-- What does not fit its slot is rolled back (MS010) and done again under all slots' locks (all_slots), where the
-- true total decides, and the rest is split anew. New tables; the previous release, which does
-- not charge them, must be gone before limits are set: mailstead fsck --repair counts anew.
-- +goose Up

-- Limits of a root, where any was set: in the order of package quota, STORAGE, MESSAGE, MAILBOX, ANNOTATION-STORAGE, octets
-- or pieces. An element of NULL is none.
CREATE TABLE quota_root (
    tenant_id bigint NOT NULL,
    level     smallint NOT NULL CHECK (level BETWEEN 0 AND 2),        -- account, domain, tenant
    root      bigint NOT NULL CHECK ((root = 0) = (level = 2)),       -- account_id, domain_id, 0
    hard      bigint[] NOT NULL CHECK (cardinality(hard) = 4 AND 0 <= ALL (hard)),
    PRIMARY KEY (tenant_id, level, root)
);
CALL protect('quota_root');

-- Slots. A slot is made when its first account comes. A grant of NULL: no limit; of -1: more is
-- used than the limit, and whoever wants more has it decided under all locks.
CREATE TABLE quota_slot (
    tenant_id        bigint NOT NULL,
    root             bigint NOT NULL,   -- domain_id; 0: the tenant
    slot             smallint NOT NULL, -- of the accounts whose number ends in these bits
    bytes            bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    messages         bigint NOT NULL DEFAULT 0 CHECK (messages >= 0),
    mailboxes        bigint NOT NULL DEFAULT 0 CHECK (mailboxes >= 0),
    annotations      bigint NOT NULL DEFAULT 0 CHECK (annotations >= 0), -- octets
    storage_grant    bigint CHECK (storage_grant >= -1),
    message_grant    bigint CHECK (message_grant >= -1),
    mailbox_grant    bigint CHECK (mailbox_grant >= -1),
    annotation_grant bigint CHECK (annotation_grant >= -1),
    PRIMARY KEY (tenant_id, root, slot)
) WITH (fillfactor = 50);
CALL protect('quota_slot');

-- When the counters of a tenant were audited last, and how many were wrong.
CREATE TABLE quota_audit (
    tenant_id bigint PRIMARY KEY,
    at        timestamptz NOT NULL,
    drift     bigint NOT NULL
);
CALL protect('quota_audit');

-- root_limits returns what a root is held to.
CREATE FUNCTION root_limits(t bigint, l int, r bigint) RETURNS bigint[]
    LANGUAGE sql STABLE
    AS $$
SELECT coalesce((SELECT hard FROM quota_root WHERE tenant_id = t AND level = l AND root = r), '{NULL,NULL,NULL,NULL}')
$$;

-- apply_limits holds a root to what root_limits says. For a domain or tenant the caller has called all_slots. Locks: account, or slots.
-- +goose StatementBegin
CREATE FUNCTION apply_limits(t bigint, l int, r bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    lim bigint[] := root_limits(t, l, r);
BEGIN
    IF l = 0 THEN
        UPDATE account_state
        SET storage_limit = lim[1], message_limit = lim[2], mailbox_limit = lim[3], annotation_limit = lim[4]
        WHERE tenant_id = t AND account_id = r;
    ELSE
        PERFORM FROM quota_slot WHERE tenant_id = t AND root = r ORDER BY slot FOR NO KEY UPDATE;
        PERFORM split_slots(t, r);
    END IF;
END
$$;
-- +goose StatementEnd

-- all_slots lets one transaction of a tenant at a time lock all slots of a
-- root. It comes before every other lock. Others hold one slot of a root and wait for none besides, so nobody waits in a circle.
-- +goose StatementBegin
CREATE FUNCTION all_slots(t bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(9208, hashint8(t)), set_config('mailstead.slots', 'all', true);
END
$$;
-- +goose StatementEnd

-- over_quota refuses a change by what is used, the limit, what was wanted, and the level that it was wanted of.
-- +goose StatementBegin
CREATE FUNCTION over_quota(resource text, used bigint, most bigint, wanted bigint, level text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'over quota' USING ERRCODE = 'MS003', DETAIL = concat_ws(' ', resource, used, most, wanted, level);
END
$$;
-- +goose StatementEnd

-- charge_roots counts for the domain and the tenant of an account what the account itself has counted. Locks: domain slot, tenant slot.
-- +goose StatementBegin
CREATE FUNCTION charge_roots(t bigint, domain bigint, account bigint, n bigint, octets bigint, boxes bigint, notes bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    done boolean;
BEGIN
    done := charge_root(t, domain, account, n, octets, boxes, notes);
    done := charge_root(t, 0, account, n, octets, boxes, notes);
    RETURN done;
END
$$;
-- +goose StatementEnd

-- charge_root counts in one root: in the account's slot, if it fits that.
-- +goose StatementBegin
CREATE FUNCTION charge_root(t bigint, r bigint, account bigint, n bigint, octets bigint, boxes bigint, notes bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF current_setting('mailstead.slots', true) = 'all' THEN
        RETURN charge_under_all(t, r, account, n, octets, boxes, notes);
    END IF;
    UPDATE quota_slot
    SET bytes = bytes + octets, messages = messages + n, mailboxes = mailboxes + boxes, annotations = annotations + notes
    WHERE tenant_id = t AND root = r AND slot = (account & 31)::smallint
      AND (octets <= 0 OR bytes + octets <= storage_grant) IS NOT FALSE
      AND (n <= 0 OR messages + n <= message_grant) IS NOT FALSE
      AND (boxes <= 0 OR mailboxes + boxes <= mailbox_grant) IS NOT FALSE
      AND (notes <= 0 OR annotations + notes <= annotation_grant) IS NOT FALSE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'it does not fit its slot of root %', r USING ERRCODE = 'MS010';
    END IF;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- lock_slots locks all slots of a root, with that of an account, which is made where it is missing. The caller has called all_slots.
-- +goose StatementBegin
CREATE FUNCTION lock_slots(t bigint, r bigint, account bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    mine smallint := account & 31;
    lim  bigint[];
BEGIN
    PERFORM FROM quota_slot WHERE tenant_id = t AND root = r AND slot = mine;
    IF NOT FOUND THEN
        lim := root_limits(t, CASE WHEN r = 0 THEN 2 ELSE 1 END, r);
        INSERT INTO quota_slot (tenant_id, root, slot, storage_grant, message_grant, mailbox_grant, annotation_grant)
        VALUES (t, r, mine, least(lim[1], 0), least(lim[2], 0), least(lim[3], 0), least(lim[4], 0));
    END IF;
    PERFORM FROM quota_slot WHERE tenant_id = t AND root = r ORDER BY slot FOR NO KEY UPDATE;
END
$$;
-- +goose StatementEnd

-- charge_under_all is charge_root where the slots are locked, all of them: what fits the true total is taken, and the rest split anew.
-- +goose StatementBegin
CREATE FUNCTION charge_under_all(t bigint, r bigint, account bigint, n bigint, octets bigint, boxes bigint, notes bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    lim   bigint[];
    u     record;
    split boolean;
    level text := CASE WHEN r = 0 THEN 'tenant' ELSE 'domain' END;
BEGIN
    PERFORM lock_slots(t, r, account);
    lim := root_limits(t, CASE WHEN r = 0 THEN 2 ELSE 1 END, r);
    -- A statement of its own behind the locks: it sees what those have counted who had them before.
    SELECT sum(bytes)::bigint AS bytes, sum(messages)::bigint AS messages, sum(mailboxes)::bigint AS mailboxes,
           sum(annotations)::bigint AS annotations INTO u
    FROM quota_slot
    WHERE tenant_id = t AND root = r;
    IF octets > 0 AND u.bytes + octets > lim[1] THEN
        PERFORM over_quota('STORAGE', u.bytes, lim[1], octets, level);
    END IF;
    IF n > 0 AND u.messages + n > lim[2] THEN
        PERFORM over_quota('MESSAGE', u.messages, lim[2], n, level);
    END IF;
    IF boxes > 0 AND u.mailboxes + boxes > lim[3] THEN
        PERFORM over_quota('MAILBOX', u.mailboxes, lim[3], boxes, level);
    END IF;
    IF notes > 0 AND u.annotations + notes > lim[4] THEN
        PERFORM over_quota('ANNOTATION-STORAGE', u.annotations, lim[4], notes, level);
    END IF;
    UPDATE quota_slot
    SET bytes = bytes + octets, messages = messages + n, mailboxes = mailboxes + boxes, annotations = annotations + notes
    WHERE tenant_id = t AND root = r AND slot = (account & 31)::smallint
    RETURNING octets > 0 AND bytes > storage_grant OR n > 0 AND messages > message_grant
           OR boxes > 0 AND mailboxes > mailbox_grant OR notes > 0 AND annotations > annotation_grant INTO split;
    IF split THEN
        PERFORM split_slots(t, r);
    END IF;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- slot_grant is what one of n slots, the nth, is granted of a limit, of which so much is used in all.
CREATE FUNCTION slot_grant(used bigint, most bigint, total bigint, n bigint, nth bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
SELECT CASE
    WHEN most IS NULL THEN NULL
    WHEN total > most THEN -1
    ELSE used + (most - total) / n + CASE WHEN nth <= (most - total) % n THEN 1 ELSE 0 END
END
$$;

-- split_slots splits what is left of a root's limits among its slots, all of which are locked.
-- +goose StatementBegin
CREATE FUNCTION split_slots(t bigint, r bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    lim bigint[] := root_limits(t, CASE WHEN r = 0 THEN 2 ELSE 1 END, r);
BEGIN
    UPDATE quota_slot q
    SET storage_grant = slot_grant(q.bytes, lim[1], s.bytes::bigint, s.n, s.nth),
        message_grant = slot_grant(q.messages, lim[2], s.messages::bigint, s.n, s.nth),
        mailbox_grant = slot_grant(q.mailboxes, lim[3], s.mailboxes::bigint, s.n, s.nth),
        annotation_grant = slot_grant(q.annotations, lim[4], s.annotations::bigint, s.n, s.nth)
    FROM (
        SELECT slot, row_number() OVER (ORDER BY slot) AS nth, count(*) OVER () AS n, sum(bytes) OVER () AS bytes,
               sum(messages) OVER () AS messages, sum(mailboxes) OVER () AS mailboxes, sum(annotations) OVER () AS annotations
        FROM quota_slot
        WHERE tenant_id = t AND root = r
    ) s
    WHERE q.tenant_id = t AND q.root = r AND q.slot = s.slot;
END
$$;
-- +goose StatementEnd

-- charge_names counts mailboxes and octets of annotations, as charge_account does messages.
-- +goose StatementBegin
CREATE FUNCTION charge_names(t bigint, account bigint, boxes bigint, notes bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    a account_state;
BEGIN
    IF boxes = 0 AND notes = 0 THEN
        RETURN true;
    END IF;
    UPDATE account_state s
    SET mailboxes = mailboxes + boxes, annotations = annotations + notes
    WHERE tenant_id = t AND account_id = account
    RETURNING s.* INTO a;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no account %', account USING ERRCODE = 'MS001';
    END IF;
    IF boxes > 0 AND a.mailboxes > a.mailbox_limit THEN
        PERFORM over_quota('MAILBOX', a.mailboxes - boxes, a.mailbox_limit, boxes, 'account');
    END IF;
    IF notes > 0 AND a.annotations > a.annotation_limit THEN
        PERFORM over_quota('ANNOTATION-STORAGE', a.annotations - notes, a.annotation_limit, notes, 'account');
    END IF;
    RETURN charge_roots(t, a.domain_id, account, 0, 0, boxes, notes);
END
$$;
-- +goose StatementEnd

-- charge_exchange charges one account for n messages, of so many octets, in exchange for messages of another, which
-- is freed of them, and gives out email numbers as charge_account does, with what came of them from outside.
-- A root of both is charged the difference only: what was counted goes from slot to slot, with the grant
-- for it, so that it fits also where nothing is left. Locks: accounts, domain slots, tenant slots.
-- +goose StatementBegin
CREATE FUNCTION charge_exchange(
    t bigint, old bigint, freed bigint, freed_octets bigint, new bigint, n bigint, octets bigint, emails bigint,
    came bigint DEFAULT 0, came_octets bigint DEFAULT 0) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    base       bigint;
    done       boolean;
    old_domain bigint;
    new_domain bigint;
BEGIN
    IF old < new THEN
        base := charge_account(t, old, -freed, -freed_octets, 0, roots => false);
        base := charge_account(t, new, n, octets, emails, roots => false, came => came, came_octets => came_octets);
    ELSE
        base := charge_account(t, new, n, octets, emails, roots => false, came => came, came_octets => came_octets);
        done := charge_account(t, old, -freed, -freed_octets, 0, roots => false) IS NULL;
    END IF;
    SELECT domain_id INTO old_domain FROM account_state WHERE tenant_id = t AND account_id = old;
    SELECT domain_id INTO new_domain FROM account_state WHERE tenant_id = t AND account_id = new;
    IF old_domain = new_domain THEN
        done := move_slots(t, new_domain, old, new, freed, freed_octets);
        IF n <> freed OR octets <> freed_octets THEN
            done := charge_root(t, new_domain, new, n - freed, octets - freed_octets, 0, 0);
        END IF;
    ELSIF old_domain < new_domain THEN
        done := charge_root(t, old_domain, old, -freed, -freed_octets, 0, 0);
        done := charge_root(t, new_domain, new, n, octets, 0, 0);
    ELSE
        done := charge_root(t, new_domain, new, n, octets, 0, 0);
        done := charge_root(t, old_domain, old, -freed, -freed_octets, 0, 0);
    END IF;
    done := move_slots(t, 0, old, new, freed, freed_octets);
    IF n <> freed OR octets <> freed_octets THEN
        done := charge_root(t, 0, new, n - freed, octets - freed_octets, 0, 0);
    END IF;
    RETURN base;
END
$$;
-- +goose StatementEnd

-- move_slots counts messages in the slot of another account of the same root, which takes over the grant for them.
-- +goose StatementBegin
CREATE FUNCTION move_slots(t bigint, r bigint, old bigint, new bigint, n bigint, octets bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    sign int;
BEGIN
    IF old & 31 = new & 31 THEN
        RETURN true;
    END IF;
    IF current_setting('mailstead.slots', true) = 'all' THEN
        PERFORM lock_slots(t, r, new);
    END IF;
    FOREACH sign IN ARRAY CASE WHEN old & 31 < new & 31 THEN ARRAY[-1, 1] ELSE ARRAY[1, -1] END LOOP
        UPDATE quota_slot
        SET bytes = bytes + sign * octets, messages = messages + sign * n,
            storage_grant = CASE WHEN storage_grant < 0 THEN -1 ELSE storage_grant + sign * octets END,
            message_grant = CASE WHEN message_grant < 0 THEN -1 ELSE message_grant + sign * n END
        WHERE tenant_id = t AND root = r AND slot = (CASE WHEN sign < 0 THEN old ELSE new END & 31)::smallint;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no slot of root % for account %', r, new USING ERRCODE = 'MS010';
        END IF;
    END LOOP;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- recount_slots counts all roots of a tenant anew, from what its accounts count, and splits their limits. Locks: domain slots, tenant slots.
-- +goose StatementBegin
CREATE FUNCTION recount_slots(t bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    r bigint;
BEGIN
    PERFORM all_slots(t);
    PERFORM FROM quota_slot WHERE tenant_id = t ORDER BY root = 0, root, slot FOR NO KEY UPDATE;
    -- Who has charged an account but not yet its slots waits for a slot, and for others the account's row is as it was before.
    INSERT INTO quota_slot AS q (tenant_id, root, slot, bytes, messages, mailboxes, annotations)
    SELECT t, f.root, (s.account_id & 31)::smallint, sum(s.bytes), sum(s.messages), sum(s.mailboxes), sum(s.annotations)
    FROM account_state s, LATERAL (VALUES (s.domain_id), (0)) AS f (root)
    WHERE s.tenant_id = t
    GROUP BY 2, 3
    ON CONFLICT (tenant_id, root, slot) DO UPDATE
    SET bytes = excluded.bytes, messages = excluded.messages, mailboxes = excluded.mailboxes, annotations = excluded.annotations;
    UPDATE quota_slot q
    SET bytes = 0, messages = 0, mailboxes = 0, annotations = 0
    WHERE q.tenant_id = t AND NOT EXISTS (
        SELECT FROM account_state s
        WHERE s.tenant_id = t AND (s.account_id & 31)::smallint = q.slot AND (q.root = 0 OR s.domain_id = q.root));
    FOR r IN SELECT DISTINCT root FROM quota_slot WHERE tenant_id = t LOOP
        PERFORM split_slots(t, r);
    END LOOP;
END
$$;
-- +goose StatementEnd
