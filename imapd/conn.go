package imapd

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// Errors that end a connection while it waits for a command.
var (
	errDraining = errors.New("server is shutting down")
	errRevoked  = errors.New("login does not hold any more")
	errIdle     = errors.New("client was idle for too long")
	errLost     = errors.New("connection lost")
)

// conn moves octets: buffers while there is something to move, timeouts, TLS.
//
// The session's goroutine reads and writes; others only drain and close it.
type conn struct {
	server *Server
	raw    net.Conn // as accepted
	nc     net.Conn // raw, or TLS over it
	tls    bool
	shown  *x509.Certificate  // with TLS: ours; nil where it is not known
	from   netip.Prefix       // as it counts: store.Origin
	cancel context.CancelFunc // of the context of this connection's commands

	*buffers                     // nil while the connection waits for a command
	limits   wire.DecoderOptions // of dec
	first    [firstOctets]byte   // what ended the waiting,
	nFirst   int                 // as far as it has not been read from here

	compression *compression // nil: none
	patience    patience     // with a client that sends a command

	holder   holder    // who has logged in
	members  []*member // whose shares it takes of, once logged in
	reserved reserved  // by the command that is read or run

	// loginBy is when a client that has not logged in is sent away, zero once it has.
	loginBy time.Time

	mu        sync.Mutex         // guards what follows
	waiting   bool               // for a command, under a read deadline that finish may move
	handshake context.CancelFunc // ends the TLS handshake that is under way; nil: there is none
	ending    error              // why it ends between two commands; nil: it does not
	running   bool               // a command
	watchdog  *time.Timer        // looks whether the client is still there while a command runs
}

// buffers are what a connection needs while it does something.
type buffers struct {
	br  *bufio.Reader
	bw  *bufio.Writer
	dec *wire.Decoder
	enc *wire.Encoder
}

// The sizes are those of a page and of a TLS record.
const (
	readBuffer  = 4 << 10
	writeBuffer = 16 << 10
)

// firstOctets is how much can be read by what waits, without buffers: most
// commands whole, so that they take one system call.
const firstOctets = 256

var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, writeBuffer) }}
)

// A client that has not logged in may send what a login takes, certificates and tokens in SASL responses included.
const (
	strangerLine    = 16 << 10
	strangerLiteral = 4 << 10
	strangerSkip    = 1 << 20
)

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, raw: nc, nc: nc, from: store.Origin(remote(nc.RemoteAddr()))}
	c.limits.Continue = func() error { return c.proceed("Ready for the literal") }
	c.limits.Reserve = c.reserve
	c.distrust()
	return c
}

// limit sets what commands may take, between two of them.
func (c *conn) limit(l wire.DecoderOptions) {
	l.Continue, l.Reserve = c.limits.Continue, c.limits.Reserve
	c.limits = l
	if c.buffers != nil {
		c.dec.Limit(l)
	}
}

// distrust sets the limits for strangers, between two commands.
func (c *conn) distrust() {
	limits := c.server.o.limits()
	limits.MaxLine = min(limits.MaxLine, strangerLine)
	limits.MaxLiteral = min(limits.MaxLiteral, strangerLiteral)
	limits.MaxLiterals = 2 * limits.MaxLiteral
	limits.MaxSkip = strangerSkip
	c.limit(limits)
	c.loginBy = time.Now().Add(c.server.o.LoginTimeout)
}

// trust lifts the limits for strangers, between two commands.
func (c *conn) trust() {
	c.limit(c.server.o.limits())
	c.loginBy = time.Time{}
}

// takeUnasked takes literals of any size that are not waited for, from who has waited for them elsewhere and passes them on.
func (c *conn) takeUnasked() {
	limits := c.limits
	limits.MaxUnasked = 0
	c.limit(limits)
}

// buffer makes sure that there are buffers.
func (c *conn) buffer() {
	if c.buffers != nil {
		return
	}
	br := readers.Get().(*bufio.Reader)
	if c.compression != nil {
		c.compression.wake((*connReader)(c))
		br.Reset(c.compression)
	} else {
		br.Reset((*connReader)(c))
	}
	c.bufferFrom(br)
}

// bufferFrom is buffer with a reader that there is.
func (c *conn) bufferFrom(br *bufio.Reader) {
	bw := writers.Get().(*bufio.Writer)
	bw.Reset((*connWriter)(c))
	c.buffers = &buffers{br: br, bw: bw, dec: wire.NewDecoder(br, c.limits), enc: wire.NewEncoder(bw)}
	c.enc.UTF8 = c.limits.UTF8
}

// useUTF8 says whether mailbox names are in UTF-8 from now on, in both directions.
func (c *conn) useUTF8(on bool) {
	c.limits.UTF8, c.enc.UTF8 = on, on
	c.dec.UseUTF8(on)
}

// keep says whether commands are kept as they come, from the next on.
func (c *conn) keep(on bool) {
	c.limits.Keep = on
	c.dec.UseKeep(on)
}

