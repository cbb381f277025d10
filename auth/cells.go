package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-sasl"

	"mailstead.dev/store"
)

// Who logs in where their account is not has what they send passed on to the cell that has it, which alone can tell whether it is right.
// That cell has to know from where they come, or all who guess would be the front end that passes it on; so front ends introduce
// themselves, by a mechanism of their own that is announced to nobody: a client response of
//
//	token NUL mechanism NUL response
//
// begins an exchange of the mechanism, as if the client that the token names had come itself. The token is signed with the secret that
// the cells share, and holds for a minute and one cell. What is wrong with it is the front end's fault, and none of the client's: it is told apart from
// a wrong password.

// CellMechanism is the mechanism by which front ends of other cells pass on what their clients send.
const CellMechanism = "XMAILSTEAD-CELL"

// Cells are this cell, and those that share a secret with it. Without others there are none.
type Cells struct {
	Name   string // of this one
	Secret string
	Second string // secret, by which others may sign as well; "": none
	Others []string
}

// among tells whether there is another cell of that name.
func (c Cells) among(name string) bool { return slices.Contains(c.Others, name) }

// ElsewhereError says that an account lives in another cell. What the client has sent goes there as it is: as the response of an exchange of the
// mechanism, which may go on.
type ElsewhereError struct {
	Cell      string
	Login     string // "": it is in the response alone
	Mechanism string
	Response  []byte

	attempt *attempt // nil: it cannot be guessed
	guess   *uint16

	guest    bool // it is a guest's home, which is asked
	identity string
}

func (e *ElsewhereError) Error() string { return "the account is in cell " + e.Cell }

// Refused counts that the other cell has refused it, here as well, and returns the error that it is.
func (e *ElsewhereError) Refused(ctx context.Context) error {
	if e.attempt == nil {
		return store.ErrAuth
	}
	return e.attempt.refused(ctx, e.guess)
}

// elsewhere returns an ElsewhereError where the account of an attempt lives in another cell. Nobody is passed on twice: cells that do not agree where a domain lives
// say so, and not that a password is wrong.
func (a *Authenticator) elsewhere(ch Channel, t *attempt) error {
	cell := t.account.Cell
	switch {
	case ch.introduced && t.account.User.Tenant == 0:
		return fmt.Errorf("%w: the domain of the login does not live here", ErrIntroduction)
	case ch.introduced, cell == "":
		return nil
	case !a.cells.among(cell):
		return fmt.Errorf("%w: cell %s, where the domain of the login lives, is not known", store.ErrUnavailable, cell)
	}
	return &ElsewhereError{Cell: cell, Login: t.login, attempt: t}
}

// plain makes of a password what PLAIN sends of it.
func (e *ElsewhereError) plain(identity, login string, p password) {
	e.Mechanism, e.Response, e.guess = "PLAIN", []byte(identity+"\x00"+login+"\x00"+p.given), e.attempt.guess(p)
}

// introductionTime is for how long a token holds, before and after: clocks may differ by as much.
const introductionTime = time.Minute

// Introduce begins an exchange of CellMechanism with another cell, on behalf of a client that comes from an address.
func (a *Authenticator) Introduce(e *ElsewhereError, client netip.Addr) []byte {
	kind := introduced
	if e.guest {
		kind, client = question, e.attempt.from
	}
	return bytes.Join([][]byte{a.cells.token(kind, e.Cell, client), []byte(e.Mechanism), e.Response}, []byte{0})
}

// introduced is the kind of the tokens that go with a mechanism.
const introduced = "introduction"

// token says to another cell on whose behalf it is spoken to, and more words of its kind.
func (c Cells) token(kind, cell string, client netip.Addr, more ...string) []byte {
	from := ""
	if client.IsValid() {
		from = client.String()
	}
	until := strconv.FormatInt(time.Now().Add(introductionTime).Unix(), 10)
	said := strings.Join(append([]string{c.Name, cell, from, until}, more...), " ")
	return append(c.sign(kind, said), said...)
}

// sign returns the signature of what a token of a kind says.
func (c Cells) sign(kind, said string) []byte { return signature(c.Secret, kind, said) }

