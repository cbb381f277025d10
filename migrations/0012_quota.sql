-- Quotas of domains and tenants, beside those of accounts. A root's counters
-- are split in slots, so that the accounts of a domain or tenant do not wait for one row: each account counts in one of them.
-- Where the root has a limit, every slot has a grant, and the grants sum to the limit: what fits its slot fits the root.
-- What does not fit its slot is rolled back (MS010) and done again under all slots' locks (all_slots), where the
-- true total decides, and the rest is split anew. New tables; the previous release, which does
-- not charge them, must be gone before limits are set: mailstead fsck --repair counts anew.
--
-- A soft limit may be exceeded for as long as its grace lasts; then growth is refused until no more is used than that,
-- which winds the clock up again. An account knows what it uses when it is charged, and so when that begins and ends. Of a
-- domain or tenant nobody knows the total, so its slots are granted no more than the soft limit as long as that is
-- not exceeded: who would be the first to exceed it does not fit, and finds out under all locks. Then
-- they are granted up to the limit, and when grace is over, which maintenance looks after, the soft limit again.
-- +goose Up

-- Limits of a root, where any was set: in the order of package quota, STORAGE, MESSAGE, MAILBOX, ANNOTATION-STORAGE, octets
-- or pieces. An element of NULL is none. The last two are of domains and tenants: account_state has those of accounts.
CREATE TABLE quota_root (
    tenant_id  bigint NOT NULL,
    level      smallint NOT NULL CHECK (level BETWEEN 0 AND 2),        -- account, domain, tenant
    root       bigint NOT NULL CHECK ((root = 0) = (level = 2)),       -- account_id, domain_id, 0
    hard       bigint[] NOT NULL CHECK (cardinality(hard) = 4 AND 0 <= ALL (hard)),
    soft       bigint[] NOT NULL DEFAULT '{NULL,NULL,NULL,NULL}' CHECK (cardinality(soft) = 4 AND 0 <= ALL (soft)),
    grace      bigint NOT NULL DEFAULT 604800 CHECK (grace > 0),       -- seconds
    over_since timestamptz[] NOT NULL DEFAULT '{NULL,NULL,NULL,NULL}', -- since when more is used than the soft limit
    held       bigint[] NOT NULL DEFAULT '{NULL,NULL,NULL,NULL}',      -- what the slots are granted by now
    PRIMARY KEY (tenant_id, level, root)
);
CALL protect('quota_root');

-- A grant of NULL: no limit; of -1: more is used than the limit, and whoever wants more has it decided under all locks.
CREATE DOMAIN allowance AS bigint CHECK (value >= -1);

