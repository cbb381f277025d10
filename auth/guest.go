package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"mailstead.dev/store"
)

// A guest is let in as whoever they are at home, in another cell, in two ways:
//
//   - By the password that they have there. That cell is asked whether it is right, and answers with what it is good for; it lets nobody in itself by that.
//   - By a front end of that cell, on behalf of their session there, without a password. That it is them, and from there, is to be known here as well.
//
// Either way that cell says which account it is, beside its login: who gets a login that somebody else had is not who was the guest.
//
// What they may do is the guest's alone, whatever they are at home: no role, and nothing that is given to anyone of the tenant.

// Within an exchange of CellMechanism these stand in the place of a mechanism.
const (
	question = "QUESTION" // whether a response of PLAIN is right
	visit    = "VISIT"    // all is in the token
)

// guestTime is how long a guest stays who has been let in by a password: another one at home, or none, is not told here.
const guestTime = 24 * time.Hour

// scope is what a password is good for, as the cell tells that is asked.
type scope struct {
	Subject  string    `json:"subject"` // the account that it is of
	ReadOnly bool      `json:"read_only"`
	Until    time.Time `json:"until,omitzero"` // zero: for good
}

// atHome returns an ElsewhereError for a guest who has sent a password: whose home is to say whether it is right. nil where no cell is to be asked, or it
// is a guest there as well.
func (a *Authenticator) atHome(ch Channel, t *attempt, identity string, p password) error {
	home := t.account.Home
	switch {
	case home.Cell == "", ch.asked:
		return nil
	case !a.cells.among(home.Cell):
		return fmt.Errorf("%w: cell %s, where the guest is at home, is not known", store.ErrUnavailable, home.Cell)
	}
	e := &ElsewhereError{Cell: home.Cell, Login: home.Login, attempt: t, guest: true, identity: identity}
	e.plain("", home.Login, p)
	e.Mechanism = question
	return e
}

// Guest tells whether the other cell is only asked, and answers with a challenge, for AdmitGuest.
func (e *ElsewhereError) Guest() bool { return e.guest }

// AdmitGuest lets in a guest whose home has told what the password is good for.
func (a *Authenticator) AdmitGuest(ctx context.Context, e *ElsewhereError, told []byte) (Grant, error) {
	var good scope
	err := json.Unmarshal(told, &good)
	if err == nil && good.Subject == "" {
		err = errors.New("it does not say which account it is")
	}
	if err != nil {
		return Grant{}, fmt.Errorf("%w: cell %s: %w", store.ErrUnavailable, e.Cell, err)
	}
	g, err := a.admitGuest(ctx, e.attempt.account, good.Subject, good.ReadOnly)
	if err != nil {
		return Grant{}, err
	}
	g.until = time.Now().Add(guestTime)
	if !good.Until.IsZero() && good.Until.Before(g.until) {
		g.until = good.Until
	}
	e.attempt.succeeded()
	return a.as(ctx, g, e.identity)
}

// admitGuest is admit for guests, as whom an account comes that its cell names by a subject.
func (a *Authenticator) admitGuest(ctx context.Context, account store.Login, subject string, readOnly bool) (Grant, error) {
	if account.Disabled {
		return Grant{}, store.ErrDisabled
	}
	if account.Home.Subject != subject {
		err := a.directory.MeetGuest(ctx, account.User, store.Home{Login: account.Home.Login, Subject: subject})
		if errors.Is(err, store.ErrOtherSubject) {
			a.log.WarnContext(ctx, "a guest's home has a login that was another account's when it came first: `mailstead guest home` lets it in", "tenant", account.User.Tenant, "account", account.User.Account)
		}
		if err != nil {
			return Grant{}, err
		}
	}
	g := Grant{User: account.User, rests: []store.Standing{account.Standing}}
	g.User.Role, g.User.ReadOnly = store.RoleNone, readOnly
	return g, nil
}

// asked answers another cell whether a response of PLAIN is right.
func (c *cellServer) asked(client netip.Addr, response []byte) (challenge []byte, done bool, err error) {
	var granted Grant
	inner, err := c.begin("PLAIN", Channel{Protocol: IMAP, Private: true, From: client, introduced: true, asked: true}, &granted)
	if err != nil {
		return nil, false, err
	}
	if _, done, err := inner.Next(response); err != nil {
		return nil, done, err
	}
	challenge, err = json.Marshal(scope{granted.User.Subject, granted.User.ReadOnly, granted.until})
	c.inner = &loginServer{} // nothing more is to be said
	return challenge, false, err
}

// IntroduceGuest begins an exchange of CellMechanism by which a front end enters another cell as a guest, whose home is the account of a user that comes
// from an address.
func (a *Authenticator) IntroduceGuest(v store.Visit, home store.User, client netip.Addr) []byte {
	token := a.cells.token(visit, v.Cell, client, home.Login, v.Login, home.Subject, strconv.FormatBool(home.ReadOnly))
	return bytes.Join([][]byte{token, []byte(visit), nil}, []byte{0})
}

// visited lets in the guest that another cell introduces: whose home is the login that it says, of a domain that lives there.
func (a *Authenticator) visited(ctx context.Context, i introduction) (Grant, error) {
	if len(i.more) != 4 || i.more[2] == "" {
		return Grant{}, fmt.Errorf("%w: it does not say who comes as which guest", ErrIntroduction)
	}
	home, guest, subject, readOnly := i.more[0], i.more[1], i.more[2], i.more[3] != "false"
	t, err := a.attempt(ctx, Channel{Protocol: IMAP, Private: true, From: i.client, introduced: true}, guest)
	if errors.Is(err, ErrIntroduction) { // no tenant here has the guest's domain: that is an answer, and none about the cells
		return Grant{}, store.ErrActAs
	}
	if err != nil {
		return Grant{}, err
	}
	if t.account.Home.Login != home || t.account.Home.Cell != i.cell {
		return Grant{}, store.ErrActAs
	}
	g, err := a.admitGuest(ctx, t.account, subject, readOnly)
	if err == nil {
		t.succeeded()
	}
	return g, err
}
