package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
)

const (
	// packMessages is how many contents a pack holds at most, however small they are.
	packMessages = 8192
	// mergePacks is how many small packs of a tenant are merged into one.
	mergePacks = 16
	// mergesAtOnce bounds how long a tenant is merged before it is another's turn.
	mergesAtOnce = 32
)

// packPrefix begins the keys of a tenant's packs.
func packPrefix(t id.Tenant) string { return fmt.Sprintf("t%d/p/", t) }

// packing is an object under way that is to hold copies of contents.
//
// First its intent is committed, then it is put, and then one transaction
// moves each blob that still lies where it was copied from, and consumes the
// intent. Until that commits nothing has changed for anyone; what a crash
// leaves is an intent, and perhaps an object, for the collector.
type packing struct {
	tenant  id.Tenant
	key     string
	content []byte
	members []member
	retired []string // objects that are copied from
}

// member is a content in a pack.
type member struct {
	digest   []byte
	size     int64 // of the content, in octets; known where it is merged
	encoding int16
	frames   []byte // of blob.Layout
	slot     *int16 // where it was staged,
	object   *string
	off      *int64 // or the object that it lay in
	stored   int64  // octets
	at       int64  // its offset in the pack
}

// add appends content to the pack.
func (p *packing) add(m member, stored []byte) {
	m.at = int64(len(p.content))
	p.members = append(p.members, m)
	p.content = append(p.content, stored...)
}

// packTenant moves staged content of a tenant to object storage, oldest first,
// pack by pack: while there is enough for a whole one, or all of it. ErrBusy where another process is at it.
func (s *Store) packTenant(ctx context.Context, t id.Tenant, all bool) error {
	return s.inTurn(ctx, fmt.Sprintf("pack/%d", t), func(ctx context.Context, l *lease) error {
		for {
			p, err := s.collectStaged(ctx, t)
			if err != nil {
				return err
			}
			if len(p.members) == 0 {
				return s.dropLeftovers(ctx, t)
			}
			whole := int64(len(p.content)) >= s.options.PackSize || len(p.members) == packMessages
			if !whole && !all {
				return nil
			}
			if err := s.putPack(ctx, l, p); err != nil {
				return err
			}
			s.maintained.packs.Add(1)
			s.maintained.packed.Add(int64(len(p.members)))
			if !whole {
				return nil
			}
		}
	})
}

// collectStaged copies staged content of a tenant, up to the size of a pack.
func (s *Store) collectStaged(ctx context.Context, t id.Tenant) (*packing, error) {
	const list = `
		SELECT s.slot, s.digest, s.stored, b.encoding, b.frames
		FROM (
			SELECT 0::smallint AS slot, digest, octet_length(data)::bigint AS stored, staged_at FROM staged_0 WHERE tenant_id = $1
			UNION ALL
			SELECT 1::smallint, digest, octet_length(data), staged_at FROM staged_1 WHERE tenant_id = $1
			UNION ALL
			SELECT 2::smallint, digest, octet_length(data), staged_at FROM staged_2 WHERE tenant_id = $1
			UNION ALL
			SELECT 3::smallint, digest, octet_length(data), staged_at FROM staged_3 WHERE tenant_id = $1
		) s
		JOIN blob b ON b.tenant_id = $1 AND b.digest = s.digest AND b.slot = s.slot AND b.stored_len = s.stored
		ORDER BY s.staged_at
		LIMIT $2`

	p := &packing{tenant: t, key: newObjectKey(t, "p")}
	err := s.snapshot(ctx, t, func(tx pgx.Tx) error {
		p.members, p.content = nil, nil
		rows, _ := tx.Query(ctx, list, t, packMessages) // CollectRows reports the error
		members, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m member, err error) {
			err = row.Scan(&m.slot, &m.digest, &m.stored, &m.encoding, &m.frames)
			return m, err
		})
		if err != nil {
			return err
		}
		var size int64
		n := 0
		for n < len(members) && size < s.options.PackSize {
			size += members[n].stored
			n++
		}
		members = members[:n]
		p.content = make([]byte, 0, size)
		contents, err := readStaged(ctx, tx, t, members)
		if err != nil {
			return err
		}
		for _, m := range members {
			// A slot that was truncated meanwhile looks empty in a snapshot from before that.
			if stored, ok := contents[string(m.digest)]; ok && int64(len(stored)) == m.stored {
				p.add(m, stored)
			}
		}
		return nil
	})
	return p, err
}

