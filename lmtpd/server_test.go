package lmtpd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// maxMessage is small enough to be exceeded.
const maxMessage = 256 << 10

func newStore(t *testing.T) *store.Store {
	return storetest.New(t, func(o *store.Options) { o.MaxMessage = maxMessage })
}

// serve starts a server for s on a socket and returns it and its address.
func serve(t *testing.T, s *store.Store, change ...func(*Options)) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Hostname: "mx.test", MaxMessage: maxMessage, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, f := range change {
		f(&o)
	}
	server := New(s, o)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // the test's has ended
		defer cancel()
		server.Shutdown(ctx) // a second time in some tests
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return server, l.Addr().String()
}

// client speaks LMTP line by line.
type client struct {
	t *testing.T
	net.Conn
	text *textproto.Reader
}

// dial connects without a word.
func dial(t *testing.T, address string) *client {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &client{t: t, Conn: conn, text: textproto.NewReader(bufio.NewReader(conn))}
}

// hello connects and says LHLO.
func hello(t *testing.T, address string) *client {
	t.Helper()
	c := dial(t, address)
	c.want("220 mx.test")
	c.say("LHLO client.test")
	c.want("250 ")
	return c
}

// say sends lines, all at once.
func (c *client) say(lines ...string) {
	c.t.Helper()
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
}

// want reads a reply, of several lines or one, for each of the beginnings.
func (c *client) want(beginnings ...string) (last string) {
	c.t.Helper()
	for _, want := range beginnings {
		last = c.reply()
		if !strings.HasPrefix(last, want) {
			c.t.Fatalf("got %q, want %s", last, want)
		}
	}
	return last
}

// reply returns the last line of a reply.
func (c *client) reply() string {
	c.t.Helper()
	for {
		line, err := c.text.ReadLine()
		if err != nil {
			c.t.Fatalf("reply: %v", err)
		}
		if len(line) < 4 || line[3] != '-' {
			return line
		}
	}
}

// closed wants the server to have closed the connection.
func (c *client) closed() {
	c.t.Helper()
	if line, err := c.text.ReadLine(); err == nil {
		c.t.Errorf("got %q, want the end", line)
	}
}

// stuff is a message as it is sent.
func stuff(message string) string {
	return strings.ReplaceAll("\r\n"+message, "\r\n.", "\r\n..")[2:] + "."
}

// deliver sends a message to recipients, which the server takes, and returns its answers.
func (c *client) deliver(message string, to ...string) []string {
	c.t.Helper()
	c.say("MAIL FROM:<sender@client.test>")
	c.want("250 ")
	for _, rcpt := range to {
		c.say("RCPT TO:<" + rcpt + ">")
		c.want("250 ")
	}
	c.say("DATA")
	c.want("354 ")
	c.say(stuff(message))
	var answers []string
	for range to {
		answers = append(answers, c.reply())
	}
	return answers
}

// accepted wants all answers to be 250.
func (c *client) accepted(answers []string) {
	c.t.Helper()
	for _, answer := range answers {
		if !strings.HasPrefix(answer, "250 2.0.0 ") {
			c.t.Errorf("got %q, want 250", answer)
		}
	}
}

// contents returns the messages in a mailbox as they are kept.
func contents(t *testing.T, s *store.Store, u store.User, name string) []string {
	t.Helper()
	m, err := s.Open(t.Context(), u, name, acl.Read)
	if err != nil {
		t.Fatalf("open %s of %s: %v", name, u.Login, err)
	}
	v, err := m.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for message := range v.All() {
		r, err := m.Content(t.Context(), message.Email)
		if err != nil {
			t.Fatal(err)
		}
		open, err := r.Open(t.Context(), 0, message.Size+1)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(open)
		if err != nil {
			t.Fatal(err)
		}
		open.Close()
		if int64(len(text)) != message.Size {
			t.Errorf("%s of %s: %d octets, size %d", name, u.Login, len(text), message.Size)
		}
		all = append(all, string(text))
	}
	return all
}

// holds wants a mailbox to hold exactly these messages.
func holds(t *testing.T, s *store.Store, u store.User, name string, want ...string) {
	t.Helper()
	got := contents(t, s, u, name)
	if len(got) != len(want) {
		t.Errorf("%s of %s holds %d messages, want %d: %.200q", name, u.Login, len(got), len(want), got)
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s of %s, message %d: %.300q, want %.300q", name, u.Login, i+1, got[i], want[i])
		}
	}
}