-- Slots. A slot is made when its first account comes.
CREATE TABLE quota_slot (
    tenant_id        bigint NOT NULL,
    root             bigint NOT NULL,   -- domain_id; 0: the tenant
    slot             smallint NOT NULL, -- of the accounts whose number ends in these bits
    bytes            tally NOT NULL DEFAULT 0,
    messages         tally NOT NULL DEFAULT 0,
    mailboxes        tally NOT NULL DEFAULT 0,
    annotations      tally NOT NULL DEFAULT 0, -- octets
    storage_grant    allowance,
    message_grant    allowance,
    mailbox_grant    allowance,
    annotation_grant allowance,
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

-- apply_limits holds a root to what is set. For a domain or tenant the caller has called all_slots. Locks: account, or slots.
-- +goose StatementBegin
CREATE FUNCTION apply_limits(t bigint, l int, r bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    none CONSTANT bigint[] := '{NULL,NULL,NULL,NULL}';
    q quota_root;
    a account_state;
BEGIN
    IF l > 0 THEN
        PERFORM FROM quota_slot WHERE tenant_id = t AND root = r ORDER BY slot FOR NO KEY UPDATE;
        PERFORM settle_root(t, r, true);
        RETURN;
    END IF;
    SELECT * INTO q FROM quota_root WHERE tenant_id = t AND level = l AND root = r;
    UPDATE account_state s
    SET storage_limit = q.hard[1], message_limit = q.hard[2], mailbox_limit = q.hard[3], annotation_limit = q.hard[4],
        soft = nullif(q.soft, none), grace = q.grace, over_since = CASE WHEN q.soft <> none THEN s.over_since END
    WHERE tenant_id = t AND account_id = r
    RETURNING s.* INTO a;
    IF a.soft IS NOT NULL THEN
        PERFORM charge_soft(a, 0, 0, 0, 0);
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

CREATE FUNCTION quota_resources() RETURNS text[]
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT '{STORAGE,MESSAGE,MAILBOX,ANNOTATION-STORAGE}'::text[] $$;

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

-- cross_soft says, until the transaction ends, that it has exceeded a soft limit: crossed_soft tells of which level.
CREATE FUNCTION cross_soft(level text) RETURNS text
    LANGUAGE sql
    AS $$ SELECT set_config('mailstead.crossed', level, true) $$;

CREATE FUNCTION crossed_soft() RETURNS text
    LANGUAGE sql
    AS $$ SELECT coalesce(current_setting('mailstead.crossed', true), '') $$;

-- charge_soft holds an account, as it has been charged, to its soft limits, and keeps since when each is exceeded.
-- The account is locked.
-- +goose StatementBegin
CREATE FUNCTION charge_soft(a account_state, octets bigint, n bigint, boxes bigint, notes bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    names CONSTANT text[] := quota_resources();
    used  CONSTANT bigint[] := ARRAY[a.bytes, a.messages, a.mailboxes, a.annotations];
    more  CONSTANT bigint[] := ARRAY[octets, n, boxes, notes];
    was   CONSTANT timestamptz[] := coalesce(a.over_since, '{NULL,NULL,NULL,NULL}');
    since timestamptz[] := '{NULL,NULL,NULL,NULL}';
BEGIN
    FOR i IN 1 .. 4 LOOP
        CONTINUE WHEN (used[i] <= a.soft[i]) IS NOT FALSE;
        since[i] := coalesce(was[i], now());
        IF more[i] <= 0 THEN
            CONTINUE;
        ELSIF was[i] IS NULL THEN
            PERFORM cross_soft('account');
        ELSIF was[i] + make_interval(secs => a.grace) <= now() THEN
            PERFORM over_quota(names[i], used[i] - more[i], a.soft[i], more[i], 'account');
        END IF;
    END LOOP;
    IF since <> was THEN
        UPDATE account_state SET over_since = since WHERE tenant_id = a.tenant_id AND account_id = a.account_id;
    END IF;
    RETURN true;
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
    made boolean;
BEGIN
    INSERT INTO quota_slot (tenant_id, root, slot) VALUES (t, r, mine) ON CONFLICT (tenant_id, root, slot) DO NOTHING;
    made := FOUND;
    PERFORM FROM quota_slot WHERE tenant_id = t AND root = r ORDER BY slot FOR NO KEY UPDATE;
    IF made THEN
        PERFORM settle_root(t, r, true);
    END IF;
END
$$;
-- +goose StatementEnd

-- root_now returns a domain's or tenant's row as it must be now, where so much is used.
-- +goose StatementBegin
CREATE FUNCTION root_now(q quota_root, used bigint[]) RETURNS quota_root
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    since timestamptz[] := q.over_since;
BEGIN
    q.over_since := '{NULL,NULL,NULL,NULL}';
    q.held := q.hard;
    FOR i IN 1 .. 4 LOOP
        IF used[i] > q.soft[i] THEN
            q.over_since[i] := coalesce(since[i], now());
        END IF;
        IF q.over_since[i] IS NULL OR q.over_since[i] + make_interval(secs => q.grace) <= now() THEN
            q.held[i] := least(q.hard[i], q.soft[i]);
        END IF;
    END LOOP;
    RETURN q;
END
$$;
-- +goose StatementEnd

-- slots_sum is what is used of a domain or tenant.
CREATE FUNCTION slots_sum(t bigint, r bigint) RETURNS bigint[]
    LANGUAGE sql STABLE
    AS $$
SELECT ARRAY[coalesce(sum(bytes), 0), coalesce(sum(messages), 0), coalesce(sum(mailboxes), 0), coalesce(sum(annotations), 0)]::bigint[]
FROM quota_slot
WHERE tenant_id = t AND root = r
$$;

-- settle_root brings the row of a domain or tenant up to date, all of whose slots are locked. Where it is held to another
-- limit than before, or split asks for it, what is left is split anew.
-- +goose StatementBegin
CREATE FUNCTION settle_root(t bigint, r bigint, split boolean) RETURNS quota_root
    LANGUAGE plpgsql
    AS $$
DECLARE
    was quota_root;
    q   quota_root;
BEGIN
    SELECT * INTO was FROM quota_root WHERE tenant_id = t AND level = CASE WHEN r = 0 THEN 2 ELSE 1 END AND root = r;
    IF FOUND THEN
        SELECT * INTO q FROM root_now(was, slots_sum(t, r));
        IF q <> was THEN
            UPDATE quota_root SET over_since = q.over_since, held = q.held WHERE tenant_id = t AND level = q.level AND root = r;
        END IF;
    END IF;
    IF split OR q.held <> was.held THEN
        PERFORM split_slots(t, r, coalesce(q.held, '{NULL,NULL,NULL,NULL}'));
    END IF;
    RETURN q;
END
$$;
-- +goose StatementEnd

-- charge_under_all is charge_root where the slots are locked, all of them: what fits the true total is taken, and the rest split anew.
-- +goose StatementBegin
CREATE FUNCTION charge_under_all(t bigint, r bigint, account bigint, n bigint, octets bigint, boxes bigint, notes bigint) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    names CONSTANT text[] := quota_resources();
    more  CONSTANT bigint[] := ARRAY[octets, n, boxes, notes];
    q     quota_root;
    lim   bigint[] := '{NULL,NULL,NULL,NULL}';
    used  bigint[];
    split boolean;
    since timestamptz[];
    level text := CASE WHEN r = 0 THEN 'tenant' ELSE 'domain' END;
BEGIN
    PERFORM lock_slots(t, r, account);
    -- Statements of their own behind the locks: they see what those have counted who had them before.
    q := settle_root(t, r, false);
    used := slots_sum(t, r);
    FOR i IN 1 .. 4 LOOP
        -- A soft limit that is not exceeded yet may be.
        lim[i] := CASE WHEN q.over_since[i] IS NULL THEN q.hard[i] ELSE q.held[i] END;
        IF more[i] > 0 AND used[i] + more[i] > lim[i] THEN
            PERFORM over_quota(names[i], used[i], lim[i], more[i], level);
        END IF;
    END LOOP;
    UPDATE quota_slot
    SET bytes = bytes + octets, messages = messages + n, mailboxes = mailboxes + boxes, annotations = annotations + notes
    WHERE tenant_id = t AND root = r AND slot = (account & 31)::smallint
    RETURNING octets > 0 AND bytes > storage_grant OR n > 0 AND messages > message_grant
           OR boxes > 0 AND mailboxes > mailbox_grant OR notes > 0 AND annotations > annotation_grant INTO split;
    IF split THEN
        since := (settle_root(t, r, true)).over_since;
        IF since <> q.over_since THEN
            PERFORM cross_soft(level);
        END IF;
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

-- split_slots splits what is left of limits among the slots of a root, all of which are locked.
-- +goose StatementBegin
CREATE FUNCTION split_slots(t bigint, r bigint, lim bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
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
    IF a.soft IS NOT NULL THEN
        PERFORM charge_soft(a, 0, 0, boxes, notes);
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
        PERFORM settle_root(t, r, true);
    END LOOP;
END
$$;
-- +goose StatementEnd

-- limited_tenants lists the tenants of which anything is limited, for maintenance.
-- +goose StatementBegin
CREATE FUNCTION limited_tenants() RETURNS TABLE (tenant_id bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT t.tenant_id FROM tenant t WHERE NOT t.deleting AND EXISTS (SELECT FROM quota_root q WHERE q.tenant_id = t.tenant_id);
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION limited_tenants() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION limited_tenants() TO mailstead_serving;
