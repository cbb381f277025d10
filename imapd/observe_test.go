package imapd

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// Each command is told of once, by its name in the command table and its outcome, and what is no command by neither.
func TestObserve(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	o := testOptions(t)
	o.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	var mu sync.Mutex
	var seen []string
	o.Observe = func(command, outcome string, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, command+" "+outcome)
		if took <= 0 || took > time.Minute {
			t.Errorf("%s took %v", command, took)
		}
	}
	_, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	for _, test := range []struct{ command, answer string }{
		{"a noop", "a OK ..."},
		{"b HUNTER2", "b BAD ..."},
		{"c SELECT hunter2", "c BAD ..."}, // before a login
		{"d LOGIN user hunter2", "d NO [AUTHENTICATIONFAILED] ..."},
		{"e LOGIN user pass", "e OK ..."},
		{"f UID FETCH 1 FLAGS", "f BAD ..."}, // without a mailbox
		{"g SELECT (", "g BAD ..."},
	} {
		c.send(test.command)
		c.expect(test.answer)
	}
	c.send("h LOGOUT")
	c.expect("* BYE ...")
	c.expect("h OK ...")
	c.expectClosed()

	want := []string{"NOOP OK", "unknown BAD", "SELECT BAD", "LOGIN NO", "LOGIN OK", "UID FETCH BAD", "SELECT BAD", "LOGOUT OK"}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(seen, want) {
		t.Errorf("Observe was told of %q, want %q", seen, want)
	}
	var spans []string
	for _, span := range recorder.Ended() {
		of := map[attribute.Key]attribute.Value{}
		for _, a := range span.Attributes() {
			of[a.Key] = a.Value
		}
		spans = append(spans, of[attrCommand].AsString()+" "+of[attrOutcome].AsString())
		if want := "IMAP " + of[attrCommand].AsString(); span.Name() != want {
			t.Errorf("the span is called %s, want %s", span.Name(), want)
		}
		if of[attrOctets].AsInt64() < 10 {
			t.Errorf("%s has written %d octets", span.Name(), of[attrOctets].AsInt64())
		}
		if code := of[attrCode].AsString(); span.Name() == "IMAP LOGIN" && of[attrOutcome].AsString() == "NO" && code != "AUTHENTICATIONFAILED" {
			t.Errorf("LOGIN has the response code %q", code)
		}
		if _, has := of[attrTenant]; has != (len(spans) > 4) {
			t.Errorf("%s is said to be of a tenant: %v", span.Name(), has)
		}
		if span.Status().Code == codes.Error {
			t.Errorf("%s is a fault of ours", span.Name())
		}
	}
	if !slices.Equal(spans, want) {
		t.Errorf("spans %q, want %q", spans, want)
	}
}

// A command that does not come to an answer ends its span nevertheless, and one that fails for our fault says so.
func TestObserveFailures(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	o := testOptions(t)
	o.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	server, connect := start(t, o)
	c := connect()
	c.expect("* OK ...")
	c.send("a LOGIN away pass")
	c.expect("a NO [UNAVAILABLE] ...")
	c.send("b LOGIN user pass")
	c.expect("b OK ...")
	c.send("c IDLE")
	c.expect("+ ...")
	c.nc.Close()
	server.Close() // when the session has ended
	var got []string
	for _, span := range recorder.Ended() {
		got = append(got, fmt.Sprint(span.Name(), " ", span.Status().Code))
	}
	if want := []string{"IMAP LOGIN Error", "IMAP LOGIN Unset", "IMAP IDLE Error"}; !slices.Equal(got, want) {
		t.Errorf("spans %q, want %q", got, want)
	}
}

// Observing costs no memory where nobody observes, nor where commands are only measured.
func TestObserveCostsNothing(t *testing.T) {
	for name, o := range map[string]Options{
		"nobody":   {},
		"measured": {Observe: func(string, string, time.Duration) {}},
	} {
		nc, other := net.Pipe()
		defer nc.Close()
		defer other.Close()
		s := newSession(New(o), newConn(New(o), nc))
		s.buffer()
		cmd := commands["STORE"]
		if n := testing.AllocsPerRun(1000, func() {
			ctx := s.observe(t.Context(), "STORE", cmd)
			s.outcome = "OK"
			s.observed("STORE", cmd)
			if ctx != t.Context() || s.observation.span != nil {
				t.Fatal("observed")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a command", name, n)
		}
	}
}

// BenchmarkObserved is a STORE without spans, with spans that are not sampled, and with all of them.
func BenchmarkObserved(b *testing.B) {
	exported := sdktrace.WithBatcher(tracetest.NewNoopExporter())
	for _, bench := range []struct {
		name     string
		provider *sdktrace.TracerProvider
	}{
		{"off", nil},
		{"not-sampled", sdktrace.NewTracerProvider(exported, sdktrace.WithSampler(sdktrace.NeverSample()))},
		{"sampled", sdktrace.NewTracerProvider(exported)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			o := Options{PlaintextLogin: true, Logger: slog.New(slog.DiscardHandler), Observe: func(string, string, time.Duration) {}}
			s := storetest.New(b, func(so *store.Options) {
				if bench.provider != nil {
					o.TracerProvider, so.TracerProvider = bench.provider, bench.provider
				}
			})
			o.Store, o.Authenticator = s, auth.New(s, auth.Options{})
			storetest.Account(b, s, "bench@bench.test")
			_, connect := start(b, o)
			c := connect()
			if err := c.nc.SetDeadline(time.Time{}); err != nil {
				b.Fatal(err)
			}
			c.expect("* OK ...")
			c.exchange("a LOGIN bench@bench.test " + storetest.Password)
			c.exchange("a APPEND INBOX {1+}\r\nx")
			c.exchange("a SELECT INBOX")
			command := [2]string{"a STORE 1 +FLAGS.SILENT (\\Flagged)\r\n", "a STORE 1 -FLAGS.SILENT (\\Flagged)\r\n"}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := io.WriteString(c.nc, command[i%2]); err != nil {
					b.Fatal(err)
				}
				if _, err := c.r.ReadSlice('\n'); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
