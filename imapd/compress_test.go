package imapd

import (
	"bytes"
	"compress/flate"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// deflate makes the client compress what it sends and inflate what it gets,
// with another library than the server's.
func (c *client) deflate() *client {
	c.t.Helper()
	w, err := flate.NewWriter(c.nc, flate.BestCompression)
	if err != nil {
		c.t.Fatal(err)
	}
	return newClient(c.t, &deflatedConn{c.nc, flate.NewReader(c.r), w})
}

type deflatedConn struct {
	net.Conn
	r io.Reader
	w *flate.Writer
}

func (c *deflatedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *deflatedConn) Write(p []byte) (int, error) {
	if n, err := c.w.Write(p); err != nil {
		return n, err
	}
	return len(p), c.w.Flush()
}

// compressed logs in and compresses.
func compressed(c *client, login string) *client {
	c.t.Helper()
	enter(c, login)
	c.send("z COMPRESS DEFLATE")
	c.expect("z OK ...")
	return c.deflate()
}

func TestCompressOverTLS(t *testing.T) {
	o := testOptions(t)
	serverTLS, clientTLS := testTLS(t)
	o.TLS, o.PlaintextLogin = serverTLS, false
	_, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	c.send("a COMPRESS DEFLATE")
	c.expect("a BAD [CLIENTBUG] COMPRESS: log in first")
	c.send("b STARTTLS")
	c.expect("b OK ...")
	c = c.startTLS(clientTLS)
	c.send("c LOGIN user pass")
	c.expect("c OK ...")
	c.send("d COMPRESS LZW")
	c.expect("d BAD [CLIENTBUG] Unknown compression LZW")
	c.send("e COMPRESS DEFLATE")
	c.expect("e OK ...")
	c = c.deflate()
	c.send("f COMPRESS DEFLATE")
	c.expect("f BAD [COMPRESSIONACTIVE] DEFLATE is active already")
	c.send("g CAPABILITY")
	if got := c.line(); strings.Contains(got, "COMPRESS") {
		t.Errorf("announced: %s", got)
	}
	c.expect("g OK ...")
	for i := range 300 { // more than a window of commands, one after the other and together
		c.send(fmt.Sprintf("h%d NOOP\r\ni%[1]d ID NIL", i))
		c.expect(fmt.Sprintf("h%d OK NOOP completed", i))
		c.expect("* ID ...")
		c.expect(fmt.Sprintf("i%d OK ID completed", i))
	}
	c.send("j LOGOUT")
	c.expect("* BYE ...")
	c.expect("j OK ...")
	c.expectClosed()
}

// Whatever is pipelined behind COMPRESS is compressed.
func TestCompressWithoutWaiting(t *testing.T) {
	_, connect := start(t, testOptions(t))
	c := connect()
	c.expect("* OK ...")
	c.send("a LOGIN user pass")
	c.expect("a OK ...")
	var commands bytes.Buffer
	commands.WriteString("b COMPRESS DEFLATE\r\n")
	w, _ := flate.NewWriter(&commands, 9) // a level that there is
	w.Write([]byte("c NOOP\r\nd NOOP\r\n"))
	w.Flush()
	c.nc.Write(commands.Bytes())
	c.expect("b OK ...")
	c = c.deflate()
	c.expect("c OK ...")
	c.expect("d OK ...")
}

func TestCompressedInputThatIsNone(t *testing.T) {
	tests := []struct {
		name  string
		send  func(c *client)
		heard string
	}{
		{"plain text", func(c *client) { c.nc.Write([]byte("\xff\xffnot compressed\r\n")) }, "* BYE Input is not compressed as it should be"},
		{"the end of the stream", func(c *client) {
			w, _ := flate.NewWriter(c.nc, 9) // a level that there is
			w.Close()
		}, "* BYE Input is not compressed as it should be"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, connect := start(t, testOptions(t))
			c := connect()
			c.expect("* OK ...")
			c.send("a LOGIN user pass")
			c.expect("a OK ...")
			c.send("b COMPRESS DEFLATE")
			c.expect("b OK ...")
			test.send(c)
			c = newClient(t, &deflatedConn{c.nc, flate.NewReader(c.r), nil})
			c.expect(test.heard)
			c.expectClosed()
		})
	}
}

// deflation returns what becomes text, as small as it can be.
func deflation(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What a little becomes much costs no memory, and not too often time.
func TestCompressedBombs(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) { o.MaxMessage = 1 << 20 })
	storetest.Account(t, s, "a@bomb.test")
	connect := serveStore(t, s, nil)

	// A message that compresses very well is one.
	c := compressed(connect(t), "a@bomb.test")
	c.want(appendText("INBOX", strings.Repeat("x", 1<<20)), "OK [APPENDUID ")

	c = compressed(connect(t), "a@bomb.test")
	bomb := deflation(t, []byte("a CREATE {40000000+}\r\n"+strings.Repeat("x", 40_000_000)+"\r\nb NOOP\r\n"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	socket := c.nc.(*deflatedConn).Conn
	if _, err := socket.Write(bomb); err != nil {
		t.Fatal(err)
	}
	c.expect("* BYE Compressed input becomes too large")
	c.expectClosed()
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d octets of bomb took %d of memory", len(bomb), grown)
	}
}

