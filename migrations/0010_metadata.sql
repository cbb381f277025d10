-- Annotations of mailboxes and of the server (RFC 5464). A new table; the
-- previous release does not know it, and removes what belongs to a mailbox
-- with that, by the foreign key.
-- +goose Up

-- An entry is private to an account or shared: that of a mailbox by all who
-- may see it, that of the server by all users of the tenant.
CREATE TABLE metadata (
    tenant_id  bigint NOT NULL,
    mailbox_id bigint NOT NULL, -- 0: of the server
    account_id bigint NOT NULL, -- whose it is; 0: shared
    entry      text COLLATE "C" NOT NULL CHECK (entry = lower(entry)),
    value      bytea NOT NULL,
    mailbox    bigint GENERATED ALWAYS AS (nullif(mailbox_id, 0)) STORED,
    PRIMARY KEY (tenant_id, mailbox_id, account_id, entry),
    FOREIGN KEY (tenant_id, mailbox) REFERENCES mailbox (tenant_id, mailbox_id) ON DELETE CASCADE
);
CREATE INDEX metadata_mailbox ON metadata (tenant_id, mailbox) WHERE mailbox IS NOT NULL;
CREATE INDEX metadata_account ON metadata (tenant_id, account_id) WHERE account_id <> 0;
CALL protect('metadata');
