-- Certificates of TLS that front ends show by the name that clients ask for, beside those of their files. New tables; the previous release does not
-- know them, and shows what is in its files.
-- +goose Up

-- They are no tenant's, for they are looked up before it is known who comes, and reached by the functions below alone. The private keys are
-- sealed: what opens them is in a file of the front ends, and never here.
CREATE TABLE certificate (
    certificate_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    names          text[] COLLATE "C" NOT NULL CHECK (cardinality(names) BETWEEN 1 AND 100), -- sorted, in lower case; *.… for all below
    algorithm      text COLLATE "C" NOT NULL, -- of its key: one name can have a certificate for each
    issuer         text NOT NULL,
    begins         timestamptz NOT NULL,
    ends           timestamptz NOT NULL,
    domain         text COLLATE "C",          -- as domain.name, with which it goes; NULL: it is the deployment's
    source         text COLLATE "C" NOT NULL, -- from where it is, in the words of package store
    chain          bytea NOT NULL CHECK (octet_length(chain) <= 65536), -- DER, its own first
    sealed         bytea NOT NULL,            -- the key, in the words of package certificate
    sealed_by      text COLLATE "C" NOT NULL, -- the id of what opens it
    version        bigint NOT NULL,           -- of all of them, when it was as it is for the first time
    UNIQUE (names, algorithm)
);
CREATE INDEX ON certificate (domain);

-- One row. Whoever changes a certificate changes it first, and so waits for all others: versions are in the order of the commits.
CREATE TABLE certificate_version (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL
);
INSERT INTO certificate_version (version) VALUES (0);

-- set_certificate keeps a certificate in the place of the one of the same names and the same kind of key, and tells its number: NULL where that is another
-- domain's, or its domain is not there.
-- +goose StatementBegin
CREATE FUNCTION set_certificate(names text[], algorithm text, issuer text, begins timestamptz, ends timestamptz, of_domain text, source text, chain bytea, sealed bytea, sealed_by text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
#variable_conflict use_variable
DECLARE
    next bigint;
    made bigint;
BEGIN
    IF of_domain IS NOT NULL THEN
        PERFORM FROM domain d WHERE d.name = of_domain FOR KEY SHARE;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    UPDATE certificate_version v SET version = v.version + 1 RETURNING v.version INTO next;
    INSERT INTO certificate AS c (names, algorithm, issuer, begins, ends, domain, source, chain, sealed, sealed_by, version)
    VALUES (names, algorithm, issuer, begins, ends, of_domain, source, chain, sealed, sealed_by, next)
    ON CONFLICT ON CONSTRAINT certificate_names_algorithm_key DO UPDATE
        SET issuer = excluded.issuer, begins = excluded.begins, ends = excluded.ends, source = excluded.source, chain = excluded.chain,
            sealed = excluded.sealed, sealed_by = excluded.sealed_by, version = excluded.version
        WHERE c.domain IS NOT DISTINCT FROM excluded.domain
    RETURNING c.certificate_id INTO made;
    RETURN made;
END
$$;
-- +goose StatementEnd

-- reseal_certificate tells whether it has put a key that is sealed anew in the place of that of a version.
-- +goose StatementBegin
CREATE FUNCTION reseal_certificate(asked bigint, as_of bigint, sealed bytea, sealed_by text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
#variable_conflict use_variable
DECLARE
    next bigint;
BEGIN
    UPDATE certificate_version v SET version = v.version + 1 RETURNING v.version INTO next;
    UPDATE certificate c SET sealed = sealed, sealed_by = sealed_by, version = next WHERE c.certificate_id = asked AND c.version = as_of;
    RETURN FOUND;
END
$$;
-- +goose StatementEnd

-- delete_certificate tells whether it was there.
-- +goose StatementBegin
CREATE FUNCTION delete_certificate(asked bigint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE certificate_version v SET version = v.version + 1;
    DELETE FROM certificate c WHERE c.certificate_id = asked;
    RETURN FOUND;
END
$$;
-- +goose StatementEnd

-- newest_certificates tells the version of all of them.
-- +goose StatementBegin
CREATE FUNCTION newest_certificates() RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN (SELECT v.version FROM certificate_version v);
END
$$;
-- +goose StatementEnd

-- list_certificates is for front ends, which look for names in it, and operators. It does not tell keys.
-- +goose StatementBegin
CREATE FUNCTION list_certificates()
    RETURNS TABLE (certificate_id bigint, names text[], algorithm text, issuer text, begins timestamptz, ends timestamptz, domain text, source text, sealed_by text, version bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT c.certificate_id, c.names::text[], c.algorithm::text, c.issuer, c.begins, c.ends, coalesce(c.domain, '')::text, c.source::text, c.sealed_by::text, c.version
        FROM certificate c
        ORDER BY c.names, c.algorithm;
END
$$;
-- +goose StatementEnd

-- read_certificate is for front ends, which show it.
-- +goose StatementBegin
CREATE FUNCTION read_certificate(asked bigint) RETURNS TABLE (chain bytea, sealed bytea, sealed_by text, version bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT c.chain, c.sealed, c.sealed_by::text, c.version FROM certificate c WHERE c.certificate_id = asked;
END
$$;
-- +goose StatementEnd

-- The certificates of a domain go with it, whatever deletes it.
-- +goose StatementBegin
CREATE FUNCTION forget_certificates() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF EXISTS (SELECT FROM certificate c WHERE c.domain = OLD.name) THEN
        UPDATE certificate_version v SET version = v.version + 1;
        DELETE FROM certificate c WHERE c.domain = OLD.name;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER certificates AFTER DELETE ON domain FOR EACH ROW EXECUTE FUNCTION forget_certificates();

REVOKE EXECUTE ON FUNCTION set_certificate(text[], text, text, timestamptz, timestamptz, text, text, bytea, bytea, text), reseal_certificate(bigint, bigint, bytea, text),
    delete_certificate(bigint), newest_certificates(), list_certificates(), read_certificate(bigint), forget_certificates() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION set_certificate(text[], text, text, timestamptz, timestamptz, text, text, bytea, bytea, text), reseal_certificate(bigint, bigint, bytea, text),
    delete_certificate(bigint), newest_certificates(), list_certificates(), read_certificate(bigint) TO mailstead_serving;
