package imapd

import (
	"bytes"
	"compress/flate"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
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
	return c.deflateBy(w)
}

func (c *client) deflateBy(w flusher) *client {
	return newClient(c.t, &deflatedConn{c.nc, flate.NewReader(c.r), w})
}

type flusher interface {
	io.Writer
	Flush() error
}

type deflatedConn struct {
	net.Conn
	r io.Reader
	w flusher
}

func (c *deflatedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *deflatedConn) Write(p []byte) (int, error) {
	if n, err := c.w.Write(p); err != nil {
		return n, err
	}
	return len(p), c.w.Flush()
}

// partWriter compresses, if that is the word, with the fixed codes, and flushes as zlib's Z_PARTIAL_FLUSH
// does: by an empty block of fixed codes, of which the last bits come with what comes next.
type partWriter struct {
	to   io.Writer
	out  []byte
	bits uint64
	n    uint
}

// put puts a code of n bits.
func (w *partWriter) put(code uint, n uint) {
	w.bits |= uint64(bits.Reverse(code)>>(bits.UintSize-n)) << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
	}
}

func (w *partWriter) Write(p []byte) (int, error) {
	w.put(0b010, 3) // not the last block, fixed codes
	for _, c := range p {
		if c < 144 {
			w.put(0x30+uint(c), 8)
		} else {
			w.put(0x190+uint(c-144), 9)
		}
	}
	w.put(0, 7)
	return len(p), nil
}

func (w *partWriter) Flush() error {
	w.put(0b010, 3)
	w.put(0, 7)
	_, err := w.to.Write(w.out)
	w.out = w.out[:0]
	return err
}

// end returns the end of the stream.
func (w *partWriter) end() []byte {
	w.put(0b110, 3)
	w.put(0, 14) // up to the end of an octet
	return w.out
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
	c := startOverTLS(t)()
	c.send("a COMPRESS DEFLATE")
	c.expect("a BAD [CLIENTBUG] COMPRESS: log in first")
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

// What zlib flushes is heard, whatever the flush, and however it arrives.
func TestCompressFlushes(t *testing.T) {
	var flushes struct { // testdata/flushes.py of the package
		Commands []string
		Ways     map[string][][]byte
	}
	text, err := os.ReadFile("inflate/testdata/flushes.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &flushes); err != nil {
		t.Fatal(err)
	}
	s := storetest.New(t)
	connect := serveStore(t, s, nil)
	accounts := 0
	for way, sent := range flushes.Ways {
		for _, octets := range []int{1, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", way, octets), func(t *testing.T) {
				accounts++
				login := fmt.Sprintf("user%d@flush.test", accounts)
				storetest.Account(t, s, login)
				plain := connect(t)
				enter(plain, login)
				plain.want("COMPRESS DEFLATE", "OK ")
				c := plain.deflateBy(nil)
				for i, command := range flushes.Commands {
					for piece := range slices.Chunk(sent[i], octets) {
						if _, err := plain.nc.Write(piece); err != nil {
							t.Fatal(err)
						}
					}
					lines := strings.Split(strings.TrimSpace(command), "\r\n")
					tag, name, _ := strings.Cut(lines[len(lines)-1], " ")
					answer := tag + " OK "
					switch {
					case strings.HasPrefix(name, "APPEND"), name == "IDLE":
						answer = "+ "
					case strings.HasPrefix(command, "From: "):
						answer = "3 OK [APPENDUID "
					case tag == "DONE":
						answer = "5 OK "
					}
					for !strings.HasPrefix(c.line(), answer) {
					}
				}
				c.expectClosed()
			})
		}
	}
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

	// What is compressed behind it cannot be meant.
	c.send("u UNAUTHENTICATE\r\nv NOOP")
	c.expect("* BYE Compression ends with UNAUTHENTICATE")
	c.expectClosed()
}

// The client's stream ends with UNAUTHENTICATE, in one way or another. What follows is text.
func TestEndOfCompression(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "a@end.test")
	connect := serveStore(t, s, nil)
	const command = "u UNAUTHENTICATE\r\n"
	flushed := string(deflation(t, []byte(command)))
	var closed, part strings.Builder
	w, _ := flate.NewWriter(&closed, flate.BestCompression) // a level that there is
	io.WriteString(w, command)
	w.Close()
	p := &partWriter{to: &part}
	io.WriteString(p, command)
	p.Flush()
	late := len(flushed) - 3
	login := "v LOGIN a@end.test " + storetest.Password + "\r\n"
	tests := []struct{ name, sent, later, answered string }{
		{"flush", flushed + login, "", ""},
		{"flush that is late", flushed[:late], flushed[late:] + login, ""},
		{"flush and end", flushed + "\x03\x00" + login, "", ""},
		{"end", closed.String() + login, "", ""},
		{"flush in part", part.String(), "", login}, // the rest never comes
		{"flush in part, and end", part.String() + string(p.end()) + login, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plain := connect(t)
			enter(plain, "a@end.test")
			plain.want("COMPRESS DEFLATE", "OK ")
			c := plain.deflateBy(nil)
			write := func(sent string) {
				if _, err := io.WriteString(plain.nc, sent); err != nil {
					t.Fatal(err)
				}
			}
			write(test.sent)
			if test.later != "" {
				time.Sleep(50 * time.Millisecond)
				write(test.later)
			}
			c.expect("u OK ...")
			if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
				t.Errorf("behind the end of compression: %q, %v", rest, err)
			}
			write(test.answered)
			plain.expect("v OK ...")
			plain.want("NOOP", "OK ")
		})
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
				if c.compression != nil && c.compression.source == nil && c.buffers == nil {
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

// Where it is not offered it is neither announced nor begun.
func TestCompressionThatIsNotOffered(t *testing.T) {
	o := testOptions(t)
	o.NoCompress = true
	_, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	if _, answer := c.do("LOGIN user pass"); !strings.HasPrefix(answer, "OK ") || strings.Contains(answer, "COMPRESS") {
		t.Errorf("LOGIN is answered %s", answer)
	}
	c.want("COMPRESS DEFLATE", "BAD [CLIENTBUG] Compression is not offered")
	c.want("NOOP", "OK ")
}
