package store

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Certificates of TLS, by the names that clients ask for. They are looked up before it is known who comes, so they are no tenant's; one can be of a
// domain, with which it goes. Their private keys are sealed by package certificate, which alone can open them.

// Errors of certificates. The first is an ErrNotExist, the second an ErrExists.
var (
	ErrNoCertificate    error = missing("certificate")
	ErrCertificateTaken error = taken("there is a certificate of these names that is another domain's, or none's")
)

// Certificate is what is told of one.
type Certificate struct {
	ID        int64     `db:"certificate_id"`
	Names     []string  `db:"names"`     // sorted, in lower case; *.… for all below
	Algorithm string    `db:"algorithm"` // of its key
	Issuer    string    `db:"issuer"`
	Begins    time.Time `db:"begins"`
	Ends      time.Time `db:"ends"`
	Domain    string    `db:"domain"`    // with which it goes, in its ASCII form; "": it is the deployment's
	Source    string    `db:"source"`    // from where it is
	SealedBy  string    `db:"sealed_by"` // the id of what opens its key
	Version   int64     `db:"version"`   // another number where anything of it is another
}

// SourceAdded is that of certificates that an operator has added.
const SourceAdded = "added"

// SealedCertificate is one as it is kept.
type SealedCertificate struct {
	Chain    []byte `db:"chain"`  // DER, its own first
	Sealed   []byte `db:"sealed"` // its key
	SealedBy string `db:"sealed_by"`
	Version  int64  `db:"version"`
}

// CertificateVersion is another number each time that a certificate has been changed.
func (s *Store) CertificateVersion(ctx context.Context) (int64, error) {
	type row struct{ Version int64 }
	rows, err := lookup[row](ctx, s, `SELECT newest_certificates() AS version`)
	if err != nil {
		return 0, err
	}
	return rows[0].Version, nil
}

// Certificates lists all of them, by their names.
func (s *Store) Certificates(ctx context.Context) ([]Certificate, error) {
	return lookup[Certificate](ctx, s, `SELECT certificate_id, names, algorithm, issuer, begins, ends, domain, source, sealed_by, version FROM list_certificates()`)
}

// ReadCertificate returns one with its sealed key; ErrNoCertificate.
func (s *Store) ReadCertificate(ctx context.Context, number int64) (SealedCertificate, error) {
	found, err := lookup[SealedCertificate](ctx, s, `SELECT chain, sealed, sealed_by, version FROM read_certificate($1)`, number)
	if err != nil {
		return SealedCertificate{}, err
	}
	if len(found) == 0 {
		return SealedCertificate{}, ErrNoCertificate
	}
	return found[0], nil
}

// SetCertificate keeps a certificate in the place of the one of the same names and the same kind of key, and returns its number; ErrCertificateTaken.
func (s *Store) SetCertificate(ctx context.Context, c Certificate, sealed SealedCertificate) (number int64, err error) {
	const query = `SELECT set_certificate($1, $2, $3, $4, $5, nullif($6, ''), $7, $8, $9, $10) AS number`

	args := []any{c.Names, c.Algorithm, c.Issuer, c.Begins, c.Ends, "", c.Source, sealed.Chain, sealed.Sealed, sealed.SealedBy}
	if c.Domain == "" {
		type row struct{ Number *int64 }
		rows, err := lookupOnce[row](ctx, s, query, args)
		if err != nil {
			return 0, err
		}
		if rows[0].Number == nil {
			return 0, ErrCertificateTaken
		}
		return *rows[0].Number, nil
	}
	if c.Domain, err = normalizeDomain(c.Domain); err != nil {
		return 0, err
	}
	for _, name := range c.Names {
		if !within(name, c.Domain) {
			return 0, &InvalidError{"name", name, "want one of the domain, or below it"}
		}
	}
	args[5] = c.Domain
	t, domain, err := s.findDomain(ctx, c.Domain)
	if err != nil {
		return 0, err
	}
	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := lockDomain(ctx, tx, t, domain); err != nil {
			return err
		}
		var made *int64
		if err := tx.QueryRow(ctx, query, args...).Scan(&made); err != nil {
			return err
		}
		if made == nil {
			return ErrCertificateTaken
		}
		number = *made
		return audit(ctx, tx, t, Act{Action: "certificate.set", Object: c.Domain, Detail: map[string]any{"names": c.Names, "ends": c.Ends.UTC(), "source": c.Source}})
	})
	return number, err
}

// within tells whether a name of a certificate is of a domain, or below it: a slip does not have a tenant's certificate shown for names of others.
func within(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// ResealCertificate puts a key that is sealed anew in the place of the one that was read; ErrNoCertificate where that is another by now.
func (s *Store) ResealCertificate(ctx context.Context, number int64, anew SealedCertificate) error {
	return s.whether(ctx, ErrNoCertificate, `SELECT reseal_certificate($1, $2, $3, $4) AS done`, number, anew.Version, anew.Sealed, anew.SealedBy)
}

// DeleteCertificate removes a certificate; ErrNoCertificate.
func (s *Store) DeleteCertificate(ctx context.Context, c Certificate) error {
	const query = `SELECT delete_certificate($1) AS done`

	if c.Domain == "" {
		return s.whether(ctx, ErrNoCertificate, query, c.ID)
	}
	t, _, err := s.findDomain(ctx, c.Domain)
	if err != nil {
		return err
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		var done bool
		if err := tx.QueryRow(ctx, query, c.ID).Scan(&done); err != nil {
			return err
		}
		if !done {
			return ErrNoCertificate
		}
		return audit(ctx, tx, t, Act{Action: "certificate.delete", Object: c.Domain, Detail: map[string]any{"names": c.Names}})
	})
}
