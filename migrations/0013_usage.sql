-- What each account used, hour by hour: the source of invoices. The hour that
-- is open is counted in account_state, in the UPDATE that charges the account, so that it costs no
-- round trip and no row of its own. Once an hour it becomes a row of usage_hour, and never changes again.
--
-- Times are whole seconds of the database's clock: a change of what is stored counts from the second in which it is made,
-- so the integral of octets over time is a whole number, and exact. New tables and columns;
-- the previous release does not know them, and what it charges counts from the next charge on.
-- +goose Up

-- metering_clock tells the time in seconds since 1970. Tests put another one in its place.
CREATE FUNCTION metering_clock() RETURNS bigint
    LANGUAGE sql VOLATILE
    AS $$ SELECT floor(extract(epoch FROM clock_timestamp()))::bigint $$;

-- What has been counted of the hour of metered_to, up to that second. octets × seconds may be more than a bigint
-- holds: with a mailbox that is copied onto itself, 2 PiB take 52 commands.
ALTER TABLE account_state
    ADD COLUMN metered_to           bigint NOT NULL DEFAULT metering_clock(),
    ADD COLUMN hour_byte_seconds    numeric NOT NULL DEFAULT 0,
    ADD COLUMN hour_peak_bytes      bigint NOT NULL DEFAULT 0, -- and what is there
    ADD COLUMN hour_appended        bigint NOT NULL DEFAULT 0,
    ADD COLUMN hour_appended_bytes  bigint NOT NULL DEFAULT 0,
    ADD COLUMN hour_delivered       bigint NOT NULL DEFAULT 0,
    ADD COLUMN hour_delivered_bytes bigint NOT NULL DEFAULT 0;

-- The ledger: a row for each account and hour, also where nothing happened. It is
-- read by period, so the hour comes first.
CREATE TABLE usage_hour (
    tenant_id          bigint NOT NULL,
    hour               timestamptz NOT NULL CHECK (extract(epoch FROM hour)::bigint % 3600 = 0), -- when it began
    account_id         bigint NOT NULL,
    bytes              bigint NOT NULL CHECK (bytes >= 0),    -- at the end of the hour
    messages           bigint NOT NULL CHECK (messages >= 0), -- at the end of the hour
    byte_seconds       numeric NOT NULL CHECK (byte_seconds >= 0 AND scale(byte_seconds) = 0),
    peak_bytes         bigint NOT NULL CHECK (peak_bytes >= bytes AND byte_seconds <= peak_bytes::numeric * 3600),
    appended_messages  bigint NOT NULL CHECK (appended_messages >= 0),
    appended_bytes     bigint NOT NULL CHECK (appended_bytes >= 0),
    delivered_messages bigint NOT NULL CHECK (delivered_messages >= 0),
    delivered_bytes    bigint NOT NULL CHECK (delivered_bytes >= 0),
    fetched_bytes      bigint NOT NULL CHECK (fetched_bytes >= 0),
    searches           bigint NOT NULL CHECK (searches >= 0),
    PRIMARY KEY (tenant_id, hour, account_id)
);
CALL protect('usage_hour');
REVOKE UPDATE, DELETE ON usage_hour FROM mailstead_serving; -- forget_usage removes what is too old

-- Whose the rows are, with the names as they were, also after the account has gone.
CREATE TABLE usage_account (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    login      text COLLATE "C" NOT NULL,
    domain     text COLLATE "C" NOT NULL, -- '': of what the tenant's Shared mailboxes hold
    since      bigint NOT NULL, -- when it was metered first
    until      bigint, -- NULL: it is there
    PRIMARY KEY (tenant_id, account_id)
);
CALL protect('usage_account');

INSERT INTO usage_account (tenant_id, account_id, login, domain, since)
SELECT a.tenant_id, a.account_id, a.login, coalesce(d.name, ''), s.metered_to
FROM account a
LEFT JOIN domain d ON d.tenant_id = a.tenant_id AND d.domain_id = a.domain_id
JOIN account_state s ON s.tenant_id = a.tenant_id AND s.account_id = a.account_id;

-- How far the ledger of a tenant goes.
CREATE TABLE usage_tenant (
    tenant_id bigint PRIMARY KEY,
    closed_to timestamptz NOT NULL, -- hours before it are there for all accounts, and no row of them will come any more
    kept_from timestamptz NOT NULL DEFAULT '-infinity' -- hours before it may have been removed
);
CALL protect('usage_tenant');

