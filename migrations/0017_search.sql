-- Which node keeps the search index of an account, and how far it goes. All of it can be lost: an index is made from the
-- emails again, and who finds none scans. New tables; the previous release does not know them.
-- +goose Up

-- Processes with the role index, for as long as they live.
CREATE TABLE search_node (
    node       text COLLATE "C" PRIMARY KEY,
    address    text NOT NULL, -- where it answers; '': only the front end in the same process
    expires_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON search_node TO mailstead_serving;

CREATE TABLE search_index (
    tenant_id  bigint NOT NULL,
    account_id bigint NOT NULL,
    node       text COLLATE "C" NOT NULL,
    stamp      bigint NOT NULL DEFAULT 0, -- given before the last change of it; the index has this one
    stamp_old  bigint NOT NULL DEFAULT 0, -- or this one, where that change was not made, or copy_stamp; else it is of another time than the database
    up_to      bigint NOT NULL DEFAULT 0, -- the last email that is in it
    emails     bigint NOT NULL DEFAULT 0,
    word_bytes bigint NOT NULL DEFAULT 0, -- on the node's disk
    text_bytes bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT now(),
    asked      text CHECK (asked IN ('rebuild', 'verify')), -- by an operator; NULL: nothing, or it is done
    answer     text NOT NULL DEFAULT '',                    -- to what was asked last
    copy_key   text COLLATE "C",          -- the object with a copy of the index; NULL: there is none
    copy_stamp bigint NOT NULL DEFAULT 0, -- the stamp of that copy
    copy_up_to bigint NOT NULL DEFAULT 0, -- and how far it goes
    copied_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, account_id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES account_state (tenant_id, account_id) ON DELETE CASCADE
) WITH (fillfactor = 50);
CALL protect('search_index');

-- index_copy_left has the copy of an index that goes, or is replaced, removed from object storage as all objects are of which an intent is left.
-- +goose StatementBegin
CREATE FUNCTION index_copy_left() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO object_intent (tenant_id, object_key) VALUES (old.tenant_id, old.copy_key);
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER index_copy_replaced AFTER UPDATE OF copy_key ON search_index
    FOR EACH ROW WHEN (old.copy_key IS DISTINCT FROM new.copy_key AND old.copy_key IS NOT NULL) EXECUTE FUNCTION index_copy_left();
CREATE TRIGGER index_copy_gone AFTER DELETE ON search_index
    FOR EACH ROW WHEN (old.copy_key IS NOT NULL) EXECUTE FUNCTION index_copy_left();

-- node_lives tells whether a node has announced itself of late.
CREATE FUNCTION node_lives(n text) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$ SELECT EXISTS (SELECT FROM search_node WHERE node = n AND expires_at > clock_timestamp()) $$;

-- node_address tells where it answers, if it lives.
CREATE FUNCTION node_address(n text) RETURNS text
    LANGUAGE sql STABLE
    AS $$ SELECT coalesce((SELECT address FROM search_node WHERE node = n AND expires_at > clock_timestamp()), '') $$;

-- node_gone tells whether a node has not lived for so long: one that is started again finds its indexes as they were.
CREATE FUNCTION node_gone(n text, since interval) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$ SELECT NOT EXISTS (SELECT FROM search_node WHERE node = n AND expires_at > clock_timestamp() - since) $$;

-- index_work tells a node which accounts it has something to do for, those first of which something was asked, then those that wait
-- for most: its own, whose index lacks emails; and, if they have enough messages, those of no node, or of one that is gone.
-- +goose StatementBegin
CREATE FUNCTION index_work(me text, least_messages bigint, gone interval, most bigint)
    RETURNS TABLE (tenant_id bigint, account_id bigint, last_email bigint, up_to bigint, mine boolean, asked text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT s.tenant_id, s.account_id, s.next_email - 1, coalesce(i.up_to, 0), coalesce(i.node = me, false), coalesce(i.asked, '')
        FROM account_state s
        LEFT JOIN search_index i ON i.tenant_id = s.tenant_id AND i.account_id = s.account_id
        WHERE CASE
            WHEN i.node = me THEN i.up_to < s.next_email - 1 OR i.asked IS NOT NULL
            ELSE s.messages >= least_messages AND (i.node IS NULL OR node_gone(i.node, gone))
        END
        ORDER BY i.asked IS NULL, s.next_email - coalesce(i.up_to, 0) DESC
        LIMIT most;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION index_work(text, bigint, interval, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION index_work(text, bigint, interval, bigint) TO mailstead_serving;

-- index_list names the accounts of a node.
-- +goose StatementBegin
CREATE FUNCTION index_list(me text) RETURNS TABLE (tenant_id bigint, account_id bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY SELECT i.tenant_id, i.account_id FROM search_index i WHERE i.node = me;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION index_list(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION index_list(text) TO mailstead_serving;

-- index_nodes tells operators of the nodes.
-- +goose StatementBegin
CREATE FUNCTION index_nodes()
    RETURNS TABLE (node text, address text, alive boolean, accounts bigint, emails bigint, word_bytes bigint, text_bytes bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT n.node::text, n.address, n.expires_at > clock_timestamp(), count(i.account_id), coalesce(sum(i.emails), 0)::bigint,
            coalesce(sum(i.word_bytes), 0)::bigint, coalesce(sum(i.text_bytes), 0)::bigint
        FROM search_node n
        LEFT JOIN search_index i ON i.node = n.node
        GROUP BY n.node, n.address, n.expires_at
        ORDER BY 3 DESC, 1;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION index_nodes() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION index_nodes() TO mailstead_serving;
