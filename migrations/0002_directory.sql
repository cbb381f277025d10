-- Tenants, their domains, accounts and aliases.
-- +goose Up

CREATE TABLE tenant (
    tenant_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9.-]{0,62}$'),
    disabled   boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CALL protect('tenant');

CREATE TABLE domain (
    tenant_id  bigint NOT NULL,
    domain_id  bigint GENERATED ALWAYS AS IDENTITY,
    name       text NOT NULL UNIQUE CHECK (name = lower(name)), -- one tenant's on the whole platform
    catch_all  text,                                            -- address that gets what has no account and no alias
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, domain_id)
);
CALL protect('domain');

CREATE TABLE account (
    tenant_id  bigint NOT NULL,
    account_id bigint GENERATED ALWAYS AS IDENTITY,
    domain_id  bigint NOT NULL,
    login      text NOT NULL UNIQUE CHECK (login = lower(login)), -- local@domain
    password   text NOT NULL,                                     -- PHC string; '' lets nobody in
    disabled   boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, account_id)
);
CREATE INDEX account_domain ON account (tenant_id, domain_id);
CALL protect('account');

CREATE TABLE alias (
    tenant_id  bigint NOT NULL,
    address    text NOT NULL UNIQUE CHECK (address = lower(address)),
    targets    text[] NOT NULL CHECK (cardinality(targets) > 0), -- addresses of the same tenant
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, address)
);
CALL protect('alias');
