package directory

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// LDAP: RFC 4511. An account that may do so searches for the user's entry, and then it is tried to bind as that with the password, so that nothing but
// the directory itself sees what it is verified by. Where there is no such entry it is tried with one that there cannot be: what follows is the same,
// but for what the directory itself gives away by the time that it takes.

// maxMessage bounds what is read of an answer, in octets.
const maxMessage = 1 << 20

type ldapDirectory struct {
	settings   Settings
	assertions []assertion // of the filter
	attributes []string    // that are read of an entry
	address    string
	tls        *tls.Config // nil: none
	starts     bool        // by StartTLS
	secret     func() (string, error)

	mu     sync.Mutex  // guards what follows
	idle   []*ldapConn // the one that rests longest first
	closed bool
}

// ldapConn is a connection, of one question at a time.
type ldapConn struct {
	*ldap.Conn
	raw   *boundedConn // whose deadline ends what takes too long, at whatever point
	rests time.Time    // since when
}

// boundedConn is a connection on which no more can be read than is left to be.
type boundedConn struct {
	net.Conn
	left atomic.Int64
}

var errLong = fmt.Errorf("the answer has more than %d octets", maxMessage)

func (c *boundedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left.Add(int64(-n)) < 0 {
		return 0, errLong
	}
	return n, err
}

func openLDAP(s Settings, secret func() (string, error)) (*ldapDirectory, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": ldap.DefaultLdapPort, "ldaps": ldap.DefaultLdapsPort}[u.Scheme]
	}
	d := &ldapDirectory{settings: s, address: net.JoinHostPort(u.Hostname(), port), starts: u.Scheme == "ldap", secret: secret}
	if d.assertions, err = s.assertions(); err != nil {
		return nil, err
	}
	for _, a := range d.assertions {
		d.attributes = append(d.attributes, a.attribute)
	}
	if s.Attribute != "" {
		d.attributes = append(d.attributes, s.Attribute)
	}
	slices.Sort(d.attributes)
	d.attributes = slices.Compact(d.attributes)
	if !s.Plaintext {
		d.tls = s.trust(&tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
	}
	return d, nil
}

func (d *ldapDirectory) ask(ctx context.Context, login, password string) (Answer, error) {
	c, rested, err := d.take(ctx)
	if err != nil {
		return Answer{}, err
	}
	answer, err := d.askOn(ctx, c, login, password)
	if rested && broken(err) && ctx.Err() == nil { // the server has closed it meanwhile, and the others
		c.Close()
		d.drop(false)
		if c, err = d.dial(ctx); err != nil {
			return Answer{}, err
		}
		answer, err = d.askOn(ctx, c, login, password)
	}
	if err != nil {
		c.Close()
		return Answer{}, err
	}
	d.give(c)
	return answer, nil
}

// broken tells whether an error is that a connection has failed, and not what the server has answered on it: the library
// says that in many ways.
func broken(err error) bool {
	if err == nil || errors.Is(err, errOdd) {
		return false
	}
	e, ok := errors.AsType[*ldap.Error](err)
	return !ok || e.ResultCode == ldap.ErrorNetwork
}

// take returns a connection that rests, or a new one.
func (d *ldapDirectory) take(ctx context.Context) (c *ldapConn, rested bool, err error) {
	d.mu.Lock()
	if last := len(d.idle) - 1; last >= 0 {
		c, d.idle = d.idle[last], d.idle[:last]
	}
	d.mu.Unlock()
	if c != nil {
		return c, true, nil
	}
	c, err = d.dial(ctx)
	return c, false, err
}

// give lets a connection rest, and closes those that have done so for long.
func (d *ldapDirectory) give(c *ldapConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := c.raw.SetDeadline(time.Time{}); err != nil || d.closed {
		c.Close()
		return
	}
	c.rests = time.Now()
	for len(d.idle) > 0 && c.rests.Sub(d.idle[0].rests) > idleTime {
		d.idle[0].Close()
		d.idle = slices.Delete(d.idle, 0, 1)
	}
	d.idle = append(d.idle, c)
}

// drop closes the connections that rest, and for good those that do later.
func (d *ldapDirectory) drop(forGood bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.idle {
		c.Close()
	}
	d.idle, d.closed = nil, d.closed || forGood
}

func (d *ldapDirectory) close() { d.drop(true) }