-- What was read in hours that are not closed yet. A row that comes when its hour has been closed goes into the next one.
CREATE TABLE usage_read (
    tenant_id     bigint NOT NULL,
    account_id    bigint NOT NULL,
    hour          timestamptz NOT NULL,
    fetched_bytes bigint NOT NULL,
    searches      bigint NOT NULL,
    PRIMARY KEY (tenant_id, account_id, hour)
) WITH (fillfactor = 50);
CALL protect('usage_read');

-- The last that each front end has told of what was read.
CREATE TABLE usage_flush (
    tenant_id bigint NOT NULL,
    front_end text NOT NULL, -- of one life of a process
    sequence  bigint NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, front_end)
);
CALL protect('usage_flush');

-- No row of the ledger changes, whoever would change it, and none comes once its hour is closed for all of the tenant.
-- +goose StatementBegin
CREATE FUNCTION keep_usage() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NOT EXISTS (SELECT FROM usage_tenant u WHERE u.tenant_id = NEW.tenant_id AND u.closed_to > NEW.hour) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'hours that are closed never change' USING ERRCODE = 'MS011';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON usage_hour FOR EACH ROW EXECUTE FUNCTION keep_usage();

-- Nor is an hour opened again that is closed, as long as the tenant is there.
-- +goose StatementBegin
CREATE FUNCTION keep_closed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.tenant_id = OLD.tenant_id AND NEW.closed_to >= OLD.closed_to AND NEW.kept_from >= OLD.kept_from THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' AND EXISTS (SELECT FROM tenant t WHERE t.tenant_id = OLD.tenant_id AND t.deleting) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'hours that are closed stay so' USING ERRCODE = 'MS011';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON usage_tenant FOR EACH ROW EXECUTE FUNCTION keep_closed();

