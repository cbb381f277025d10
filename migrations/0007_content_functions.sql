-- How content moves from staging to object storage. What looks at all tenants
-- at once, or needs to own the tables, runs as the owner and gives out no more than its columns;
-- the rest runs with the rights of the caller, under its row-level security.
-- Guards raise SQLSTATEs of class MS, explained in store/errors.go.
-- +goose Up

-- staged_by_tenant tells maintenance and /metrics what waits in staging.
-- octet_length reads no content: its length stands in the row.
-- +goose StatementBegin
CREATE FUNCTION staged_by_tenant()
    RETURNS TABLE (tenant_id bigint, messages bigint, bytes bigint, oldest timestamptz)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT s.tenant_id, count(*), sum(octet_length(s.data))::bigint, min(s.staged_at)
        FROM (
            SELECT s0.tenant_id, s0.data, s0.staged_at FROM staged_0 s0
            UNION ALL
            SELECT s1.tenant_id, s1.data, s1.staged_at FROM staged_1 s1
            UNION ALL
            SELECT s2.tenant_id, s2.data, s2.staged_at FROM staged_2 s2
            UNION ALL
            SELECT s3.tenant_id, s3.data, s3.staged_at FROM staged_3 s3
        ) s
        GROUP BY s.tenant_id;
END
$$;
-- +goose StatementEnd

