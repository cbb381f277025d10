-- Logins that have failed, by address, account and tenant, on all front ends together; from where accounts are logged in to; and
-- from where tenants let nobody be kept out. New tables; the previous release does not know them, and counts by connection.
-- +goose Up

-- Of whoever has failed to log in of late, how often, under the names of package store: 'address:…', 'account:…', 'tenant:…', 'known:…'.
-- An account need not exist. It is no tenant's, and reached by the functions below alone.
CREATE TABLE login_attempt (
    name          text COLLATE "C" PRIMARY KEY,
    failures      int NOT NULL,
    since         timestamptz NOT NULL,             -- the first of them
    last_at       timestamptz NOT NULL,             -- the last
    guesses       int[] NOT NULL DEFAULT '{}',      -- of an account, 16 bits of a hash of each of the last: the same one again is not another
    blocks        int NOT NULL DEFAULT 0,           -- in a row
    blocked_until timestamptz,                      -- NULL: it never was
    told_as       uuid NOT NULL DEFAULT gen_random_uuid(), -- of the event that tells of the last block
    post_at       timestamptz,                      -- when to try to post it next; NULL: not (any more)
    posts         int NOT NULL DEFAULT 0            -- that failed
) WITH (fillfactor = 70);

-- Where an account has been logged in to.
CREATE TABLE known_address (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    address    cidr NOT NULL,        -- IPv6: a network of 64 bits
    at         timestamptz NOT NULL, -- to within a day
    PRIMARY KEY (tenant_id, account_id, address)
);
CALL protect('known_address');

-- From where a tenant's users may fail as often as they like.
CREATE TABLE tenant_network (
    tenant_id bigint NOT NULL,
    network   cidr NOT NULL,
    PRIMARY KEY (tenant_id, network)
);
CALL protect('tenant_network');

-- origin is what an address counts as: itself, of IPv6 its network of 64 bits, which is what one client has.
CREATE FUNCTION origin(address inet) RETURNS cidr
    LANGUAGE sql IMMUTABLE STRICT
    AS $$ SELECT set_masklen(address::cidr, CASE family(address) WHEN 4 THEN 32 ELSE 64 END) $$;

-- failed_lately tells how often the names have failed within a time, and for how many seconds they are blocked still: an object of
-- JSON, by what stands before the colon; NULL: not at all.
-- +goose StatementBegin
CREATE FUNCTION failed_lately(names text[], within interval) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    found text;
BEGIN
    SELECT json_object_agg(split_part(l.name, ':', 1), json_build_object(
               'failures', CASE WHEN l.since > now() - within THEN l.failures ELSE 0 END,
               'blocked', greatest(ceil(extract(epoch FROM l.blocked_until - now())), 0)))::text INTO found
    FROM login_attempt l
    WHERE l.name = ANY (names);
    RETURN found;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION failed_lately(text[], interval) FROM PUBLIC;