// added are the two fields that a recipient's copy begins with.
func added(to string) string {
	return "Return-Path: <sender@client.test>\r\nDelivered-To: " + to + "\r\n"
}

const greeting = "From: a@client.test\r\nSubject: hi\r\n\r\nHello.\r\n"

func TestCapabilities(t *testing.T) {
	_, address := serve(t, newStore(t))
	c := dial(t, address)
	c.want("220 mx.test LMTP")
	c.say("EHLO client.test")
	c.want("500 5.5.1")
	c.say("LHLO client.test")
	var got []string
	for {
		line, err := c.text.ReadLine()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, line[4:])
		if line[3] == ' ' {
			break
		}
	}
	want := "Hello client.test, PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES, SMTPUTF8, SIZE 262144, LIMITS RCPTMAX=1000"
	if all := strings.Join(got, ", "); all != want {
		t.Errorf("LHLO: %s\nwant: %s", all, want)
	}
}

func TestDeliver(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	a, b, off := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test"), storetest.Account(t, s, "off@one.test")
	if err := s.DisableAccount(t.Context(), off, true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateAlias(t.Context(), "list@one.test", "a@one.test", "b@one.test", "off@one.test"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRemoteDomain(t.Context(), "far.test", "far"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateGuest(t.Context(), "guest@one.test", "user@far.test"); err != nil {
		t.Fatal(err)
	}
	c := hello(t, address)
	c.accepted(c.deliver(greeting, "a@one.test"))
	holds(t, s, a, "INBOX", added("a@one.test")+greeting)

	c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<nobody@one.test>", "RCPT TO:<off@one.test>", "RCPT TO:<b@nowhere.test>", "RCPT TO:<guest@one.test>", "DATA")
	c.want("250 ", "550 5.1.1", "450 4.2.1", "550 5.1.1", "550 5.1.1", "503 5.5.1")
	c.say("RSET")
	c.want("250 ")

	c.accepted(c.deliver(greeting, "A+sent@One.Test", "list+Junk@one.test", "b@one.test"))
	holds(t, s, a, "Sent", added("A+sent@One.Test")+greeting)
	holds(t, s, a, "Junk", added("list+Junk@one.test")+greeting)
	holds(t, s, b, "Junk", added("list+Junk@one.test")+greeting)
	holds(t, s, b, "INBOX", added("b@one.test")+greeting)

	// Once for each mailbox, whoever leads there.
	c.accepted(c.deliver(greeting, "a+Archive@one.test", "a+archive@one.test", "list+Archive@one.test", "a+Archive@one.test"))
	holds(t, s, a, "Archive", added("a+Archive@one.test")+greeting)
	holds(t, s, b, "Archive", added("list+Archive@one.test")+greeting)

	// The null sender of bounces, and what has to be quoted.
	c.say("MAIL FROM:<>", "RCPT TO:<a+Trash@one.test>", "DATA")
	c.want("250 ", "250 ", "354 ")
	c.say(".")
	c.want("250 ")
	c.say(`MAIL FROM:<"a b"@client.test>`, "RCPT TO:<a+Trash@one.test>", "DATA")
	c.want("250 ", "250 ", "354 ")
	c.say(".")
	c.want("250 ")
	holds(t, s, a, "Trash", "Return-Path: <>\r\nDelivered-To: a+Trash@one.test\r\n",
		"Return-Path: <\"a b\"@client.test>\r\nDelivered-To: a+Trash@one.test\r\n")
	c.say("QUIT")
	c.want("221 ")
	c.closed()
}

// One message for accounts of two tenants is received by both, whole.
func TestDeliverToTwoTenants(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	a, b := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "a@two.test")
	big := greeting + noise(200_000) + "\r\n" // more than staging takes
	c := hello(t, address)
	c.accepted(c.deliver(big, "a@one.test", "a@two.test"))
	holds(t, s, a, "INBOX", added("a@one.test")+big)
	holds(t, s, b, "INBOX", added("a@two.test")+big)
	for _, answer := range c.deliver(greeting+strings.Repeat("x", maxMessage)+"\r\n", "a@one.test", "a@two.test") {
		if !strings.HasPrefix(answer, "552 5.3.4") {
			t.Errorf("a message that is too big: %q", answer)
		}
	}
	c.accepted(c.deliver(greeting, "a@two.test"))
}

// A tenant whose share of staging is full is told to come back; the others of the same message have it.
func TestStagingFullForOneTenant(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) { o.MaxMessage, o.StagingBound = maxMessage, 512<<10 })
	_, address := serve(t, s)
	storetest.Account(t, s, "a@one.test")
	b := storetest.Account(t, s, "a@two.test")
	c := hello(t, address)
	for range 3 {
		c.accepted(c.deliver(greeting+noise(120_000)+"\r\n", "a@one.test"))
	}
	last := greeting + noise(110_000) + "\r\n"
	answers := c.deliver(last, "a@one.test", "a@two.test")
	if !strings.HasPrefix(answers[0], "451 4.3.0 <a@one.test>") || !strings.HasPrefix(answers[1], "250 2.0.0 <a@two.test>") {
		t.Errorf("answers %q, want 451 and 250", answers)
	}
	holds(t, s, b, "INBOX", added("a@two.test")+last)
}

