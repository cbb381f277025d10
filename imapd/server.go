package imapd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"

	"mailstead.dev/store"
)

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("imapd: server closed")

// Server serves IMAP on any number of listeners.
type Server struct {
	o      Options
	log    *slog.Logger
	tracer trace.Tracer // nil: none
	store  *store.Store
	lanes  *semaphore.Weighted // that are left for commands beside others

	elsewhere, visitsTime time.Duration // as the constants

	ctx    context.Context // of all commands, ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // connections

	mu        sync.Mutex // guards what follows
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	arriving  map[net.Conn]struct{}      // by a balancer that has not said whose they are
	strangers map[netip.Prefix]int       // connections that have not logged in, by where they come from
	frontEnds map[netip.Prefix]time.Time // of other cells, when they have introduced a client last
	asked     map[asked]int              // logins that another cell is asked about
	passed    int                        // connections that are passed through to another cell
	changing                             // those of o are of the start

	budget   *budget // of commands
	kept     *budget // of contexts
	visiting *budget // connections to other cells in which mailboxes are visited, of which each is 1
	shares   *shares
}

// minVisiting is how many connections to other cells there can be, however few of clients.
const minVisiting = 64

// changing are the limits that Change may change.
type changing struct {
	maxConnections, maxPerAddress int
	account, tenant               Share
}

func (o Options) changing() changing {
	return changing{o.MaxConnections, o.MaxPerAddress, o.Account, o.Tenant}
}

// New returns a server that does not listen yet.
func New(o Options) *Server {
	o = o.withDefaults()
	o.TLS = telling(o.TLS)
	// The server's life is that of no request: it ends with Close.
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		o:         o,
		log:       o.Logger,
		store:     o.Store,
		lanes:     semaphore.NewWeighted(int64(o.MaxBeside)),
		elsewhere: elsewhereTime, visitsTime: visitsTime,
		ctx:       ctx,
		cancel:    cancel,
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		arriving:  make(map[net.Conn]struct{}),
		strangers: make(map[netip.Prefix]int),
		frontEnds: make(map[netip.Prefix]time.Time),
		asked:     make(map[asked]int),
		changing:  o.changing(),
		budget:    newBudget(o.MaxCommands),
		kept:      newBudget(o.MaxContextMemory),
		visiting:  newBudget(int64(max(o.MaxConnections/4, minVisiting))),
		shares:    newShares(),
	}
	if o.TracerProvider != nil {
		s.tracer = o.TracerProvider.Tracer("mailstead.dev/imapd")
	}
	return s
}

// Connections returns how many connections there are, and how many of them are logged in.
func (s *Server) Connections() (all, loggedIn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.shares.connections()
}

// Passed returns how many connections are passed through to another cell.
func (s *Server) Passed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.passed
}

// Visiting returns how many connections to other cells there are in which mailboxes are visited.
func (s *Server) Visiting() int { return int(s.visiting.taken()) }

// Change takes MaxConnections, MaxPerAddress, Account and Tenant of o, while the server runs. Connections
// that are there stay, also when there are more of them than from now on; accounts and tenants that have
// some keep their other shares as long.
func (s *Server) Change(o Options) {
	o = o.withDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changing = o.changing()
}

// Serve accepts connections on l, with STARTTLS when there is Options.TLS,
// until l fails or the server is shut down. It closes l.
func (s *Server) Serve(l net.Listener) error { return s.serve(l, false) }

// ServeTLS is Serve for connections that begin with TLS.
func (s *Server) ServeTLS(l net.Listener) error {
	if s.o.TLS == nil {
		return errors.New("imapd: ServeTLS without Options.TLS")
	}
	return s.serve(l, true)
}

func (s *Server) serve(l net.Listener, implicitTLS bool) error {
	defer l.Close()
	if !s.listen(l) {
		return ErrServerClosed
	}
	defer s.forget(l)
	wait := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 5 * time.Millisecond
			s.take(nc, implicitTLS)
			continue
		}
		if s.isClosing() {
			return ErrServerClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Such as no file descriptor being left, which passes.
		s.log.Error("accept failed", "err", err, "retry", wait)
		select {
		case <-time.After(wait):
			wait = min(2*wait, time.Second)
		case <-s.ctx.Done():
			return ErrServerClosed
		}
	}
}

