-- How mailboxes change: the functions that write their rows, logs, segments
-- and counters. Every guard raises, so that no COMMIT gets past one that
-- failed; the SQLSTATEs of class MS are explained in store/errors.go. They run
-- with the rights of the caller, under its row-level security.
-- +goose Up

-- Expunge records with a higher MODSEQ are all there; older ones may have gone.
ALTER TABLE mailbox ADD COLUMN expunged_modseq bigint NOT NULL DEFAULT 1;

-- charge_account counts n messages more (or fewer), of so many octets, and
-- gives out email numbers: those above the result. Only growth is refused,
-- so that who is over a limit can still clear away. What it counts is counted for the account's domain
-- and tenant too (0012_quota.sql), unless roots says that the caller does. Of it, so many messages came from outside,
-- delivered or appended: for the ledger, whose open hour stands in the same row (0013_usage.sql). Locks: account, domain slot, tenant slot.
-- +goose StatementBegin
CREATE FUNCTION charge_account(
    t bigint, account bigint, n bigint, octets bigint, emails bigint, roots boolean DEFAULT true,
    came bigint DEFAULT 0, came_octets bigint DEFAULT 0, delivered boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    a    account_state;
    at   bigint := metering_clock();
    done boolean;
BEGIN
    LOOP
        UPDATE account_state s
        SET next_email = next_email + emails, messages = messages + n, bytes = bytes + octets,
            -- A clock that was set back stands still.
            metered_to = greatest(metered_to, at), hour_byte_seconds = hour_byte_seconds + bytes::numeric * greatest(at - metered_to, 0),
            hour_peak_bytes = greatest(hour_peak_bytes, bytes, bytes + octets),
            hour_appended = hour_appended + CASE WHEN delivered THEN 0 ELSE came END,
            hour_appended_bytes = hour_appended_bytes + CASE WHEN delivered THEN 0 ELSE came_octets END,
            hour_delivered = hour_delivered + CASE WHEN delivered THEN came ELSE 0 END,
            hour_delivered_bytes = hour_delivered_bytes + CASE WHEN delivered THEN came_octets ELSE 0 END
        WHERE tenant_id = t AND account_id = account AND metered_to >= at - at % 3600
        RETURNING s.* INTO a;
        EXIT WHEN FOUND;
        PERFORM close_hours(t, account, at, false); -- once an hour; it raises where there is no account
    END LOOP;
    IF octets > 0 AND a.bytes > a.storage_limit THEN
        PERFORM over_quota('STORAGE', a.bytes - octets, a.storage_limit, octets, 'account');
    END IF;
    IF n > 0 AND a.messages > a.message_limit THEN
        PERFORM over_quota('MESSAGE', a.messages - n, a.message_limit, n, 'account');
    END IF;
    IF a.soft IS NOT NULL THEN
        done := charge_soft(a, octets, n, 0, 0);
    END IF;
    IF roots AND (n <> 0 OR octets <> 0) THEN
        done := charge_roots(t, a.domain_id, account, n, octets, 0, 0);
    END IF;
    RETURN a.next_email - emails - 1;
END
$$;
-- +goose StatementEnd

-- keep_content makes sure that a blob is there and stays there until the
-- transaction ends. A blob that is there counts only if it is alive, under a
-- lock that its deletion waits for; what is dying is stored anew. content is
-- what to stage, object the key of the object that it was put in; where both are NULL
-- the blob must be there already. Returns whether it was.
-- +goose StatementBegin
CREATE FUNCTION keep_content(t bigint, sum bytea, octets bigint, enc smallint, frame_lens bytea, stored bigint, content bytea, object text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    ring smallint;
    dead boolean;
BEGIN
    LOOP
        IF content IS NOT NULL OR object IS NOT NULL THEN
            INSERT INTO blob (tenant_id, digest, size, encoding, frames, stored_len, slot, object_key, object_off)
            VALUES (t, sum, octets, enc, frame_lens, stored,
                CASE WHEN object IS NULL THEN (SELECT current FROM staging_ring) END,
                object, CASE WHEN object IS NOT NULL THEN 0 END)
            ON CONFLICT (tenant_id, digest) DO NOTHING
            RETURNING slot INTO ring;
            EXIT WHEN FOUND;
        END IF;
        SELECT dying INTO dead FROM blob WHERE tenant_id = t AND digest = sum FOR KEY SHARE;
        IF FOUND AND NOT dead THEN
            RETURN true;
        END IF;
        IF content IS NULL AND object IS NULL THEN
            RAISE EXCEPTION 'content is gone' USING ERRCODE = 'MS007';
        END IF;
        UPDATE blob
        SET dying = false, size = octets, encoding = enc, frames = frame_lens, stored_len = stored,
            slot = CASE WHEN object IS NULL THEN (SELECT current FROM staging_ring) END,
            object_key = object, object_off = CASE WHEN object IS NOT NULL THEN 0 END
        WHERE tenant_id = t AND digest = sum AND dying
        RETURNING slot INTO ring;
        EXIT WHEN FOUND;
        -- It was deleted, or revived, since we looked: look again.
    END LOOP;
    IF object IS NOT NULL THEN
        DELETE FROM object_intent WHERE tenant_id = t AND object_key = object AND condemned IS NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the intent of object % is gone', object USING ERRCODE = 'MS005';
        END IF;
        INSERT INTO object (tenant_id, object_key, bytes) VALUES (t, object, stored);
        RETURN false;
    END IF;
    -- A row of the same content may be left of a blob that died.
    CASE ring
        WHEN 0 THEN
            INSERT INTO staged_0 (tenant_id, digest, data) VALUES (t, sum, content)
            ON CONFLICT (tenant_id, digest) DO UPDATE SET data = excluded.data, staged_at = excluded.staged_at;
        WHEN 1 THEN
            INSERT INTO staged_1 (tenant_id, digest, data) VALUES (t, sum, content)
            ON CONFLICT (tenant_id, digest) DO UPDATE SET data = excluded.data, staged_at = excluded.staged_at;
        WHEN 2 THEN
            INSERT INTO staged_2 (tenant_id, digest, data) VALUES (t, sum, content)
            ON CONFLICT (tenant_id, digest) DO UPDATE SET data = excluded.data, staged_at = excluded.staged_at;
        WHEN 3 THEN
            INSERT INTO staged_3 (tenant_id, digest, data) VALUES (t, sum, content)
            ON CONFLICT (tenant_id, digest) DO UPDATE SET data = excluded.data, staged_at = excluded.staged_at;
    END CASE;
    RETURN false;
END
$$;
-- +goose StatementEnd

-- append_messages adds messages to a mailbox, of which the caller need not
-- know anything: the numbers in rec are relative to those given out here.
-- named is the name by which the mailbox was found, with the epoch of the
-- rights at that time, NULL where that does not matter.
-- expected is the MODSEQ that rec was computed for, NULL where it fits any.
-- c_ arrays hold the contents, each once, by ascending digest; e_ arrays the
-- emails, in order. freed messages, of so many octets, of the account freed_of, have been removed in the
-- same transaction: they are not charged any more. Locks: mailbox, blobs by digest, accounts, slots.
-- +goose StatementBegin
CREATE FUNCTION append_messages(
    t bigint, account bigint, box bigint, named text, epoch bigint, expected bigint, rec bytea,
    d_unseen bigint, d_deleted bigint, d_bytes bigint, d_deleted_bytes bigint,
    c_digest bytea[], c_size bigint[], c_encoding smallint[], c_frames bytea[], c_stored_len bigint[], c_data bytea[], c_object text[],
    e_digest bytea[], e_prefix bytea[], e_size bigint[], e_sent timestamptz[], e_emailid text[], e_threadid text[], e_meta bytea[],
    freed bigint DEFAULT 0, freed_bytes bigint DEFAULT 0, freed_of bigint DEFAULT NULL, delivered boolean DEFAULT false,
    OUT validity bigint, OUT new_modseq bigint, OUT uids bigint, OUT emails bigint, OUT log bigint)
    LANGUAGE plpgsql
    AS $$
DECLARE
    n    bigint := cardinality(e_digest);
    kept boolean;
BEGIN
    UPDATE mailbox
    SET uidnext = uidnext + n, highestmodseq = highestmodseq + 1, log_bytes = log_bytes + octet_length(rec),
        messages = messages + n, unseen = unseen + d_unseen, deleted = deleted + d_deleted,
        bytes = bytes + d_bytes, deleted_bytes = deleted_bytes + d_deleted_bytes
    WHERE tenant_id = t AND mailbox_id = box AND account_id = account AND deleted_at IS NULL
      AND (named IS NULL OR name = named AND acl_epoch = epoch)
      AND uidnext + n <= 4294967295 AND highestmodseq < 9223372036854775807
    RETURNING uidvalidity, highestmodseq, uidnext - n - 1, log_bytes INTO validity, new_modseq, uids, log;
    IF NOT FOUND THEN
        PERFORM FROM mailbox WHERE tenant_id = t AND mailbox_id = box AND (name <> named OR acl_epoch <> epoch);
        IF FOUND THEN
            RAISE EXCEPTION 'mailbox % is not what it was when it was opened', box USING ERRCODE = 'MS001';
        END IF;
        PERFORM refuse_change(t, account, box);
    END IF;
    IF expected IS NOT NULL AND new_modseq <> expected + 1 THEN
        RAISE EXCEPTION 'mailbox % is at %, not at %', box, new_modseq - 1, expected USING ERRCODE = 'MS002';
    END IF;

    FOR i IN 1 .. cardinality(c_digest) LOOP
        -- An assignment, which unlike PERFORM is no query of its own.
        kept := keep_content(t, c_digest[i], c_size[i], c_encoding[i], c_frames[i], c_stored_len[i], c_data[i], c_object[i]);
    END LOOP;

    IF freed = 0 OR freed_of = account THEN
        emails := charge_account(t, account, n - freed, d_bytes - freed_bytes, n, came => n, came_octets => d_bytes, delivered => delivered);
    ELSE
        emails := charge_exchange(t, freed_of, freed, freed_bytes, account, n, d_bytes, n, came => n, came_octets => d_bytes);
    END IF;

    -- Row by row, so that the plan is made once: that of a set is made anew each time.
    FOR i IN 1 .. n LOOP
        INSERT INTO email (tenant_id, account_id, email_id, digest, prefix, size, sent_at, emailid, threadid, meta)
        VALUES (t, account, emails + i, e_digest[i], e_prefix[i], e_size[i], e_sent[i], e_emailid[i], e_threadid[i], e_meta[i]);
    END LOOP;

    INSERT INTO mailbox_log (tenant_id, mailbox_id, modseq, uid_base, email_base, record)
    VALUES (t, box, new_modseq, uids, emails, rec);
END
$$;
-- +goose StatementEnd

-- refuse_change says why a mailbox takes no change.
-- +goose StatementBegin
CREATE FUNCTION refuse_change(t bigint, account bigint, box bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM mailbox WHERE tenant_id = t AND mailbox_id = box AND account_id = account AND deleted_at IS NULL;
    IF FOUND THEN
        RAISE EXCEPTION 'mailbox % has no number left', box USING ERRCODE = 'MS004';
    END IF;
    RAISE EXCEPTION 'no mailbox %', box USING ERRCODE = 'MS001';
END
$$;
-- +goose StatementEnd

-- write_record writes a record that was computed for a mailbox at the MODSEQ
-- expected, and returns how many octets of log there are then; NULL where the
-- mailbox has moved on, and nothing is done. epoch is that of the rights it is written with, 0 where they do not
-- matter. It charges nobody.
-- +goose StatementBegin
CREATE FUNCTION write_record(
    t bigint, account bigint, box bigint, epoch bigint, expected bigint, rec bytea, base bigint, new_uids bigint,
    d_messages bigint, d_unseen bigint, d_deleted bigint, d_bytes bigint, d_deleted_bytes bigint,
    emails bigint DEFAULT 0) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    now_at bigint;
    rights bigint;
    log    bigint;
BEGIN
    UPDATE mailbox
    SET uidnext = uidnext + new_uids, highestmodseq = highestmodseq + 1, log_bytes = log_bytes + octet_length(rec),
        messages = messages + d_messages, unseen = unseen + d_unseen, deleted = deleted + d_deleted,
        bytes = bytes + d_bytes, deleted_bytes = deleted_bytes + d_deleted_bytes
    WHERE tenant_id = t AND mailbox_id = box AND account_id = account AND deleted_at IS NULL
      AND highestmodseq = expected AND (epoch = 0 OR acl_epoch = epoch)
      AND uidnext + new_uids <= 4294967295 AND highestmodseq < 9223372036854775807
    RETURNING log_bytes INTO log;
    IF NOT FOUND THEN
        SELECT highestmodseq, acl_epoch INTO now_at, rights FROM mailbox
        WHERE tenant_id = t AND mailbox_id = box AND account_id = account AND deleted_at IS NULL;
        IF FOUND AND epoch <> 0 AND rights <> epoch THEN
            RAISE EXCEPTION 'the rights on mailbox % have changed', box USING ERRCODE = 'MS009';
        END IF;
        IF now_at IS NULL OR now_at = expected THEN
            PERFORM refuse_change(t, account, box);
        END IF;
        RETURN NULL;
    END IF;
    INSERT INTO mailbox_log (tenant_id, mailbox_id, modseq, uid_base, email_base, record)
    VALUES (t, box, expected + 1, base, emails, rec);
    RETURN log;
END
$$;
-- +goose StatementEnd

-- change_mailboxes writes records that were computed for mailboxes (ascending)
-- at the MODSEQs expected. A mailbox without a record is only held still. If
-- one has moved on: an exception where the caller holds the locks already
-- (strict), else nothing is done and done is false.
-- +goose StatementBegin
CREATE FUNCTION change_mailboxes(
    t bigint, account bigint, strict boolean,
    boxes bigint[], epochs bigint[], expected bigint[], recs bytea[], bases bigint[], new_uids bigint[],
    d_messages bigint[], d_unseen bigint[], d_deleted bigint[], d_bytes bigint[], d_deleted_bytes bigint[],
    OUT done boolean, OUT logs bigint[])
    LANGUAGE plpgsql
    AS $$
DECLARE
    now_at bigint;
    rights bigint;
    log    bigint;
    n      bigint := 0;
    octets bigint := 0;
BEGIN
    done := false;
    logs := array_fill(0::bigint, ARRAY[cardinality(boxes)]);
    -- Several are locked before the first is changed; one is, by its UPDATE.
    IF cardinality(boxes) > 1 AND NOT strict THEN
        FOR i IN 1 .. cardinality(boxes) LOOP
            IF recs[i] IS NULL THEN
                SELECT highestmodseq, acl_epoch INTO now_at, rights FROM mailbox
                WHERE tenant_id = t AND mailbox_id = boxes[i] AND account_id = account AND deleted_at IS NULL FOR SHARE;
            ELSE
                SELECT highestmodseq, acl_epoch INTO now_at, rights FROM mailbox
                WHERE tenant_id = t AND mailbox_id = boxes[i] AND account_id = account AND deleted_at IS NULL FOR NO KEY UPDATE;
            END IF;
            IF NOT FOUND THEN
                PERFORM refuse_change(t, account, boxes[i]);
            END IF;
            IF epochs[i] <> 0 AND epochs[i] <> rights THEN
                RAISE EXCEPTION 'the rights on mailbox % have changed', boxes[i] USING ERRCODE = 'MS009';
            END IF;
            IF now_at <> expected[i] THEN
                RETURN;
            END IF;
        END LOOP;
    END IF;
    FOR i IN 1 .. cardinality(boxes) LOOP
        IF recs[i] IS NULL THEN
            CONTINUE;
        END IF;
        log := write_record(t, account, boxes[i], epochs[i], expected[i], recs[i], bases[i], new_uids[i],
            d_messages[i], d_unseen[i], d_deleted[i], d_bytes[i], d_deleted_bytes[i]);
        IF log IS NULL THEN
            IF NOT strict AND cardinality(boxes) = 1 THEN
                RETURN;
            END IF;
            RAISE EXCEPTION 'mailbox % is not at %', boxes[i], expected[i] USING ERRCODE = 'MS002';
        END IF;
        logs[i] := log;
        n := n + d_messages[i];
        octets := octets + d_bytes[i];
    END LOOP;
    IF n <> 0 OR octets <> 0 THEN
        PERFORM charge_account(t, account, n, octets, 0);
    END IF;
    done := true;
END
$$;
-- +goose StatementEnd

-- claim_recent moves the mark below which messages have been told as \Recent
-- up to next, and returns where it was. It never moves back.
-- +goose StatementBegin
CREATE FUNCTION claim_recent(t bigint, box bigint, next bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    was bigint;
BEGIN
    SELECT recent_uid INTO was FROM mailbox WHERE tenant_id = t AND mailbox_id = box AND deleted_at IS NULL;
    IF was >= next THEN
        RETURN was; -- the usual case takes no lock
    END IF;
    SELECT recent_uid INTO was FROM mailbox WHERE tenant_id = t AND mailbox_id = box AND deleted_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no mailbox %', box USING ERRCODE = 'MS001';
    END IF;
    IF was < next THEN
        UPDATE mailbox SET recent_uid = next WHERE tenant_id = t AND mailbox_id = box;
    END IF;
    RETURN was;
END
$$;
-- +goose StatementEnd

-- fold_mailbox puts new segments in the place of those that a stretch of the
-- log, from folded to up_to, has touched, and that stretch of the log away. It was computed
-- outside the lock, so every part of it is checked against what is there.
-- Expunge records live on (x_ arrays).
-- +goose StatementBegin
CREATE FUNCTION fold_mailbox(
    t bigint, box bigint, folded bigint, up_to bigint, uids bigint, names text[],
    old_first bigint[], old_modseq bigint[],
    new_first bigint[], new_last bigint[], new_data bytea[],
    x_modseq bigint[], x_at timestamptz[], x_record bytea[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    m     mailbox;
    n     bigint;
    freed bigint;
BEGIN
    SELECT * INTO m FROM mailbox WHERE tenant_id = t AND mailbox_id = box FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no mailbox %', box USING ERRCODE = 'MS001';
    END IF;
    IF m.folded_modseq <> folded OR m.highestmodseq < up_to THEN
        RAISE EXCEPTION 'mailbox % is folded up to % of %, not %', box, m.folded_modseq, m.highestmodseq, folded USING ERRCODE = 'MS002';
    END IF;

    DELETE FROM mailbox_segment s
    USING unnest(old_first, old_modseq) AS o (first_uid, modseq)
    WHERE s.tenant_id = t AND s.mailbox_id = box AND s.first_uid = o.first_uid AND s.modseq = o.modseq;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n <> cardinality(old_first) THEN
        RAISE EXCEPTION 'segments of mailbox % are not those that were read', box USING ERRCODE = 'MS002';
    END IF;
    INSERT INTO mailbox_segment (tenant_id, mailbox_id, first_uid, last_uid, modseq, data)
    SELECT t, box, s.first_uid, s.last_uid, up_to, s.data
    FROM unnest(new_first, new_last, new_data) AS s (first_uid, last_uid, data);

    INSERT INTO mailbox_expunged (tenant_id, mailbox_id, modseq, at, record)
    SELECT t, box, x.modseq, x.at, x.record
    FROM unnest(x_modseq, x_at, x_record) AS x (modseq, at, record);

    WITH gone AS (
        DELETE FROM mailbox_log WHERE tenant_id = t AND mailbox_id = box AND modseq > folded AND modseq <= up_to
        RETURNING octet_length(record) AS octets
    )
    SELECT count(*), coalesce(sum(octets), 0) INTO n, freed FROM gone;
    IF n <> up_to - folded THEN
        RAISE EXCEPTION 'log of mailbox % has % records between % and %', box, n, folded, up_to USING ERRCODE = 'MS002';
    END IF;

    UPDATE mailbox
    SET folded_modseq = up_to, folded_uidnext = uids, keywords = names, log_bytes = log_bytes - freed
    WHERE tenant_id = t AND mailbox_id = box;
END
$$;
-- +goose StatementEnd
