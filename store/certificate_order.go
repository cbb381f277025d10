package store

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Orders of certificates by ACME (RFC 8555): for which names an operator has switched them on, and what goes from who orders to the front ends, which
// are asked by the authority whether a name is ours. The protocol is package certificate's.

// SourceACME is that of certificates that were ordered, OrderedAlgorithm that of their keys, by which list_orders finds them.
const (
	SourceACME       = "acme"
	OrderedAlgorithm = "ECDSA"
)

// Errors of orders. The first is an ErrNotExist, the second an ErrExists.
var (
	ErrNoOrder    error = missing("order")
	ErrOrderTaken error = taken("certificates of that name are ordered for another domain, or for none")
)

// CertificateOrder is that certificates are ordered for a name.
type CertificateOrder struct {
	Name     string    `db:"name"`   // in its ASCII form
	Domain   string    `db:"domain"` // with which it goes; "": it is the deployment's
	TryAt    time.Time `db:"try_at"` // not before then
	Failures int       `db:"failures"`
	Problem  string    `db:"problem"` // of the last try
	Due      bool      `db:"due"`     // now
}

// OrderCertificate has certificates ordered for a name, of a domain or below it where one is given; ErrOrderTaken, ErrCertificateTaken. It returns the
// name's ASCII form.
func (s *Store) OrderCertificate(ctx context.Context, name, domain string) (string, error) {
	const query = `SELECT order_certificate($1, nullif($2, '')) AS done`

	name, err := normalizeDomain(name)
	if err != nil {
		return "", err
	}
	if domain != "" {
		if domain, err = normalizeDomain(domain); err != nil {
			return "", err
		}
		if !within(name, domain) {
			return "", &InvalidError{"name", name, "want one of the domain, or below it"}
		}
	}
	if err := s.RoomForOrdered(ctx, name, domain); err != nil {
		return "", err
	}
	if domain == "" {
		return name, s.whether(ctx, ErrOrderTaken, query, name, "")
	}
	t, number, err := s.findDomain(ctx, domain)
	if err != nil {
		return "", err
	}
	return name, s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := lockDomain(ctx, tx, t, number); err != nil {
			return err
		}
		var done bool
		if err := tx.QueryRow(ctx, query, name, domain).Scan(&done); err != nil {
			return err
		}
		if !done {
			return ErrOrderTaken
		}
		return audit(ctx, tx, t, Act{Action: "certificate.order", Object: domain, Detail: map[string]string{"name": name}})
	})
}

// RoomForOrdered tells whether SetCertificate would keep what is ordered for a name, of a domain if one is given; ErrCertificateTaken. Authorities count what they
// sign, so this is asked before they are.
func (s *Store) RoomForOrdered(ctx context.Context, name, domain string) error {
	all, err := s.Certificates(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if slices.Equal(c.Names, []string{name}) && c.Algorithm == OrderedAlgorithm && c.Domain != domain {
			return ErrCertificateTaken
		}
	}
	return nil
}

// CancelCertificate takes back OrderCertificate; what was ordered stays until it ends. ErrNoOrder.
func (s *Store) CancelCertificate(ctx context.Context, o CertificateOrder) error {
	const query = `SELECT cancel_certificate($1) AS done`

	if o.Domain == "" {
		return s.whether(ctx, ErrNoOrder, query, o.Name)
	}
	t, _, err := s.findDomain(ctx, o.Domain)
	if err != nil {
		return err
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		var done bool
		if err := tx.QueryRow(ctx, query, o.Name).Scan(&done); err != nil {
			return err
		}
		if !done {
			return ErrNoOrder
		}
		return audit(ctx, tx, t, Act{Action: "certificate.cancel", Object: o.Domain, Detail: map[string]string{"name": o.Name}})
	})
}

// CertificateOrders lists the orders, the one that is to be tried first before the others.
func (s *Store) CertificateOrders(ctx context.Context) ([]CertificateOrder, error) {
	return lookup[CertificateOrder](ctx, s, `SELECT name, domain, try_at, failures, problem, due FROM list_orders()`)
}

