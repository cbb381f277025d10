-- Directories of tenants, elsewhere, that say who their users are. A new table; the previous release does not know it, and
-- lets users in by the passwords that are kept here.
-- +goose Up

CREATE TABLE tenant_directory (
    tenant_id bigint PRIMARY KEY,
    settings  text NOT NULL -- JSON, in the words of package directory
);
CALL protect('tenant_directory');
