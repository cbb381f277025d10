-- What accounts are let in by beside their password, and who is to be let in no more. New tables,
-- and columns with defaults; the previous release knows neither, and ends no session.
-- +goose Up

ALTER TABLE tenant ADD COLUMN revoked bigint NOT NULL DEFAULT 0;  -- the last of its revocations
ALTER TABLE account ADD COLUMN revoked bigint NOT NULL DEFAULT 0;

-- Passwords of an account for one program each, beside that of its user.
CREATE TABLE app_password (
    tenant_id       bigint NOT NULL,
    account_id      bigint NOT NULL,
    app_password_id bigint GENERATED ALWAYS AS IDENTITY,
    name            text COLLATE "C" NOT NULL,
    secret          text NOT NULL,   -- as account.password
    protocols       text[] NOT NULL CHECK (cardinality(protocols) > 0),
    read_only       boolean NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz,     -- NULL: never
    last_used       timestamptz,     -- to within an hour; NULL: never
    PRIMARY KEY (tenant_id, account_id, app_password_id),
    UNIQUE (tenant_id, account_id, name)
);
CALL protect('app_password');

-- Issuers of tokens that let users of a tenant in.
CREATE TABLE token_issuer (
    tenant_id bigint NOT NULL,
    url       text COLLATE "C" NOT NULL, -- as it stands in its tokens
    audience  text NOT NULL,
    scope     text NOT NULL,             -- '': any
    claim     text NOT NULL,             -- that is the login
    unverified boolean NOT NULL,         -- an address is believed that the issuer does not say it has verified
    roles     boolean NOT NULL,          -- who comes by its tokens has their role, if it is one of the tenant
    PRIMARY KEY (tenant_id, url)
);
CALL protect('token_issuer');

-- What strangers are told of logins that do not exist is made with it: one row.
CREATE TABLE login_secret (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    secret   bytea NOT NULL
);
INSERT INTO login_secret (secret) VALUES (sha256((gen_random_uuid()::text || gen_random_uuid()::text)::bytea));
GRANT SELECT ON login_secret TO mailstead_serving;

-- Logins that do not hold any more, for those who have been let in by them. Every front end reads what is new each
-- second: by the transaction that wrote it, since numbers and times do not appear in their order.
CREATE TABLE revocation (
    tenant_id       bigint NOT NULL,
    revocation_id   bigint GENERATED ALWAYS AS IDENTITY,
    account_id      bigint NOT NULL, -- 0: all of the tenant
    app_password_id bigint NOT NULL, -- 0: all that was let in before; else by that one
    xid             xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, revocation_id)
);
CREATE INDEX revocation_xid ON revocation (xid);
CALL protect('revocation');

-- revocations_since tells what has been revoked by transactions from asked on, for each front end has
-- sessions of all tenants; and where to go on: all before that has been told. Some may be told twice.
-- +goose StatementBegin
CREATE FUNCTION revocations_since(asked text)
    RETURNS TABLE (next text, revocation_id bigint, tenant_id bigint, account_id bigint, app_password_id bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT pg_snapshot_xmin(pg_current_snapshot())::text, 0::bigint, 0::bigint, 0::bigint, 0::bigint
      UNION ALL
        SELECT '', r.revocation_id, r.tenant_id, r.account_id, r.app_password_id
        FROM revocation r
        WHERE r.xid >= asked::xid8;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION revocations_since(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION revocations_since(text) TO mailstead_serving;

-- forget_revocations removes those that no session can be of any more, of tenants that are gone as well.
-- +goose StatementBegin
CREATE FUNCTION forget_revocations(older interval) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    n bigint;
BEGIN
    DELETE FROM revocation r WHERE r.at < now() - older;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION forget_revocations(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_revocations(interval) TO mailstead_serving;
