package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/blob/blobtest"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

// letter makes a message of about size octets, the same for the same seed: lines of base64-like text, which compress a little.
func letter(seed uint64, size int) string {
	random := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	fmt.Fprintf(&b, "From: a@one.test\r\nSubject: letter %d\r\nMessage-ID: <%d@one.test>\r\n\r\n", seed, seed)
	for b.Len() < size {
		for range 72 {
			b.WriteByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[random.IntN(64)])
		}
		b.WriteString("\r\n")
	}
	return b.String()
}

func receive(t *testing.T, s *store.Store, tenant id.Tenant, text string) *store.Content {
	t.Helper()
	c, err := s.Receive(t.Context(), tenant, strings.NewReader(text))
	if err != nil {
		t.Fatalf("receive %d octets: %v", len(text), err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// deliver appends messages with a prefix, and returns their email numbers.
func deliver(t *testing.T, s *store.Store, m *store.Mailbox, prefix string, texts ...string) []id.Email {
	t.Helper()
	var ids []id.Email
	for _, text := range texts {
		if _, err := m.Append(t.Context(), store.Incoming{Content: receive(t, s, m.Tenant, text), Prefix: []byte(prefix)}); err != nil {
			t.Fatalf("append: %v", err)
		}
		v := viewOf(t, m)
		ids = append(ids, v.At(v.Len()-1).Email)
	}
	return ids
}

// contentOf reads a range of an email.
func contentOf(ctx context.Context, m *store.Mailbox, email id.Email, off, n int64) (string, error) {
	r, err := m.Content(ctx, email)
	if err != nil {
		return "", err
	}
	return rangeOf(ctx, r, off, n)
}

func rangeOf(ctx context.Context, r message.Reader, off, n int64) (string, error) {
	rc, err := r.Open(ctx, off, n)
	if err != nil {
		return "", err
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	return string(data), err
}

func checkContent(t *testing.T, m *store.Mailbox, email id.Email, want string) {
	t.Helper()
	got, err := contentOf(t.Context(), m, email, 0, 1<<30)
	if err != nil || got != want {
		t.Errorf("content of email %d: %d octets, %v; want %d", email, len(got), err, len(want))
	}
}

func TestContent(t *testing.T) {
	for name, change := range map[string]func(*store.Options){
		"staged":     func(*store.Options) {},
		"NoStaging":  func(o *store.Options) { o.NoStaging = true },
		"StagedMax":  func(o *store.Options) { o.StagedMax = 100 },
		"disk cache": func(o *store.Options) { o.NoStaging, o.BlobCacheDir, o.BlobCacheBytes = true, t.TempDir(), 1 },
	} {
		t.Run(name, func(t *testing.T) {
			c := storetest.Config(t)
			s := storetest.Open(t, c, change)
			u := storetest.Account(t, s, "a@one.test")
			m := open(t, s, u, "INBOX")
			texts := []string{"", "x", letter(1, 500), letter(2, 128<<10), letter(3, 128<<10-30), letter(4, 1<<20), letter(5, 5<<20), strings.Repeat("y", 3<<20)}
			const prefix = "Return-Path: <>\r\n"
			ids := deliver(t, s, m, prefix, texts...)
			fresh := storetest.Open(t, c, change) // which has nothing in memory
			for _, s := range []*store.Store{s, fresh, fresh} {
				m := open(t, s, u, "INBOX")
				for i, text := range texts {
					checkContent(t, m, ids[i], prefix+text)
				}
			}
			for _, text := range texts {
				received := receive(t, s, m.Tenant, text)
				got, err := rangeOf(t.Context(), s.Received(received), int64(len(text)/3), int64(len(text)))
				if err != nil || got != text[len(text)/3:] {
					t.Errorf("of %d octets received, %d behind the first third, %v", len(text), len(got), err)
				}
			}
			random := rand.New(rand.NewPCG(1, 2))
			for range 200 {
				i := random.IntN(len(texts))
				want := prefix + texts[i]
				off := random.IntN(len(want) + 1)
				n := random.IntN(len(want) + 10)
				got, err := contentOf(t.Context(), m, ids[i], int64(off), int64(n))
				if want := want[off:min(off+n, len(want))]; err != nil || got != want {
					t.Fatalf("message %d [%d, +%d): %d octets, %v; want %d", i, off, n, len(got), err, len(want))
				}
			}
		})
	}
}

// The meta of a message is the same whether it came in one piece or by the pipe, and sizes are those with the prefix.
func TestEmails(t *testing.T) {
	s := storetest.New(t)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	const prefix = "Return-Path: <>\r\n"
	texts := []string{letter(1, 500), letter(2, 300<<10), letter(3, 700)}
	ids := deliver(t, s, m, prefix, texts...)
	asked := []id.Email{ids[2], 1000, ids[0], ids[1]}
	var got []store.Email
	if err := m.Emails(t.Context(), asked, func(e store.Email) error {
		got = append(got, e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("%d emails, want 3", len(got))
	}
	for i, at := range []int{2, 0, 1} {
		e, want := got[i], prefix+texts[at]
		if e.ID != ids[at] || e.Size != int64(len(want)) || e.Meta.Size != e.Size || e.EmailID == "" || e.ThreadID == "" {
			t.Errorf("email %d: %+v, size %d", at, e, len(want))
		}
		if subject := fmt.Sprintf("letter %d", at+1); e.Meta.Envelope.Subject != subject {
			t.Errorf("subject %q, want %q", e.Meta.Envelope.Subject, subject)
		}
		body := e.Meta.Root.Body
		if text, err := contentOf(t.Context(), m, e.ID, body.Off, body.Len); err != nil || text != want[strings.Index(want, "\r\n\r\n")+4:] {
			t.Errorf("body of email %d: %d octets, %v", at, len(text), err)
		}
	}
	stop := errors.New("stop")
	if err := m.Emails(t.Context(), asked, func(store.Email) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of yield: %v", err)
	}
	if _, err := m.Content(t.Context(), 1000); !errors.Is(err, store.ErrExpunged) {
		t.Errorf("content of no email: %v", err)
	}
}

func TestReceiveLimits(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) { o.MaxMessage = 300 << 10 })
	u := storetest.Account(t, s, "a@one.test")
	for size, want := range map[int]error{300 << 10: nil, 300<<10 + 1: store.ErrTooBig, 2 << 20: store.ErrTooBig} {
		r := &io.LimitedReader{R: repeat('a'), N: int64(size)}
		c, err := s.Receive(t.Context(), u.Tenant, r)
		if !errors.Is(err, want) {
			t.Errorf("%d octets: %v, want %v", size, err, want)
		}
		if read := int64(size) - r.N; read > 300<<10+1 {
			t.Errorf("of %d octets %d were read", size, read)
		}
		if c != nil && c.Size != int64(size) {
			t.Errorf("size %d, want %d", c.Size, size)
		}
	}
	broken := errors.New("broken")
	for _, size := range []int{0, 100, 200 << 10} {
		r := io.MultiReader(bytes.NewReader(make([]byte, size)), iotest.ErrReader(broken))
		if _, err := s.Receive(t.Context(), u.Tenant, r); !errors.Is(err, broken) {
			t.Errorf("reader that breaks after %d octets: %v", size, err)
		}
	}
}

// repeat reads as one octet for ever.
type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

// Without object storage small mail is taken, large mail is not, and nothing of it is left; then all goes on.
func TestBucketAway(t *testing.T) {
	bucket, c := &blobtest.Memory{}, storetest.Config(t)
	inMemory := func(o *store.Options) { o.Bucket = bucket }
	s := storetest.Open(t, c, inMemory)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	small, large := letter(1, 1000), letter(2, 1<<20)
	before := deliver(t, s, m, "", large)
	bucket.SetAway(true)
	ids := deliver(t, s, m, "", small)
	if _, err := s.Receive(t.Context(), u.Tenant, strings.NewReader(letter(3, 1<<20))); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("large message without object storage: %v", err)
	}
	checkContent(t, m, ids[0], small)
	other := storetest.Open(t, c, inMemory)
	if _, err := contentOf(t.Context(), open(t, other, u, "INBOX"), before[0], 0, 100); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("reading without object storage: %v", err)
	}
	bucket.SetAway(false)
	checkContent(t, open(t, other, u, "INBOX"), before[0], large)
	checkContent(t, m, deliver(t, s, m, "", letter(3, 1<<20))[0], letter(3, 1<<20))
}

// Contents gives every content in the order asked, however it lies: staged, in
// packs, in objects, cached or not, more than once, or gone.
func TestContents(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	var texts []string
	for i := range 60 {
		texts = append(texts, letter(uint64(i), 100+i*i*20))
	}
	texts = append(texts, letter(100, 1<<20), letter(101, 300<<10), "")
	ids := deliver(t, s, m, "X: y\r\n", texts...)
	want := make(map[id.Email]string)
	for i, email := range ids {
		want[email] = "X: y\r\n" + texts[i]
	}
	asked := append([]id.Email{ids[5], 1000}, ids...)
	asked = append(asked, ids[7], ids[60], 1001)
	for range 3 {
		fresh := open(t, storetest.Open(t, c), u, "INBOX")
		for range 2 {
			var got []id.Email
			if err := fresh.Contents(t.Context(), asked, func(email id.Email, r message.Reader) error {
				got = append(got, email)
				text, err := rangeOf(t.Context(), r, 0, 1<<30)
				if err != nil || text != want[email] {
					t.Errorf("email %d: %d octets, %v; want %d", email, len(text), err, len(want[email]))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			exist := slices.DeleteFunc(slices.Clone(asked), func(e id.Email) bool { return want[e] == "" })
			if !slices.Equal(got, exist) {
				t.Errorf("emails %d, want %d", got, exist)
			}
		}
		pack(t, c, s, u.Tenant)
	}
	stop := errors.New("stop")
	if err := m.Contents(t.Context(), asked, func(id.Email, message.Reader) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of yield: %v", err)
	}
}

// pack moves some of what is staged into an object, as the pack job does.
func pack(t *testing.T, c *testdb.Cluster, s *store.Store, tenant id.Tenant) {
	t.Helper()
	ctx := t.Context()
	var object []byte
	key := fmt.Sprintf("t%d/p/test-%d", tenant, rand.Int64())
	if err := s.Transact(ctx, tenant, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT digest, data FROM staged_0 WHERE tenant_id = $1 ORDER BY digest LIMIT 20`, tenant)
		if err != nil {
			return err
		}
		type staged struct{ Digest, Data []byte }
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[staged])
		if err != nil {
			return err
		}
		for _, r := range all {
			if _, err := tx.Exec(ctx, `UPDATE blob SET slot = NULL, object_key = $3, object_off = $4 WHERE tenant_id = $1 AND digest = $2`, tenant, r.Digest, key, len(object)); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `DELETE FROM staged_0 WHERE tenant_id = $1 AND digest = $2`, tenant, r.Digest); err != nil {
				return err
			}
			object = append(object, r.Data...)
		}
		return storetest.Bucket(t, c).Put(ctx, key, bytes.NewReader(object), int64(len(object)))
	}); err != nil {
		t.Fatal(err)
	}
}

// Content that moves between the look at its place and the reading of it is found where it is now.
func TestContentMoves(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	u := storetest.Account(t, s, "a@one.test")
	m := open(t, s, u, "INBOX")
	text := letter(1, 1000)
	ids := deliver(t, s, m, "", text)
	pack(t, c, s, u.Tenant)
	fresh := storetest.Open(t, c)
	r, err := open(t, fresh, u, "INBOX").Content(t.Context(), ids[0]) // in the first pack
	if err != nil {
		t.Fatal(err)
	}
	var old string
	if err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT object_key FROM blob`).Scan(&old)
	}); err != nil {
		t.Fatal(err)
	}
	bucket := storetest.Bucket(t, c)
	object, err := bucket.Get(t.Context(), old, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := io.ReadAll(object)
	if err != nil {
		t.Fatal(err)
	}
	object.Close()
	if err := bucket.Put(t.Context(), "elsewhere", io.MultiReader(strings.NewReader("---"), bytes.NewReader(stored)), int64(len(stored))+3); err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Delete(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE blob SET object_key = 'elsewhere', object_off = 3`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := rangeOf(t.Context(), r, 0, 1<<30); err != nil || got != text {
		t.Errorf("content that has moved: %d octets, %v; want %d", len(got), err, len(text))
	}
	if _, err := bucket.Delete(t.Context(), "elsewhere"); err != nil {
		t.Fatal(err)
	}
	if _, err := contentOf(t.Context(), open(t, storetest.Open(t, c), u, "INBOX"), ids[0], 0, 10); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("content that is lost: %v, want %v", err, blob.ErrDamaged)
	}
}

// Staging that is full takes no more, in all or of one tenant, and takes again when it has been packed.
func TestStagingBound(t *testing.T) {
	s := storetest.New(t, func(o *store.Options) { o.StagingBound = 40_000 })
	one, two := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "a@two.test")
	fillUp := func(u store.User) (n int) {
		m := open(t, s, u, "INBOX")
		for ; n < 100; n++ {
			c, err := s.Receive(t.Context(), u.Tenant, strings.NewReader(letter(uint64(n)+1000*uint64(u.Tenant), 2000)))
			if errors.Is(err, store.ErrUnavailable) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Append(t.Context(), store.Incoming{Content: c}); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	first := fillUp(one)
	second := fillUp(two)
	if first < 10 || first > 20 || second < 3 || second > first/2 {
		t.Errorf("staged %d and %d messages, want about 18 and a third of it", first, second)
	}
	for _, u := range []store.User{one, two} {
		if err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `DELETE FROM staged_0 WHERE tenant_id = $1`, u.Tenant)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := s.Receive(t.Context(), two.Tenant, strings.NewReader(letter(1, 2000)))
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) {
			t.Fatalf("staging is empty: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
