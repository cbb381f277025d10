package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Tenants never meet, and each is whole in a cell; so what is shared with somebody of another cell is shared with a guest: an account of the tenant that shares, which
// has no password, and whose user is let in as whoever they are at home. There they have a visit, which says as which guest they see what is shared with
// them. Each side is its own operator's to set, and neither alone lets anybody in.
//
// A login may be deleted there and made anew for somebody else, of which nothing is told here. So a guest is the account that came first with its home's login, and
// no other until the operator says so.

// Errors of guests and visits. Each but the last is an ErrNotExist or an ErrExists.
var (
	ErrNoGuest    error = missing("guest")
	ErrNoVisit    error = missing("visit")
	ErrVisitTaken error = taken("the account visits that cell already")

	// ErrGuest says that an account is a guest, to whom other passwords are of no use than those of its home.
	ErrGuest = errors.New("the account is a guest: its passwords are those of its home")

	// ErrOtherSubject says that another account has got the login that is a guest's home. It is an ErrActAs.
	ErrOtherSubject = fmt.Errorf("%w: another account than the guest's has its home's login now", ErrActAs)
)

// Home is where the user of a guest has an account.
type Home struct {
	Login string // "": it is no guest
	Cell  string // in which the login's domain lives; "": in none that is known, so that nobody is let in

	Subject string // which account it is, as User.Subject there has it; "": none has come yet
}

// Guest is an account whose user is one of another cell.
type Guest struct {
	Login   string     `db:"login"`
	Home    string     `db:"home"`
	Cell    string     `db:"-"`       // in which the home's domain lives; "": in none that is known
	Subject string     `db:"subject"` // as that of Home
	Refused *time.Time `db:"refused"` // when another account was refused last, to within an hour; nil: none has been
}

// CreateGuest makes an account that is a guest, of whom the home is a login whose domain lives in another cell; errors of CreateAccount.
func (s *Store) CreateGuest(ctx context.Context, login, home string) (Account, error) {
	home, err := s.homeOf(ctx, home)
	if err != nil {
		return Account{}, err
	}
	return s.CreateAccount(ctx, NewAccount{Login: login, Home: home, Mailboxes: []DefaultMailbox{}})
}

// SetGuestHome says that another user is the guest, or another account of the same login, which ends its sessions; ErrNoGuest.
func (s *Store) SetGuestHome(ctx context.Context, u User, home string) error {
	const (
		lock  = `SELECT FROM account WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting FOR NO KEY UPDATE`
		query = `UPDATE guest SET home = $3, subject = NULL, refused = NULL WHERE tenant_id = $1 AND account_id = $2`
	)
	home, err := s.homeOf(ctx, home)
	if err != nil {
		return err
	}
	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, lock, u.Tenant, u.Account)
		if err := affected(tag, err, ErrNoAccount); err != nil {
			return err
		}
		tag, err = tx.Exec(ctx, query, u.Tenant, u.Account, home)
		if err := affected(tag, err, ErrNoGuest); err != nil {
			return err
		}
		if err := revokeAccount(ctx, tx, u); err != nil {
			return err
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "guest.home", Object: u.Login, Detail: map[string]string{"home": home}})
	})
}

// homeOf returns a login of another cell as it is kept.
func (s *Store) homeOf(ctx context.Context, login string) (string, error) {
	home, _, err := newAddress(login)
	if err != nil {
		return "", err
	}
	found, err := s.LookupLogin(ctx, home)
	if err != nil && !errors.Is(err, ErrNoAccount) {
		return "", err
	}
	if found.Cell == "" {
		return "", &InvalidError{"home", login, "its domain is not known to live in another cell"}
	}
	return home, nil
}

// MeetGuest notes which account it is that comes from a guest's home, where none has come before; ErrOtherSubject where another has.
func (s *Store) MeetGuest(ctx context.Context, u User, home Home) error {
	const noted = time.Hour // is how often a refusal is
	const query = `
		UPDATE guest
		SET subject = coalesce(subject, $4), refused = CASE WHEN subject <> $4 THEN now() ELSE refused END
		WHERE tenant_id = $1 AND account_id = $2 AND home = $3
		  AND (coalesce(subject, $4) = $4 OR coalesce(refused < now() - $5::interval, true))
		RETURNING subject = $4`

	var same bool
	err := s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		same = false
		err := tx.QueryRow(ctx, query, u.Tenant, u.Account, home.Login, home.Subject, noted).Scan(&same)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err == nil && !same {
		err = ErrOtherSubject
	}
	return err
}

// setHome makes an account that is new a guest.
func setHome(ctx context.Context, tx pgx.Tx, t id.Tenant, account id.Account, home string) error {
	const query = `INSERT INTO guest (tenant_id, account_id, home) VALUES ($1, $2, $3)`

	_, err := tx.Exec(ctx, query, t, account, home)
	return err
}

// notGuest refuses what is for accounts that are no guests.
func notGuest(ctx context.Context, tx pgx.Tx, u User) error {
	const query = `SELECT EXISTS (SELECT FROM guest WHERE tenant_id = $1 AND account_id = $2)`

	var guest bool
	err := tx.QueryRow(ctx, query, u.Tenant, u.Account).Scan(&guest)
	if err == nil && guest {
		err = ErrGuest
	}
	return err
}

// Guests lists a tenant's guests by login.
func (s *Store) Guests(ctx context.Context, t id.Tenant) (all []Guest, err error) {
	const query = `
		SELECT a.login, g.home, coalesce(g.subject, '') AS subject, g.refused
		FROM guest g
		JOIN account a ON a.tenant_id = g.tenant_id AND a.account_id = g.account_id
		WHERE g.tenant_id = $1
		ORDER BY a.login`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t).Query(func(rows pgx.Rows) (err error) {
			all, err = pgx.CollectRows(rows, pgx.RowToStructByName[Guest])
			return err
		})
	})
	if err != nil || len(all) == 0 {
		return all, err
	}
	domains, err := s.RemoteDomains(ctx)
	cells := make(map[string]string)
	for _, d := range domains {
		cells[d.Name] = d.Cell
	}
	for i, g := range all {
		all[i].Cell = cells[domainOf(g.Home)]
	}
	return all, err
}