// Addresses beyond ASCII (RFC 6531), however they are composed and cased.
func TestSMTPUTF8(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	user := storetest.Account(t, s, "jürgen@xn--bcher-kva.test")
	c := hello(t, address)
	for _, to := range []string{"jürgen@bücher.test", "JÜRGEN@BÜCHER.test", "ju\u0308rgen@xn--bcher-kva.test"} {
		c.say("MAIL FROM:<søren@client.test> SMTPUTF8 BODY=8BITMIME", "RCPT TO:<"+to+">", "DATA", stuff(greeting))
		c.want("250 ", "250 ", "354 ", "250 2.0.0 <"+to+">")
	}
	c.say("MAIL FROM:<s\xf8ren@client.test>", "MAIL FROM:<s@client.test>", "RCPT TO:<j\xfcrgen@bücher.test>")
	c.want("553 5.1.7", "250 ", "550 5.1.1")
	got := contents(t, s, user, "INBOX")
	if len(got) != 3 || got[1] != "Return-Path: <søren@client.test>\r\nDelivered-To: JÜRGEN@BÜCHER.test\r\n"+greeting {
		t.Errorf("INBOX holds %q", got)
	}
}

// noise is n characters that do not compress.
func noise(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	text := make([]byte, n)
	for i := range text {
		text[i] = letters[rand.IntN(len(letters))]
	}
	return string(text)
}

// Everything sent is kept, octet by octet, whatever line ends and lengths it has.
func TestDeliverByteForByte(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	c := hello(t, address)
	for i, body := range []string{
		"\r\n",
		"a\nb\rc\r\n",
		"lone dot:\n.\nlone dots:\r.\r\nMAIL FROM:<x@y>\r\n",
		".\r\n..\r\n...\r\n",
		"ends in CR CR LF\r\r\n",
		"a\n.\r\nMAIL FROM:<evil@client.test>\r\nRCPT TO:<a@one.test>\r\nDATA\r\nsmuggled\r\n",
		"\x00\x01\x7f\xff\xfe\r\n",
		strings.Repeat("x", 100_000) + "\r\n",
		strings.Repeat("\n", 50_000) + "\r\n",
		noise(200_000) + "\r\n",
	} {
		user := storetest.Account(t, s, fmt.Sprintf("u%d@one.test", i))
		c.accepted(c.deliver(greeting+body, user.Login))
		holds(t, s, user, "INBOX", added(user.Login)+greeting+body)
	}
}

func TestMessageSize(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	user := storetest.Account(t, s, "a@one.test")
	c := hello(t, address)
	for _, size := range []string{fmt.Sprint(maxMessage + 1), "4294967295", "4294967296", "5000000000 BODY=7BIT", "18446744073709551616"} {
		c.say("MAIL FROM:<sender@client.test> SIZE=" + size)
		c.want("552 5.3.4")
	}
	c.say("MAIL FROM:<sender@client.test> SIZE=large")
	c.want("501 5.5.4")
	c.say(fmt.Sprintf("MAIL FROM:<sender@client.test> SIZE=%d BODY=8BITMIME SMTPUTF8", maxMessage))
	c.want("250 ")
	c.say("RSET")
	c.want("250 ")
	full := greeting + strings.Repeat("x", maxMessage-len(greeting)-2) + "\r\n"
	for _, answer := range c.deliver("x"+full, "a@one.test") {
		if !strings.HasPrefix(answer, "552 5.3.4") {
			t.Errorf("one octet too many: %q", answer)
		}
	}
	c.accepted(c.deliver(full, "a@one.test"))
	holds(t, s, user, "INBOX", added("a@one.test")+full)
}