// What is within the bound is passed over as ever.
func TestCompressedJunk(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@bomb.test")
	c := compressed(serveStore(t, s, nil)(t), "a@bomb.test")
	junk := deflation(t, []byte("a CREATE {40000000+}\r\n"+strings.Repeat("x", 40_000_000)+"\r\nb NOOP\r\n"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := c.nc.(*deflatedConn).Conn.Write(junk); err != nil {
		t.Fatal(err)
	}
	c.expect("a BAD [TOOBIG] ...")
	c.expect("b OK ...")
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d octets of junk took %d of memory", len(junk), grown)
	}
}

// resumed is a connection that begins with the greeting of one that has logged in.
type resumed struct {
	net.Conn
	greeting io.Reader
}

func (c *resumed) Read(p []byte) (int, error) {
	if n, _ := c.greeting.Read(p); n > 0 {
		return n, nil
	}
	return c.Conn.Read(p)
}

// Mail of all shapes through go-imap's client, compressed and over TLS.
func TestCompressedMail(t *testing.T) {
	s := storetest.New(t)
	serverTLS, clientTLS := testTLS(t)
	storetest.Account(t, s, "mail@compress.test")
	o := testOptions(t)
	o.Store, o.Authenticator, o.TLS = s, auth.New(s, auth.Options{}), serverTLS
	server := New(o)
	nc, err := tls.Dial("tcp", listen(t, server, server.ServeTLS), clientTLS)
	if err != nil {
		t.Fatal(err)
	}
	conn := compressed(newClient(t, nc), "mail@compress.test").nc
	c := imapclient.New(&resumed{conn, strings.NewReader("* PREAUTH [CAPABILITY IMAP4rev1 LITERAL+ UIDPLUS] resumed\r\n")}, nil)
	defer c.Close()
	mail := testMail(t)
	rnd := rand.NewChaCha8([32]byte{})
	noise := make([]byte, 300_000) // which cannot be compressed
	rnd.Read(noise)
	mail["noise"] = append([]byte("Subject: noise\r\n\r\n"), bytes.ReplaceAll(noise, []byte{0}, []byte{1})...)
	for _, text := range mail {
		appendMail(t, c, "INBOX", text, nil)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	checkAll(t, c, mail)
	if err := c.Store(imap.SeqSet{{Start: 1}}, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if gone, err := c.Expunge().Collect(); err != nil || len(gone) != len(mail) {
		t.Errorf("EXPUNGE of %d messages, %v", len(gone), err)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

// IDLE tells of changes at once, compressed as anything else; and UNAUTHENTICATE ends compression.
func TestCompressedSession(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@compress.test")
	connect := serveStore(t, s, nil)
	plain := connect(t)
	c := compressed(plain, "a@compress.test")
	c.want("SELECT INBOX", "OK ")
	c.send("i IDLE")
	c.expect("+ Idling")
	c.nc.Write(nil) // a flush of nothing is no beginning of a command
	other := connect(t)
	enter(other, "a@compress.test")
	other.want(appendText("INBOX", "Subject: x\r\n\r\n"), "OK ")
	c.expect("* 1 EXISTS")
	c.expect("* 1 RECENT")
	c.send("DONE")
	c.expect("i OK IDLE completed")
	c.nc.Write(nil)
	c.nc.Write(nil)
	c.want("UID FETCH 1 (BODY.PEEK[])", "OK ")

	c.send("u UNAUTHENTICATE")
	c.expect("u OK ...")
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
		t.Errorf("behind the end of compression: %q, %v", rest, err)
	}
	plain.want("NOOP", "OK ")
	plain.want("LOGIN a@compress.test "+storetest.Password, "OK [CAPABILITY ")
	// What was said in the former compression is not known in the next.
	plain.want("COMPRESS DEFLATE", "OK ")
	c = plain.deflate()
	c.want("SELECT INBOX", "OK ")

	// The client may end its stream in either way, and send what follows along.
	for _, end := range []func(w *flate.Writer) error{(*flate.Writer).Flush, (*flate.Writer).Close} {
		plain := connect(t)
		c := compressed(plain, "a@compress.test")
		c.want("NOOP", "OK ")
		var last bytes.Buffer
		w := c.nc.(*deflatedConn).w
		w.Reset(&last) // what was sent before is nothing to refer to
		if _, err := w.Write([]byte("u UNAUTHENTICATE\r\n")); err != nil {
			t.Fatal(err)
		}
		if err := end(w); err != nil {
			t.Fatal(err)
		}
		last.WriteString("v LOGIN a@compress.test " + storetest.Password + "\r\n")
		if _, err := plain.nc.Write(last.Bytes()); err != nil {
			t.Fatal(err)
		}
		c.expect("u OK ...")
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("compression goes on: %v", err)
		}
		plain.expect("v OK ...")
	}

	// What is compressed behind it cannot be meant.
	c.send("u UNAUTHENTICATE\r\nv NOOP")
	c.expect("* BYE Compression ends with UNAUTHENTICATE")
	c.expectClosed()
}

// Text of all lengths comes through, with the inflater given back wherever that is possible.
func TestInflateInPieces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 1))
	for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.BestCompression} {
		var sent, wire bytes.Buffer
		w, err := flate.NewWriter(&wire, level)
		if err != nil {
			t.Fatal(err)
		}
		z := &compression{limit: 2000}
		rested := 0
		for range 400 {
			piece := make([]byte, rnd.IntN(1<<rnd.IntN(18)))
			for i := range piece {
				piece[i] = "abcdefgh"[rnd.IntN(8)]
			}
			if len(piece) > 10 && sent.Len() > len(piece) && rnd.IntN(2) == 0 { // something from before
				from := rnd.IntN(sent.Len() - len(piece))
				copy(piece, sent.Bytes()[max(from, sent.Len()-40_000):])
			}
			sent.Write(piece)
			if _, err := w.Write(piece); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			z.in += int64(wire.Len())
			z.wake(&wire)
			got := make([]byte, len(piece))
			if _, err := io.ReadFull(z, got); err != nil {
				t.Fatalf("level %d: %v", level, err)
			}
			if !bytes.Equal(got, piece) {
				t.Fatalf("level %d: %d octets are not those that were sent", level, len(piece))
			}
			if _, pending := z.pending(nil); pending {
				t.Fatalf("level %d: something is left", level)
			}
			if z.rest(); z.inflater == nil {
				rested++
			}
		}
		if rested < 300 {
			t.Errorf("level %d: the inflater was given back only %d times of 400", level, rested)
		}
		if len(z.received) > window || cap(z.received) > 2*window {
			t.Errorf("%d octets are kept, in %d", len(z.received), cap(z.received))
		}
	}
}