-- note_failure counts a login that has failed: of the address, of the account, of the account from the address where that is known, and
-- of the tenant. Each may have its most failures within a time, in this order, before it is blocked: for a first time, and each time again
-- within a day twice as long, up to the longest. A guess that was among the last of the account is not counted. It tells
-- what is blocked now and was not before. What it writes may be lost with the server, so nobody waits for the disk.
-- +goose StatementBegin
CREATE FUNCTION note_failure(address inet, account text, known boolean, tenant bigint, guess int, most int[], within interval, first interval, longest interval, post boolean)
    RETURNS TABLE (name text, until timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    names text[] := ARRAY[
        'address:' || origin(address), 'account:' || account, CASE WHEN known THEN 'known:' || origin(address) || ' ' || account END,
        'tenant:' || (SELECT t.name FROM tenant t WHERE t.tenant_id = tenant)];
    one login_attempt;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE login_attempt l SET last_at = now() WHERE l.name = names[2] AND guess = ANY (l.guesses);
    IF FOUND THEN
        RETURN;
    END IF;
    FOR i IN 1 .. 4 LOOP -- in the order in which all lock them
        CONTINUE WHEN names[i] IS NULL;
        INSERT INTO login_attempt AS l (name, failures, since, last_at, guesses)
        VALUES (names[i], 1, now(), now(), CASE WHEN i = 2 AND guess IS NOT NULL THEN ARRAY[guess] ELSE '{}' END)
        ON CONFLICT (name) DO UPDATE
        SET failures = CASE WHEN l.since > now() - within THEN l.failures + 1 ELSE 1 END,
            since = CASE WHEN l.since > now() - within THEN l.since ELSE now() END,
            last_at = now(),
            guesses = (excluded.guesses || l.guesses)[1:16],
            blocks = CASE WHEN l.blocked_until > now() - interval '1 day' THEN l.blocks ELSE 0 END
        RETURNING l.* INTO one;
        CONTINUE WHEN one.failures < most[i] OR one.blocked_until > now();
        UPDATE login_attempt l
        SET failures = 0, blocks = one.blocks + 1, blocked_until = now() + least(first * power(2, least(one.blocks, 20)), longest),
            told_as = gen_random_uuid(), post_at = CASE WHEN post THEN now() END, posts = 0
        WHERE l.name = names[i]
        RETURNING l.name, l.blocked_until INTO name, until;
        RETURN NEXT;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- list_attempts is for operators: what has failed within a time, or is blocked.
-- +goose StatementBegin
CREATE FUNCTION list_attempts(within interval)
    RETURNS TABLE (name text, failures int, last_at timestamptz, blocked_until timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT l.name::text, CASE WHEN l.since > now() - within THEN l.failures ELSE 0 END, l.last_at, CASE WHEN l.blocked_until > now() THEN l.blocked_until END
        FROM login_attempt l
        WHERE l.since > now() - within OR l.blocked_until > now()
        ORDER BY l.blocked_until > now() DESC NULLS LAST, l.name;
END
$$;
-- +goose StatementEnd

-- clear_attempts forgets what an operator names, of an account also where it is known; or everything.
-- +goose StatementBegin
CREATE FUNCTION clear_attempts(address inet, account text, tenant text, everything boolean) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    n bigint;
BEGIN
    DELETE FROM login_attempt l
    WHERE everything OR l.name = ANY (ARRAY['address:' || origin(address), 'account:' || account, 'tenant:' || tenant])
       OR l.name LIKE 'known:%' AND split_part(l.name, ' ', 2) = account;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$$;
-- +goose StatementEnd

-- forget_attempts is for maintenance: what has rested for a time goes, and of more than so many those that have rested longest.
-- +goose StatementBegin
CREATE FUNCTION forget_attempts(rested interval, most bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    n bigint;
    more bigint;
BEGIN
    DELETE FROM login_attempt l
    WHERE l.last_at < now() - rested AND coalesce(l.blocked_until < now() - rested, true);
    GET DIAGNOSTICS n = ROW_COUNT;
    SELECT count(*) - most INTO more FROM login_attempt;
    IF more > 0 THEN
        DELETE FROM login_attempt l WHERE l.name IN (SELECT o.name FROM login_attempt o ORDER BY o.last_at LIMIT more);
        n := n + more;
    END IF;
    RETURN n;
END
$$;
-- +goose StatementEnd

-- blocks_to_post is for maintenance: events of blocks that are due.
-- +goose StatementBegin
CREATE FUNCTION blocks_to_post(most bigint)
    RETURNS TABLE (name text, told_as text, at timestamptz, until timestamptz, posts int)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT l.name::text, l.told_as::text, l.last_at, l.blocked_until, l.posts
        FROM login_attempt l
        WHERE l.post_at <= now()
        ORDER BY l.post_at
        LIMIT most;
END
$$;
-- +goose StatementEnd

-- block_posted notes of an event that it was taken, or is to be posted again after a pause.
-- +goose StatementBegin
CREATE FUNCTION block_posted(block text, event text, again interval) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    UPDATE login_attempt l
    SET post_at = now() + again, posts = l.posts + CASE WHEN again IS NULL THEN 0 ELSE 1 END
    WHERE l.name = block AND l.told_as = event::uuid;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION note_failure(inet, text, boolean, bigint, int, int[], interval, interval, interval, boolean), list_attempts(interval),
    clear_attempts(inet, text, text, boolean), forget_attempts(interval, bigint), blocks_to_post(bigint), block_posted(text, text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_failure(inet, text, boolean, bigint, int, int[], interval, interval, interval, boolean), list_attempts(interval),
    clear_attempts(inet, text, text, boolean), forget_attempts(interval, bigint), blocks_to_post(bigint), block_posted(text, text, interval) TO mailstead_serving;
