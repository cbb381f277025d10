package imapd

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"mailstead.dev/imapd/inflate"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// session is one client's state after the greeting. Its goroutine alone uses it.
type session struct {
	*conn  // enc and dec are there while a command is read and run
	log    *slog.Logger
	store  *store.Store
	state  state
	user   store.User // once logged in
	unhold func()     // ends that the login is watched, once logged in
	failed int        // logins
	wrong  int        // commands, in a row

	condstore, qresync bool // enabled (RFC 7162)
	uidOnly            bool // enabled (RFC 9586)
	utf8               bool // UTF8=ACCEPT is enabled (RFC 6855)
	rev2               bool // IMAP4rev2 is enabled (RFC 9051)

	selected *selected      // in selectedState
	appendTo *store.Mailbox // what the last APPEND opened
	ahead    statusAhead
	lane     *lane // in which this session's commands run; nil: they run alone

	remotes *remotes // nil: nothing of other cells is seen

	upstream   *upstream  // to the cell that the client is logged in to; nil: to this one
	introduced bool       // it is another cell's front end that passes on the login,
	client     netip.Addr // of a client there; zero where that is not known

	// Of the command that runs:
	tag      string
	uid      bool  // it is a UID command
	reply    reply // what its tagged OK says
	answered bool  // it sent its tagged response itself
	observation

	// Of the command that runs, and those that run beside it:
	reported id.ModSeq // the highest MODSEQ in what was told
	expunged bool      // it was told of messages that are gone

	scratch []byte // of writeChanged
}

// reply is a tagged OK.
type reply struct{ code, text string }

func newSession(server *Server, c *conn) *session {
	return &session{
		conn:  c,
		log:   server.log.With("remote", c.raw.RemoteAddr()),
		store: server.store,
		state: notAuthenticated,
	}
}

// serve talks with the client until one of them ends it.
func (s *session) serve(ctx context.Context) {
	s.log.Debug("connected")
	err := s.converse(ctx)
	if s.upstream != nil {
		s.upstream.close()
	}
	s.farewell(err)
	s.log.Debug("disconnected", "reason", err)
}

func (s *session) converse(ctx context.Context) error {
	s.buffer()
	s.enc.Raw("* OK [CAPABILITY ").Raw(s.capabilityList()).Raw("] ").Raw(s.server.o.Name).Raw(" ready").CRLF()
	for {
		if err := s.await(); err != nil {
			return err
		}
		s.buffer()
		if err := s.command(ctx); err != nil {
			return err
		}
		if s.upstream == nil {
			continue
		}
		if err := s.ended(); err != nil {
			return err
		}
		return s.passThrough(ctx)
	}
}

// farewell says BYE where the client can still hear it, and why.
func (s *session) farewell(err error) {
	bye, ok := errors.AsType[*errBye](err)
	switch {
	case ok:
	case errors.Is(err, errDraining):
		bye = &errBye{"UNAVAILABLE", "Server is shutting down"}
	case errors.Is(err, errRevoked):
		bye = &errBye{"", "You are logged out: your password or what you may do has changed"}
	case errors.Is(err, errIdle), errors.Is(err, os.ErrDeadlineExceeded):
		bye = &errBye{"", "Idle for too long"}
	case errors.Is(err, wire.ErrFlood):
		bye = &errBye{"", "Command too long"}
	case errors.Is(err, errInflated):
		bye = &errBye{"", "Compressed input becomes too large"}
	case errors.Is(err, errStream), errors.Is(err, inflate.ErrCorrupt):
		bye = &errBye{"", "Input is not compressed as it should be"}
	default:
		return
	}
	s.buffer()
	s.enc.Raw("* BYE ").Raw(coded(bye.code)).Raw(bye.text).CRLF()
	if s.enc.Flush() != nil {
		return
	}
	s.linger()
	if s.tls {
		s.nc.Close() // tells the client, for whom TLS that just ends looks like an attack
	}
}

// errLogout ends the session after a LOGOUT.
var errLogout = errors.New("logged out")

// request is a command that has been read.
type request struct {
	tag, name string
	cmd       command
	run       run
	err       error    // why it is not run
	reserved  reserved // what was read takes, until it has been run
	outcome   string   // of its tagged response, once it has been run

	text      []byte // as it came, and the mailboxes that it names, where it may be for another cell
	mailboxes []string
}

