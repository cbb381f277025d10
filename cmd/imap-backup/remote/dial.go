// Package remote is an IMAP server as backups need it: go-imap's client over TLS, with
// what that leaves to others, and only commands that change nothing, but for those of
// restore.
//
// RFC 9051, RFC 3501; CONDSTORE: RFC 7162; ESEARCH: RFC 4731; LIST-STATUS: RFC 5819; SPECIAL-USE: RFC 6154;
// UIDPLUS: RFC 4315; SASL: RFC 4616, RFC 5802, RFC 7628, RFC 2195.
package remote

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"golang.org/x/time/rate"
)

// Options say how to reach a server. Zero fields mean what stands beside them.
type Options struct {
	Address   string      // host:port
	TLS       *tls.Config // with ServerName
	Implicit  bool        // TLS from the first octet; else STARTTLS
	Plaintext bool        // no TLS at all
	User      string
	Password  string
	Token     string        // OAuth, in place of a password
	Mechanism string        // the best that both know
	Timeout   time.Duration // a minute
	Limiter   *rate.Limiter // none
	Report    func(string)  // told of what the server says wrongly; never nil
}

// Session is a connection, logged in.
type Session struct {
	client *imapclient.Client
	conn   *sieve
	caps   imap.CapSet
	stop   func() bool

	buffer   [32 << 10]byte // for messages on their way
	selected string
	validity uint32
}

// LoginError is that the server does not let us in.
type LoginError struct{ err error }

func (e *LoginError) Error() string { return "log in: " + e.err.Error() }
func (e *LoginError) Unwrap() error { return e.err }

// Dial connects and logs in. The connection ends with the context.
func Dial(ctx context.Context, o Options) (*Session, error) {
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	conn, err := connect(ctx, o)
	if err != nil {
		return nil, &LostError{err}
	}
	s := &Session{conn: &sieve{Conn: conn, report: o.Report, limiter: o.Limiter, timeout: o.Timeout}}
	s.conn.r = bufio.NewReaderSize(source{s.conn}, 64<<10)
	s.conn.validity = s.noteValidity
	s.stop = context.AfterFunc(ctx, func() { s.conn.giveUp(ctx.Err()) })
	done := s.conn.expect()
	s.client = imapclient.New(s.conn, nil)
	err = s.client.WaitGreeting()
	if err == nil {
		s.caps = s.client.Caps()
		err = s.login(o)
	}
	if err == nil {
		s.caps = s.client.Caps()
	}
	done()
	if err != nil {
		err = s.because(err)
		s.Close()
		return nil, err
	}
	return s, nil
}

// connect returns a connection on which IMAP begins: TLS is done with.
func connect(ctx context.Context, o Options) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", o.Address)
	if err != nil || o.Plaintext {
		return conn, err
	}
	var greeting []byte
	if !o.Implicit {
		if greeting, err = startTLS(ctx, conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	secure := tls.Client(conn, o.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		var certificate *tls.CertificateVerificationError
		if errors.As(err, &certificate) {
			err = fmt.Errorf("%w (--ca-file names others to trust)", err)
		}
		return nil, errors.Join(fmt.Errorf("TLS: %w", err), conn.Close())
	}
	return &greeted{secure, greeting}, nil
}

// startTLS asks for TLS, and takes no answer for it but yes (RFC 9051 section 6.2.1). go-imap's client would do so on its
// own, but below the sieve. It returns a greeting to begin with again.
func startTLS(ctx context.Context, conn net.Conn) ([]byte, error) {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	r := bufio.NewReader(io.LimitReader(conn, longestName))
	greeting, err := r.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("no greeting: %w", err)
	}
	if !strings.HasPrefix(strings.ToUpper(greeting), "* OK") {
		return nil, fmt.Errorf("the server does not offer STARTTLS, but begins with %.80q", strings.TrimSpace(greeting))
	}
	if _, err := io.WriteString(conn, "S STARTTLS\r\n"); err != nil {
		return nil, err
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("STARTTLS: %w", err)
		}
		if !strings.HasPrefix(line, "S ") {
			continue
		}
		if !strings.HasPrefix(strings.ToUpper(line), "S OK") {
			return nil, fmt.Errorf("the server refuses STARTTLS: %.80q (--insecure-plaintext does without)", strings.TrimSpace(line))
		}
		break
	}
	// What came in clear behind the answer somebody else may have put there.
	if r.Buffered() > 0 {
		return nil, errors.New("STARTTLS: there is text before the handshake")
	}
	return []byte("* OK ready\r\n"), conn.SetDeadline(time.Time{})
}

// greeted is a connection on which a greeting is read first.
type greeted struct {
	*tls.Conn
	greeting []byte
}

func (g *greeted) Read(p []byte) (int, error) {
	if len(g.greeting) == 0 {
		return g.Conn.Read(p)
	}
	n := copy(p, g.greeting)
	g.greeting = g.greeting[n:]
	return n, nil
}

// because returns the cause where an error only says that the connection ended.
func (s *Session) because(err error) error {
	var status *imap.Error
	if err == nil || errors.As(err, &status) {
		return err
	}
	if cause := s.conn.why(); cause != nil && !errors.Is(err, cause) {
		if errors.Is(cause, io.EOF) {
			return &LostError{errors.New("the server closed the connection")}
		}
		return &LostError{cause}
	}
	return &LostError{err}
}

// LostError is a connection that ended, or that is of no use any more. Another may do better.
type LostError struct{ err error }

func (e *LostError) Error() string { return e.err.Error() }
func (e *LostError) Unwrap() error { return e.err }

// Close ends the connection.
func (s *Session) Close() {
	s.stop()
	if s.conn.why() == nil && s.client.State() != imap.ConnStateLogout {
		done := s.conn.expect()
		s.client.Logout() // whatever it says, nothing is lost
		done()
	}
	s.client.Close() // whatever it says, the connection is of no use any more
}

// GiveUp ends the connection at once, for a reason.
func (s *Session) GiveUp(reason error) { s.conn.giveUp(reason) }

func (s *Session) noteValidity(validity uint32) {
	if s.validity != 0 && validity != s.validity {
		s.conn.giveUp(&ValidityError{s.selected, s.validity, validity})
	}
}

// ValidityError is a mailbox whose UIDVALIDITY changed while we were at it.
type ValidityError struct {
	Mailbox  string
	Was, Now uint32
}

func (e *ValidityError) Error() string {
	return fmt.Sprintf("UIDVALIDITY changed from %d to %d in the middle", e.Was, e.Now)
}

// Lost returns the reason of an error after which the session is of no use.
func (s *Session) Lost(err error) error { return s.because(err) }
