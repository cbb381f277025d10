-- One-time passwords of accounts (RFC 2289), for the mechanism OTP. New tables; the previous release does not know them, and has no such mechanism.
-- +goose Up

-- The last one-time password of an account that was accepted, or the one that its sequence begins with. It lets nobody in: what is accepted is what has it for its hash.
CREATE TABLE one_time_password (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    algorithm  text NOT NULL CHECK (algorithm IN ('md5', 'sha1')),
    sequence   int NOT NULL CHECK (sequence BETWEEN 1 AND 9999), -- of last; that of the next challenge is one less
    seed       text NOT NULL CHECK (seed ~ '^[a-z0-9]{1,16}$'),
    last       bytea NOT NULL CHECK (octet_length(last) = 8),
    set_at     timestamptz NOT NULL DEFAULT now(),               -- the beginning of the sequence
    PRIMARY KEY (tenant_id, account_id)
);
CALL protect('one_time_password');

-- Exchanges that are under way: one of each login at a time (RFC 2289 section 9), whether or not there is such an account, so that nobody learns by it who is there. It is no
-- tenant's, and reached by the functions below alone. What it has may be lost with the server.
CREATE TABLE otp_exchange (
    login    text COLLATE "C" PRIMARY KEY,
    exchange uuid NOT NULL,
    until    timestamptz NOT NULL
);
CREATE INDEX otp_exchange_until ON otp_exchange (until);

-- begin_otp begins an exchange of a login, and tells what it is to be asked for. It tells nothing where another is under way, which has so long. Some of
-- those that nobody has ended go with it, so no more are kept than begin within that time;
-- they go last, or two who clean up each other's would wait for each other.
-- +goose StatementBegin
CREATE FUNCTION begin_otp(asked text, lasts interval)
    RETURNS TABLE (
        exchange  text,
        algorithm text, -- NULL, as what follows, where the login has no one-time passwords
        sequence  int,
        seed      text,
        last      bytea
    )
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    begun uuid;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO otp_exchange AS x (login, exchange, until)
    VALUES (asked, gen_random_uuid(), now() + lasts)
    ON CONFLICT (login) DO UPDATE SET exchange = excluded.exchange, until = excluded.until WHERE x.until < now()
    RETURNING x.exchange INTO begun;
    IF begun IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM otp_exchange x
    WHERE x.login IN (SELECT o.login FROM otp_exchange o WHERE o.until < now() AND o.login <> asked ORDER BY o.until LIMIT 10 FOR UPDATE SKIP LOCKED);
    RETURN QUERY
        SELECT begun::text, p.algorithm, p.sequence, p.seed, p.last
        FROM (VALUES (asked)) AS q (login)
        LEFT JOIN account a ON a.login = q.login AND NOT a.deleting
        LEFT JOIN one_time_password p ON p.tenant_id = a.tenant_id AND p.account_id = a.account_id;
END
$$;
-- +goose StatementEnd

-- end_otp ends an exchange, and tells whether it was still under way.
-- +goose StatementBegin
CREATE FUNCTION end_otp(asked text, begun text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    ends timestamptz;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM otp_exchange x WHERE x.login = asked AND x.exchange = begun::uuid RETURNING x.until INTO ends;
    RETURN coalesce(ends > now(), false);
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION begin_otp(text, interval), end_otp(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION begin_otp(text, interval), end_otp(text, text) TO mailstead_serving;