// byUID tells whether it is a UID command.
func (p *request) byUID() bool { return strings.HasPrefix(p.name, "UID ") }

// command reads, runs and answers one command, or those of a pipeline. An error ends the connection.
func (s *session) command(ctx context.Context) error {
	defer s.release()
	p := s.read()
	if s.lineAhead() && s.mayRunBeside(p) {
		return s.pipeline(ctx, p)
	}
	return s.alone(ctx, &p)
}

// read reads one command.
//
// command = tag SP (command-any / command-auth / command-nonauth / command-select) CRLF
func (s *session) read() (p request) {
	d := s.dec
	s.keepForRemotes()
	p.tag = d.Tag()
	d.SP()
	p.name = d.Keyword()
	if p.name == "UID" {
		d.SP()
		p.name += " " + d.Keyword()
	}
	if p.cmd, p.err = s.find(p.name); p.err == nil {
		p.run, p.err = p.cmd.read(d)
	}
	if p.err != nil {
		d.Skip() // its error is the same
	}
	p.text, p.mailboxes = d.Kept()
	p.reserved, s.reserved = s.reserved, reserved{}
	return p
}

// alone runs a command while no other of the connection runs.
func (s *session) alone(ctx context.Context, p *request) error {
	defer s.forget()
	if err := s.execute(ctx, p); err != nil {
		return err
	}
	return s.count(p.outcome)
}

// execute runs and answers a command.
func (s *session) execute(ctx context.Context, p *request) error {
	s.reserved, p.reserved = p.reserved, reserved{}
	defer s.release()
	s.begin(p)
	ctx = s.observe(ctx, p.name, p.cmd)
	defer s.observed(p.name, p.cmd)
	err := p.err
	if err == nil {
		if err = s.turn(ctx); err == nil {
			err = s.run(ctx, p)
		}
		if p.cmd.traits&goesOn != 0 && s.buffers != nil { // what it has not read, also where it had no turn
			err = cmp.Or(err, s.dec.Skip())
		}
	}
	if dead := s.dead(); dead != nil && !errors.Is(dead, wire.ErrFlood) {
		return dead
	}
	if ctx.Err() != nil {
		return ctx.Err() // nobody waits for the answer
	}
	err = s.answer(ctx, p.name, err)
	p.outcome = s.outcome
	s.whole()
	return errors.Join(err, s.dead())
}

// begin sets what is of the command that runs.
func (s *session) begin(p *request) {
	s.tag, s.uid, s.reply, s.answered = p.tag, p.byUID(), reply{}, false
	if s.tag == "" {
		s.tag = "*" // a BAD that no tag can be found for (RFC 9051 section 7.1.3)
	}
}

// forget lets go of what a command has seen and told: a session keeps no view while its client thinks.
func (s *session) forget() {
	s.unpin()
	s.reported, s.expunged = 0, false
}

// unpin lets go of the view.
func (s *session) unpin() {
	if s.selected != nil {
		s.selected.view = nil
	}
}

// whole says that what has been written ends with a whole response, so that others may write.
func (s *session) whole() {
	if s.lane != nil {
		s.lane.yield()
	}
}

// count ends the session of a client that is wrong too often.
func (s *session) count(outcome string) error {
	switch outcome {
	case "OK":
		s.wrong = 0 // a client that stays for days may be wrong now and then
	case "BAD":
		if s.wrong++; s.wrong >= s.server.o.MaxBad {
			return &errBye{"", "Too many wrong commands"}
		}
	}
	return nil
}

// find returns the row of a command, if it is allowed now.
func (s *session) find(name string) (command, error) {
	if err := s.dec.Err(); err != nil {
		return command{}, err
	}
	cmd, ok := commands[name]
	switch {
	case !ok:
		return cmd, bad("Unknown command %.40s", name)
	case s.uidOnly && cmd.traits&byNumber != 0:
		return cmd, errUIDRequired
	case cmd.states&s.state != 0:
		return cmd, nil
	case s.state == notAuthenticated:
		return cmd, bad("%s: log in first", name)
	case cmd.states == notAuthenticated:
		return cmd, bad("%s: you are logged in already", name)
	}
	return cmd, bad("%s: select a mailbox first", name)
}

