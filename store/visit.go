package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Visit is a guest of another cell, as whom an account of this one sees what is shared with it there.
type Visit struct {
	Cell  string `db:"cell"`
	Login string `db:"guest"`
}

// Visits returns the visits of a user, by cell. Nobody else makes them in the user's place: who acts as another, or has no name, has none.
func (s *Store) Visits(ctx context.Context, u User) (all []Visit, err error) {
	const query = `SELECT cell, guest FROM visit WHERE tenant_id = $1 AND account_id = $2 ORDER BY cell`

	if u.Actor != "" || u.Anonymous || u.Guest {
		return nil, nil
	}
	err = s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		b.Queue(query, u.Tenant, u.Account).Query(func(rows pgx.Rows) (err error) {
			all, err = pgx.CollectRows(rows, pgx.RowToStructByName[Visit])
			return err
		})
	})
	return all, err
}

// AddVisit lets a user see in another cell what is shared there with a guest, if that cell says that it is them; ErrVisitTaken, ErrGuest.
func (s *Store) AddVisit(ctx context.Context, u User, v Visit) error {
	const (
		lock  = `SELECT FROM account WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting FOR NO KEY UPDATE`
		query = `INSERT INTO visit (tenant_id, account_id, cell, guest) VALUES ($1, $2, $3, $4)`
	)
	if err := CheckCell(v.Cell); err != nil {
		return err
	}
	guest, _, err := newAddress(v.Login)
	if err != nil {
		return err
	}
	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, lock, u.Tenant, u.Account)
		if err := affected(tag, err, ErrNoAccount); err != nil {
			return err
		}
		if err := notGuest(ctx, tx, u); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, query, u.Tenant, u.Account, v.Cell, guest); err != nil {
			return unique(err, ErrVisitTaken)
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "visit.add", Object: u.Login, Detail: map[string]string{"cell": v.Cell, "guest": guest}})
	})
}

// RemoveVisit takes back AddVisit; ErrNoVisit.
func (s *Store) RemoveVisit(ctx context.Context, u User, cell string) error {
	const query = `DELETE FROM visit WHERE tenant_id = $1 AND account_id = $2 AND cell = $3`

	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, u.Tenant, u.Account, cell)
		if err := affected(tag, err, ErrNoVisit); err != nil {
			return err
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "visit.remove", Object: u.Login, Detail: map[string]string{"cell": cell}})
	})
}
