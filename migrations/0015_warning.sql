-- Warnings of quotas: what has been told of each root, and events that tell of what changes. New
-- tables; the previous release neither raises nor sends any.
-- +goose Up

-- Of each resource of a root of which a warning is raised, which: '80%', 'soft' ..., in the order of package quota.
CREATE TABLE quota_mark (
    tenant_id bigint NOT NULL,
    level     smallint NOT NULL, -- as quota_root has it
    root      bigint NOT NULL,
    resource  text NOT NULL,
    marks     text[] NOT NULL CHECK (cardinality(marks) > 0),
    PRIMARY KEY (tenant_id, level, root, resource)
);
CALL protect('quota_mark');

-- A warning that was raised, or cleared, once each.
CREATE TABLE quota_event (
    tenant_id   bigint NOT NULL,
    event_id    bigint GENERATED ALWAYS AS IDENTITY,
    told_as     uuid NOT NULL DEFAULT gen_random_uuid(), -- outside, where numbers would come again after a restore
    at          timestamptz NOT NULL DEFAULT now(),
    level       smallint NOT NULL,
    root        bigint NOT NULL,
    name        text NOT NULL, -- of the root, as clients are told it
    resource    text NOT NULL,
    mark        text NOT NULL,
    raised      boolean NOT NULL,
    used        bigint NOT NULL,
    hard        bigint,
    soft        bigint,
    grace_until timestamptz,       -- where the soft limit is exceeded
    mail_at     timestamptz,       -- when to tell by mail; NULL: not (any more)
    post_at     timestamptz,       -- when to try to post it next; NULL: not (any more)
    posts       int NOT NULL DEFAULT 0, -- that failed
    PRIMARY KEY (tenant_id, event_id)
);
CREATE INDEX quota_event_due ON quota_event (tenant_id, event_id) WHERE mail_at IS NOT NULL OR post_at IS NOT NULL;
CALL protect('quota_event');

-- account_quota_state tells how an account stands to its own limits, as far as messages count: 'soft' where one is exceeded, 'full'
-- where nothing more fits, else ''.
CREATE FUNCTION account_quota_state(a account_state) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
SELECT CASE
    WHEN a.bytes >= a.storage_limit OR a.messages >= a.message_limit THEN 'full'
    WHEN num_nonnulls(a.over_since[1], a.over_since[2]) > 0 THEN 'soft'
    ELSE ''
END
$$;

-- roots_quota_state tells the same of an account's domain and tenant, as of when they were looked at last.
-- +goose StatementBegin
CREATE FUNCTION roots_quota_state(t bigint, account bigint) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    domain bigint;
BEGIN
    SELECT domain_id INTO domain FROM account_state WHERE tenant_id = t AND account_id = account;
    PERFORM FROM quota_mark
    WHERE tenant_id = t AND (level = 1 AND root = domain OR level = 2) AND resource IN ('STORAGE', 'MESSAGE') AND 'full' = ANY (marks);
    IF FOUND THEN
        RETURN 'full';
    END IF;
    PERFORM FROM quota_root
    WHERE tenant_id = t AND (level = 1 AND root = domain OR level = 2) AND num_nonnulls(over_since[1], over_since[2]) > 0;
    IF FOUND THEN
        RETURN 'soft';
    END IF;
    RETURN '';
END
$$;
-- +goose StatementEnd

-- tenants_to_tell lists those that have events due to be told by mail, or else to be posted, for maintenance.
-- +goose StatementBegin
CREATE FUNCTION tenants_to_tell(by_mail boolean) RETURNS TABLE (tenant_id bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT DISTINCT e.tenant_id
        FROM quota_event e
        JOIN tenant t ON t.tenant_id = e.tenant_id AND NOT t.deleting
        WHERE (e.mail_at IS NOT NULL OR e.post_at IS NOT NULL)
          AND CASE WHEN by_mail THEN e.mail_at ELSE e.post_at END <= now()
        ORDER BY 1;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION tenants_to_tell(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenants_to_tell(boolean) TO mailstead_serving;