func TestOverQuota(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	_, strict := serve(t, s, func(o *Options) { o.RejectOverQuota = true })
	full, free := storetest.Account(t, s, "full@one.test"), storetest.Account(t, s, "free@one.test")
	none := int64(0)
	if err := s.SetLimits(t.Context(), full, &none, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateAlias(t.Context(), "both@one.test", "full@one.test", "free@one.test"); err != nil {
		t.Fatal(err)
	}
	c := hello(t, address)
	answers := c.deliver(greeting, "full@one.test", "free@one.test")
	if !strings.HasPrefix(answers[0], "452 4.2.2") || !strings.HasPrefix(answers[1], "250 ") {
		t.Errorf("answers %q, want 452 4.2.2 and 250", answers)
	}
	c.accepted(c.deliver(greeting, "both@one.test"))
	holds(t, s, free, "INBOX", added("free@one.test")+greeting, added("both@one.test")+greeting)
	holds(t, s, full, "INBOX")
	if answers := hello(t, strict).deliver(greeting, "full@one.test"); !strings.HasPrefix(answers[0], "552 5.2.2") {
		t.Errorf("where it is to be refused: %q", answers)
	}
}

// Without the database everything is 451, and nothing is lost or refused for good.
func TestDatabaseAway(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	storetest.Account(t, s, "a@one.test")
	storetest.Account(t, s, "a@two.test")
	c, waiting := hello(t, address), hello(t, address)
	waiting.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "RCPT TO:<a@two.test>")
	waiting.want("250 ", "250 ", "250 ")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "RCPT TO:<nobody@one.test>", "DATA")
	c.want("250 ", "451 4.3.0", "451 4.3.0", "503 ")
	waiting.say("DATA", stuff(greeting), "NOOP")
	waiting.want("354 ", "451 4.3.0 <a@one.test>", "451 4.3.0 <a@two.test>", "250 ")
}

// A message for many is answered in their order, and its content is kept once.
func TestManyRecipients(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	const n = 50
	var users []store.User
	var to []string
	for i := range n {
		users = append(users, storetest.Account(t, s, fmt.Sprintf("u%02d@one.test", i)))
		to = append(to, users[i].Login)
	}
	rand.Shuffle(n, func(i, j int) { to[i], to[j] = to[j], to[i] })
	for i, answer := range hello(t, address).deliver(greeting, to...) {
		if want := "250 2.0.0 <" + to[i] + ">"; !strings.HasPrefix(answer, want) {
			t.Errorf("answer %d is %q, want %s", i+1, answer, want)
		}
	}
	for _, u := range users {
		holds(t, s, u, "INBOX", added(u.Login)+greeting)
	}
	if staged, err := s.Staging(t.Context()); err != nil || staged.Messages != 1 {
		t.Errorf("%d contents are staged, %v; want 1", staged.Messages, err)
	}
}

func TestPipelining(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	user := storetest.Account(t, s, "a@one.test")
	c := hello(t, address)
	for range 3 {
		c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<nobody@one.test>", "RCPT TO:<a@one.test>", "DATA")
		c.want("250 ", "550 ", "250 ", "354 ")
		c.say(stuff(greeting), "NOOP", "RSET")
		c.want("250 2.0.0 <a@one.test>", "250 ", "250 ")
	}
	holds(t, s, user, "INBOX", added("a@one.test")+greeting, added("a@one.test")+greeting, added("a@one.test")+greeting)
	c.say("QUIT", "MAIL FROM:<late@client.test>", "RCPT TO:<a@one.test>", "DATA", stuff(greeting))
	c.want("221 ")
	c.closed()
	if got := contents(t, s, user, "INBOX"); len(got) != 3 {
		t.Errorf("%d messages after QUIT, want 3", len(got))
	}
}

