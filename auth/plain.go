package auth

import (
	"context"
	"errors"

	"github.com/emersion/go-sasl"
)

// PLAIN: RFC 4616. LOGIN is in no RFC, and some programs know nothing else.

func startPlain(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return sasl.NewPlainServer(func(identity, login, password string) (err error) {
		*granted, err = a.LoginAs(ctx, ch, identity, login, password)
		return err
	})
}

func startLogin(ctx context.Context, a *Authenticator, ch Channel, granted *Grant) sasl.Server {
	return &loginServer{check: func(login, password string) (err error) {
		*granted, err = a.Login(ctx, ch, login, password)
		return err
	}}
}

// loginServer asks for the login, and then for the password.
type loginServer struct {
	check func(login, password string) error
	login *string // nil: it has not come
	asked bool
}

var errLonger = errors.New("the exchange is over")

// Next implements sasl.Server.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case l.check == nil:
		return nil, false, errLonger
	case response == nil && l.login == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case l.login == nil:
		login := string(response)
		l.login = &login
		return []byte("Password:"), false, nil
	}
	check := l.check
	l.check = nil
	return nil, true, check(*l.login, string(response))
}
