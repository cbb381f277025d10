-- Who may do what below the application. The owner (who runs the migrations)
-- holds the tables; serving processes log in as members of mailstead_serving,
-- which owns nothing and is bound to one tenant a transaction by row-level
-- security.
-- +goose Up

-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mailstead_serving') THEN
        CREATE ROLE mailstead_serving NOLOGIN;
    END IF;
END
$$;
-- +goose StatementEnd

GRANT USAGE ON SCHEMA public TO mailstead_serving;

-- Serving processes compare the version of the schema with the one that they need.
GRANT SELECT ON goose_db_version TO mailstead_serving;

-- current_tenant fails where the transaction has not said which tenant it is
-- for: the setting is then unset or, after an earlier transaction, empty.
-- +goose StatementBegin
CREATE FUNCTION current_tenant() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT current_setting('mailstead.tenant')::bigint $$;
-- +goose StatementEnd

-- protect puts a table that has a tenant_id under row-level security: serving
-- roles see the rows of the transaction's tenant, evaluated once a statement;
-- the owner, as whom only migrations and a few SECURITY DEFINER functions run,
-- sees all.
-- +goose StatementBegin
CREATE PROCEDURE protect(t regclass)
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner ON %s TO CURRENT_USER USING (true)', t);
    EXECUTE format('CREATE POLICY tenant ON %s TO mailstead_serving USING (tenant_id = (SELECT current_tenant()))', t);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO mailstead_serving', t);
END
$$;
-- +goose StatementEnd
