package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Act is something done with rights beyond one's own mail, as a tenant's audit
// log has it: what admins do, what changes who may do what, and acting as another.
type Act struct {
	Actor  string // who; "": who the context says (WithActor)
	Action string // what: account.create, acl.set ...
	Object string // what it was done to: a login, a domain, a mailbox ...
	Detail any    // more of it, as JSON; nil for nothing
}

type actorKey struct{}

// WithActor says who does what is done under ctx, where that is nobody who has logged in.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// actor returns who WithActor has named.
func actor(ctx context.Context) string {
	if a, ok := ctx.Value(actorKey{}).(string); ok {
		return a
	}
	return "mailstead"
}

// Who returns the user as audit logs name them.
func (u User) Who() string {
	if u.Actor != "" {
		return u.Actor + " as " + u.Login
	}
	return u.Login
}

// audit adds to a tenant's audit log in the transaction of the act. It comes
// last, for it holds up all others of the tenant that add to the log until the commit.
func audit(ctx context.Context, tx pgx.Tx, t id.Tenant, a Act) error {
	if a.Actor == "" {
		a.Actor = actor(ctx)
	}
	detail := []byte("{}")
	if a.Detail != nil {
		var err error
		if detail, err = json.Marshal(a.Detail); err != nil {
			return fmt.Errorf("audit %s: %w", a.Action, err)
		}
	}
	_, err := tx.Exec(ctx, `SELECT write_audit($1, $2, $3, $4, $5)`, t, a.Actor, a.Action, a.Object, string(detail))
	return err
}

// AuditEntry is an entry of an audit log.
type AuditEntry struct {
	Seq    int64     `db:"seq"` // from 1, without a gap
	At     time.Time `db:"at"`
	Actor  string    `db:"actor"`
	Action string    `db:"action"`
	Object string    `db:"object"`
	Detail string    `db:"detail"` // JSON
	Hash   []byte    `db:"hash"`   // SHA-256, over this and the entry before
}

// AuditChain is a tenant's audit log as a whole, up to its last entry.
type AuditChain struct {
	ID     id.Tenant `db:"tenant_id"`
	Tenant string    `db:"tenant"` // the name, also of one that is gone
	Seq    int64     `db:"seq"`
	Hash   []byte    `db:"hash"`
}

// Head names the chain's last entry: who has kept it elsewhere can prove that
// nothing up to there was changed since.
func (c AuditChain) Head() string { return fmt.Sprintf("%d:%s", c.Seq, hex.EncodeToString(c.Hash)) }

// AuditChains lists the audit logs, also of tenants that are gone.
func (s *Store) AuditChains(ctx context.Context) ([]AuditChain, error) {
	return lookup[AuditChain](ctx, s, `SELECT tenant_id, tenant, seq, hash FROM list_audits()`)
}

// AuditLog goes through a tenant's audit log behind the entry with the number after. It reads some at a time.
func (s *Store) AuditLog(ctx context.Context, t id.Tenant, after int64) iter.Seq2[AuditEntry, error] {
	const page = 1000
	const query = `
		SELECT seq, at, actor, action, object, detail, hash
		FROM audit_log
		WHERE tenant_id = $1 AND seq > $2
		ORDER BY seq LIMIT $3`

	return func(yield func(AuditEntry, error) bool) {
		for {
			var entries []AuditEntry
			err := s.read(ctx, t, func(b *pgx.Batch) {
				b.Queue(query, t, after, page).Query(func(rows pgx.Rows) (err error) {
					entries, err = pgx.CollectRows(rows, pgx.RowToStructByName[AuditEntry])
					return err
				})
			})
			if err != nil {
				yield(AuditEntry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
				after = e.Seq
			}
			if len(entries) < page {
				return
			}
		}
	}
}

// ErrAudit says that an audit log is not what was written.
var ErrAudit = errors.New("audit log was changed")

// VerifyAudit proves an audit log up to the entry that c names, from the first
// on. ErrAudit where an entry was changed, removed or put in, and
// where it is not the chain that led to the entry known.Seq with known.Hash; known may be zero.
// What is written meanwhile is left to the next time.
func (s *Store) VerifyAudit(ctx context.Context, c, known AuditChain) error {
	var at AuditChain
	for e, err := range s.AuditLog(ctx, c.ID, 0) {
		if err != nil {
			return err
		}
		if e.Seq > max(c.Seq, known.Seq) {
			break
		}
		if e.Seq != at.Seq+1 {
			return fmt.Errorf("%w: after entry %d comes %d", ErrAudit, at.Seq, e.Seq)
		}
		if at.Hash = e.sum(at.Hash); !bytes.Equal(at.Hash, e.Hash) {
			return fmt.Errorf("%w: entry %d is not what was written, or one before it", ErrAudit, e.Seq)
		}
		at.Seq = e.Seq
		for _, end := range []AuditChain{c, known} {
			if end.Seq == at.Seq && !bytes.Equal(end.Hash, at.Hash) {
				return fmt.Errorf("%w: entry %d is another than was known", ErrAudit, e.Seq)
			}
		}
	}
	if at.Seq == 0 {
		return fmt.Errorf("%w: it has no entry, not even of who made the tenant", ErrAudit)
	}
	if end := max(c.Seq, known.Seq); at.Seq < end {
		return fmt.Errorf("%w: it ends with entry %d, and there were %d", ErrAudit, at.Seq, end)
	}
	return nil
}

// sum computes the entry's hash as audit_hash does (migration 0014).
func (e AuditEntry) sum(before []byte) []byte {
	b := bytes.Clone(before)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(e.At.UnixMicro()))
	for _, text := range []string{e.Actor, e.Action, e.Object, e.Detail} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	sum := sha256.Sum256(b)
	return sum[:]
}