func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) forget(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// start serves a connection in a goroutine of its own, if it is not one too many.
func (s *Server) start(nc net.Conn, implicitTLS bool) {
	c := newConn(s, nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		nc.Close()
		return
	}
	if refusal := s.refusal(c); refusal != "" {
		s.wg.Go(func() { refuse(nc, implicitTLS, refusal) })
		return
	}
	s.conns[c] = struct{}{}
	s.estrange(c)
	s.wg.Go(func() { s.run(c, implicitTLS) })
}

// refusal says why there is no room for a connection, its response code before it, "" where there is. It is called with mu locked.
func (s *Server) refusal(c *conn) string {
	switch {
	case len(s.conns) >= s.maxConnections:
		s.log.Warn("too many connections", "limit", s.maxConnections)
		return "[UNAVAILABLE] Too many connections, try again later"
	case s.strangers[c.from] >= s.maxStrangers(c.from) && c.from.IsValid():
		s.log.Warn("too many connections of an address that have not logged in", "remote", c.raw.RemoteAddr(), "limit", s.maxStrangers(c.from))
		return "[LIMIT] " + tooManyStrangers
	}
	return ""
}

// tooManyStrangers is told to whom it concerns.
const tooManyStrangers = "Too many connections of your address that have not logged in, try again later"

// estrange counts a connection as one that has not logged in. It is called with mu locked.
func (s *Server) estrange(c *conn) {
	c.holder, c.members = holder{}, nil
	s.strangers[c.from]++
}

// acquaint takes back estrange. It is called with mu locked.
func (s *Server) acquaint(c *conn) {
	if s.strangers[c.from]--; s.strangers[c.from] == 0 {
		delete(s.strangers, c.from)
	}
}

// remote is the address of a client, not valid where it has none.
func remote(of net.Addr) netip.Addr {
	tcp, ok := of.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// refuse tells a client that there is no room, where it can be told in time.
func refuse(nc net.Conn, implicitTLS bool, why string) {
	defer nc.Close()
	if implicitTLS {
		return // a handshake costs more than a retry
	}
	if nc.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
		nc.Write([]byte("* BYE " + why + "\r\n")) // best effort
	}
}

func (s *Server) run(c *conn, implicitTLS bool) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer func() {
		if bug := recover(); bug != nil {
			s.log.Error("panic in a session", "panic", bug, "stack", string(debug.Stack()))
		}
		cancel()
		c.nc.Close() // with TLS it says so; a connection that is broken already has nobody to tell
		s.mu.Lock()
		delete(s.conns, c)
		s.acquaint(c)
		s.mu.Unlock()
	}()
	c.cancel = cancel
	if implicitTLS {
		if err := c.startTLS(ctx, s.o.TLS); err != nil {
			s.log.Debug("TLS handshake failed", "err", err)
			return
		}
	}
	sess := newSession(s, c)
	defer sess.logout()
	sess.serve(ctx)
	c.unbuffer()
}

// admit counts a login; where there are too many connections already, it says of what.
func (s *Server) admit(c *conn, u store.User) (tooMany string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	members, tooMany := s.shares.join(u, s.account, s.tenant)
	if tooMany != "" {
		return tooMany
	}
	s.acquaint(c)
	c.holder, c.members = holder{u.Tenant, u.Account}, members
	return ""
}

// pass counts a connection as one that is logged in elsewhere, where its account and tenant are.
func (s *Server) pass(c *conn) {
	c.trust()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acquaint(c)
	s.passed++
}

// takeBack takes back pass.
func (s *Server) takeBack(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.estrange(c)
	s.passed--
}

// dismiss takes back admit.
func (s *Server) dismiss(c *conn, u store.User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.estrange(c)
	s.shares.leave(u)
}

// Shutdown stops accepting, lets commands that run end, says BYE and returns
// when the last connection is gone. When ctx is done before, it closes what
// is left as Close does, and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.beginClosing() {
		c.drain()
	}
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
		s.abort()
		<-done
		return ctx.Err()
	}
}

// Close ends all connections at once and waits for their commands to notice.
func (s *Server) Close() error {
	s.beginClosing()
	s.abort()
	s.wg.Wait()
	return nil
}

func (s *Server) beginClosing() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for l := range s.listeners {
		l.Close()
	}
	for nc := range s.arriving {
		nc.Close()
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

func (s *Server) abort() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.close()
	}
}