-- close_hours writes the hours of an account that are over at a time; where the account is to go
-- (final), also the one that is open, and its counters with it. Locks: account.
-- +goose StatementBegin
CREATE FUNCTION close_hours(t bigint, account bigint, at bigint, final boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    s      account_state;
    began  bigint; -- the first hour
    is_now bigint; -- the one that stays open
BEGIN
    SELECT * INTO s FROM account_state WHERE tenant_id = t AND account_id = account FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no account %', account USING ERRCODE = 'MS001';
    END IF;
    at := greatest(at, s.metered_to);
    began := s.metered_to - s.metered_to % 3600;
    is_now := at - at % 3600 + CASE WHEN final THEN 3600 ELSE 0 END;
    IF began >= is_now THEN
        RETURN;
    END IF;

    WITH taken AS (
        DELETE FROM usage_read r
        WHERE r.tenant_id = t AND r.account_id = account AND r.hour < to_timestamp(is_now)
        RETURNING greatest(r.hour, to_timestamp(began)) AS hour, r.fetched_bytes, r.searches
    ), was_read AS (
        SELECT taken.hour, sum(taken.fetched_bytes) AS fetched_bytes, sum(taken.searches) AS searches
        FROM taken
        GROUP BY taken.hour
    )
    INSERT INTO usage_hour (tenant_id, hour, account_id, bytes, messages, byte_seconds, peak_bytes,
        appended_messages, appended_bytes, delivered_messages, delivered_bytes, fetched_bytes, searches)
    SELECT t, to_timestamp(h.began), account, s.bytes, s.messages,
        h.n * s.hour_byte_seconds + s.bytes::numeric * (least(h.began + 3600, at) - greatest(h.began, s.metered_to)),
        greatest(s.bytes, h.n * s.hour_peak_bytes),
        h.n * s.hour_appended, h.n * s.hour_appended_bytes, h.n * s.hour_delivered, h.n * s.hour_delivered_bytes,
        coalesce(r.fetched_bytes, 0), coalesce(r.searches, 0)
    FROM (
        SELECT g AS began, CASE WHEN g = began THEN 1 ELSE 0 END AS n -- what was counted is of the first
        FROM generate_series(began, is_now - 3600, 3600) g
    ) h
    LEFT JOIN was_read r ON r.hour = to_timestamp(h.began);

    IF final THEN
        DELETE FROM account_state WHERE tenant_id = t AND account_id = account;
        UPDATE usage_account SET until = at WHERE tenant_id = t AND account_id = account;
        RETURN;
    END IF;
    UPDATE account_state
    SET metered_to = is_now, hour_byte_seconds = 0, hour_peak_bytes = bytes,
        hour_appended = 0, hour_appended_bytes = 0, hour_delivered = 0, hour_delivered_bytes = 0
    WHERE tenant_id = t AND account_id = account;
END
$$;
-- +goose StatementEnd

-- close_tenant says that all hours before one are closed for all accounts of a
-- tenant, and returns whether that is so. Who makes an account has the tenant's row locked from before it
-- is metered, so that none is overlooked that would come with an earlier hour. Locks: tenant.
-- +goose StatementBegin
CREATE FUNCTION close_tenant(t bigint, up_to timestamptz) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM FROM tenant WHERE tenant_id = t FOR NO KEY UPDATE;
    PERFORM FROM account_state WHERE tenant_id = t AND metered_to < extract(epoch FROM up_to)::bigint;
    IF FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO usage_tenant AS u (tenant_id, closed_to) VALUES (t, up_to)
    ON CONFLICT (tenant_id) DO UPDATE SET closed_to = greatest(u.closed_to, excluded.closed_to);
    RETURN true;
END
$$;
-- +goose StatementEnd

-- book_reads takes what a front end has counted since it told the last time,
-- into the hour in which it tells it; and nothing of what it has told before.
-- What was read by accounts that are gone by now goes nowhere.
-- +goose StatementBegin
CREATE FUNCTION book_reads(t bigint, who text, seq bigint, accounts bigint[], octets bigint[], searched bigint[]) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    at bigint := metering_clock();
BEGIN
    PERFORM FROM tenant WHERE tenant_id = t AND NOT deleting FOR SHARE; -- nothing may come behind what deletes a tenant
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO usage_flush AS f (tenant_id, front_end, sequence) VALUES (t, who, seq)
    ON CONFLICT (tenant_id, front_end) DO UPDATE SET sequence = excluded.sequence, at = excluded.at
    WHERE f.sequence < excluded.sequence;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO usage_read AS u (tenant_id, account_id, hour, fetched_bytes, searches)
    SELECT t, r.account, to_timestamp(at - at % 3600), r.octets, r.searched
    FROM unnest(accounts, octets, searched) AS r (account, octets, searched)
    JOIN account_state s ON s.tenant_id = t AND s.account_id = r.account
    ORDER BY r.account
    ON CONFLICT (tenant_id, account_id, hour) DO UPDATE
    SET fetched_bytes = u.fetched_bytes + excluded.fetched_bytes, searches = u.searches + excluded.searches;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- forget_usage removes some hours of the transaction's tenant from before a time, and returns how many. It runs as
-- the owner, for nobody else may remove any, and removes none that is younger than 35 days but of a tenant that is being deleted.
-- +goose StatementBegin
CREATE FUNCTION forget_usage(before timestamptz, most bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    t bigint := current_tenant();
    n bigint;
BEGIN
    IF before > to_timestamp(metering_clock()) - interval '35 days' THEN
        PERFORM FROM tenant WHERE tenant_id = t AND deleting;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'hours are kept for at least 35 days' USING ERRCODE = 'MS011';
        END IF;
    END IF;
    -- First it is said that they may be gone.
    UPDATE usage_tenant SET kept_from = before WHERE tenant_id = t AND kept_from < before;
    DELETE FROM usage_hour WHERE tenant_id = t AND ctid = ANY (ARRAY(
        SELECT ctid FROM usage_hour WHERE tenant_id = t AND hour < before LIMIT most));
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$$;
-- +goose StatementEnd

-- usage_open tells /metrics for how long the ledger has not been closed for all tenants.
-- +goose StatementBegin
CREATE FUNCTION usage_open() RETURNS bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN (
        SELECT coalesce(max(greatest(metering_clock() - extract(epoch FROM coalesce(u.closed_to, t.created_at))::bigint, 0)), 0)
        FROM tenant t
        LEFT JOIN usage_tenant u ON u.tenant_id = t.tenant_id
        WHERE NOT t.deleting
    );
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION forget_usage(timestamptz, bigint), usage_open() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_usage(timestamptz, bigint), usage_open() TO mailstead_serving;