// unbuffer gives the buffers back. What is in them is lost.
func (c *conn) unbuffer() {
	if c.buffers != nil {
		c.br.Reset(nil)
		c.bw.Reset(nil)
		readers.Put(c.br)
		writers.Put(c.bw)
		c.buffers = nil
	}
	if c.compression != nil {
		c.compression.rest()
	}
}

// await waits until the client sends something, without buffers if it has to
// wait. All that was written is sent before. A connection that ends does so also
// where the next command has come: a client that never stops sending is not served to the end.
func (c *conn) await() error {
	c.patience = patience{}
	if err := c.ended(); err != nil {
		return err
	}
	for !c.pending() {
		if err := c.rest(); err != nil {
			return err
		}
		if err := c.receive(); err != nil {
			return err
		}
	}
	return nil
}

// rest sends what was written and gives the buffers back.
func (c *conn) rest() error {
	if c.buffers != nil {
		if err := c.enc.Flush(); err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
	}
	c.unbuffer()
	return nil
}

// receive waits for the client to send something.
func (c *conn) receive() error {
	if err := c.beginWaiting(); err != nil {
		return err
	}
	return c.octets()
}

// octets is receive after beginWaiting. It may run while another goroutine writes.
func (c *conn) octets() error {
	n, err := c.nc.Read(c.first[:])
	ending := c.endWaiting()
	switch {
	case n > 0: // an error will come again
		c.nFirst = n
		return nil
	case ending != nil:
		return ending
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errIdle
	}
	return fmt.Errorf("%w: %w", errLost, err)
}

// pending tells whether there is input that was read but not decoded.
func (c *conn) pending() bool {
	if c.buffers != nil && c.br.Buffered() > 0 {
		return true
	}
	if c.compression != nil {
		return c.inflatedPending()
	}
	return c.nFirst > 0
}

// beside returns what a lane has for a connection: what is written goes to w, and there is nothing to be read.
func (c *conn) beside(w io.Writer) *conn {
	b := &conn{server: c.server, raw: c.raw, nc: c.nc, tls: c.tls, limits: c.limits, compression: c.compression, holder: c.holder, members: c.members}
	bw := writers.Get().(*bufio.Writer)
	bw.Reset(w)
	b.buffers = &buffers{bw: bw, enc: wire.NewEncoder(bw)}
	b.enc.UTF8 = c.enc.UTF8
	return b
}

// leave ends beside. What is in the buffer is lost.
func (c *conn) leave() {
	c.bw.Reset(nil)
	writers.Put(c.bw)
	c.buffers = nil
}

func (c *conn) beginWaiting() error { return c.beginWaitingFor(c.server.o.IdleTimeout) }

func (c *conn) beginWaitingFor(timeout time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil {
		return c.ending
	}
	c.waiting = true
	return c.nc.SetReadDeadline(c.deadline(timeout))
}

// deadline is the end of a timeout, but before a login at most that of LoginTimeout.
func (c *conn) deadline(timeout time.Duration) time.Time {
	t := time.Now().Add(timeout)
	if !c.loginBy.IsZero() && c.loginBy.Before(t) {
		return c.loginBy
	}
	return t
}

func (c *conn) endWaiting() (ending error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	return c.ending
}

// ended returns why the connection ends; nil: it does not.
func (c *conn) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// interrupt makes a Read that waits in another goroutine return.
func (c *conn) interrupt() error { return c.nc.SetReadDeadline(time.Unix(1, 0)) }

// drain ends the connection before its next command.
func (c *conn) drain() { c.finish(errDraining) }

// revokeTime is how long a command may go on whose user is let in no more.
const revokeTime = 500 * time.Millisecond

// revoke ends the connection of a user who is let in no more: with a BYE where no command
// runs, or soon will; else without one.
func (c *conn) revoke() {
	c.finish(errRevoked)
	time.AfterFunc(revokeTime, func() {
		c.cancel()
		c.close()
	})
}

// finish ends the connection before its next command. Whoever has not logged in has nothing
// to lose by half a command, nor by half a handshake.
func (c *conn) finish(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = why
	if c.handshake != nil {
		c.handshake()
	}
	if c.waiting {
		if err := c.interrupt(); err != nil {
			c.raw.Close() // it is broken anyway
		}
	}
}

// goOn takes back drain, where there is more to do than to wait for a command.
func (c *conn) goOn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.ending, errDraining) {
		c.ending = nil
	}
}

// close ends the connection at once.
func (c *conn) close() { c.raw.Close() }

// connReader is what the decoder reads from. Before it waits for the client it
// sends what was written, so that answers to commands that came together go out together.
type connReader conn

func (r *connReader) Read(p []byte) (int, error) {
	if r.nFirst > 0 {
		n := copy(p, r.first[:r.nFirst])
		r.nFirst = copy(r.first[:], r.first[n:r.nFirst])
		return n, r.received(n)
	}
	if err := r.enc.Flush(); err != nil {
		return 0, err
	}
	began := time.Now()
	n, err := (*conn)(r).more(p[:min(len(p), paceOctets)], r.server.o.ReadTimeout-r.patience.waited)
	r.patience.spend(n, time.Since(began))
	return n, errors.Join(err, r.received(n))
}

