package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
)

// collectStep is how many objects one transaction of the collector forgets.
const collectStep = 1000

// collectOrphans removes the objects of a tenant that only intents name and
// that have not come to count within the grace time: a process died between
// its PUT and its transaction, or nothing lies in them any more.
//
// The intent goes first: from then on no transaction can make the object
// count, and only then it is removed. Where that fails the intent is not made
// anew, for a transaction that still has the key would take it for its own;
// sweepBucket finds the object. An intent of an object that counts, or in which content
// lies, is damage, and left to fsck.
func (s *Store) collectOrphans(ctx context.Context, t id.Tenant) error {
	const forget = `
		DELETE FROM object_intent
		WHERE tenant_id = $1 AND object_key = ANY (ARRAY(
			SELECT i.object_key FROM object_intent i
			WHERE i.tenant_id = $1 AND i.created_at < now() - $2::interval
			  AND NOT EXISTS (SELECT FROM object o WHERE o.tenant_id = i.tenant_id AND o.object_key = i.object_key)
			  AND NOT EXISTS (SELECT FROM blob b WHERE b.tenant_id = i.tenant_id AND b.object_key = i.object_key)
			LIMIT $3))
		RETURNING object_key`

	if err := s.orphansReachable(ctx, t); err != nil {
		return err
	}
	for {
		var keys []string
		err := s.transact(ctx, t, func(tx pgx.Tx) (err error) {
			rows, _ := tx.Query(ctx, forget, t, s.options.OrphanGrace, collectStep) // CollectRows reports the error
			keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := s.options.Bucket.Delete(ctx, keys...); err != nil {
			return err
		}
		s.maintained.orphans.Add(int64(len(keys)))
		if len(keys) < collectStep {
			return nil
		}
	}
}

// orphansReachable fails while object storage is away: what is forgotten then would stay there.
func (s *Store) orphansReachable(ctx context.Context, t id.Tenant) error {
	const query = `SELECT object_key FROM object_intent WHERE tenant_id = $1 AND created_at < now() - $2::interval LIMIT 1`

	var keys []string
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, s.options.OrphanGrace).Query(func(rows pgx.Rows) (err error) {
			keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	if _, err := s.options.Bucket.Stat(ctx, keys[0]); !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	return nil
}

// sweepBucket looks for objects that neither a row nor an intent names, after
// the grace time: of tenants that are gone, of PUTs that ended after their intents, of
// deletions that failed. Each PUT has its intent before, and keys are never used again: such an object never
// comes to count. It is removed if the options say so; but to a copy of the database, restored beside the
// original, all newer objects of the original look like that. Keys that are not of our making are left alone.
func (s *Store) sweepBucket(ctx context.Context) error {
	var t id.Tenant
	var keys []string
	for o, err := range s.options.Bucket.List(ctx, "t") {
		if err != nil {
			return err
		}
		of, ours := tenantOfKey(o.Key)
		if !ours || time.Since(o.Modified) < s.options.OrphanGrace {
			continue
		}
		if len(keys) == collectStep || of != t {
			if err := s.removeUnknown(ctx, t, keys); err != nil {
				return err
			}
			keys = keys[:0]
		}
		t, keys = of, append(keys, o.Key)
	}
	return s.removeUnknown(ctx, t, keys)
}

// tenantOfKey returns whose object a key names: t<tenant>/<kind>/<random>.
func tenantOfKey(key string) (t id.Tenant, ours bool) {
	tenant, rest, ok := strings.Cut(key, "/")
	kind, random, ok2 := strings.Cut(rest, "/")
	n, err := strconv.ParseInt(strings.TrimPrefix(tenant, "t"), 10, 64)
	return id.Tenant(n), ok && ok2 && err == nil && n > 0 && len(kind) == 1 && len(random) >= 20
}

// removeUnknown reports, and removes where that is wanted, those of a tenant's objects, seen in the bucket before, that the database does not know.
func (s *Store) removeUnknown(ctx context.Context, t id.Tenant, keys []string) error {
	const query = `
		SELECT object_key FROM object WHERE tenant_id = $1 AND object_key = ANY ($2)
		UNION ALL
		SELECT object_key FROM object_intent WHERE tenant_id = $1 AND object_key = ANY ($2)
		UNION ALL
		SELECT copy_key FROM search_index WHERE tenant_id = $1 AND copy_key = ANY ($2)`

	if len(keys) == 0 {
		return nil
	}
	var known []string
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, keys).Query(func(rows pgx.Rows) (err error) {
			known, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("look for objects of tenant %d: %w", t, err)
	}
	unknown := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return slices.Contains(known, key) })
	if len(unknown) == 0 {
		return nil
	}
	s.maintained.unknown.Add(int64(len(unknown)))
	s.log.Warn("objects that the database does not know", "tenant", t, "objects", len(unknown), "first", unknown[0], "removed", s.options.RemoveUnknown)
	if !s.options.RemoveUnknown {
		return nil
	}
	if err := s.options.Bucket.Delete(ctx, unknown...); err != nil {
		return err
	}
	s.maintained.orphans.Add(int64(len(unknown)))
	return nil
}
