-- Tenants, their domains, accounts and aliases. Names are compared as the
-- application writes them: lower case, domains in their ASCII form.
-- +goose Up

CREATE TABLE tenant (
    tenant_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text COLLATE "C" NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9.-]{0,62}$'),
    disabled   boolean NOT NULL DEFAULT false,
    deleting   boolean NOT NULL DEFAULT false, -- its rows go in steps; nothing new may come
    created_at timestamptz NOT NULL DEFAULT now()
);
CALL protect('tenant');

CREATE TABLE domain (
    tenant_id  bigint NOT NULL,
    domain_id  bigint GENERATED ALWAYS AS IDENTITY,
    name       text COLLATE "C" NOT NULL UNIQUE CHECK (name = lower(name)), -- one tenant's on the whole platform
    catch_all  text COLLATE "C",                                            -- address that gets what has no account and no alias
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, domain_id)
);
CALL protect('domain');

CREATE TABLE account (
    tenant_id  bigint NOT NULL,
    account_id bigint GENERATED ALWAYS AS IDENTITY,
    domain_id  bigint NOT NULL,
    login      text COLLATE "C" NOT NULL UNIQUE CHECK (login = lower(login)), -- local@domain
    role       text NOT NULL DEFAULT 'none'                                   -- store.Role
               CHECK (role IN ('none', 'support', 'domain-admin', 'tenant-admin', 'platform-support', 'platform-admin')),
    password   text NOT NULL,                                                 -- PHC string; '' lets nobody in
    disabled   boolean NOT NULL DEFAULT false,
    deleting   boolean NOT NULL DEFAULT false, -- its mail goes in steps; it takes no logins and no mail
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, account_id)
);
CREATE INDEX account_domain ON account (tenant_id, domain_id);
CREATE INDEX account_login ON account (tenant_id, login);
CALL protect('account');

CREATE TABLE alias (
    tenant_id  bigint NOT NULL,
    domain_id  bigint NOT NULL,
    address    text COLLATE "C" NOT NULL UNIQUE CHECK (address = lower(address)),
    targets    text[] COLLATE "C" NOT NULL CHECK (cardinality(targets) > 0), -- addresses of the same tenant
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, address)
);
CREATE INDEX alias_domain ON alias (tenant_id, domain_id);
CALL protect('alias');