// more reads more of a command. Of one who has not logged in it is no longer waited for once the connection ends.
func (c *conn) more(p []byte, timeout time.Duration) (n int, err error) {
	if c.loginBy.IsZero() {
		if err := c.nc.SetReadDeadline(time.Now().Add(timeout)); err != nil {
			return 0, err
		}
		return c.nc.Read(p)
	}
	if err := c.beginWaitingFor(timeout); err != nil {
		return 0, err
	}
	n, err = c.nc.Read(p)
	if ending := c.endWaiting(); ending != nil && n == 0 {
		err = ending
	}
	return n, err
}

// patience is how long a client has been waited for in the middle of a command, since it has
// sent paceOctets the last time. What we take for what it sent does not count.
type patience struct {
	octets int
	waited time.Duration
}

// paceOctets is how much a client has to send within Options.ReadTimeout, and to take within Options.WriteTimeout.
const paceOctets = writeBuffer

func (p *patience) spend(octets int, waited time.Duration) {
	p.octets += octets
	p.waited += waited
	if p.octets >= paceOctets {
		*p = patience{}
	}
}

// received counts octets, and has the client pay for them.
func (r *connReader) received(n int) error {
	if r.compression != nil {
		r.compression.in += int64(n)
	}
	return (*conn)(r).pay(r.server.ctx, n)
}

// connWriter is what the encoder writes to. A client that does not take what it asked for
// is waited for, which is all the back-pressure there is.
type connWriter conn

func (w *connWriter) Write(p []byte) (int, error) {
	if w.compression != nil {
		return w.compression.write((*socketWriter)(w), p)
	}
	return (*socketWriter)(w).Write(p)
}

// socketWriter writes to the socket, or to TLS over it.
type socketWriter conn

func (w *socketWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if err := (*conn)(w).pay(w.server.ctx, min(len(p), paceOctets)); err != nil {
			return written, err
		}
		if err := w.nc.SetWriteDeadline(time.Now().Add(w.server.o.WriteTimeout)); err != nil {
			return written, err
		}
		n, err := w.nc.Write(p[:min(len(p), paceOctets)])
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// proceed asks the client to go on (RFC 9051 section 7.6).
func (c *conn) proceed(text string) error {
	return c.enc.Raw("+ ").Raw(text).CRLF().Flush()
}

// startTLS begins TLS. What the client sent behind the command, before it could know that
// it would be heard by us, is thrown away. Where the connection ends meanwhile there is no BYE: the
// client takes everything for TLS by now.
func (c *conn) startTLS(ctx context.Context, config *tls.Config) error {
	c.unbuffer()
	c.nFirst = 0
	ctx, cancel := context.WithDeadline(ctx, c.loginBy)
	defer cancel()
	if !c.beginHandshake(cancel) {
		return errLost
	}
	var certificate *x509.Certificate
	t := tls.Server(c.raw, config)
	err := t.HandshakeContext(context.WithValue(ctx, shownKey{}, &certificate))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handshake = nil
	if err != nil {
		return err
	}
	c.nc, c.tls, c.shown = t, true, certificate
	return nil
}

// beginHandshake has finish end a handshake; false: the connection ends already.
func (c *conn) beginHandshake(cancel context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil {
		return false
	}
	c.handshake = cancel
	return true
}

// lingerTime is how long a client that goes on sending has to hear why its connection ends.
const lingerTime = time.Second

// linger lets a client that is still sending hear what it was told last. A socket that is closed while something in it is unread is reset, and
// what was sent to the client may be lost with it.
func (c *conn) linger() {
	tcp := tcpOf(c.raw)
	if tcp == nil {
		return
	}
	if n, _ := peek(tcp); n == 0 && !c.pending() {
		return
	}
	if t, ok := c.nc.(*tls.Conn); ok {
		t.CloseWrite() // as of the socket: who does not hear it is not there any more
	}
	tcp.CloseWrite()
	if tcp.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		io.Copy(io.Discard, tcp) // up to the client's end, or that of the time
	}
}

// shownKey is that of where a handshake says which certificate it shows.
type shownKey struct{}

// telling returns a TLS configuration whose handshakes tell which certificate they show, for tls.Conn does not. None is told of where a session
// is resumed.
func telling(config *tls.Config) *tls.Config {
	if config == nil || config.GetCertificate == nil && len(config.Certificates) == 0 {
		return config
	}
	choose, own := config.GetCertificate, config.Certificates
	if choose == nil {
		choose = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			for i := range own {
				if hello.SupportsCertificate(&own[i]) == nil {
					return &own[i], nil
				}
			}
			return &own[0], nil
		}
	}
	config = config.Clone()
	config.Certificates = nil
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := choose(hello)
		if at, ok := hello.Context().Value(shownKey{}).(**x509.Certificate); ok && err == nil && c != nil {
			*at = c.Leaf
		}
		return c, err
	}
	return config
}