// What is no command is refused and delivers nothing.
func TestBadCommands(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	user := storetest.Account(t, s, "a@one.test")
	for _, line := range []string{"nonsense", "MAIL TO:<a@one.test>", "MAIL FROM:<a\x01b@one.test>", "\x00\x00\x00\x00"} {
		c := hello(t, address)
		c.say(line)
		if got := c.reply(); got[0] != '5' {
			t.Errorf("%q: %s", line, got)
		}
		c.accepted(c.deliver(greeting, "a@one.test"))
	}
	c := hello(t, address)
	c.say("NOOP " + strings.Repeat("x", maxCommand))
	c.want("500 ")
	c.closed()

	c = hello(t, address)
	c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "BDAT 40 LAST", "MAIL FROM:<evil@client.test>")
	c.want("250 ", "250 ", "502 5.5.1")
	c.closed()

	c = hello(t, address)
	for range 4 {
		c.say("what?")
	}
	c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "DATA", stuff(greeting))
	c.want("501 ", "501 ", "501 ", "501 ", "500 ")
	c.closed()
	if got := contents(t, s, user, "INBOX"); len(got) != 4 {
		t.Errorf("%d messages, want 4", len(got))
	}
}

// Commands out of turn are 503 and change nothing.
func TestSequence(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	user, other := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test")
	c := dial(t, address)
	c.say("MAIL FROM:<sender@client.test>", "LHLO client.test", "RCPT TO:<a@one.test>", "DATA", "MAIL FROM:<sender@client.test>", "DATA")
	c.want("220 ", "503 5.5.1", "250 ", "503 5.5.1", "503 5.5.1", "250 ", "503 5.5.1")
	c.say("RCPT TO:<a@one.test>", "MAIL FROM:<late@client.test>", "DATA", stuff(greeting))
	c.want("250 ", "503 5.5.1", "354 ", "250 2.0.0 <a@one.test>")
	c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<b@one.test>", "RSET", "DATA", "MAIL FROM:<sender@client.test>", "RSET")
	c.want("250 ", "250 ", "250 ", "503 5.5.1", "250 ", "250 ")
	c.accepted(c.deliver(greeting, "a@one.test"))
	holds(t, s, user, "INBOX", added("a@one.test")+greeting, added("a@one.test")+greeting)
	holds(t, s, other, "INBOX")
}

func TestRecipientLimit(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s, func(o *Options) { o.MaxRecipients = 2 })
	storetest.Account(t, s, "a@one.test")
	c := hello(t, address)
	c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "RCPT TO:<a@one.test>", "RCPT TO:<a@one.test>", "DATA")
	c.want("250 ", "250 ", "250 ", "452 4.5.3", "354 ")
	c.say(stuff(greeting))
	c.want("250 ", "250 ")
}

// A message whose client goes before its end is not delivered.
func TestCutOff(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	user := storetest.Account(t, s, "a@one.test")
	for _, end := range []string{"", "\r\n", "\r\n.", "\r\n.\r"} {
		c := hello(t, address)
		c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "DATA")
		c.want("250 ", "250 ", "354 ")
		io.WriteString(c, greeting+end)
		c.Conn.(*net.TCPConn).CloseWrite()
		c.want("451 4.4.2")
		c.closed()
	}
	holds(t, s, user, "INBOX")
}

func TestTimeouts(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s, func(o *Options) {
		o.CommandTimeout, o.DataTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	user := storetest.Account(t, s, "a@one.test")
	c := hello(t, address)
	c.want("421 4.4.2") // silence
	c.closed()
	c = hello(t, address)
	c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "DATA")
	c.want("250 ", "250 ", "354 ")
	io.WriteString(c, greeting)
	c.want("451 4.4.2") // silence within the message
	c.closed()
	holds(t, s, user, "INBOX")
}

// While too many messages are on their way, the next are to be tried again, after a wait; nothing is left of those that break off.
func TestTransitFull(t *testing.T) {
	const wait = time.Second
	s := storetest.New(t, func(o *store.Options) { o.TransitBytes, o.TransitWait = 1, wait }) // room for four of one tenant
	_, address := serve(t, s)
	user := storetest.Account(t, s, "a@one.test")
	storetest.Account(t, s, "b@two.test")
	var want []string
	for _, end := range []func(c *client){
		func(c *client) { c.Conn.Close() },
		func(c *client) {
			c.say(".")
			c.want("250 ")
			want = append(want, added("a@one.test")+greeting)
		},
		func(c *client) { c.Conn.Close() }, // where four are on their way once more nothing was left
	} {
		var held []*client
		for range 4 {
			c := hello(t, address)
			c.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "DATA")
			c.want("250 ", "250 ", "354 ")
			io.WriteString(c, greeting)
			held = append(held, c)
		}
		time.Sleep(wait / 2) // the server has begun to receive all of them
		c, began := hello(t, address), time.Now()
		if answers := c.deliver(greeting, "a@one.test"); !strings.HasPrefix(answers[0], "451 4.3.0 ") {
			t.Errorf("one too many is answered %q", answers)
		}
		if took := time.Since(began); took < wait || took > 20*wait {
			t.Errorf("refused after %v", took)
		}
		c.accepted(c.deliver(greeting, "b@two.test"))
		for _, c := range held {
			end(c)
		}
	}
	holds(t, s, user, "INBOX", want...)
}

