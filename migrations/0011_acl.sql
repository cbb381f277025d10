-- Who may do what with a mailbox (RFC 4314), groups of users, and the mailboxes
-- of a tenant as a whole. New tables, and columns with defaults that say what was true before;
-- the previous release knows neither, and lets nobody but its owner at a mailbox.
-- +goose Up

-- What the owner of a mailbox may do there: what mailbox_acl says of them, as
-- acl.Effective reckons it, kept here so that one's own mailbox is opened by its row alone. It moves with acl_epoch, as
-- does all that the rights on a mailbox depend on: entries, members of groups, accounts that go.
ALTER TABLE mailbox ADD COLUMN owner_rights integer NOT NULL DEFAULT 2047; -- acl.All

-- What a tenant has decided: who is given the right to look up a mailbox is subscribed to it.
ALTER TABLE tenant ADD COLUMN auto_subscribe boolean NOT NULL DEFAULT false;

-- A mailbox's access control list, without what its owner has unless the list says otherwise.
CREATE TABLE mailbox_acl (
    tenant_id  bigint NOT NULL,
    mailbox_id bigint NOT NULL,
    identifier text COLLATE "C" NOT NULL,                         -- acl.Identifier
    rights     integer NOT NULL CHECK (rights BETWEEN 1 AND 2047), -- acl.Rights
    PRIMARY KEY (tenant_id, mailbox_id, identifier),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, mailbox_id) ON DELETE CASCADE
);
CREATE INDEX mailbox_acl_identifier ON mailbox_acl (tenant_id, identifier);
CALL protect('mailbox_acl');

CREATE TABLE user_group (
    tenant_id  bigint NOT NULL,
    name       text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
CALL protect('user_group');

CREATE TABLE group_member (
    tenant_id  bigint NOT NULL,
    name       text COLLATE "C" NOT NULL,
    account_id bigint NOT NULL,
    PRIMARY KEY (tenant_id, name, account_id),
    FOREIGN KEY (tenant_id, name) REFERENCES user_group (tenant_id, name) ON DELETE CASCADE
);
CREATE INDEX group_member_account ON group_member (tenant_id, account_id);
CALL protect('group_member');

-- identifiers_of returns those that stand for a user, with and without the dash that takes rights away; NULL for one whose
-- account is being deleted, or has been, whatever sessions there are of it.
-- +goose StatementBegin
CREATE FUNCTION identifiers_of(t bigint, account bigint, login text) RETURNS text[]
    LANGUAGE plpgsql STABLE -- which keeps its plan; a function in SQL is planned anew in each statement
    AS $$
BEGIN
    RETURN (
        SELECT array_agg(dash || i)
        FROM unnest(ARRAY['', '-']) AS dash, (
            SELECT 'anyone' AS i
            UNION ALL
            SELECT login
            UNION ALL
            SELECT 'group:' || m.name FROM group_member m WHERE m.tenant_id = t AND m.account_id = account
        ) AS i
        WHERE EXISTS (SELECT FROM account a WHERE a.tenant_id = t AND a.account_id = account AND NOT a.deleting));
END
$$;
-- +goose StatementEnd

-- transfer_messages copies messages to a mailbox of another account, or moves them there
-- (src_rec): e_ids are the emails, in order, that dst_rec numbers from 1. The mailboxes are locked, and in the states that the
-- records were computed for. Each account is charged its own. Locks: blobs by digest, accounts.
-- +goose StatementBegin
CREATE FUNCTION transfer_messages(
    t bigint,
    src bigint, src_box bigint, src_expected bigint, src_rec bytea, src_base bigint,
    src_messages bigint, src_unseen bigint, src_deleted bigint, src_bytes bigint, src_deleted_bytes bigint,
    dst bigint, dst_box bigint, dst_expected bigint, dst_rec bytea, dst_base bigint,
    dst_unseen bigint, dst_deleted bigint, dst_bytes bigint, dst_deleted_bytes bigint,
    e_ids bigint[],
    OUT emails bigint, OUT source_log bigint, OUT dest_log bigint)
    LANGUAGE plpgsql
    AS $$
DECLARE
    n      bigint := cardinality(e_ids);
    copied bigint;
BEGIN
    -- The emails keep their contents alive: a message of the mailbox that is locked names each.
    PERFORM FROM blob b
    WHERE b.tenant_id = t AND b.digest IN (
        SELECT e.digest FROM email e WHERE e.tenant_id = t AND e.account_id = src AND e.email_id = ANY (e_ids))
    ORDER BY b.digest
    FOR KEY SHARE;

    IF src_rec IS NULL THEN
        emails := charge_account(t, dst, n, dst_bytes, n);
    ELSE
        emails := charge_exchange(t, src, n, dst_bytes, dst, n, dst_bytes, n);
    END IF;

    INSERT INTO email (tenant_id, account_id, email_id, digest, prefix, size, sent_at, emailid, threadid, meta)
    SELECT t, dst, emails + i.at, e.digest, e.prefix, e.size, e.sent_at, e.emailid, e.threadid, e.meta
    FROM unnest(e_ids) WITH ORDINALITY AS i (email_id, at)
    JOIN email e ON e.tenant_id = t AND e.account_id = src AND e.email_id = i.email_id
    ORDER BY e.digest;
    GET DIAGNOSTICS copied = ROW_COUNT;
    IF copied <> n THEN
        RAISE EXCEPTION 'account % has % of % emails', src, copied, n;
    END IF;

    source_log := 0;
    IF src_rec IS NOT NULL THEN
        source_log := write_record(t, src, src_box, 0, src_expected, src_rec, src_base, 0,
            src_messages, src_unseen, src_deleted, src_bytes, src_deleted_bytes);
    END IF;
    dest_log := write_record(t, dst, dst_box, 0, dst_expected, dst_rec, dst_base, n,
        n, dst_unseen, dst_deleted, dst_bytes, dst_deleted_bytes, emails);
    IF source_log IS NULL OR dest_log IS NULL THEN
        RAISE EXCEPTION 'mailbox % or % has moved on', src_box, dst_box USING ERRCODE = 'MS002';
    END IF;
END
$$;
-- +goose StatementEnd
