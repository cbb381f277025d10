package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
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
	if errors.Is(err, errNoSeal) { // the key is lost, and the account with it
		if account, err = o.newAccount(ctx); err == nil {
			secret, err = o.o.Seals().open(accountOf(o.o.Directory), account.Sealed, account.SealedBy)
		}
	}
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(secret)
	if err != nil {
		return nil, errSealed // and not what was wrong with it
	}
	c := &acme.Client{Key: key, HTTPClient: o.http(), DirectoryURL: o.o.Directory, UserAgent: "mailstead/" + o.o.Version, KID: acme.KeyID(account.URI)}
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
	return c, o.o.Store.SetOrderAccount(ctx, o.o.Directory, account)
}

// newAccount keeps a key before it is used.
func (o *Orders) newAccount(ctx context.Context) (store.OrderAccount, error) {
	key, err := newKey()
	if err != nil {
		return store.OrderAccount{}, err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return store.OrderAccount{}, err
	}
	var account store.OrderAccount
	account.Sealed, account.SealedBy = o.o.Seals().seal(accountOf(o.o.Directory), secret)
	return account, o.o.Store.SetOrderAccount(ctx, o.o.Directory, account)
}

// ResealAccount seals the key of an account anew, by the key that seals now.
func (s *Seals) ResealAccount(directory string, account store.OrderAccount) (store.OrderAccount, error) {
	secret, err := s.open(accountOf(directory), account.Sealed, account.SealedBy)
	if err == nil {
		account.Sealed, account.SealedBy = s.seal(accountOf(directory), secret)
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