// OrderDone notes how an order has gone: what the problem was, "" for none, and after what time it may be tried again.
func (s *Store) OrderDone(ctx context.Context, name, problem string, again time.Duration) error {
	return s.execute(ctx, `SELECT order_done($1, $2, $3)`, name, problem, again)
}

// execute runs a function that returns nothing.
func (s *Store) execute(ctx context.Context, query string, args ...any) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Exec(ctx, query, args...)
	return s.lost(ctx, conn, err, sent)
}

// Proof is what front ends answer by when they are asked whether a name is ours.
type Proof struct {
	Kind     string `db:"kind"`   // a challenge of ACME
	Key      string `db:"key"`    // by which it is asked for
	Answer   []byte `db:"answer"` // a text, or the chain of a certificate
	Sealed   []byte `db:"sealed"` // the key of that
	SealedBy string `db:"sealed_by"`
}

// SetProof has all front ends answer by a proof within seconds, for a time.
func (s *Store) SetProof(ctx context.Context, p Proof, lasts time.Duration) error {
	if p.Sealed == nil {
		p.Sealed = []byte{}
	}
	return s.execute(ctx, `SELECT set_proof($1, $2, $3, $4, $5, $6)`, p.Kind, p.Key, p.Answer, p.Sealed, p.SealedBy, lasts)
}

// DeleteProof takes back SetProof.
func (s *Store) DeleteProof(ctx context.Context, p Proof) error {
	return s.execute(ctx, `SELECT delete_proof($1, $2)`, p.Kind, p.Key)
}

// ProofVersion is another number each time that a proof has been changed.
func (s *Store) ProofVersion(ctx context.Context) (int64, error) {
	type row struct{ Version int64 }
	rows, err := lookup[row](ctx, s, `SELECT newest_proofs() AS version`)
	if err != nil {
		return 0, err
	}
	return rows[0].Version, nil
}

// Proofs lists those that are not over.
func (s *Store) Proofs(ctx context.Context) ([]Proof, error) {
	return lookup[Proof](ctx, s, `SELECT kind, key, answer, sealed, sealed_by FROM list_proofs()`)
}

// OrderAccount is who orders at an authority.
type OrderAccount struct {
	Authority string `db:"authority"` // the URL of its directory
	URI       string `db:"uri"`       // "": it has not been made there
	Sealed    []byte `db:"sealed"`    // its key
	SealedBy  string `db:"sealed_by"`
}

// OrderAccount returns the account at an authority, whose URL is given; ErrNoAccount.
func (s *Store) OrderAccount(ctx context.Context, authority string) (OrderAccount, error) {
	found, err := lookup[OrderAccount](ctx, s, `SELECT $1::text AS authority, uri, sealed, sealed_by FROM read_order_account($1)`, authority)
	if err != nil {
		return OrderAccount{}, err
	}
	if len(found) == 0 {
		return OrderAccount{}, ErrNoAccount
	}
	return found[0], nil
}

// OrderAccounts lists those at all authorities.
func (s *Store) OrderAccounts(ctx context.Context) ([]OrderAccount, error) {
	return lookup[OrderAccount](ctx, s, `SELECT authority, uri, sealed, sealed_by FROM list_order_accounts()`)
}

// SetOrderAccount keeps an account in the place of the one that is there.
func (s *Store) SetOrderAccount(ctx context.Context, a OrderAccount) error {
	return s.execute(ctx, `SELECT set_order_account($1, $2, $3, $4)`, a.Authority, a.URI, a.Sealed, a.SealedBy)
}

// Ordering runs f if no other process orders certificates, and reports whether it did.
func (s *Store) Ordering(ctx context.Context, f func(ctx context.Context) error) (ran bool, err error) {
	return s.underLease(ctx, "certificates", func(ctx context.Context, _ *lease) error { return f(ctx) })
}
