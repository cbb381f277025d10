-- What serving processes may ask before they know the tenant. Each function
-- runs as the owner, who sees all rows, and gives out no more than its columns
-- for the names it is given. plpgsql keeps their plans with the connection.
-- +goose Up

-- lookup_login tells all that lets somebody in as an account, in one row; and, for an address that they come from, how often logins from there, to
-- the account and to its tenant have failed. app_passwords and attempts are JSON.
-- +goose StatementBegin
CREATE FUNCTION lookup_login(asked text, address inet, within interval)
    RETURNS TABLE (
        tenant_id      bigint,     -- of the login's domain; NULL: nobody's
        account_id     bigint,     -- NULL: there is none, and what is only an account's is NULL as well
        login          text,
        role           text,
        password       text,
        disabled       boolean,    -- it or its tenant; without an account true or NULL
        revoked        bigint,
        tenant_revoked bigint,
        app_passwords  text,
        attempts       text,       -- as failed_lately has it
        known          timestamptz, -- when the account was last noted to be logged in to from there
        trusted        boolean,     -- the tenant lets nobody be kept out from there
        directory      text,        -- the settings of the tenant's directory elsewhere; NULL: there is none
        cell           text,        -- in which the login's domain lives; NULL: it is of this one, or unknown
        home           text,        -- where the account is a guest, the login of its user elsewhere; NULL: it is none
        home_cell      text,        -- and in which cell; NULL: in none that is known
        home_subject   text,        -- and which account of that login, as its cell names it; NULL: none has come yet
        subject        text         -- names the account as none was or will be named here, whatever its login
    )
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT t.tenant_id, a.account_id, a.login, a.role, a.password, a.disabled OR t.disabled, a.revoked, t.revoked,
               (SELECT json_agg(json_build_object(
                           'id', p.app_password_id, 'secret', p.secret, 'protocols', p.protocols, 'read_only', p.read_only,
                           'expires', p.expires_at, 'stale', coalesce(p.last_used < now() - interval '1 hour', true)))::text
                FROM app_password p
                WHERE p.tenant_id = a.tenant_id AND p.account_id = a.account_id AND coalesce(p.expires_at > now(), true)),
               CASE WHEN address IS NOT NULL THEN failed_lately(ARRAY[
                   'address:' || origin(address), 'account:' || asked, 'known:' || origin(address) || ' ' || asked, 'tenant:' || t.name], within) END,
               (SELECT k.at FROM known_address k WHERE k.tenant_id = a.tenant_id AND k.account_id = a.account_id AND k.address = origin(lookup_login.address)),
               EXISTS (SELECT FROM tenant_network n WHERE n.tenant_id = t.tenant_id AND n.network >>= lookup_login.address),
               (SELECT y.settings FROM tenant_directory y WHERE y.tenant_id = t.tenant_id),
               CASE WHEN d.domain_id IS NULL THEN (SELECT r.cell::text FROM remote_domain r WHERE r.name = q.of) END,
               g.home::text,
               (SELECT r.cell::text FROM remote_domain r WHERE r.name = split_part(g.home, '@', -1)),
               g.subject::text,
               a.account_id || '.' || (extract(epoch FROM a.created_at) * 1000000)::bigint -- numbers come back where a backup does, and then time tells
        FROM (VALUES (split_part(asked, '@', -1))) AS q (of)
        LEFT JOIN domain d ON d.name = q.of
        LEFT JOIN tenant t ON t.tenant_id = d.tenant_id AND NOT t.deleting
        LEFT JOIN account a ON a.login = asked AND a.tenant_id = t.tenant_id AND NOT a.deleting
        LEFT JOIN guest g ON g.tenant_id = a.tenant_id AND g.account_id = a.account_id;
END
$$;
-- +goose StatementEnd