// readStagedRows by slot.
var readStagedRows = [...]string{
	`SELECT digest, data FROM staged_0 WHERE tenant_id = $1 AND digest = ANY ($2)`,
	`SELECT digest, data FROM staged_1 WHERE tenant_id = $1 AND digest = ANY ($2)`,
	`SELECT digest, data FROM staged_2 WHERE tenant_id = $1 AND digest = ANY ($2)`,
	`SELECT digest, data FROM staged_3 WHERE tenant_id = $1 AND digest = ANY ($2)`,
}

// readStaged returns the stored form of staged contents by their digests.
func readStaged(ctx context.Context, tx pgx.Tx, t id.Tenant, members []member) (map[string][]byte, error) {
	var digests [len(readStagedRows)][][]byte
	for _, m := range members {
		digests[*m.slot] = append(digests[*m.slot], m.digest)
	}
	contents := make(map[string][]byte, len(members))
	for slot, query := range readStagedRows {
		if len(digests[slot]) == 0 {
			continue
		}
		rows, err := tx.Query(ctx, query, t, digests[slot])
		if err != nil {
			return nil, err
		}
		var digest, data []byte
		_, err = pgx.ForEachRow(rows, []any{&digest, &data}, func() error {
			contents[string(digest)] = data
			digest, data = nil, nil
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// putPack puts the object and moves the contents to it. Those that have moved
// or died meanwhile stay as they are.
func (s *Store) putPack(ctx context.Context, l *lease, p *packing) error {
	const move = `SELECT move_content($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`

	size := int64(len(p.content))
	if err := s.putObject(ctx, p.tenant, p.key, bytes.NewReader(p.content), size); err != nil {
		return err
	}
	if err := s.reached(ctx, stepPut); err != nil {
		return err
	}
	slices.SortFunc(p.members, func(a, b member) int { return bytes.Compare(a.digest, b.digest) })
	var (
		n                = len(p.members)
		digests, frames  = make([][]byte, n), make([][]byte, n)
		encodings, slots = make([]int16, n), make([]*int16, n)
		objects          = make([]*string, n)
		offs             = make([]*int64, n)
		places           = make([]int64, n)
	)
	for i, m := range p.members {
		digests[i], frames[i], encodings[i], slots[i] = m.digest, m.frames, m.encoding, m.slot
		objects[i], offs[i], places[i] = m.object, m.off, m.at
	}
	err := s.transact(ctx, p.tenant, func(tx pgx.Tx) error {
		if err := l.check(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, move, p.tenant, p.key, size,
			digests, encodings, frames, slots, objects, offs, places, values(p.retired))
		return err
	})
	if isState(err, stateUseless) {
		return nil // the collector finds the intent
	}
	if err != nil {
		return fmt.Errorf("move content to %s: %w", p.key, err)
	}
	return s.reached(ctx, stepMoved)
}

// dropLeftovers removes staged rows that no blob refers to: nothing else would ever take them away.
func (s *Store) dropLeftovers(ctx context.Context, t id.Tenant) error {
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT drop_leftovers($1)`, t)
		return err
	})
}

// mergeTenant makes one pack of many small ones, while a tenant has that many,
// and takes objects back in which nothing lies any more.
func (s *Store) mergeTenant(ctx context.Context, t id.Tenant) error {
	_, err := s.underLease(ctx, fmt.Sprintf("pack/%d", t), func(ctx context.Context, l *lease) error {
		for range mergesAtOnce {
			p, err := s.collectPacks(ctx, t)
			if err != nil || p == nil {
				return err
			}
			if err := s.putPack(ctx, l, p); err != nil {
				return err
			}
			s.maintained.merges.Add(1)
		}
		return nil
	})
	return err
}

// collectPacks copies what lies in small packs of a tenant; nil where there are too few of them.
func (s *Store) collectPacks(ctx context.Context, t id.Tenant) (*packing, error) {
	const small = `
		SELECT object_key, bytes
		FROM object
		WHERE tenant_id = $1 AND starts_with(object_key, $2) AND bytes <= $3
		ORDER BY created_at
		LIMIT $4`

	type object struct {
		ObjectKey string
		Bytes     int64
	}
	p := &packing{tenant: t, key: newObjectKey(t, "p")}
	var found []member
	err := s.snapshot(ctx, t, func(tx pgx.Tx) error {
		p.retired = nil
		rows, _ := tx.Query(ctx, small, t, packPrefix(t), s.options.PackSize/2, mergePacks) // CollectRows reports the error
		objects, err := pgx.CollectRows(rows, pgx.RowToStructByPos[object])
		if err != nil {
			return err
		}
		var size int64
		for _, o := range objects {
			if size += o.Bytes; size > 2*s.options.PackSize {
				break
			}
			p.retired = append(p.retired, o.ObjectKey)
		}
		if len(p.retired) < 2 || len(objects) < mergePacks && size < s.options.PackSize {
			p.retired = nil
			return nil
		}
		found, err = lyingIn(ctx, tx, t, p.retired)
		return err
	})
	if err != nil || len(p.retired) == 0 {
		return nil, err
	}
	if len(found) == 0 {
		return nil, s.transact(ctx, t, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT retire_objects($1, $2)`, t, p.retired)
			return err
		})
	}
	return p, s.copyMembers(ctx, p, found, 4*s.options.PackSize)
}

