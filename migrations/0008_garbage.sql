-- How the store keeps itself clean. What is expunged or deleted can be brought
-- back for a window; then its mailboxes and records forget it, then the emails go that nothing names,
-- then the contents that no email names, then the objects in which no content lies. Each step
-- looks at rows alone, so that nothing has to be counted along. The functions run with the rights of the caller.
-- +goose Up

-- A mailbox whose window is over goes in steps, and cannot be brought back.
ALTER TABLE mailbox ADD COLUMN purging boolean NOT NULL DEFAULT false;

-- What goes through the mailboxes of an account finds deleted ones too. No change of a mailbox changes it.
CREATE INDEX mailbox_account ON mailbox (tenant_id, account_id);

-- Of an expunge record whose window is over only UIDs are left, for VANISHED (RFC 7162).
ALTER TABLE mailbox_expunged ADD COLUMN bare boolean NOT NULL DEFAULT false;

-- When the mail of an account was swept last; account 0 stands for the tenant,
-- with what it stores then and what of that is live.
CREATE TABLE swept (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    stored     bigint NOT NULL DEFAULT 0, -- octets in objects and in staging
    live       bigint NOT NULL DEFAULT 0, -- of content
    PRIMARY KEY (tenant_id, account_id)
);
CALL protect('swept');

-- sweep_progress tells /metrics how far the tenant that waits longest is behind, and what all tenants store.
-- +goose StatementBegin
CREATE FUNCTION sweep_progress() RETURNS TABLE (oldest timestamptz, stored bigint, live bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT min(coalesce(s.at, t.created_at)), coalesce(sum(s.stored), 0)::bigint, coalesce(sum(s.live), 0)::bigint
        FROM tenant t
        LEFT JOIN swept s ON s.tenant_id = t.tenant_id AND s.account_id = 0
        WHERE NOT t.deleting;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION sweep_progress() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sweep_progress() TO mailstead_serving;

-- bare_expunged leaves only the UIDs of expunge records, those that still are
-- as they were read (was). Undelete takes messages from records under the same lock.
-- +goose StatementBegin
CREATE FUNCTION bare_expunged(t bigint, box bigint, modseqs bigint[], was bytea[], bared bytea[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM FROM mailbox WHERE tenant_id = t AND mailbox_id = box FOR NO KEY UPDATE;
    UPDATE mailbox_expunged x
    SET record = r.bared, bare = true
    FROM unnest(modseqs, was, bared) AS r (modseq, was, bared)
    WHERE x.tenant_id = t AND x.mailbox_id = box AND x.modseq = r.modseq AND x.record = r.was;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$$;
-- +goose StatementEnd

-- forget_expunged removes the oldest expunge records of a mailbox, at most so
-- many: those before the first that is not bare, or not from before a time, however
-- the clock went meanwhile. Who asks for what vanished before them is told all that is missing.
-- +goose StatementBegin
CREATE FUNCTION forget_expunged(t bigint, box bigint, before timestamptz, most bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    up_to bigint;
    n     bigint;
BEGIN
    PERFORM FROM mailbox WHERE tenant_id = t AND mailbox_id = box FOR NO KEY UPDATE;
    SELECT max(x.modseq) INTO up_to
    FROM (
        SELECT o.modseq, bool_and(o.bare AND o.at < before) OVER (ORDER BY o.modseq) AS forgotten
        FROM (
            SELECT modseq, at, bare FROM mailbox_expunged
            WHERE tenant_id = t AND mailbox_id = box
            ORDER BY modseq
            LIMIT most
        ) o
    ) x
    WHERE x.forgotten;
    IF up_to IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM mailbox_expunged WHERE tenant_id = t AND mailbox_id = box AND modseq <= up_to;
    GET DIAGNOSTICS n = ROW_COUNT;
    UPDATE mailbox SET expunged_modseq = greatest(expunged_modseq, up_to) WHERE tenant_id = t AND mailbox_id = box;
    RETURN n;
END
$$;
-- +goose StatementEnd

-- mark_dying marks those of contents that no email names. It locks them against
-- those who are about to count on one (FOR KEY SHARE, keep_content): whoever came first is seen
-- by the statement behind the lock, and whoever comes later sees the mark and stores the content anew.
-- Locks: blobs by digest.
-- +goose StatementBegin
CREATE FUNCTION mark_dying(t bigint, digests bytea[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM FROM blob WHERE tenant_id = t AND digest = ANY (digests) ORDER BY digest FOR UPDATE;
    UPDATE blob b
    SET dying = true
    WHERE b.tenant_id = t AND b.digest = ANY (digests) AND NOT b.dying
      AND NOT EXISTS (SELECT FROM email e WHERE e.tenant_id = t AND e.digest = b.digest);
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$$;
-- +goose StatementEnd

-- bury removes those of contents that are dying, after another look: one that
-- an email names lives on. The foreign key of email would not let it go either. Its
-- object is left to retire_objects. Locks: blobs by digest.
-- +goose StatementBegin
CREATE FUNCTION bury(t bigint, digests bytea[], OUT n bigint, OUT octets bigint)
    LANGUAGE plpgsql
    AS $$
DECLARE
    gone bytea[];
BEGIN
    PERFORM FROM blob WHERE tenant_id = t AND digest = ANY (digests) AND dying ORDER BY digest FOR UPDATE;
    UPDATE blob b
    SET dying = false
    WHERE b.tenant_id = t AND b.digest = ANY (digests) AND b.dying
      AND EXISTS (SELECT FROM email e WHERE e.tenant_id = t AND e.digest = b.digest);
    WITH d AS (
        DELETE FROM blob b
        WHERE b.tenant_id = t AND b.digest = ANY (digests) AND b.dying
          AND NOT EXISTS (SELECT FROM email e WHERE e.tenant_id = t AND e.digest = b.digest)
        RETURNING b.digest, b.stored_len, b.slot
    )
    SELECT count(*), coalesce(sum(d.stored_len), 0), array_agg(d.digest) FILTER (WHERE d.slot IS NOT NULL)
    INTO n, octets, gone
    FROM d;
    -- Who stores one of these anew waits for this transaction at its blob.
    IF gone IS NOT NULL THEN
        DELETE FROM staged_0 WHERE tenant_id = t AND digest = ANY (gone);
        DELETE FROM staged_1 WHERE tenant_id = t AND digest = ANY (gone);
        DELETE FROM staged_2 WHERE tenant_id = t AND digest = ANY (gone);
        DELETE FROM staged_3 WHERE tenant_id = t AND digest = ANY (gone);
    END IF;
END
$$;
-- +goose StatementEnd