// run runs a command, with what is told at its end.
func (s *session) run(ctx context.Context, p *request) error {
	if s.lane != nil { // the round watches, and has told what others did
		return p.run.run(ctx, s)
	}
	if p.cmd.traits&goesOn == 0 { // what goes on reading finds out by itself
		stop := s.watch()
		defer stop()
	}
	run, err := s.place(ctx, p)
	if err == nil {
		s.keepAlong(run)
		err = run.run(ctx, s)
	}
	if p.cmd.traits&tellsAfter == 0 || s.selected == nil || fatal(err) {
		return err
	}
	if syncErr := s.sync(ctx, p.cmd.expunges()); syncErr != nil {
		if fatal(syncErr) {
			return syncErr
		}
		// The command was done or refused, and that is what its answer says.
		s.log.WarnContext(ctx, "telling changes failed", "command", p.name, "err", syncErr)
	}
	return err
}

// expunges tells whether an EXPUNGE may be sent with the command.
func (c command) expunges() bool { return c.traits&keepsSeqs == 0 }

// fatal tells whether an error ends the connection.
func fatal(err error) bool {
	return as[*errBye](err) || errors.Is(err, errLogout) || errors.Is(err, errDraining) || errors.Is(err, errRevoked) || errors.Is(err, errIdle) || errors.Is(err, errLost) ||
		errors.Is(err, store.ErrOutcomeUnknown) || errors.Is(err, wire.ErrFlood)
}

// dead returns the error of the connection, if there was one.
func (s *session) dead() error {
	if s.buffers == nil {
		return nil
	}
	if s.lane == nil {
		if err := s.dec.Dead(); err != nil {
			return err
		}
	}
	return s.enc.Err()
}

// answer sends the tagged response. An error ends the connection.
func (s *session) answer(ctx context.Context, name string, err error) error {
	switch {
	case s.answered:
		return err
	case err == nil:
		s.answerOK(name)
		return nil
	case errors.Is(err, errLogout):
		s.answerOK(name)
		return errors.Join(err, s.enc.Flush())
	case errors.Is(err, store.ErrOutcomeUnknown):
		// Neither OK nor NO would be true.
		s.log.ErrorContext(ctx, "outcome of a command is unknown", "command", name, "err", err)
		return &errBye{"UNAVAILABLE", "The outcome of the command is unknown"}
	case fatal(err) && !errors.Is(err, wire.ErrFlood):
		return err
	}
	r, known := answer(err)
	if !known {
		s.log.ErrorContext(ctx, "command failed", "command", name, "err", err)
	}
	s.buffer()
	s.writeTagged(r.kind, r.code, r.text)
	return nil
}

func (s *session) answerOK(name string) {
	s.buffer()
	text := s.reply.text
	if text == "" {
		text = name + " completed"
	}
	s.writeTagged("OK", s.reply.code, text)
}

// writeTagged ends the command, with the MODSEQ up to which the client knows all
// where it could not tell by itself. That is in the tagged line if there is room: before
// it, it would stand behind the last literal of a FETCH.
func (s *session) writeTagged(kind, code, text string) {
	s.outcome, s.code = kind, code
	if relied := s.reliable(); code == "" {
		code = relied
	} else if relied != "" {
		s.enc.Raw("* OK ").Raw(coded(relied)).Raw("Up to here all is told").CRLF()
	}
	s.enc.Raw(s.tag).SP().Raw(kind).SP().Raw(coded(code)).Raw(text).CRLF()
}

// coded returns a response code in its brackets.
func coded(code string) string {
	if code == "" {
		return ""
	}
	return "[" + code + "] "
}

// ok sets what the tagged OK of the command says: a response code or "", and a text, or "" for that it is completed.
func (s *session) ok(code, text string) { s.reply = reply{code, text} }

// logout takes leave of what the session holds.
func (s *session) logout() {
	s.unselect()
	s.leaveRemotes()
	if s.state != notAuthenticated {
		s.unhold()
		s.server.dismiss(s.conn, s.user)
	}
}

// How long a command runs before it is looked whether the client still waits for it, and how often from then on.
const (
	firstLook = 2 * time.Second
	nextLook  = time.Second
)