func TestWhoMayConnect(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s, func(o *Options) { o.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	c := dial(t, address)
	c.want("421 4.7.1")
	c.closed()

	_, address = serve(t, s, func(o *Options) { o.MaxConnections = 2 })
	first, second := hello(t, address), hello(t, address)
	third := dial(t, address)
	third.want("421 4.3.2 Too many connections")
	third.closed()
	first.say("QUIT")
	first.want("221 ")
	first.closed()
	hello(t, address) // there is room again
	second.say("NOOP")
	second.want("250 ")
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lmtp")
	l, err := Listen("unix:"+path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:"+path, 0); err == nil {
		t.Error("a socket in use was taken over")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close() // as a process does that was killed
	if l, err = Listen("unix:"+path, 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v; want 0600", info.Mode(), err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("of another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:"+file, 0); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, err := os.ReadFile(file); string(text) != "of another" {
		t.Errorf("a file that is no socket now holds %q, %v", text, err)
	}
	s := newStore(t)
	user := storetest.Account(t, s, "a@one.test")
	server := New(s, Options{Hostname: "mx.test", MaxMessage: maxMessage, Networks: []netip.Prefix{}})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	c := hello(t, path)
	c.accepted(c.deliver(greeting, "a@one.test"))
	holds(t, s, user, "INBOX", added("a@one.test")+greeting)
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A shutdown answers what was sent, and ends those who are waiting.
func TestShutdown(t *testing.T) {
	s := newStore(t)
	server, address := serve(t, s)
	user := storetest.Account(t, s, "a@one.test")
	idle, busy := hello(t, address), hello(t, address)
	busy.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "DATA")
	busy.want("250 ", "250 ", "354 ")
	down := make(chan error, 1)
	go func() { down <- server.Shutdown(t.Context()) }()
	idle.want("421 4.3.2")
	idle.closed()
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("a connection was taken in a shutdown")
	}
	busy.say(stuff(greeting))
	busy.want("250 2.0.0", "421 4.3.2")
	busy.closed()
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	holds(t, s, user, "INBOX", added("a@one.test")+greeting)
}

// Nor does it wait for what begins to serve only now.
func TestShutdownBeforeServe(t *testing.T) {
	server := New(newStore(t), Options{})
	if err := server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(l); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A shutdown that has lost patience breaks connections, and delivers nothing half.
func TestShutdownWithoutPatience(t *testing.T) {
	s := newStore(t)
	server, address := serve(t, s)
	user := storetest.Account(t, s, "a@one.test")
	busy := hello(t, address)
	busy.say("MAIL FROM:<sender@client.test>", "RCPT TO:<a@one.test>", "DATA")
	busy.want("250 ", "250 ", "354 ")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("Shutdown: %v", err)
	}
	io.Copy(io.Discard, busy)
	holds(t, s, user, "INBOX")
}

func TestManyDeliveriesAtOnce(t *testing.T) {
	s := newStore(t)
	_, address := serve(t, s)
	users := []store.User{storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test")}
	const clients, each = 6, 20
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			c := hello(t, address)
			for i := range each {
				c.accepted(c.deliver(greeting, users[i%2].Login))
			}
		})
	}
	wait.Wait()
	for _, u := range users {
		got := contents(t, s, u, "INBOX")
		if len(got) != clients*each/2 {
			t.Errorf("%s holds %d messages, want %d", u.Login, len(got), clients*each/2)
		}
		for _, text := range got {
			if !bytes.Equal([]byte(text), []byte(added(u.Login)+greeting)) {
				t.Errorf("%s holds %q", u.Login, text)
			}
		}
	}
}
