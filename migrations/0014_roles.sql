-- Which domains a domain admin administers.
-- +goose Up

CREATE TABLE domain_admin (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    domain_id  bigint NOT NULL,
    PRIMARY KEY (tenant_id, account_id, domain_id)
);
CALL protect('domain_admin');
