package imapd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/imapd/imapurl"
	"mailstead.dev/store"
)

// Accounts that live in another cell.
//
// What a client sends to log in is passed on to that cell, which answers it. Then the connection is the other cell's (relay.go); or,
// where logins are referred, the client is told where to go. RFC 2221 section 6 has nobody referred whose authentication
// has failed, so for that as well the other cell is asked.

// Cell is another cell.
type Cell struct {
	Host    string      // that clients are referred to, by IMAP with STARTTLS
	Port    uint16      // 0: 143
	Address string      // of IMAP over TLS, where front ends connect to
	TLS     *tls.Config // by which they know it
}

// moreCells tells whether there is more than one cell.
func (o Options) moreCells() bool { return len(o.Cells) > 0 }

func refersLogins(s *session) bool { return s.server.o.moreCells() && s.server.o.ReferLogins }

// elsewhereTime is how long another cell may take for each of its answers: as long as the slowest login.
const elsewhereTime = 30 * time.Second

// upstream is a connection to another cell.
type upstream struct {
	cell string
	nc   *tls.Conn
	br   *bufio.Reader
}

// errElsewhere says that another cell is not as it should be, which may pass.
func errElsewhere(cell string, err error) error {
	return fmt.Errorf("%w: cell %s: %w", store.ErrUnavailable, cell, err)
}

// dialCell connects to another cell and takes its greeting.
func (s *session) dialCell(ctx context.Context, name string) (*upstream, error) {
	const dialTime = 10 * time.Second

	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	cell := s.server.o.Cells[name]
	nc, err := (&tls.Dialer{Config: cell.TLS}).DialContext(ctx, "tcp", cell.Address)
	if err != nil {
		return nil, errElsewhere(name, err)
	}
	up := &upstream{name, nc.(*tls.Conn), bufio.NewReaderSize(nc, writeBuffer)}
	line, err := up.line()
	if err == nil && !strings.HasPrefix(line, "* OK ") {
		err = fmt.Errorf("it greets with %.100q", line)
	}
	if err != nil {
		up.close()
		return nil, errElsewhere(name, err)
	}
	return up, nil
}

// line receives a line.
func (up *upstream) line() (string, error) {
	if err := up.nc.SetReadDeadline(time.Now().Add(elsewhereTime)); err != nil {
		return "", err
	}
	line, err := up.br.ReadSlice('\n')
	if err != nil { // also bufio.ErrBufferFull
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), nil
}

// send sends a line.
func (up *upstream) send(line string) error {
	if err := up.nc.SetWriteDeadline(time.Now().Add(elsewhereTime)); err != nil {
		return err
	}
	_, err := up.nc.Write([]byte(line + "\r\n"))
	return err
}

// close ends the connection at once: nobody waits for anything of it.
func (up *upstream) close() { up.nc.NetConn().Close() }

// elsewhere lets in a client whose account is in another cell, if that does.
func (s *session) elsewhere(ctx context.Context, e *auth.ElsewhereError) error {
	up, err := s.dialCell(ctx, e.Cell)
	if err != nil {
		s.log.WarnContext(ctx, "another cell cannot be reached", "cell", e.Cell, "err", err)
		return s.refused(ctx, err)
	}
	stop := context.AfterFunc(ctx, up.close)
	defer stop()
	if e.Guest() {
		defer up.close()
		return s.guest(ctx, e, up)
	}
	answer, err := up.exchange(s.introduce(e), s.challenge) // what it asks, the client answers
	if err != nil {
		up.close()
		return s.refused(ctx, err)
	}
	kind, _, _ := strings.Cut(answer, " ")
	switch {
	case kind == "OK" && refersLogins(s):
		up.close()
		return no("REFERRAL "+s.server.o.Cells[e.Cell].url(e.Login).String(), "Your account is on another server")
	case kind == "OK":
		s.upstream = up
		s.log.InfoContext(ctx, "logged in elsewhere", "cell", e.Cell, "tls", s.conn.tls)
		s.outcome, s.answered = kind, true
		s.enc.Raw(s.tag).SP().Raw(answer).CRLF()
		return nil
	}
	up.close()
	return s.refusedElsewhere(ctx, e, answer)
}

// introduce begins an exchange with another cell on behalf of the client.
func (s *session) introduce(e *auth.ElsewhereError) []byte {
	return s.server.o.Authenticator.Introduce(e, remote(s.raw.RemoteAddr()))
}

// refusedElsewhere refuses a client as another cell has.
func (s *session) refusedElsewhere(ctx context.Context, e *auth.ElsewhereError, answer string) (err error) {
	kind, rest, _ := strings.Cut(answer, " ")
	code, text := cutCode(rest)
	switch {
	case kind != "NO":
		s.log.WarnContext(ctx, "another cell does not take what is passed on", "cell", e.Cell, "answer", answer)
		err = errElsewhere(e.Cell, errors.New(kind))
	case code == "AUTHENTICATIONFAILED":
		err = e.Refused(ctx)
	default:
		err = &refusal{kind, code, text}
	}
	return s.refused(ctx, err)
}

// errTold ends an exchange with another cell that has told what it was asked.
var errTold = errors.New("told")

// guest lets in a guest here, whose home is in another cell, if their password is right there.
func (s *session) guest(ctx context.Context, e *auth.ElsewhereError, up *upstream) error {
	var told []byte
	answer, err := up.exchange(s.introduce(e), func(challenge []byte) ([]byte, error) {
		told = challenge
		return nil, errTold
	})
	if err == nil {
		return s.refusedElsewhere(ctx, e, answer)
	}
	if !errors.Is(err, errTold) {
		return s.refused(ctx, err)
	}
	grant, err := s.server.o.Authenticator.AdmitGuest(ctx, e, told)
	if err != nil {
		return s.refused(ctx, err)
	}
	s.introduced = e.Introduced
	return s.letIn(ctx, grant)
}

// url is where a user of the cell is.
func (c Cell) url(user string) *imapurl.URL {
	return &imapurl.URL{User: user, Auth: imapurl.AnyAuth, Host: c.Host, Port: c.Port}
}

// exchange runs an exchange with another cell, and returns how that ends: OK, NO or BAD with all behind it.
func (up *upstream) exchange(first []byte, respond func(challenge []byte) ([]byte, error)) (answer string, err error) {
	const tag = "a"

	sent := up.send(tag + " AUTHENTICATE " + auth.CellMechanism + " " + base64.StdEncoding.EncodeToString(first))
	for {
		line, err := up.line()
		if err = errors.Join(sent, err); err != nil {
			return "", errElsewhere(up.cell, err)
		}
		if answer, ok := strings.CutPrefix(line, tag+" "); ok {
			return answer, nil
		}
		text, asks := strings.CutPrefix(line, "+ ")
		if !asks {
			continue // an untagged response, which is not for the client
		}
		challenge, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return "", errElsewhere(up.cell, err)
		}
		response, err := respond(challenge)
		if err != nil {
			return "", err
		}
		sent = up.send(base64.StdEncoding.EncodeToString(response))
	}
}

// cutCode splits what stands behind NO.
func cutCode(text string) (code, rest string) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if code, rest, ok := strings.Cut(inner, "]"); ok {
			return code, strings.TrimPrefix(rest, " ")
		}
	}
	return "", text
}
