-- Where domains live that are not here: in which other cell, which is a database with a bucket and index nodes of its own, and holds whole
-- tenants. A new table; the previous release does not know it, and refuses the logins of such domains.
-- +goose Up

-- It is no tenant's, and reached by functions alone: lookup_login, and those below.
CREATE TABLE remote_domain (
    name text COLLATE "C" PRIMARY KEY, -- as domain.name
    cell text COLLATE "C" NOT NULL
);

-- set_remote_domain tells whether it has noted where a domain lives: not where it is one of this cell's.
-- +goose StatementBegin
CREATE FUNCTION set_remote_domain(asked text, lives_in text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF EXISTS (SELECT FROM domain d WHERE d.name = asked) THEN
        RETURN false;
    END IF;
    INSERT INTO remote_domain AS r (name, cell) VALUES (asked, lives_in) ON CONFLICT (name) DO UPDATE SET cell = excluded.cell;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- delete_remote_domain tells whether the domain was noted.
-- +goose StatementBegin
CREATE FUNCTION delete_remote_domain(asked text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    DELETE FROM remote_domain r WHERE r.name = asked;
    RETURN FOUND;
END
$$;
-- +goose StatementEnd

-- list_remote_domains is for operators.
-- +goose StatementBegin
CREATE FUNCTION list_remote_domains() RETURNS TABLE (name text, cell text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT r.name::text, r.cell::text FROM remote_domain r ORDER BY r.name;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION set_remote_domain(text, text), delete_remote_domain(text), list_remote_domains() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION set_remote_domain(text, text), delete_remote_domain(text), list_remote_domains() TO mailstead_serving;