// lyingIn returns what lies in objects.
func lyingIn(ctx context.Context, tx pgx.Tx, t id.Tenant, objects []string) ([]member, error) {
	const query = `
		SELECT digest, size, encoding, frames, object_key, object_off, stored_len
		FROM blob
		WHERE tenant_id = $1 AND object_key = ANY ($2)`

	rows, _ := tx.Query(ctx, query, t, objects) // CollectRows reports the error
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m member, err error) {
		err = row.Scan(&m.digest, &m.size, &m.encoding, &m.frames, &m.object, &m.off, &m.stored)
		return m, err
	})
}

// copyMembers fills a pack from others, of at most limit octets, of which it reads each once. What it
// copies is digested anew: the packs that it was read from are then removed, and an answer that
// was wrong once must not become all that there is.
func (s *Store) copyMembers(ctx context.Context, p *packing, members []member, limit int64) error {
	slices.SortFunc(members, func(a, b member) int {
		return cmp.Or(slices.Index(p.retired, *a.object)-slices.Index(p.retired, *b.object), cmp.Compare(*a.off, *b.off))
	})
	var key string
	var pack []byte
	for _, m := range members {
		if *m.object != key {
			key = *m.object
			var err error
			if pack, err = s.readObject(ctx, key, limit); err != nil {
				return err
			}
		}
		end := *m.off + m.stored
		if *m.off < 0 || end > int64(len(pack)) {
			return fmt.Errorf("%w: %s has %d octets, a content of it ends at %d", blob.ErrDamaged, key, len(pack), end)
		}
		stored := pack[*m.off:end]
		layout, err := blob.DecodeLayout(blob.Encoding(m.encoding), m.size, m.frames)
		if err == nil {
			err = layout.Verify(stored, id.Digest(m.digest))
		}
		if err != nil {
			return fmt.Errorf("%s at %d: %w", key, *m.off, err)
		}
		p.add(m, stored)
	}
	return nil
}

// readObject returns an object of at most limit octets.
func (s *Store) readObject(ctx context.Context, key string, limit int64) (_ []byte, err error) {
	r, err := s.options.Bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(io.LimitReader(r, limit))
}

// steps of a job that is under way, after each of which a crash may come.
type step int

const (
	stepPut       step = iota // the object is in the bucket
	stepMoved                 // the contents lie in the object
	stepForgot                // a mailbox has forgotten something
	stepPurged                // rows of deleted mailboxes are gone
	stepMarked                // dead emails are found
	stepSwept                 // some of them are gone
	stepDying                 // contents are marked
	stepBuried                // they are gone
	stepRetired               // objects are the collector's
	stepCondemned             // they will never count
	stepRemoved               // some are gone from the bucket
)

// reached lets tests stop a job where a process could die.
func (s *Store) reached(ctx context.Context, at step) error {
	if s.atStep == nil {
		return nil
	}
	return s.atStep(ctx, at)
}
