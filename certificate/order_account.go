package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/acme"

	"mailstead.dev/store"
)

// The account at an authority is made once; its key lies in the database like those of certificates, so that whoever orders has it.

// enter returns a client that has the account, which is made where it is not there.
func (o *Orders) enter(ctx context.Context) (*acme.Client, error) {
	account, err := o.o.Store.OrderAccount(ctx, o.o.Directory)
	if errors.Is(err, store.ErrNotExist) {
		account, err = o.newAccount(ctx)
	}
	if err != nil {
		return nil, err
	}
	secret, err := o.o.Seals().open(accountOf(o.o.Directory), account.Sealed, account.SealedBy)
	if err != nil { // if the key is lost, an operator says so: this process may only be the last to have read what seals now
		return nil, fmt.Errorf("the key of the account: %w", err)
	}
	key, err := x509.ParseECPrivateKey(secret)
	if err != nil {
		return nil, errSealed // and not what was wrong with it
	}
	c := &acme.Client{Key: key, HTTPClient: o.http(), DirectoryURL: o.o.Directory, UserAgent: "mailstead/" + o.o.Version, KID: acme.KeyID(account.URI), RetryBackoff: again}
	if _, err := c.Discover(ctx); err != nil { // where it cannot be ordered is known before anything is
		return nil, err
	}
	if account.URI != "" {
		return c, nil
	}
	wanted := new(acme.Account)
	if o.o.Contact != "" {
		wanted.Contact = []string{"mailto:" + o.o.Contact}
	}
	// Whoever has set acme.directory has agreed to what it says, or the configuration would not be taken.
	if _, err := c.Register(ctx, wanted, acme.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil, err
	}
	account.URI = string(c.KID)
	return c, o.o.Store.SetOrderAccount(ctx, account)
}

// newAccount keeps a key before it is used.
func (o *Orders) newAccount(ctx context.Context) (store.OrderAccount, error) {
	account, err := o.o.Seals().NewAccount(o.o.Directory)
	if err != nil {
		return account, err
	}
	return account, o.o.Store.SetOrderAccount(ctx, account)
}

// NewAccount makes the key of an account that the authority does not know yet.
func (s *Seals) NewAccount(directory string) (account store.OrderAccount, err error) {
	key, err := newKey()
	if err != nil {
		return account, err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return account, err
	}
	account.Authority = directory
	account.Sealed, account.SealedBy = s.seal(accountOf(directory), secret)
	return account, nil
}

// ResealAccount seals the key of an account anew, by the key that seals now.
func (s *Seals) ResealAccount(account store.OrderAccount) (store.OrderAccount, error) {
	secret, err := s.open(accountOf(account.Authority), account.Sealed, account.SealedBy)
	if err == nil {
		account.Sealed, account.SealedBy = s.seal(accountOf(account.Authority), secret)
	}
	return account, err
}

// gone tells whether the authority does not know the account any more.
func gone(err error) bool {
	var e *acme.Error
	return errors.As(err, &e) && strings.HasSuffix(e.ProblemType, ":accountDoesNotExist")
}

// forget has the account made anew, unless another process has done so.
func (o *Orders) forget(ctx context.Context) error {
	used := string(o.client.KID)
	o.client = nil
	account, err := o.o.Store.OrderAccount(ctx, o.o.Directory)
	if err == nil && account.URI == used {
		_, err = o.newAccount(ctx)
	}
	return err
}

// accountOf names the key of an account, which is sealed for that alone.
func accountOf(directory string) []byte { return []byte("key of account\x00" + directory) }

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }
