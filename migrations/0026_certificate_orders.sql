-- Certificates that are ordered by ACME (RFC 8555): for which names, what shows that those are ours, and the account that orders. New tables, and
-- a column that the previous release does not read.
-- +goose Up

ALTER TABLE certificate_version ADD COLUMN proofs bigint NOT NULL DEFAULT 0; -- as version, of certificate_proof

-- The names that an operator has certificates ordered for, one each. Like certificates they are no tenant's, and reached by functions alone.
CREATE TABLE certificate_order (
    name     text COLLATE "C" PRIMARY KEY, -- in its ASCII form
    domain   text COLLATE "C",             -- as certificate.domain
    try_at   timestamptz NOT NULL DEFAULT now(), -- not before then
    failures int NOT NULL DEFAULT 0,       -- in a row
    problem  text NOT NULL DEFAULT ''      -- of the last
);
CREATE INDEX ON certificate_order (domain);

-- What answers for a name while it is proven: of http-01 by its token (RFC 8555 section 8.3), of tls-alpn-01 a certificate by the name (RFC 8737).
CREATE TABLE certificate_proof (
    kind      text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    answer    bytea NOT NULL CHECK (octet_length(answer) <= 8192), -- a text; or DER
    sealed    bytea NOT NULL DEFAULT '', -- the key of that, as certificate.sealed
    sealed_by text COLLATE "C" NOT NULL DEFAULT '',
    until     timestamptz NOT NULL,
    PRIMARY KEY (kind, key)
);

-- Who orders, at each authority.
CREATE TABLE certificate_account (
    authority text COLLATE "C" PRIMARY KEY, -- the URL of its directory
    uri       text NOT NULL,                -- of the account; '': it has not been made
    sealed    bytea NOT NULL,               -- its key, in the words of package certificate
    sealed_by text COLLATE "C" NOT NULL
);

-- order_certificate tells whether certificates are ordered for a name from now on, at once if that was tried in vain before: not where it is another domain's, or its
-- domain is not there.
-- +goose StatementBegin
CREATE FUNCTION order_certificate(asked text, of_domain text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF of_domain IS NOT NULL THEN
        PERFORM FROM domain d WHERE d.name = of_domain FOR KEY SHARE;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    INSERT INTO certificate_order AS o (name, domain) VALUES (asked, of_domain)
    ON CONFLICT (name) DO UPDATE SET try_at = now(), failures = 0
        WHERE o.domain IS NOT DISTINCT FROM excluded.domain;
    RETURN FOUND;
END
$$;
-- +goose StatementEnd

-- cancel_certificate tells whether certificates were ordered for a name.
-- +goose StatementBegin
CREATE FUNCTION cancel_certificate(asked text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    DELETE FROM certificate_order o WHERE o.name = asked;
    RETURN FOUND;
END
$$;
-- +goose StatementEnd

-- list_orders is for operators, and for who orders: due, one is that has no certificate, or one of which less than a third of its time is left.
-- +goose StatementBegin
CREATE FUNCTION list_orders() RETURNS TABLE (name text, domain text, try_at timestamptz, failures int, problem text, due boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT o.name::text, coalesce(o.domain, '')::text, o.try_at, o.failures, o.problem,
               o.try_at <= now() AND NOT EXISTS (
                   SELECT FROM certificate c
                   WHERE c.names = ARRAY[o.name] AND c.algorithm = 'ECDSA' AND now() < c.ends - (c.ends - c.begins) / 3)
        FROM certificate_order o
        ORDER BY o.try_at, o.name;
END
$$;
-- +goose StatementEnd

-- order_done notes how an order has gone: nothing where it went well, else what the problem was, and when to try again.
-- +goose StatementBegin
CREATE FUNCTION order_done(asked text, what text, again interval) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE certificate_order o
    SET problem = what, failures = CASE WHEN what = '' THEN 0 ELSE o.failures + 1 END, try_at = now() + again
    WHERE o.name = asked;
END
$$;
-- +goose StatementEnd

-- set_proof has all front ends answer for a name for a time.
-- +goose StatementBegin
CREATE FUNCTION set_proof(of_kind text, of_key text, what bytea, sealed_key bytea, by_seal text, lasts interval) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE certificate_version v SET proofs = v.proofs + 1;
    DELETE FROM certificate_proof p WHERE p.until < now();
    INSERT INTO certificate_proof AS p (kind, key, answer, sealed, sealed_by, until) VALUES (of_kind, of_key, what, sealed_key, by_seal, now() + lasts)
    ON CONFLICT (kind, key) DO UPDATE
        SET answer = excluded.answer, sealed = excluded.sealed, sealed_by = excluded.sealed_by, until = excluded.until;
END
$$;
-- +goose StatementEnd

-- delete_proof ends that.
-- +goose StatementBegin
CREATE FUNCTION delete_proof(of_kind text, of_key text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE certificate_version v SET proofs = v.proofs + 1;
    DELETE FROM certificate_proof p WHERE p.kind = of_kind AND p.key = of_key;
END
$$;
-- +goose StatementEnd

-- newest_proofs tells the version of all proofs.
-- +goose StatementBegin
CREATE FUNCTION newest_proofs() RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN (SELECT v.proofs FROM certificate_version v);
END
$$;
-- +goose StatementEnd

-- list_proofs is for front ends, which answer by them whoever asks.
-- +goose StatementBegin
CREATE FUNCTION list_proofs() RETURNS TABLE (kind text, key text, answer bytea, sealed bytea, sealed_by text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT p.kind::text, p.key::text, p.answer, p.sealed, p.sealed_by::text FROM certificate_proof p WHERE p.until > now() ORDER BY p.until LIMIT 1000;
END
$$;
-- +goose StatementEnd

-- read_order_account is for who orders.
-- +goose StatementBegin
CREATE FUNCTION read_order_account(at_authority text) RETURNS TABLE (uri text, sealed bytea, sealed_by text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT a.uri, a.sealed, a.sealed_by::text FROM certificate_account a WHERE a.authority = at_authority;
END
$$;
-- +goose StatementEnd

-- set_order_account keeps an account in the place of the one that is there.
-- +goose StatementBegin
CREATE FUNCTION set_order_account(at_authority text, at_uri text, sealed_key bytea, by_seal text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    INSERT INTO certificate_account AS a (authority, uri, sealed, sealed_by) VALUES (at_authority, at_uri, sealed_key, by_seal)
    ON CONFLICT (authority) DO UPDATE SET uri = excluded.uri, sealed = excluded.sealed, sealed_by = excluded.sealed_by;
END
$$;
-- +goose StatementEnd

-- Orders of a domain go with it, as its certificates do.
-- +goose StatementBegin
CREATE FUNCTION forget_orders() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    DELETE FROM certificate_order o WHERE o.domain = OLD.name;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER certificate_orders AFTER DELETE ON domain FOR EACH ROW EXECUTE FUNCTION forget_orders();

REVOKE EXECUTE ON FUNCTION order_certificate(text, text), cancel_certificate(text), list_orders(), order_done(text, text, interval),
    set_proof(text, text, bytea, bytea, text, interval), delete_proof(text, text), newest_proofs(), list_proofs(),
    read_order_account(text), set_order_account(text, text, bytea, text), forget_orders() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_certificate(text, text), cancel_certificate(text), list_orders(), order_done(text, text, interval),
    set_proof(text, text, bytea, bytea, text, interval), delete_proof(text, text), newest_proofs(), list_proofs(),
    read_order_account(text), set_order_account(text, text, bytea, text) TO mailstead_serving;
