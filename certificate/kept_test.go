package certificate

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/certificate/certtest"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// site is a front end's certificates, on a database of its own.
type site struct {
	*testing.T
	*Shown
	store *store.Store
	seals *Seals
	log   strings.Builder
	rest  string
}

func newSite(t *testing.T, s *store.Store, bytes int64) *site {
	t.Helper()
	at := &site{T: t, Shown: new(Shown), store: s, seals: seals(t, certtest.SealKey())}
	dir := t.TempDir()
	at.rest = certtest.Write(t, certtest.Pair(t, 3*time.Hour, "mail.test"), dir, "cert.pem", "key.pem")
	certtest.Write(t, certtest.Pair(t, 2*time.Hour, "in.folder.test"), filepath.Join(dir, "live", "one"), "tls.crt", "tls.key")
	if err := at.Read(Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Folder: filepath.Join(dir, "live")}); err != nil {
		t.Fatal(err)
	}
	kept := NewKept(KeptOptions{Store: s, Bytes: bytes, Logger: slog.New(slog.NewTextHandler(&at.log, nil)), Every: 50 * time.Millisecond})
	kept.Seal(at.seals)
	at.Add(kept)
	return at
}

// put keeps a certificate, and returns it as clients see it.
func (s *site) put(pair tls.Certificate) string {
	s.Helper()
	c, sealed, err := s.seals.Seal(pair, "", store.SourceAdded)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.store.SetCertificate(s.Context(), c, sealed); err != nil {
		s.Fatal(err)
	}
	return string(pair.Certificate[0])
}

func (s *site) look() {
	s.Helper()
	if err := s.kept.Look(s.Context()); err != nil {
		s.Fatal(err)
	}
}

func (s *site) shows(name, want string) {
	s.Helper()
	if shownBy(s.T, s.Shown, name) != want {
		s.Errorf("%q is shown another", name)
	}
}

func (s *site) showsNone(name string) {
	s.Helper()
	if shown, err := handshake(s.T, s.Shown, name); err == nil {
		s.Errorf("%q is shown one, that of others: %t", name, shown == s.rest)
	}
}

// One that does not hold is shown where no other does.
func TestKeptThatHaveEnded(t *testing.T) {
	s := newSite(t, storetest.New(t), 1<<20)
	ended := s.put(certtest.Pair(t, -time.Minute, "imap.one.test"))
	s.put(certtest.Pair(t, -time.Minute, "mail.test"))
	s.look()
	s.shows("imap.one.test", ended)
	s.shows("mail.test", s.rest)
	wild := s.put(certtest.Pair(t, time.Minute, "*.one.test"))
	c, sealed, err := s.seals.Seal(certtest.Later(t, 2*time.Hour, "imap.one.test"), "", store.SourceAdded)
	if err != nil {
		t.Fatal(err)
	}
	c.Algorithm = "later" // beside the one that has ended
	if _, err := s.store.SetCertificate(t.Context(), c, sealed); err != nil {
		t.Fatal(err)
	}
	s.look()
	s.shows("imap.one.test", wild)
}

// Where one cannot be opened, another for its name is shown, also that for all others.
func TestKeptOfTheMainName(t *testing.T) {
	s := newSite(t, storetest.New(t), 1<<20)
	wild := s.put(certtest.Pair(t, time.Hour, "*.one.test"))
	s.look()
	s.shows("imap.one.test", wild)
	lost := &site{T: t, store: s.store, seals: seals(t, certtest.SealKey())}
	for _, name := range []string{"mail.test", "imap.one.test", "alone.test"} {
		lost.put(certtest.Pair(t, 2*time.Hour, name))
	}
	s.look()
	s.shows("mail.test", s.rest)
	s.shows("imap.one.test", wild)
	s.showsNone("alone.test")
}

// A name is without a certificate when the last one for it has ended, wherever that is.
func TestKeptEnds(t *testing.T) {
	s := newSite(t, storetest.New(t), 1<<20)
	ends := func(want time.Duration) {
		t.Helper()
		s.look()
		if left := time.Until(s.Ends()); left > want || left < want-time.Minute {
			t.Errorf("the first ends in %v, want %v", left, want)
		}
	}
	for _, name := range []string{"mail.test", "in.folder.test"} { // of which there are some in files
		s.put(certtest.Pair(t, 10*time.Minute, name))
	}
	ends(2 * time.Hour)
	s.put(certtest.Pair(t, 30*time.Minute, "imap.one.test"))
	ends(30 * time.Minute)
	s.put(certtest.Pair(t, 90*time.Minute, "*.one.test"))
	ends(90 * time.Minute)
	s.put(certtest.Pair(t, 20*time.Minute, "one.test"))
	ends(20 * time.Minute)
}

