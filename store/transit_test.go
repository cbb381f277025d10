package store_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/blob/blobtest"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/storetest"
)

// underWay is a message that comes for as long as the test wants.
type underWay struct {
	t      *testing.T
	writer *io.PipeWriter
	done   chan error
}

// begin begins to receive a message, which is on its way when it returns.
func begin(t *testing.T, s *store.Store, tenant id.Tenant) *underWay {
	t.Helper()
	reader, writer := io.Pipe()
	a := &underWay{t, writer, make(chan error, 1)}
	go func() {
		c, err := s.Receive(t.Context(), tenant, reader)
		if err == nil {
			err = c.Close()
		}
		reader.CloseWithError(err)
		a.done <- err
	}()
	if _, err := writer.Write([]byte("Subject: x\r\n")); err != nil {
		t.Fatalf("a message that should be received: %v", err)
	}
	return a
}

// end lets the message come to its end.
func (a *underWay) end() {
	a.t.Helper()
	a.writer.Close()
	if err := <-a.done; err != nil {
		a.t.Errorf("receive: %v", err)
	}
}

// keep appends a message, of which nothing is on its way then.
func keep(t *testing.T, s *store.Store, m *store.Mailbox, text string) {
	t.Helper()
	c, err := s.Receive(t.Context(), m.Tenant, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Append(t.Context(), store.Incoming{Content: c})
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
}

// Who finds no room for a message waits for some time. One tenant leaves room for others.
func TestTransitFull(t *testing.T) {
	const wait = 200 * time.Millisecond
	s := storetest.New(t, func(o *store.Options) { o.TransitBytes, o.TransitWait = 1, wait }) // which is made room for six, four of one tenant
	a, b := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@two.test")
	m := open(t, s, a, "INBOX")
	keep(t, s, m, "x")
	refused := func(u store.User) {
		t.Helper()
		began := time.Now()
		_, err := s.Receive(t.Context(), u.Tenant, strings.NewReader("x"))
		if took := time.Since(began); !errors.Is(err, store.ErrUnavailable) || took < wait {
			t.Errorf("one too many: %v after %v", err, took)
		}
	}
	var held []*underWay
	for range 4 {
		held = append(held, begin(t, s, a.Tenant))
	}
	refused(a)
	err := m.Contents(t.Context(), []id.Email{1}, func(id.Email, message.Reader) error { return nil })
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("reading a message: %v", err)
	}
	for range 2 {
		held = append(held, begin(t, s, b.Tenant))
	}
	refused(b)

	// It is enough that one ends in time.
	waiting := make(chan error, 1)
	go func() {
		c, err := s.Receive(t.Context(), a.Tenant, strings.NewReader("x"))
		if err == nil {
			err = c.Close()
		}
		waiting <- err
	}()
	time.Sleep(wait / 4)
	held[0].end()
	if err := <-waiting; err != nil {
		t.Errorf("who waited: %v", err)
	}
	// Nor is somebody waited for who has gone.
	held[0] = begin(t, s, a.Tenant)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		time.Sleep(wait / 10)
		cancel()
	}()
	if _, err := s.Receive(ctx, a.Tenant, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("one who has gone: %v", err)
	}
	for _, h := range held {
		h.end()
	}
	if n := s.InTransit(); n != 0 {
		t.Errorf("%d octets are on their way", n)
	}
}

// broken panics in the middle of a message.
type broken struct{}

func (broken) Read([]byte) (int, error) { panic("a bug") }

// However receiving or reading a message ends, its room is free again.
func TestTransitIsGivenBack(t *testing.T) {
	bucket := &blobtest.Memory{}
	s := storetest.New(t, func(o *store.Options) { o.Bucket, o.MaxMessage, o.StagingBound = bucket, 1<<20, 100_000 })
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	keep(t, s, m, "one")
	keep(t, s, m, "two")
	keep(t, s, m, "three")
	errTest := errors.New("a test")
	bucket.SetAway(true)
	for name, r := range map[string]io.Reader{
		"a small one":         strings.NewReader("Subject: x\r\n\r\nx"),
		"one of nothing":      strings.NewReader(""),
		"cut off":             io.MultiReader(strings.NewReader("Subject: x"), iotest.ErrReader(errTest)),
		"cut off later":       io.MultiReader(strings.NewReader(letter(1, 300_000)), iotest.ErrReader(errTest)),
		"too big":             strings.NewReader(letter(2, 1<<20+1)),
		"one that S3 refuses": strings.NewReader(letter(3, 500_000)),
		"a bug":               broken{},
	} {
		func() {
			defer func() {
				if bug := recover(); bug != nil && name != "a bug" {
					panic(bug)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c, err := s.Receive(ctx, u.Tenant, r)
			if err == nil {
				err = c.Close()
			}
			if err == nil && name != "a small one" && name != "one of nothing" {
				t.Errorf("%s is received", name)
			}
		}()
		if n := s.InTransit(); n != 0 {
			t.Fatalf("%s: %d octets are on their way", name, n)
		}
	}
	bucket.SetAway(false)
	for staged := 0; ; staged++ {
		c, err := s.Receive(t.Context(), u.Tenant, strings.NewReader(letter(uint64(staged+10), 20_000)))
		if errors.Is(err, store.ErrUnavailable) {
			break
		}
		if err != nil || staged > 100 {
			t.Fatalf("staging does not become full: %v", err)
		}
		if _, err := m.Append(t.Context(), store.Incoming{Content: c}); err != nil {
			t.Fatal(err)
		}
		if s.InTransit() == 0 {
			t.Error("what is received has no share")
		}
		if err := errors.Join(c.Close(), c.Close()); err != nil { // and twice is once
			t.Fatal(err)
		}
	}
	for name, yield := range map[string]func(id.Email, message.Reader) error{
		"all":   func(id.Email, message.Reader) error { return nil },
		"error": func(id.Email, message.Reader) error { return errTest },
		"bug":   func(id.Email, message.Reader) error { panic("a bug") },
	} {
		func() {
			defer func() {
				if bug := recover(); bug != nil && name != "bug" {
					panic(bug)
				}
			}()
			if err := m.Contents(t.Context(), []id.Email{1, 2, 3}, yield); err != nil && err != errTest {
				t.Errorf("reading, %s: %v", name, err)
			}
		}()
	}
	if n := s.InTransit(); n != 0 {
		t.Errorf("%d octets are on their way", n)
	}
}
