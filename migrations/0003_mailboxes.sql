-- Mailboxes as logs of changes. The mailbox row's lock orders all changes of
-- that mailbox; UIDs and MODSEQs therefore appear in commit order.
-- +goose Up

-- What counters must be is said by domains, not by CHECKs of their tables: PostgreSQL reads a table's CHECKs anew in
-- each statement that changes a row, a domain's once in a session. They were an eighth of a STORE's time in the database.
CREATE DOMAIN tally AS bigint CHECK (value >= 0);
CREATE DOMAIN next_uid AS bigint CHECK (value BETWEEN 1 AND 4294967296);

-- name_tree is locked by whatever changes the names of an account, before any mailbox.
CREATE TABLE name_tree (
    tenant_id   bigint NOT NULL,
    account_id  bigint NOT NULL,
    uidvalidity bigint NOT NULL CHECK (uidvalidity BETWEEN 1 AND 4294967295), -- the highest given out; only grows
    PRIMARY KEY (tenant_id, account_id)
);
CALL protect('name_tree');

-- account_state is what every change of an account's mail moves: apart from
-- account, so that logins read rows that rest.
CREATE TABLE account_state (
    tenant_id        bigint NOT NULL,
    account_id       bigint NOT NULL,
    domain_id        bigint NOT NULL, -- the account's, which never changes
    next_email       bigint NOT NULL DEFAULT 1,
    messages         tally NOT NULL DEFAULT 0,
    bytes            tally NOT NULL DEFAULT 0,  -- RFC822.SIZE of every copy
    mailboxes        tally NOT NULL DEFAULT 0,
    annotations      tally NOT NULL DEFAULT 0,  -- octets: of its mailboxes, and its own of the server
    message_limit    bigint,                                             -- NULL: none
    storage_limit    bigint,                                             -- octets; NULL: none
    mailbox_limit    bigint,                                             -- NULL: none
    annotation_limit bigint,                                             -- octets; NULL: none
    soft             bigint[],                                           -- soft limits, as quota_root has them; NULL: none
    grace            bigint,                                             -- seconds for which they may be exceeded
    over_since       timestamptz[],                                      -- since when each is, NULL: it is not
    PRIMARY KEY (tenant_id, account_id)
) WITH (fillfactor = 50);
CALL protect('account_state');

CREATE TABLE mailbox (
    tenant_id      bigint NOT NULL,
    account_id     bigint NOT NULL, -- the owner
    mailbox_id     bigint GENERATED ALWAYS AS IDENTITY,
    name           text COLLATE "C" NOT NULL,
    uidvalidity    bigint NOT NULL,
    uidnext        next_uid NOT NULL DEFAULT 1,
    highestmodseq  bigint NOT NULL DEFAULT 1,
    folded_modseq  bigint NOT NULL DEFAULT 1,          -- segments hold the state at this MODSEQ; the log goes on from it
    folded_uidnext bigint NOT NULL DEFAULT 1,
    keywords       text[] NOT NULL DEFAULT '{}',       -- the keyword table at folded_modseq
    log_bytes      bigint NOT NULL DEFAULT 0,          -- of the records since folded_modseq
    recent_uid     bigint NOT NULL DEFAULT 1,          -- the first that no session has been told as \Recent
    messages       tally NOT NULL DEFAULT 0,
    unseen         tally NOT NULL DEFAULT 0,
    deleted        tally NOT NULL DEFAULT 0,
    bytes          tally NOT NULL DEFAULT 0,
    deleted_bytes  tally NOT NULL DEFAULT 0,
    special_use    text[] NOT NULL DEFAULT '{}',
    objectid       text NOT NULL,                      -- MAILBOXID
    acl_epoch      bigint NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now(),
    deleted_at     timestamptz,                        -- kept for undelete
    PRIMARY KEY (tenant_id, mailbox_id)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX mailbox_name ON mailbox (tenant_id, account_id, name) WHERE deleted_at IS NULL;
CALL protect('mailbox');

-- One row per command. UIDs and email numbers in a record are relative to the
-- bases, which the database gives out when it appends.
CREATE TABLE mailbox_log (
    tenant_id  bigint NOT NULL,
    mailbox_id bigint NOT NULL,
    modseq     bigint NOT NULL,
    uid_base   bigint NOT NULL DEFAULT 0,
    email_base bigint NOT NULL DEFAULT 0,
    at         timestamptz NOT NULL DEFAULT now(),
    record     bytea NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, modseq)
);
ALTER TABLE mailbox_log ALTER COLUMN record SET STORAGE EXTERNAL;
CALL protect('mailbox_log');

CREATE TABLE mailbox_segment (
    tenant_id  bigint NOT NULL,
    mailbox_id bigint NOT NULL,
    first_uid  bigint NOT NULL,
    last_uid   bigint NOT NULL,
    modseq     bigint NOT NULL,
    data       bytea NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, first_uid)
);
ALTER TABLE mailbox_segment ALTER COLUMN data SET STORAGE EXTERNAL;
CALL protect('mailbox_segment');

-- Expunge records outlive folding: for VANISHED (RFC 7162) and undelete.
CREATE TABLE mailbox_expunged (
    tenant_id  bigint NOT NULL,
    mailbox_id bigint NOT NULL,
    modseq     bigint NOT NULL,
    at         timestamptz NOT NULL,
    record     bytea NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, modseq)
);
ALTER TABLE mailbox_expunged ALTER COLUMN record SET STORAGE EXTERNAL;
CALL protect('mailbox_expunged');

-- The highest UIDVALIDITY that a name has had, for names that are free again.
CREATE TABLE mailbox_tombstone (
    tenant_id   bigint NOT NULL,
    account_id  bigint NOT NULL,
    name        text COLLATE "C" NOT NULL,
    uidvalidity bigint NOT NULL,
    PRIMARY KEY (tenant_id, account_id, name)
);
CALL protect('mailbox_tombstone');

CREATE TABLE subscription (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL, -- the subscriber
    name       text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, account_id, name)
);
CALL protect('subscription');