func TestKept(t *testing.T) {
	c := storetest.Config(t)
	s := newSite(t, storetest.Open(t, c), 1<<20)
	one := s.put(certtest.Pair(t, time.Hour, "imap.one.test"))
	wild := s.put(certtest.Pair(t, time.Hour, "*.one.test", "one.test"))
	s.put(certtest.RSA(t, 2*time.Hour, "imap.one.test")) // which the client does not take
	s.put(certtest.Pair(t, time.Hour, "in.folder.test")) // ends before that of the folder
	s.shows("imap.one.test", s.rest)
	s.look()
	s.shows("imap.one.test", one)
	s.shows("IMAP.one.test", one)
	s.shows("other.one.test", wild)
	s.shows("one.test", wild)
	s.shows("one.two.test", s.rest)
	s.shows("", s.rest)
	if shown := shownBy(t, s.Shown, "in.folder.test"); shown == s.rest || shown != string(s.files.Load().byName["in.folder.test"][0].Certificate[0]) {
		t.Error("a certificate that ends sooner is shown")
	}
	if left := time.Until(s.Ends()); left > time.Hour || left < 59*time.Minute {
		t.Errorf("the first ends in %v", left)
	}

	// Another in its place.
	renewed := s.put(certtest.Pair(t, 3*time.Hour, "imap.one.test"))
	s.shows("imap.one.test", one)
	s.look()
	s.shows("imap.one.test", renewed)

	// A name that is not there is nothing to ask the database for; nor is one that was shown, which goes on being so while it is away.
	unread := s.put(certtest.Pair(t, time.Hour, "late.test"))
	s.look()
	c.SetAway(t, true)
	for range 100 {
		s.shows("nobody.test", s.rest)
		s.shows("imap.one.test", renewed)
	}
	if _, err := handshake(t, s.Shown, "late.test"); err == nil {
		t.Error("something is shown in the place of what cannot be read")
	}
	if err := s.kept.Look(t.Context()); err == nil {
		t.Error("the database is away, and was asked")
	}
	s.shows("imap.one.test", renewed)
	c.SetAway(t, false)
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		shown, err := handshake(t, s.Shown, "late.test")
		if err == nil {
			if shown != unread {
				t.Error("another is shown")
			}
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal(err)
		}
	}

	// Without seals there are none. What is sealed by another one ends the handshake, and so does what is damaged, and the log says so once.
	s.kept.Seal(nil)
	s.shows("imap.one.test", s.rest)
	s.log.Reset()
	s.kept.Seal(seals(t, certtest.SealKey()))
	s.put(certtest.Pair(t, time.Hour, "another.test"))
	s.look()
	s.showsNone("imap.one.test")
	s.shows("in.folder.test", string(s.files.Load().byName["in.folder.test"][0].Certificate[0]))
	s.shows("nobody.test", s.rest)
	if err := s.kept.Look(t.Context()); err != nil || strings.Count(s.log.String(), "cannot be shown whose keys") != 1 { // of one more than without seals
		t.Errorf("%v, and the log is %s", err, &s.log)
	}
	s.kept.Seal(s.seals)
	s.shows("imap.one.test", renewed)
	_, sealed, err := s.seals.Seal(certtest.Pair(t, time.Hour, "damaged.test"), "", store.SourceAdded)
	if err != nil {
		t.Fatal(err)
	}
	sealed.Sealed[30] ^= 1
	_, err = s.store.SetCertificate(t.Context(), store.Certificate{
		Names: []string{"damaged.test"}, Algorithm: "ECDSA", Begins: time.Now(), Ends: time.Now().Add(time.Hour), Source: store.SourceAdded, SealedBy: s.seals.By(),
	}, sealed)
	if err != nil {
		t.Fatal(err)
	}
	s.look()
	for range 3 {
		s.showsNone("damaged.test")
	}
	if n := strings.Count(s.log.String(), "a certificate cannot be shown"); n != 1 {
		t.Errorf("%d lines of it: %s", n, &s.log)
	}

	// What is deleted is shown no more.
	all, err := s.store.Certificates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if err := s.store.DeleteCertificate(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	s.look()
	s.shows("imap.one.test", s.rest)
}

// A name whose certificate cannot be opened has nobody ask the database, however many clients ask for it, and so none wait.
func TestKeptWithoutItsSeal(t *testing.T) {
	s := newSite(t, storetest.New(t), 1<<20)
	s.put(certtest.Pair(t, time.Hour, "opened.test"))
	s.put(certtest.Pair(t, time.Hour, "other.test"))
	s.look()
	if _, err := handshake(t, s.Shown, "opened.test"); err != nil {
		t.Error(err)
	}
	s.kept.Seal(seals(t, certtest.SealKey()))
	for range readAtOnce {
		s.kept.turns <- struct{}{} // as if as many were being read, which takes long
	}
	began := time.Now()
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() { s.showsNone("opened.test") })
		clients.Go(func() { s.showsNone("other.test") })
	}
	clients.Wait()
	if took := time.Since(began); took > readTime/2 {
		t.Errorf("they have waited for %v", took)
	}
}

// Many clients at once, and more certificates than there is room for: each is shown its own.
func TestKeptIsBounded(t *testing.T) {
	const certificates = 40
	room := int64(10 * weight(nil))
	s := newSite(t, storetest.New(t), room)
	want := make([]string, certificates)
	for n := range want {
		want[n] = s.put(certtest.Pair(t, time.Hour, fmt.Sprintf("host%d.test", n)))
	}
	ctx, stop := context.WithCancel(t.Context())
	var watching, clients sync.WaitGroup
	watching.Go(func() { s.kept.Watch(ctx) })
	defer watching.Wait()
	defer stop()
	for began := time.Now(); len(s.kept.names.Load().byName) < certificates; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("they are not known")
		}
	}
	for n := range 400 {
		clients.Go(func() {
			shown, err := handshake(t, s.Shown, fmt.Sprintf("host%d.test", n%certificates))
			if err != nil || shown != want[n%certificates] {
				t.Errorf("host%d.test: %v", n%certificates, err)
			}
		})
	}
	clients.Wait()
	s.kept.read.CleanUp()
	if held := s.kept.read.WeightedSize(); held > uint64(room) {
		t.Errorf("%d octets are held, of %d", held, room)
	}
}
