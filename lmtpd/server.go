package lmtpd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"go.opentelemetry.io/otel/trace"

	"mailstead.dev/store"
)

// Options sets up a Server. Zero fields mean the defaults.
type Options struct {
	// Hostname is what the server calls itself; the machine's name by default.
	Hostname string
	// Networks are those from which clients may come; by default this machine
	// alone. Clients of a unix socket are let in by its file's permissions.
	Networks []netip.Prefix
	// MaxMessage is the size that is announced; it must be the store's limit.
	MaxMessage int64
	// MaxRecipients of one message; 1,000 by default. The MTA sends the others
	// with another copy of the message.
	MaxRecipients int
	// MaxConnections at once, 500 by default; more are told to come back.
	MaxConnections int
	// RejectOverQuota answers 552 5.2.2 to mail for an account that is over its
	// quota, which the sender then gets back at once. By default it is 452 4.2.2,
	// and the MTA tries for some days.
	RejectOverQuota bool
	// CommandTimeout is how long a client may be silent between commands, 5
	// minutes by default; DataTimeout within a message, 3 minutes by default
	// (RFC 5321 section 4.5.3.2); MessageTimeout is for all of a message, 30
	// minutes by default; WriteTimeout is how long it may take to read a reply, 1
	// minute by default.
	CommandTimeout, DataTimeout, MessageTimeout, WriteTimeout time.Duration
	// DeliveryTimeout is how long one recipient's lookup or delivery may take in
	// the store before the answer is 4xx; 1 minute by default.
	DeliveryTimeout time.Duration
	// Logger is told of each delivery and refusal, by the numbers of tenant, account and mailbox.
	Logger *slog.Logger
	// TracerProvider takes the spans of RCPT and of messages; by default there are none.
	TracerProvider trace.TracerProvider
	// Observe is told what each recipient of a message was answered, and how long their delivery took since the
	// message had come. It is called from many goroutines.
	Observe func(code int, took time.Duration)
}

func (o Options) withDefaults() Options {
	if o.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			name = "localhost"
		}
		o.Hostname = name
	}
	if o.Networks == nil {
		o.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	o.MaxRecipients = cmp.Or(o.MaxRecipients, 1000)
	o.MaxConnections = cmp.Or(o.MaxConnections, 500)
	o.CommandTimeout = cmp.Or(o.CommandTimeout, 5*time.Minute)
	o.DataTimeout = cmp.Or(o.DataTimeout, 3*time.Minute)
	o.MessageTimeout = cmp.Or(o.MessageTimeout, 30*time.Minute)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, time.Minute)
	o.DeliveryTimeout = cmp.Or(o.DeliveryTimeout, time.Minute)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server takes mail for the accounts of a store.
type Server struct {
	store *store.Store
	o     Options
	smtp  *smtp.Server

	tracer trace.Tracer // nil: none

	ctx  context.Context // of all deliveries; ends when a shutdown has lost patience
	stop context.CancelFunc

	mu        sync.Mutex // guards what follows
	conns     map[*conn]struct{}
	listeners []net.Listener
	draining  bool
	changing  // those of o are of the start
}

// changing are the settings that Change may change.
type changing struct {
	networks        []netip.Prefix
	maxConnections  int
	rejectOverQuota bool
}

func (o Options) changing() changing {
	return changing{o.Networks, o.MaxConnections, o.RejectOverQuota}
}

// New returns a Server that delivers to s.
func New(s *store.Store, o Options) *Server {
	o = o.withDefaults()
	server := &Server{store: s, o: o, conns: make(map[*conn]struct{}), changing: o.changing()}
	if o.TracerProvider != nil {
		server.tracer = o.TracerProvider.Tracer("mailstead.dev/lmtpd")
	}
	server.ctx, server.stop = context.WithCancel(context.Background()) // outlives every caller: Shutdown ends it
	protocol := smtp.NewServer(smtp.BackendFunc(server.newSession))
	protocol.LMTP = true
	protocol.Domain = server.o.Hostname
	protocol.MaxRecipients = server.o.MaxRecipients
	protocol.MaxMessageBytes = server.o.MaxMessage
	protocol.MaxLineLength = 0 // conn has its own limit, for commands alone
	protocol.EnableSMTPUTF8 = true
	protocol.ErrorLog = errorLog{server.o.Logger}
	server.smtp = protocol
	return server
}

// Change takes Networks, MaxConnections and RejectOverQuota of o, while the server
// runs. Connections that are there stay, whatever would be said to new ones.
func (s *Server) Change(o Options) {
	o = o.withDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changing = o.changing()
}

// errorLog is where go-smtp tells of failed connections and of panics.
type errorLog struct{ logger *slog.Logger }

func (l errorLog) Printf(format string, v ...any) {
	l.logger.Warn("lmtp: " + fmt.Sprintf(format, v...))
}
func (l errorLog) Println(v ...any) {
	l.logger.Warn("lmtp: " + strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
}

// Serve takes connections until Shutdown, or until the listener fails.
func (s *Server) Serve(l net.Listener) error {
	if !s.listens(l) { // go-smtp would not know of it when it shuts down, and never close it
		return l.Close()
	}
	err := s.smtp.Serve(listener{l, s})
	if s.isDraining() && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// listens notes a listener, unless the server is shutting down.
func (s *Server) listens(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.listeners = append(s.listeners, l)
	}
	return !s.draining
}

// Shutdown takes no more connections and no more commands, waits for messages
// under way to be answered, and returns when all connections have ended. When
// ctx ends before, it breaks those that are left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for _, l := range s.listeners { // before anybody is told
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.o.Logger.Warn("lmtp: a listener was not closed", "error", err)
		}
	}
	for c := range s.conns {
		go c.drain() // not under mu, which a conn takes when it closes; it ends with the connection
	}
	s.mu.Unlock()
	defer s.stop()
	err := s.smtp.Shutdown(ctx)
	if ctx.Err() == nil {
		return err
	}
	s.stop()
	for _, c := range s.open() {
		c.Close() // what fails to close has closed
	}
	return err
}

func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// Connections returns how many connections there are.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// admit registers a connection, or says why it may not stay.
func (s *Server) admit(c *conn) (refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.allowed(c.RemoteAddr()):
		// An MTA that was forgotten in the settings must not bounce its mail.
		return "421 4.7.1 Clients of this address may not deliver here\r\n"
	case s.draining:
		return "421 4.3.2 Shutting down, try again\r\n"
	case len(s.conns) >= s.maxConnections:
		return "421 4.3.2 Too many connections, try again\r\n"
	}
	s.conns[c] = struct{}{}
	return ""
}

// reply is what a recipient is told of an error.
func (s *Server) reply(err error) *smtp.SMTPError {
	s.mu.Lock()
	defer s.mu.Unlock()
	return replyTo(err, s.rejectOverQuota)
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// allowed is called with mu locked.
func (s *Server) allowed(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return true
	}
	ip := tcp.AddrPort().Addr().Unmap()
	for _, network := range s.networks {
		if network.Contains(ip.WithZone("")) {
			return true
		}
	}
	return false
}