-- resolve_addresses tells what stands under each address: an account with its
-- INBOX and, where one is asked for with the address, its folder, if its owner may post there; or an alias;
-- or, for '@domain', what catches that domain's rest. Where all are asked about one recipient, the best
-- first, what is under others than the first that is there may be left out.
-- +goose StatementBegin
CREATE FUNCTION resolve_addresses(asked text[], folders text[], one boolean)
    RETURNS TABLE (
        asked_at           bigint,  -- which of asked, from 1
        tenant_id          bigint,
        account_id         bigint,  -- NULL: an alias or a domain
        login              text,
        disabled           boolean,
        guest              boolean, -- who gets no mail
        targets            text[],  -- of an alias or a catch-all
        inbox_id           bigint,
        inbox_uidvalidity  bigint,
        inbox_objectid     text,
        folder_id          bigint,  -- NULL: INBOX it is
        folder_name        text,
        folder_uidvalidity bigint,
        folder_objectid    text
    )
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    -- Nothing is better than an account of the first address of one recipient, which is what most mail is for.
    IF one AND folders[1] IS NULL THEN
        RETURN QUERY
            SELECT 1::bigint, a.tenant_id, a.account_id, a.login, a.disabled OR t.disabled,
                   EXISTS (SELECT FROM guest g WHERE g.tenant_id = a.tenant_id AND g.account_id = a.account_id), NULL::text[],
                   i.mailbox_id, i.uidvalidity, i.objectid,
                   NULL::bigint, NULL::text, NULL::bigint, NULL::text
            FROM account a
            JOIN tenant t ON t.tenant_id = a.tenant_id
            LEFT JOIN mailbox i ON i.tenant_id = a.tenant_id AND i.account_id = a.account_id
                               AND i.name = 'INBOX' AND i.deleted_at IS NULL
            WHERE a.login = asked[1] AND NOT a.deleting AND NOT t.deleting;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    RETURN QUERY
        SELECT q.at, a.tenant_id, a.account_id, a.login, a.disabled OR t.disabled,
               EXISTS (SELECT FROM guest g WHERE g.tenant_id = a.tenant_id AND g.account_id = a.account_id), NULL::text[],
               i.mailbox_id, i.uidvalidity, i.objectid,
               f.mailbox_id, f.name::text, f.uidvalidity, f.objectid
        FROM unnest(asked, folders) WITH ORDINALITY AS q (address, folder, at)
        JOIN account a ON a.login = q.address
        JOIN tenant t ON t.tenant_id = a.tenant_id
        LEFT JOIN mailbox i ON i.tenant_id = a.tenant_id AND i.account_id = a.account_id
                           AND i.name = 'INBOX' AND i.deleted_at IS NULL
        LEFT JOIN LATERAL (
            SELECT m.mailbox_id, m.name, m.uidvalidity, m.objectid
            FROM mailbox m
            WHERE q.folder IS NOT NULL
              AND m.tenant_id = a.tenant_id AND m.account_id = a.account_id
              AND m.deleted_at IS NULL
              AND m.owner_rights & 32 <> 0 -- acl.Post
              AND lower(m.name COLLATE "default") = lower(q.folder COLLATE "default")
            ORDER BY m.name <> q.folder, m.name
            LIMIT 1
        ) f ON true
        WHERE NOT a.deleting AND NOT t.deleting
      UNION ALL
        SELECT q.at, l.tenant_id, NULL, NULL, t.disabled, false, l.targets,
               NULL, NULL, NULL, NULL, NULL, NULL, NULL
        FROM unnest(asked) WITH ORDINALITY AS q (address, at)
        JOIN alias l ON l.address = q.address
        JOIN tenant t ON t.tenant_id = l.tenant_id
        WHERE NOT t.deleting
      UNION ALL
        SELECT q.at, d.tenant_id, NULL, NULL, t.disabled, false, ARRAY[d.catch_all]::text[],
               NULL, NULL, NULL, NULL, NULL, NULL, NULL
        FROM unnest(asked) WITH ORDINALITY AS q (address, at)
        JOIN domain d ON d.name = substr(q.address, 2)
        JOIN tenant t ON t.tenant_id = d.tenant_id
        WHERE q.address LIKE '@%' AND d.catch_all IS NOT NULL AND NOT t.deleting;
END
$$;
-- +goose StatementEnd

-- lookup_domain tells whose a domain is.
-- +goose StatementBegin
CREATE FUNCTION lookup_domain(asked text)
    RETURNS TABLE (tenant_id bigint, domain_id bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT d.tenant_id, d.domain_id FROM domain d WHERE d.name = asked;
END
$$;
-- +goose StatementEnd

-- lookup_account tells whose a login is, also while it is being deleted.
-- +goose StatementBegin
CREATE FUNCTION lookup_account(asked text)
    RETURNS TABLE (tenant_id bigint, account_id bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT a.tenant_id, a.account_id FROM account a WHERE a.login = asked;
END
$$;
-- +goose StatementEnd

-- list_tenants is for maintenance, which goes from tenant to tenant, and for operators.
-- +goose StatementBegin
CREATE FUNCTION list_tenants()
    RETURNS TABLE (tenant_id bigint, name text, disabled boolean, deleting boolean, created_at timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT t.tenant_id, t.name, t.disabled, t.deleting, t.created_at FROM tenant t ORDER BY t.name;
END
$$;
-- +goose StatementEnd

-- create_tenant is a function because a new tenant's number is not known
-- before, so that row-level security could not let its row in. who makes it is
-- the first entry of its audit log.
-- +goose StatementBegin
CREATE FUNCTION create_tenant(wanted text, who text)
    RETURNS TABLE (tenant_id bigint, name text, disabled boolean, deleting boolean, created_at timestamptz)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    made tenant;
BEGIN
    INSERT INTO tenant AS t (name) VALUES (wanted) RETURNING t.* INTO made;
    PERFORM set_config('mailstead.tenant', made.tenant_id::text, true);
    PERFORM write_audit(made.tenant_id, who, 'tenant.create', wanted, '{}');
    RETURN QUERY SELECT made.tenant_id, made.name, made.disabled, made.deleting, made.created_at;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION lookup_login(text, inet, interval), resolve_addresses(text[], text[], boolean), lookup_domain(text),
    lookup_account(text), list_tenants(), create_tenant(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lookup_login(text, inet, interval), resolve_addresses(text[], text[], boolean), lookup_domain(text),
    lookup_account(text), list_tenants(), create_tenant(text, text) TO mailstead_serving;
