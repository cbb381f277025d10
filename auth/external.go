package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-sasl"

	"mailstead.dev/store"
)

// EXTERNAL: RFC 4422 appendix A. Who has shown a certificate in TLS is let in where it is one of the account's, which an operator has put there
// like an app password. So it need not be signed by anybody, is revoked alone, and no authority has to be trusted with whose account it is for.

// certified tells whether the client has shown a certificate.
func (ch Channel) certified() bool { return ch.TLS != nil && len(ch.TLS.PeerCertificates) > 0 }

// pinned is the hash of a certificate.
type pinned [sha256.Size]byte

const certificateOf = "{CERTIFICATE}"

// CertificateSecret is what a certificate, in DER, is kept as.
func CertificateSecret(der []byte) string { return pinned(sha256.Sum256(der)).String() }

func (c pinned) String() string { return certificateOf + base64.StdEncoding.EncodeToString(c[:]) }

// isCertificate tells whether a secret is that of a certificate.
func isCertificate(secret string, der []byte) bool {
	return subtle.ConstantTimeCompare([]byte(secret), []byte(CertificateSecret(der))) == 1
}

// mostAddresses bounds how many accounts are looked at for one certificate.
const mostAddresses = 3

func startExternal(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return sasl.NewExternalServer(func(identity string) (err error) {
		*granted, err = a.external(ctx, ch, identity)
		return err
	})
}

// external lets in the account that the client names, or the one of an address in its certificate.
func (a *Authenticator) external(ctx context.Context, ch Channel, identity string) (Grant, error) {
	shown := ch.TLS.PeerCertificates[0]
	if now := time.Now(); now.Before(shown.NotBefore) || now.After(shown.NotAfter) {
		return Grant{}, store.ErrAuth
	}
	logins := []string{identity}
	if identity == "" {
		logins = shown.EmailAddresses[:min(len(shown.EmailAddresses), mostAddresses)]
	}
	for _, login := range logins {
		account, err := a.lookup(ctx, login)
		if errors.Is(err, store.ErrNotExist) {
			continue
		}
		if err != nil {
			return Grant{}, fmt.Errorf("login: %w", err)
		}
		for _, app := range account.AppPasswords {
			if isCertificate(app.Secret, shown.Raw) {
				g, err := a.admitApp(ctx, ch, account, app)
				if g.until.IsZero() || shown.NotAfter.Before(g.until) {
					g.until = shown.NotAfter
				}
				return g, err
			}
		}
	}
	return Grant{}, store.ErrAuth
}
