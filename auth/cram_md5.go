package auth

import (
	"context"
	"crypto/hmac"
	"crypto/md5" // which RFC 2195 is made of
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"
)

// CRAM-MD5: RFC 2195. It takes a password that is kept as it is, so no user's own ever is: it works with app
// passwords alone that were made for it. For programs that know nothing better.

// clearOf begins the word of a secret that is the password itself.
const clearOf = "{CLEAR}"

// NewCramSecret makes an app password for CRAM-MD5 alone, and what it is kept as.
func NewCramSecret() (password, secret string) {
	password = Generate()
	return password, clearOf + password
}

func startCramMD5(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return &cramServer{check: func(login string, challenge, digest []byte) (err error) {
		*granted, err = a.cramMD5(ctx, ch, login, challenge, digest)
		return err
	}}
}

func (a *Authenticator) cramMD5(ctx context.Context, ch Channel, login string, challenge, digest []byte) (Grant, error) {
	t, err := a.attempt(ctx, ch, login)
	if _, ok := errors.AsType[*ElsewhereError](err); ok { // there the challenge would be another
		return Grant{}, t.refused(ctx, nil)
	}
	if err != nil {
		return Grant{}, err
	}
	for _, app := range t.account.AppPasswords {
		for word := range strings.FieldsSeq(app.Secret) {
			password, ok := strings.CutPrefix(word, clearOf)
			if !ok {
				continue
			}
			mac := hmac.New(md5.New, []byte(password))
			mac.Write(challenge)
			if hmac.Equal(mac.Sum(nil), digest) {
				t.succeeded()
				return a.admitApp(ctx, ch, t.account, app)
			}
		}
	}
	return Grant{}, t.refused(ctx, nil)
}

type cramServer struct {
	challenge []byte
	check     func(login string, challenge, digest []byte) error
}

// Next implements sasl.Server.
func (c *cramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if c.challenge == nil {
		if response != nil {
			return nil, false, errors.New("it is for the server to begin")
		}
		c.challenge = []byte("<" + rand.Text() + "@mailstead>")
		return c.challenge, false, nil
	}
	i := strings.LastIndexByte(string(response), ' ')
	if i < 0 || c.check == nil {
		return nil, false, errors.New("want a login and a digest")
	}
	digest, err := hex.DecodeString(string(response[i+1:]))
	if err != nil || len(digest) != md5.Size {
		return nil, false, errors.New("the digest is none of MD5")
	}
	check := c.check
	c.check = nil
	return nil, true, check(string(response[:i]), c.challenge, digest)
}