// watch cancels the connection's commands when the client goes away while one
// runs; the function that it returns ends it.
func (c *conn) watch() (stop func()) {
	tcp := tcpOf(c.raw)
	if tcp == nil {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = true
	if c.watchdog == nil {
		c.watchdog = time.AfterFunc(firstLook, func() { c.look(tcp) })
	} else {
		c.watchdog.Reset(firstLook)
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running = false
		c.watchdog.Stop()
	}
}

func (c *conn) look(tcp *net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.running:
	case gone(tcp):
		c.cancel()
	default:
		c.watchdog.Reset(nextLook)
	}
}

// gone tells whether the peer has closed the connection and nothing that it sent before is left.
func gone(tcp *net.TCPConn) bool {
	n, waits := peek(tcp)
	return n == 0 && !waits
}

// peek tells what the peer has sent that has not been received: n octets, one at the most; where there are none, whether there may be some yet.
func peek(tcp *net.TCPConn) (n int, waits bool) {
	rc, err := tcp.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = rc.Control(func(fd uintptr) {
		var octet [1]byte
		var err error
		n, _, err = syscall.Recvfrom(int(fd), octet[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		waits = err == syscall.EAGAIN || err == syscall.EINTR
		n = max(n, 0)
	})
	return n, waits && err == nil
}

// noop = "NOOP"
// check = "CHECK"
func readNoop(d *wire.Decoder) (run, error) {
	return do(func(ctx context.Context, s *session) error {
		if s.selected == nil {
			return nil
		}
		_, err := s.view(ctx) // its failure is NOOP's
		return err
	}), d.End()
}

// logout = "LOGOUT"
func readLogout(d *wire.Decoder) (run, error) {
	return do(func(_ context.Context, s *session) error {
		s.enc.Raw("* BYE Logging out").CRLF()
		return errLogout
	}), d.End()
}

// The bounds of RFC 2971 section 3.3.
const (
	maxIDFields = 30
	maxIDField  = 30
	maxIDValue  = 1024
)

// id = "ID" SP (nil / "(" [string SP nstring *(SP string SP nstring)] ")")
//
// What the client tells of itself is neither used nor logged.
func readID(d *wire.Decoder) (run, error) {
	d.SP()
	if d.Peek() == '(' {
		fields := 0
		d.List(func() {
			if len(d.String()) > maxIDField {
				d.Fail("ID field name longer than %d octets", maxIDField)
			}
			d.SP()
			if value, _ := d.NString(); len(value) > maxIDValue {
				d.Fail("ID value longer than %d octets", maxIDValue)
			}
			if fields++; fields > maxIDFields {
				d.Fail("More than %d ID fields", maxIDFields)
			}
		})
	} else if word := d.Keyword(); d.Err() == nil && word != "NIL" {
		d.Fail("Expected NIL or a list instead of %.40q", word)
	}
	return do(runID), d.End()
}

func runID(_ context.Context, s *session) error {
	s.enc.Raw(`* ID ("name" `).String(s.server.o.Name)
	if s.server.o.Version != "" {
		s.enc.Raw(` "version" `).String(s.server.o.Version)
	}
	s.enc.Raw(")").CRLF()
	return nil
}

// enable = "ENABLE" 1*(SP capability)
//
// RFC 5161 section 3.1: what is not known is passed over.
func readEnable(d *wire.Decoder) (run, error) {
	var names []string
	for len(names) == 0 || d.Peek() == ' ' {
		d.SP()
		names = append(names, d.Keyword())
		if d.Err() != nil {
			break
		}
	}
	return do(func(_ context.Context, s *session) error {
		condstore, qresync := s.condstore, s.qresync // before
		enabled := ""
		for _, name := range names {
			switch {
			case name == "CONDSTORE" && !condstore:
				condstore = true
			case name == "QRESYNC" && !qresync:
				qresync = true
			case name == "UIDONLY" && !s.uidOnly:
				s.enableUIDOnly()
			case name == "UTF8=ACCEPT" && !s.utf8:
				s.enableUTF8()
			case name == "IMAP4REV2" && !s.rev2:
				s.enableRev2()
				name = "IMAP4rev2"
			default:
				continue
			}
			enabled += " " + name
		}
		s.qresync = qresync
		if condstore || qresync { // the one brings the other (RFC 7162 section 3.2.3)
			s.enableCondstore()
		}
		s.enc.Raw("* ENABLED").Raw(enabled).CRLF()
		return nil
	}), d.End()
}
