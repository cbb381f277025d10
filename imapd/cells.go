package imapd

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"mailstead.dev/auth"
	"mailstead.dev/imapd/imapurl"
	"mailstead.dev/store"
)

// Accounts that live in another cell.
//
// What a client sends to log in is passed on to that cell, which answers it. Then the connection is the other cell's (relay.go), and the client may be told where
// it could have gone; or, where logins are referred, it is told to go there. RFC 2221 section 6 has nobody referred whose authentication
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
func hintsLogins(s *session) bool  { return s.server.o.moreCells() && s.server.o.HintLogins }
func tellsHome(s *session) bool    { return refersLogins(s) || hintsLogins(s) }

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

// dialCell connects to another cell and takes its greeting, which is to come as soon as there is a connection.
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
	stop := context.AfterFunc(ctx, up.close)
	defer stop()
	line, err := up.line()
	if err == nil && !strings.HasPrefix(line, "* OK ") {
		err = fmt.Errorf("it greets with %.100q", line)
	}
	if err != nil {
		up.close()
		return nil, errElsewhere(name, cmp.Or(ctx.Err(), err))
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

// asked is what a cell is asked about by clients of an address; of any address where that is not valid.
type asked struct {
	cell string
	from netip.Prefix
}

// asking is a login that another cell is asked about. While it waits for the client, it is not.
type asking struct {
	s    *Server
	keys []asked
}

// ask begins to ask a cell for a client of an address. A cell that does not answer, and a client that begins one login after
// the other, are to hold up neither the logins of others nor those to other cells.
func (s *Server) ask(cell string, from netip.Prefix) (asking, error) {
	all, of := asked{cell: cell}, asked{cell, from}
	a := asking{s, []asked{all}}
	if from.IsValid() {
		a.keys = append(a.keys, of)
	}
	most := s.o.MaxElsewhere
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.asked[all] >= most:
		return a, errElsewhere(cell, errors.New("it is asked about too many logins at once"))
	case from.IsValid() && s.asked[of] >= max(1, most/10):
		return a, no("LIMIT", "Too many logins of your address at once, try again later")
	}
	a.count(1)
	return a, nil
}

// end ends it, for good or while the client is waited for.
func (a asking) end() {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.count(-1)
}

// goOn takes back end.
func (a asking) goOn() {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.count(1)
}

// count is called with mu locked.
func (a asking) count(n int) {
	for _, key := range a.keys {
		if a.s.asked[key] += n; a.s.asked[key] == 0 {
			delete(a.s.asked, key)
		}
	}
}

// elsewhere lets in a client whose account is in another cell, if that does.
func (s *session) elsewhere(ctx context.Context, e *auth.ElsewhereError) error {
	if e.Guest() {
		return s.guest(ctx, e)
	}
	up, answer, err := s.ask(ctx, e, s.challenge)
	if err != nil {
		return s.refused(ctx, err)
	}
	home := "REFERRAL " + s.server.o.Cells[e.Cell].url(e.Login).String()
	if refersLogins(s) {
		up.close()
		return no(home, "Your account is on another server")
	}
	s.upstream = up
	s.log.InfoContext(ctx, "logged in elsewhere", "cell", e.Cell, "tls", s.conn.tls)
	s.outcome, s.answered = "OK", true
	if code, text := cutCode(answer); hintsLogins(s) {
		if strings.HasPrefix(code, "CAPABILITY ") { // there is room for one code
			s.enc.Raw("* ").Raw(code).CRLF()
		}
		answer = "[" + home + "] " + text
	}
	s.enc.Raw(s.tag).Raw(" OK ").Raw(answer).CRLF()
	return nil
}

// notBelieved is the code by which a cell refuses who introduces a client, and not the client.
const notBelieved = "CANNOT"

// ask asks another cell to let in a client. Where that does, it returns the connection to it, and what stands behind its OK. What it asks itself, respond answers.
func (s *session) ask(ctx context.Context, e *auth.ElsewhereError, respond func(challenge []byte) ([]byte, error)) (up *upstream, answer string, err error) {
	asking, err := s.server.ask(e.Cell, s.from)
	if err != nil {
		s.log.WarnContext(ctx, "too many logins are under way to another cell", "cell", e.Cell, "err", err)
		return nil, "", err
	}
	defer asking.end()
	if up, err = s.dialCell(ctx, e.Cell); err != nil {
		s.log.WarnContext(ctx, "another cell cannot be reached", "cell", e.Cell, "err", err)
		return nil, "", err
	}
	stop := context.AfterFunc(ctx, up.close)
	defer stop()
	answer, err = up.exchange(s.introduce(e), func(challenge []byte) ([]byte, error) {
		asking.end()
		defer asking.goOn()
		return respond(challenge)
	})
	kind, rest, _ := strings.Cut(answer, " ")
	if err == nil && kind == "OK" && !e.Guest() {
		return up, rest, nil
	}
	up.close()
	code, text := cutCode(rest)
	switch {
	case err != nil:
		return nil, "", err
	case kind != "NO":
		s.log.WarnContext(ctx, "another cell does not take what is passed on", "cell", e.Cell, "err", errAnswer(answer))
		return nil, "", errElsewhere(e.Cell, errAnswer(answer))
	case code == notBelieved:
		s.log.ErrorContext(ctx, "another cell does not believe this one: cells.name, cells.others, cells.secret, the clock or what it knows of the domain differs", "cell", e.Cell)
		return nil, "", errElsewhere(e.Cell, errAnswer(answer))
	case code == "AUTHENTICATIONFAILED":
		return nil, "", e.Refused(ctx)
	}
	return nil, "", &refusal{kind, code, text}
}

// introduce begins an exchange with another cell on behalf of the client.
func (s *session) introduce(e *auth.ElsewhereError) []byte {
	return s.server.o.Authenticator.Introduce(e, remote(s.raw.RemoteAddr()))
}

// errTold ends an exchange with another cell that has told what it was asked.
var errTold = errors.New("told")

// guest lets in a guest here, whose home is in another cell, if their password is right there.
func (s *session) guest(ctx context.Context, e *auth.ElsewhereError) error {
	var told []byte
	_, _, err := s.ask(ctx, e, func(challenge []byte) ([]byte, error) {
		told = challenge
		return nil, errTold
	})
	if !errors.Is(err, errTold) {
		return s.refused(ctx, err)
	}
	grant, err := s.server.o.Authenticator.AdmitGuest(ctx, e, told)
	if err != nil {
		return s.refused(ctx, err)
	}
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

// errAnswer is an answer of another cell, its words left out: they may quote what it was asked, and are logged.
func errAnswer(answer string) error {
	kind, rest, _ := strings.Cut(strings.TrimSpace(answer), " ")
	if code, _ := cutCode(rest); code != "" {
		name, _, _ := strings.Cut(code, " ")
		kind += " [" + name + "]"
	}
	return errors.New("it answers " + kind)
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