// A connection that waits has given back all but what text may refer to.
func TestCompressedConnectionAtRest(t *testing.T) {
	s, connect := start(t, testOptions(t))
	c := connect()
	c.expect("* OK ...")
	c.send("a LOGIN user pass")
	c.expect("a OK ...")
	c.send("b COMPRESS DEFLATE")
	c.expect("b OK ...")
	c = c.deflate()
	c.send("c NOOP")
	c.expect("c OK ...")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		waiting, rests := 0, 0
		for c := range s.conns {
			c.mu.Lock() // waiting is set behind rest
			if c.waiting {
				waiting++
				if c.compression != nil && c.compression.inflater == nil && c.buffers == nil {
					rests++
				}
			}
			c.mu.Unlock()
		}
		s.mu.Unlock()
		if waiting == 1 && rests == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections wait, %d at rest", waiting, rests)
		}
	}
}

// Whatever a client sends as compressed ends in text or an error, and within the bound.
func FuzzInflate(f *testing.F) {
	f.Add(deflation(f, []byte("a NOOP\r\n")))
	f.Add(deflation(f, []byte(strings.Repeat("x", 100_000))))
	f.Add([]byte("\x00\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
	f.Add([]byte("\xff\xff"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		z := &compression{limit: 50, allowance: 1000}
		z.in = int64(len(sent))
		socket := bytes.NewReader(sent)
		p := make([]byte, 1000)
		for {
			z.wake(socket)
			_, err := z.Read(p)
			if z.out > 50*z.in+1000+window {
				t.Fatalf("%d octets became %d", len(sent), z.out)
			}
			if err != nil {
				return
			}
			left, _ := z.pending(nil)
			if left != 0 {
				t.Fatalf("%d octets are left of none", left)
			}
			z.rest()
		}
	})
}

// Where it is not offered it is neither announced nor begun.
func TestCompressionThatIsNotOffered(t *testing.T) {
	o := testOptions(t)
	o.Compress = false
	_, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	if _, answer := c.do("LOGIN user pass"); !strings.HasPrefix(answer, "OK ") || strings.Contains(answer, "COMPRESS") {
		t.Errorf("LOGIN is answered %s", answer)
	}
	c.want("COMPRESS DEFLATE", "BAD [CLIENTBUG] Compression is not offered")
	c.want("NOOP", "OK ")
}