-- staging_slots tells of the tables of the ring whether they hold rows and how
-- large they are on disk. One whose heap has no octets has been truncated.
-- +goose StatementBegin
CREATE FUNCTION staging_slots()
    RETURNS TABLE (slot smallint, current boolean, held boolean, heap bigint, total bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    RETURN QUERY
        SELECT s.slot, s.slot = r.current, s.held, pg_relation_size(s.rel), pg_total_relation_size(s.rel)
        FROM staging_ring r, (VALUES
            (0::smallint, 'staged_0'::regclass, EXISTS (SELECT FROM staged_0)),
            (1::smallint, 'staged_1'::regclass, EXISTS (SELECT FROM staged_1)),
            (2::smallint, 'staged_2'::regclass, EXISTS (SELECT FROM staged_2)),
            (3::smallint, 'staged_3'::regclass, EXISTS (SELECT FROM staged_3))) AS s (slot, rel, held)
        ORDER BY s.slot;
END
$$;
-- +goose StatementEnd

-- rotate_staging lets new content go to the next slot, if that has been
-- truncated and the current one is still was. An append that has read the old
-- number still goes there: packs take rows from every slot.
-- +goose StatementBegin
CREATE FUNCTION rotate_staging(was smallint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF pg_relation_size(format('staged_%s', (was + 1) % 4)::regclass) > 0 THEN
        RETURN false;
    END IF;
    UPDATE staging_ring SET current = (was + 1) % 4 WHERE current = was;
    RETURN FOUND;
END
$$;
-- +goose StatementEnd

-- truncate_staging empties the files of a slot that was seen empty, by
-- staging_slots in another transaction, unless it is the current one or somebody is at
-- it. It looks again under the lock, in a statement with a snapshot of its own: an append that was
-- faster is seen, a later one waits and finds the table empty. Everyone who comes while this
-- waits for the lock waits behind it, hence the short lock_timeout; nothing is locked before, so
-- that two of these cannot wait for each other.
-- +goose StatementBegin
CREATE FUNCTION truncate_staging(which smallint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '50ms'
    AS $$
DECLARE
    slot regclass := format('staged_%s', which)::regclass;
    held boolean;
BEGIN
    IF EXISTS (SELECT FROM staging_ring WHERE current = which) THEN
        RETURN false;
    END IF;
    BEGIN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', slot);
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', slot) INTO held;
    IF held THEN
        RETURN false;
    END IF;
    EXECUTE format('TRUNCATE TABLE %s', slot);
    RETURN true;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION staged_by_tenant(), staging_slots(), rotate_staging(smallint), truncate_staging(smallint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION staged_by_tenant(), staging_slots(), rotate_staging(smallint), truncate_staging(smallint) TO mailstead_serving;

-- move_content makes an object count that holds copies of contents: each blob
-- whose content still lies where it was copied from (slots, or keys and offs), in the same form,
-- lies in the object from now on, and its staged row goes. The others have moved or died meanwhile,
-- and what the object holds of them is dead weight. retired are objects that were copied from: those in
-- which nothing lies any more are left to the collector. Returns how many blobs have moved.
--
-- Who counts on a blob locks its key (FOR KEY SHARE), which does not keep this
-- waiting, nor this it. Locks: blobs by digest.
-- +goose StatementBegin
CREATE FUNCTION move_content(
    t bigint, new_key text, octets bigint,
    digests bytea[], encs smallint[], frame_lens bytea[], slots smallint[], keys text[], offs bigint[], new_offs bigint[],
    retired text[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    moved bigint;
    m0 bytea[];
    m1 bytea[];
    m2 bytea[];
    m3 bytea[];
BEGIN
    PERFORM FROM blob WHERE tenant_id = t AND digest = ANY (digests) ORDER BY digest FOR NO KEY UPDATE;

    DELETE FROM object_intent WHERE tenant_id = t AND object_key = new_key AND condemned IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the intent of object % is gone', new_key USING ERRCODE = 'MS005';
    END IF;
    INSERT INTO object (tenant_id, object_key, bytes) VALUES (t, new_key, octets);

    WITH m AS (
        UPDATE blob b
        SET slot = NULL, object_key = new_key, object_off = n.new_off
        FROM unnest(digests, encs, frame_lens, slots, keys, offs, new_offs) AS n (digest, enc, frames, slot, key, off, new_off)
        WHERE b.tenant_id = t AND b.digest = n.digest AND b.encoding = n.enc AND b.frames = n.frames
          AND b.slot IS NOT DISTINCT FROM n.slot
          AND b.object_key IS NOT DISTINCT FROM n.key AND b.object_off IS NOT DISTINCT FROM n.off
        RETURNING b.digest, n.slot AS was
    )
    SELECT count(*),
           array_agg(m.digest) FILTER (WHERE m.was = 0), array_agg(m.digest) FILTER (WHERE m.was = 1),
           array_agg(m.digest) FILTER (WHERE m.was = 2), array_agg(m.digest) FILTER (WHERE m.was = 3)
    INTO moved, m0, m1, m2, m3
    FROM m;
    IF moved = 0 AND cardinality(digests) > 0 THEN
        RAISE EXCEPTION 'nothing that object % holds is where it was', new_key USING ERRCODE = 'MS008';
    END IF;

    -- Nobody can stage these anew before this commits: that changes the blob first.
    IF m0 IS NOT NULL THEN
        DELETE FROM staged_0 WHERE tenant_id = t AND digest = ANY (m0);
    END IF;
    IF m1 IS NOT NULL THEN
        DELETE FROM staged_1 WHERE tenant_id = t AND digest = ANY (m1);
    END IF;
    IF m2 IS NOT NULL THEN
        DELETE FROM staged_2 WHERE tenant_id = t AND digest = ANY (m2);
    END IF;
    IF m3 IS NOT NULL THEN
        DELETE FROM staged_3 WHERE tenant_id = t AND digest = ANY (m3);
    END IF;

    PERFORM retire_objects(t, retired);
    RETURN moved;
END
$$;
-- +goose StatementEnd

-- retire_objects takes objects in which no blob lies back: an intent without a
-- row is what the collector removes, after its grace time, for readers that
-- are still on their way there. No blob ever comes to lie in an object later.
-- +goose StatementBegin
CREATE FUNCTION retire_objects(t bigint, retired text[]) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    n bigint;
BEGIN
    WITH gone AS (
        DELETE FROM object o
        WHERE o.tenant_id = t AND o.object_key = ANY (retired)
          AND NOT EXISTS (SELECT FROM blob b WHERE b.tenant_id = t AND b.object_key = o.object_key)
        RETURNING o.object_key
    )
    INSERT INTO object_intent (tenant_id, object_key)
    SELECT t, gone.object_key FROM gone;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END
$$;
-- +goose StatementEnd

-- drop_leftovers removes staged rows that no blob refers to, left of blobs that
-- died. A blob that is there is locked before the look that decides; one that is only
-- coming writes its staged row anew, with another time, or finds none.
-- +goose StatementBegin
CREATE FUNCTION drop_leftovers(t bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    digests bytea[];
    times   timestamptz[];
    n       bigint;
    dropped bigint := 0;
BEGIN
    FOR slot IN 0 .. 3 LOOP
        EXECUTE format('
            SELECT array_agg(s.digest), array_agg(s.staged_at)
            FROM (
                SELECT s.digest, s.staged_at
                FROM staged_%s s
                WHERE s.tenant_id = $1 AND NOT EXISTS (
                    SELECT FROM blob b WHERE b.tenant_id = $1 AND b.digest = s.digest AND b.slot = $2)
                LIMIT 10000
            ) s', slot) INTO digests, times USING t, slot;
        CONTINUE WHEN digests IS NULL;
        PERFORM FROM blob WHERE tenant_id = t AND digest = ANY (digests) ORDER BY digest FOR NO KEY UPDATE;
        EXECUTE format('
            DELETE FROM staged_%s s
            USING unnest($3, $4) AS o (digest, staged_at)
            WHERE s.tenant_id = $1 AND s.digest = o.digest AND s.staged_at = o.staged_at AND NOT EXISTS (
                SELECT FROM blob b WHERE b.tenant_id = $1 AND b.digest = s.digest AND b.slot = $2)', slot)
            USING t, slot, digests, times;
        GET DIAGNOSTICS n = ROW_COUNT;
        dropped := dropped + n;
    END LOOP;
    RETURN dropped;
END
$$;
-- +goose StatementEnd
