package store

import (
	"cmp"
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

// collectStep is how many objects one transaction of the collector condemns, or forgets.
const collectStep = 1000

// collectOrphans removes the objects of a tenant that only intents name and
// that have not come to count within the grace time: a process died between
// its PUT and its transaction, or nothing lies in them any more.
//
// First their intents are condemned: from then on no transaction can make the objects count. Then the bucket
// removes them, and an intent goes only once the bucket has said that its object is gone. An intent of an object
// that counts, or in which content lies, is damage, and left to fsck.
func (s *Store) collectOrphans(ctx context.Context, t id.Tenant) error {
	const condemn = `
		UPDATE object_intent SET condemned = 0
		WHERE tenant_id = $1 AND condemned IS NULL AND object_key = ANY (ARRAY(
			SELECT i.object_key FROM object_intent i
			WHERE i.tenant_id = $1 AND i.condemned IS NULL AND i.created_at < now() - $2::interval
			  AND NOT EXISTS (SELECT FROM object o WHERE o.tenant_id = i.tenant_id AND o.object_key = i.object_key)
			  AND NOT EXISTS (SELECT FROM blob b WHERE b.tenant_id = i.tenant_id AND b.object_key = i.object_key)
			LIMIT $3))`

	for {
		var n int64
		err := s.transact(ctx, t, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, condemn, t, s.options.OrphanGrace, collectStep)
			n = tag.RowsAffected()
			return err
		})
		if err != nil {
			return err
		}
		if n < collectStep {
			break
		}
	}
	if err := s.reached(ctx, stepCondemned); err != nil {
		return err
	}
	err := s.removeCondemned(ctx, t)
	if errors.Is(err, blob.ErrUnavailable) && s.bucketAnswers(ctx, t) {
		return errors.New(Wordless(err)) // it only does not remove: no reason for other tenants to wait, as its being away is
	}
	return err
}

// bucketAnswers reports whether object storage can be reached.
func (s *Store) bucketAnswers(ctx context.Context, t id.Tenant) bool {
	_, err := s.options.Bucket.Stat(ctx, newObjectKey(t, "o"))
	return err == nil || errors.Is(err, blob.ErrNotFound)
}

// removeCondemned removes the condemned objects of a tenant, and forgets those that are gone. What the bucket has
// failed to remove least often comes first, the oldest of that before the others, so that what it never removes
// keeps nothing waiting. After a step in which it has removed nothing the rest waits for the next time.
func (s *Store) removeCondemned(ctx context.Context, t id.Tenant) error {
	const (
		list = `
			SELECT i.object_key FROM object_intent i
			WHERE i.tenant_id = $1 AND i.condemned IS NOT NULL
			  AND NOT EXISTS (SELECT FROM object o WHERE o.tenant_id = i.tenant_id AND o.object_key = i.object_key)
			  AND NOT EXISTS (SELECT FROM blob b WHERE b.tenant_id = i.tenant_id AND b.object_key = i.object_key)
			ORDER BY i.condemned, i.created_at
			LIMIT $2`

		forget = `DELETE FROM object_intent WHERE tenant_id = $1 AND object_key = ANY ($2) AND condemned IS NOT NULL`
		failed = `UPDATE object_intent SET condemned = condemned + 1 WHERE tenant_id = $1 AND object_key = ANY ($2)`
	)
	var first error
	for {
		var keys []string
		err := s.read(ctx, t, func(b *pgx.Batch) {
			b.Queue(list, t, collectStep).Query(func(rows pgx.Rows) (err error) {
				keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
				return err
			})
		})
		if err != nil || len(keys) == 0 {
			return cmp.Or(err, first)
		}
		left, err := s.options.Bucket.Delete(ctx, keys...)
		if err != nil && first == nil {
			first = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if err := s.reached(ctx, stepRemoved); err != nil {
			return err
		}
		gone := without(keys, left)
		err = s.transact(ctx, t, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, forget, t, gone); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, failed, t, values(left))
			return err
		})
		if err != nil {
			return errors.Join(first, err)
		}
		s.maintained.orphans.Add(int64(len(gone)))
		if len(gone) == 0 || len(keys) < collectStep {
			return first
		}
	}
}

// without returns those keys that are not among others.
func without(keys, others []string) []string {
	known := make(map[string]bool, len(others))
	for _, key := range others {
		known[key] = true
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return known[key] })
}

// sweepBucket looks for objects that neither a row nor an intent names, after
// the grace time: of tenants that are gone, of PUTs that ended after their intents. Each PUT has its intent
// before, and keys are never used again: such an object never comes to count. It is removed if the options say so;
// but to a copy of the database, restored beside the original, all newer objects of the original look like that.
// Keys that are not of our making are left alone.
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
		SELECT object_key FROM blob WHERE tenant_id = $1 AND object_key = ANY ($2)
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
	unknown := without(keys, known)
	if len(unknown) == 0 {
		return nil
	}
	s.maintained.unknown.Add(int64(len(unknown)))
	s.log.Warn("objects that the database does not know", "tenant", t, "objects", len(unknown), "first", unknown[0], "removed", s.options.RemoveUnknown)
	if !s.options.RemoveUnknown {
		return nil
	}
	left, err := s.options.Bucket.Delete(ctx, unknown...)
	s.maintained.orphans.Add(int64(len(unknown) - len(left)))
	return err
}
