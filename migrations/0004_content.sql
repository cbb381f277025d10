-- Emails and their content: rows that are written once. Content is kept once
-- per tenant; it is staged in the database first and moves to object storage
-- in packs, or goes there at once when it is large.
-- +goose Up

-- Objects in object storage. A key is random and never used again.
CREATE TABLE object (
    tenant_id  bigint NOT NULL,
    object_key text NOT NULL,
    bytes      bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, object_key)
);
CALL protect('object');

-- Committed before a PUT, consumed by the transaction that makes the object count. Once it is
-- condemned nothing consumes it any more: it stays until the bucket has removed the object.
CREATE TABLE object_intent (
    tenant_id  bigint NOT NULL,
    object_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    condemned  integer, -- how often the bucket has failed to remove the object; NULL: it may still come to count
    PRIMARY KEY (tenant_id, object_key)
);
CREATE INDEX object_intent_condemned ON object_intent (tenant_id, condemned, created_at) WHERE condemned IS NOT NULL;
CALL protect('object_intent');

CREATE TABLE blob (
    tenant_id  bigint NOT NULL,
    digest     bytea NOT NULL CHECK (octet_length(digest) = 32), -- SHA-256 of the content
    dying      boolean NOT NULL DEFAULT false,
    size       bigint NOT NULL,   -- octets of content
    encoding   smallint NOT NULL, -- frame format, compression, key
    frames     bytea NOT NULL,    -- stored length of each frame
    stored_len bigint NOT NULL,   -- their sum
    slot       smallint,          -- staged in staged_<slot>; NULL: in an object
    object_key text,
    object_off bigint,
    PRIMARY KEY (tenant_id, digest),
    CHECK ((slot IS NULL) = (object_key IS NOT NULL) AND (object_key IS NULL) = (object_off IS NULL))
);
CREATE INDEX blob_object ON blob (tenant_id, object_key) WHERE object_key IS NOT NULL;
CALL protect('blob');

CREATE TABLE email (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    email_id   bigint NOT NULL, -- from account_state.next_email, under its lock: visible in order
    digest     bytea NOT NULL,
    prefix     bytea NOT NULL,  -- header lines before the content, of this account alone
    size       bigint NOT NULL, -- RFC822.SIZE: prefix and content
    sent_at    timestamptz,     -- of the Date field
    emailid    text NOT NULL,   -- EMAILID (RFC 8474)
    threadid   text NOT NULL,
    meta       bytea NOT NULL, -- of the content, without the prefix
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, account_id, email_id),
    FOREIGN KEY (tenant_id, digest) REFERENCES blob (tenant_id, digest)
);
ALTER TABLE email ALTER COLUMN meta SET STORAGE EXTERNAL;
CREATE INDEX email_digest ON email (tenant_id, digest);
CALL protect('email');

-- Staging is a ring of tables: new content goes to the current slot; a slot
-- that has run empty is truncated, so that deletes leave nothing to vacuum.
CREATE TABLE staged_0 (
    tenant_id bigint NOT NULL,
    digest    bytea NOT NULL,
    staged_at timestamptz NOT NULL DEFAULT now(),
    data      bytea NOT NULL,
    PRIMARY KEY (tenant_id, digest)
);
ALTER TABLE staged_0 ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE staged_1 (LIKE staged_0 INCLUDING ALL);
CREATE TABLE staged_2 (LIKE staged_0 INCLUDING ALL);
CREATE TABLE staged_3 (LIKE staged_0 INCLUDING ALL);
CALL protect('staged_0');
CALL protect('staged_1');
CALL protect('staged_2');
CALL protect('staged_3');

CREATE TABLE staging_ring (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    current smallint NOT NULL CHECK (current BETWEEN 0 AND 3)
);
INSERT INTO staging_ring (current) VALUES (0);
GRANT SELECT ON staging_ring TO mailstead_serving;

-- Who runs a background job. The epoch fences: it grows with every change of holder.
CREATE TABLE lease (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    epoch      bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON lease TO mailstead_serving;
