package store

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// IndexCopy is a copy of the search index of an account in object storage, from which another node can go on.
type IndexCopy struct {
	Key   string // of the object; "": there is none
	Stamp uint64
	UpTo  id.Email
	Age   time.Duration
}

// IndexCopy returns which copy of its index an account has.
func (s *Store) IndexCopy(ctx context.Context, t id.Tenant, account id.Account) (c IndexCopy, err error) {
	const query = `
		SELECT coalesce(copy_key, ''), copy_stamp, copy_up_to, now() - copied_at
		FROM search_index
		WHERE tenant_id = $1 AND account_id = $2`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, account).QueryRow(func(row pgx.Row) error {
			var stamp int64
			err := row.Scan(&c.Key, &stamp, &c.UpTo, &c.Age)
			c.Stamp = uint64(stamp)
			return err
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return IndexCopy{}, nil
	}
	return c, err
}

// SaveIndexCopy puts a copy of so many octets in the place of the last one. ErrStaleIndex where the account is another node's.
func (s *Store) SaveIndexCopy(ctx context.Context, t id.Tenant, account id.Account, node string, c IndexCopy, r io.Reader, size int64) error {
	const (
		consume = `DELETE FROM object_intent WHERE tenant_id = $1 AND object_key = $2 AND condemned IS NULL`
		save    = `
			UPDATE search_index SET copy_key = $4, copy_stamp = $5, copy_up_to = $6, copied_at = now()
			WHERE tenant_id = $1 AND account_id = $2 AND node = $3`
	)
	c.Key = newObjectKey(t, "i")
	if err := s.putObject(ctx, t, c.Key, r, size); err != nil {
		return err
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, consume, t, c.Key)
		if err := affected(tag, err, ErrUnavailable); err != nil { // it took so long that the object has been collected
			return err
		}
		tag, err = tx.Exec(ctx, save, t, account, node, c.Key, int64(c.Stamp), c.UpTo)
		return affected(tag, err, ErrStaleIndex)
	})
}

// ReadIndexCopy returns what a copy has. It has to be closed.
func (s *Store) ReadIndexCopy(ctx context.Context, c IndexCopy) (io.ReadCloser, error) {
	r, err := s.options.Bucket.Get(ctx, c.Key, 0, -1)
	return r, objectError(ctx, err)
}

// DropIndexCopy forgets a copy that is of no use, and leaves its object to the collector.
func (s *Store) DropIndexCopy(ctx context.Context, t id.Tenant, account id.Account, c IndexCopy) error {
	const query = `
		UPDATE search_index SET copy_key = NULL, copy_stamp = 0, copy_up_to = 0
		WHERE tenant_id = $1 AND account_id = $2 AND copy_key = $3`

	return s.transact(ctx, t, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, query, t, account, c.Key)
		return err
	})
}
