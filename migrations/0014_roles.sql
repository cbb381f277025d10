-- Which domains a domain admin administers.
-- +goose Up

CREATE TABLE domain_admin (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    domain_id  bigint NOT NULL,
    PRIMARY KEY (tenant_id, account_id, domain_id)
);
CALL protect('domain_admin');

-- What was done with rights beyond one's own mail, of each tenant in an order
-- that is proven by a chain: each entry's hash covers the one before. Serving
-- processes read it and add to it, by write_audit alone. It outlives its tenant.
CREATE TABLE audit_log (
    tenant_id bigint NOT NULL,
    seq       bigint NOT NULL,
    at        timestamptz NOT NULL,
    actor     text NOT NULL, -- a login, a login acting as another, or who ran a command
    action    text NOT NULL,
    object    text NOT NULL, -- what it was done to
    detail    text NOT NULL, -- JSON
    hash      bytea NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
CALL protect('audit_log');
REVOKE INSERT, UPDATE, DELETE ON audit_log FROM mailstead_serving;

-- The last entry of each chain, so that one that was cut short is found.
CREATE TABLE audit_head (
    tenant_id bigint NOT NULL PRIMARY KEY,
    tenant    text COLLATE "C" NOT NULL, -- its name, also when it is gone
    seq       bigint NOT NULL,
    hash      bytea NOT NULL
);
CALL protect('audit_head');
REVOKE INSERT, UPDATE, DELETE ON audit_head FROM mailstead_serving;

-- audit_hash is what an entry's hash must be: SHA-256 of the hash before, and of
-- the entry's fields, each text behind its length. store/audit.go computes the same.
-- +goose StatementBegin
CREATE FUNCTION audit_hash(before bytea, seq bigint, at timestamptz, actor text, action text, object text, detail text) RETURNS bytea
    LANGUAGE sql STABLE
    AS $$
    SELECT sha256(before || int8send(seq) || int8send((extract(epoch FROM at) * 1000000)::bigint)
        || int4send(octet_length(actor)) || convert_to(actor, 'UTF8')
        || int4send(octet_length(action)) || convert_to(action, 'UTF8')
        || int4send(octet_length(object)) || convert_to(object, 'UTF8')
        || int4send(octet_length(detail)) || convert_to(detail, 'UTF8'))
$$;
-- +goose StatementEnd

-- write_audit adds an entry in the transaction of what it tells. It is its last
-- statement, for the head's lock orders all that adds to the chain of the tenant.
-- +goose StatementBegin
CREATE FUNCTION write_audit(t bigint, who text, act text, on_what text, details text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    h   audit_head;
    now timestamptz;
    sum bytea;
BEGIN
    IF t <> current_tenant() THEN
        RAISE EXCEPTION 'tenant % is not %', t, current_tenant() USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO audit_head (tenant_id, tenant, seq, hash)
    SELECT t, name, 0, '' FROM tenant WHERE tenant_id = t
    ON CONFLICT (tenant_id) DO NOTHING;
    SELECT * INTO h FROM audit_head WHERE tenant_id = t FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no tenant %', t USING ERRCODE = 'MS001';
    END IF;
    now := clock_timestamp();
    sum := audit_hash(h.hash, h.seq + 1, now, who, act, on_what, details);
    INSERT INTO audit_log (tenant_id, seq, at, actor, action, object, detail, hash)
    VALUES (t, h.seq + 1, now, who, act, on_what, details, sum);
    UPDATE audit_head SET seq = h.seq + 1, hash = sum WHERE tenant_id = t;
END
$$;
-- +goose StatementEnd

-- list_audits is for operators: the chains of all tenants, also of those that are gone. One that has been taken away as a
-- whole ends with entry 0: there is none without that of who made the tenant.
-- +goose StatementBegin
CREATE FUNCTION list_audits() RETURNS TABLE (tenant_id bigint, tenant text, seq bigint, hash bytea)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT c.tenant_id, coalesce(h.tenant, t.name), coalesce(h.seq, 0), coalesce(h.hash, '')
        FROM audit_head h
        FULL JOIN tenant t ON t.tenant_id = h.tenant_id, LATERAL (SELECT coalesce(h.tenant_id, t.tenant_id) AS tenant_id) c
        ORDER BY 2, 1;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION write_audit(bigint, text, text, text, text), list_audits() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION write_audit(bigint, text, text, text, text), list_audits() TO mailstead_serving;