func signature(secret, kind, said string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(kind + "\x00" + said))
	return hex.AppendEncode(nil, mac.Sum(nil))
}

// signed tells whether a cell has signed what a token of a kind says.
func (c Cells) signed(by []byte, kind, said string) bool {
	return hmac.Equal(by, c.sign(kind, said)) || c.Second != "" && hmac.Equal(by, signature(c.Second, kind, said))
}

// ErrIntroduction says that somebody is not believed to be a front end of another cell, or not to know what lives here. Nothing is known of their client's password then.
var ErrIntroduction = errors.New("introduced by no cell that is believed")

// introduction is what a token says.
type introduction struct {
	cell   string     // that says it
	client netip.Addr // from where the client comes; zero where that is not known
	more   []string
}

// introduction reads a token of a kind.
func (c Cells) introduction(kind string, token []byte) (i introduction, err error) {
	const octets = 2 * sha256.Size
	if len(token) < octets || !c.signed(token[:octets], kind, string(token[octets:])) {
		return i, fmt.Errorf("%w: it has another secret", ErrIntroduction)
	}
	words := strings.Split(string(token[octets:]), " ")
	if len(words) < 4 || words[1] != c.Name {
		return i, fmt.Errorf("%w: it is meant for another cell", ErrIntroduction)
	}
	if !c.among(words[0]) {
		return i, fmt.Errorf("%w: cell %q is not known", ErrIntroduction, words[0])
	}
	until, err := strconv.ParseInt(words[3], 10, 64)
	if left := time.Until(time.Unix(until, 0)); err != nil || left < -introductionTime || left > 2*introductionTime {
		return i, fmt.Errorf("%w: its clock and ours are %v apart", ErrIntroduction, (left - introductionTime).Round(time.Second))
	}
	i.cell, i.more = words[0], words[4:]
	if words[2] != "" {
		if i.client, err = netip.ParseAddr(words[2]); err != nil {
			return i, fmt.Errorf("%w: %w", ErrIntroduction, err)
		}
	}
	return i, nil
}

// cellServer is an exchange that another cell passes on.
type cellServer struct {
	begin   func(mechanism string, ch Channel, granted *Grant) (sasl.Server, error)
	visited func(i introduction) (Grant, error)
	a       *Authenticator
	by      Channel
	granted *Grant
	inner   sasl.Server
}

func startCell(ctx context.Context, a *Authenticator, by Channel, granted *Grant) sasl.Server {
	return &cellServer{
		a: a, by: by, granted: granted,
		begin: func(name string, ch Channel, granted *Grant) (sasl.Server, error) {
			m, err := a.mechanism(name, ch)
			if err != nil {
				return nil, err
			}
			return m.start(ctx, a, ch, granted), nil
		},
		visited: func(i introduction) (Grant, error) { return a.visited(ctx, i) },
	}
}

// Close implements closer.
func (c *cellServer) Close(ctx context.Context) {
	if inner, ok := c.inner.(closer); ok {
		inner.Close(ctx)
	}
}

// Next implements sasl.Server.
func (c *cellServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if c.inner != nil {
		return c.inner.Next(response)
	}
	parts := bytes.SplitN(response, []byte{0}, 3)
	if len(parts) != 3 {
		return nil, false, errors.New("not an introduction")
	}
	token, name, first := parts[0], string(parts[1]), parts[2]
	kind := introduced
	if name == question || name == visit {
		kind = name
	}
	i, err := c.a.cells.introduction(kind, token)
	if err == nil && c.by.Introduced != nil {
		err = c.by.Introduced(i.client)
	}
	if err != nil {
		return nil, true, err
	}
	switch kind {
	case question:
		return c.asked(i.client, first)
	case visit:
		*c.granted, err = c.visited(i)
		return nil, true, err
	}
	c.inner, err = c.begin(name, Channel{Protocol: IMAP, Private: true, From: i.client, introduced: true}, c.granted)
	if err != nil {
		return nil, false, err
	}
	return c.inner.Next(first)
}
