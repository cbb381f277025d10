package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
)

// halfDead is a pack of which only a part is live.
type halfDead struct {
	ObjectKey string
	Bytes     int64
	Live      int64 // octets of contents that lie in it
	Contents  int64
}

// rewriteTurns bounds how long a sweep rewrites packs.
const rewriteTurns = 32

// rewrite makes new packs out of what is live in those of which most is dead,
// until the tenant stores no more than StoredRatio times what is live. Packs are left as they are
// where that is so already: each octet that is freed costs others being copied.
func (s *sweeping) rewrite(ctx context.Context) error {
	if err := s.measure(ctx); err != nil {
		return err
	}
	for range rewriteTurns {
		if !s.tooMuch() {
			return nil
		}
		before := s.sum.Packs
		err := errors.Join(s.rewriteTurn(ctx), s.measure(ctx))
		if err != nil || s.sum.Packs == before {
			return err
		}
	}
	return nil
}

// rewriteTurn rewrites some packs, under the lease of those who pack and merge:
// one at a time decides about a tenant's packs. Then it may be another's turn.
func (s *sweeping) rewriteTurn(ctx context.Context) error {
	var damaged []error
	_, err := s.underLease(ctx, fmt.Sprintf("pack/%d", s.tenant), func(ctx context.Context, l *lease) error {
		packs, err := s.emptiest(ctx)
		if err != nil {
			return err
		}
		for n := 0; len(packs) > 0 && n < mergesAtOnce && s.tooMuch(); n++ {
			some := s.choose(packs)
			packs = packs[len(some):]
			err := s.rewriteSome(ctx, l, some)
			switch {
			case errors.Is(err, blob.ErrDamaged), errors.Is(err, blob.ErrNotFound):
				damaged = append(damaged, err) // they stay, and the others come nevertheless
			case err != nil:
				return err
			}
		}
		return nil
	})
	return errors.Join(append(damaged, err)...)
}

// tooMuch reports whether packs are worth being rewritten.
func (s *sweeping) tooMuch() bool {
	return float64(s.sum.Stored) > s.options.StoredRatio*float64(s.sum.Live)
}

// measure finds out what the tenant stores, and what of that is live.
func (s *sweeping) measure(ctx context.Context) error {
	const query = `
		SELECT (b.staged + (SELECT coalesce(sum(o.bytes), 0) FROM object o WHERE o.tenant_id = $1))::bigint, b.live::bigint
		FROM (
			SELECT coalesce(sum(stored_len) FILTER (WHERE slot IS NOT NULL), 0) AS staged,
			       coalesce(sum(stored_len) FILTER (WHERE NOT dying), 0) AS live
			FROM blob
			WHERE tenant_id = $1
		) b`

	return s.read(ctx, s.tenant, func(b *pgx.Batch) {
		b.Queue(query, s.tenant).QueryRow(func(row pgx.Row) error { return row.Scan(&s.sum.Stored, &s.sum.Live) })
	})
}

// emptiest returns packs of which a part is dead, those first of which most is.
func (s *sweeping) emptiest(ctx context.Context) (packs []halfDead, err error) {
	const query = `
		SELECT o.object_key, o.bytes, sum(b.stored_len)::bigint, count(*)
		FROM object o
		JOIN blob b ON b.tenant_id = o.tenant_id AND b.object_key = o.object_key
		WHERE o.tenant_id = $1 AND starts_with(o.object_key, $2)
		GROUP BY o.object_key, o.bytes
		HAVING sum(b.stored_len) < o.bytes
		ORDER BY sum(b.stored_len) / o.bytes
		LIMIT $3`

	err = s.read(ctx, s.tenant, func(b *pgx.Batch) {
		b.Queue(query, s.tenant, packPrefix(s.tenant), mergesAtOnce*mergePacks).Query(func(rows pgx.Rows) (err error) {
			packs, err = pgx.CollectRows(rows, pgx.RowToStructByPos[halfDead])
			return err
		})
	})
	return packs, err
}

// choose returns as many of packs as fit in one, and as have to be rewritten.
func (s *sweeping) choose(packs []halfDead) []halfDead {
	excess := s.sum.Stored - int64(s.options.StoredRatio*float64(s.sum.Live))
	var live, contents, freed int64
	for i, p := range packs {
		live, contents = live+p.Live, contents+p.Contents
		if i > 0 && (live > s.options.PackSize || contents > packMessages || freed >= excess) {
			return packs[:i]
		}
		freed += p.Bytes - p.Live
	}
	return packs
}

func (s *sweeping) rewriteSome(ctx context.Context, l *lease, packs []halfDead) error {
	p := &packing{tenant: s.tenant, key: newObjectKey(s.tenant, "p")}
	var largest, freed int64
	for _, o := range packs {
		p.retired = append(p.retired, o.ObjectKey)
		largest = max(largest, o.Bytes)
		freed += o.Bytes - o.Live
	}
	var found []member
	err := s.snapshot(ctx, s.tenant, func(tx pgx.Tx) (err error) {
		found, err = lyingIn(ctx, tx, s.tenant, p.retired)
		return err
	})
	if err != nil || len(found) == 0 { // what has run empty meanwhile is retired by the next sweep
		return err
	}
	if err := s.copyMembers(ctx, p, found, largest); err != nil {
		return err
	}
	if err := s.putPack(ctx, l, p); err != nil {
		return err
	}
	s.sum.Packs++
	s.sum.Stored -= freed
	s.maintained.rewrites.Add(1)
	return nil
}