func (d *ldapDirectory) dial(ctx context.Context) (*ldapConn, error) {
	tcp, err := new(net.Dialer).DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	raw := &boundedConn{Conn: tcp}
	if err := limit(ctx, raw); err != nil {
		raw.Close()
		return nil, err
	}
	var over net.Conn = raw
	if d.tls != nil && !d.starts {
		secured := tls.Client(raw, d.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		over = secured
	}
	c := &ldapConn{Conn: ldap.NewConn(over, over != net.Conn(raw)), raw: raw}
	c.Start()
	if d.tls != nil && d.starts {
		if err := c.StartTLS(d.tls); err != nil {
			c.Close()
			return nil, wordless(err)
		}
	}
	return c, nil
}

// limit has a connection end when ctx does, and where the answer is too long.
func limit(ctx context.Context, raw *boundedConn) error {
	raw.left.Store(maxMessage)
	deadline, _ := ctx.Deadline()
	return raw.SetDeadline(deadline)
}

func (d *ldapDirectory) askOn(ctx context.Context, c *ldapConn, login, password string) (Answer, error) {
	if err := limit(ctx, c.raw); err != nil {
		return Answer{}, err
	}
	if err := d.bind(c); err != nil {
		return Answer{}, fmt.Errorf("bind as the account that searches: %w", wordless(err))
	}
	entry, odd := d.search(ctx, c, login)
	if odd != nil && !errors.Is(odd, errOdd) {
		return Answer{}, odd
	}
	name := "cn=" + rand.Text()
	if d.settings.Base != "" {
		name += "," + d.settings.Base
	}
	if entry != nil {
		name = entry.DN
	}
	right, err := bound(c.Bind(name, password))
	switch {
	case err != nil:
		return Answer{}, err
	case odd != nil || !right || entry == nil:
		return Answer{}, odd
	}
	whose, err := d.account(entry, login)
	return Answer{Right: err == nil, Login: whose}, err
}

// bind makes a connection that of who searches.
func (d *ldapDirectory) bind(c *ldapConn) error {
	if d.settings.Account == "" {
		return c.UnauthenticatedBind("")
	}
	secret, err := d.secret()
	if err != nil {
		return err
	}
	return c.Bind(d.settings.Account, secret)
}

// search returns the one entry of a login, nil where there is none; errOdd where what is found is not that.
func (d *ldapDirectory) search(ctx context.Context, c *ldapConn, login string) (*ldap.Entry, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	found := c.SearchAsync(ctx, ldap.NewSearchRequest(
		d.settings.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, 0, false, d.settings.filter(login), d.attributes, nil), 1)
	var entry *ldap.Entry
	for found.Next() {
		switch {
		case found.Entry() == nil: // a referral, which is not followed
		case entry != nil:
			return nil, errMany
		default:
			entry = found.Entry()
		}
	}
	switch err := found.Err(); {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded):
		return nil, errMany
	case err != nil:
		return nil, fmt.Errorf("search: %w", wordless(err))
	case entry != nil && !d.isOf(entry, login):
		return nil, errOther
	}
	return entry, ctx.Err()
}

var (
	errMany  = fmt.Errorf("%w: the filter finds more than one entry", errOdd)
	errOther = fmt.Errorf("%w: the filter finds an entry in which nothing that it asks for can be read that is the login to the letter", errOdd)
)

// account returns the login of the account that an entry is of.
func (d *ldapDirectory) account(entry *ldap.Entry, login string) (string, error) {
	if d.settings.Attribute == "" {
		return "", nil
	}
	values := entry.GetEqualFoldAttributeValues(d.settings.Attribute)
	for _, v := range values {
		if fold(v) == login {
			return "", nil
		}
	}
	if len(values) != 1 {
		return "", fmt.Errorf("%w: the attribute %s has %d values, none of which is the login", errOdd, d.settings.Attribute, len(values))
	}
	return values[0], nil
}

// refusals are the results of a bind that are about who wants it, and not about the directory (RFC 4511 appendix A.1).
var refusals = []uint16{
	ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInsufficientAccessRights,
	ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultConstraintViolation, // as accounts are locked
}

// bound tells what comes of a bind.
func bound(err error) (right bool, away error) {
	if err == nil || ldap.IsErrorAnyOf(err, refusals...) {
		return err == nil, nil
	}
	return false, wordless(err)
}

// wordless is an error without what the server says in words, or the library of what it was given: those may name an entry or a login, and the error is logged.
func wordless(err error) error {
	e, ok := errors.AsType[*ldap.Error](err)
	if !ok || e.ResultCode == ldap.ErrorNetwork {
		return err
	}
	return &ldap.Error{ResultCode: e.ResultCode, Err: errors.New("its words may name people, and are not told")}
}
