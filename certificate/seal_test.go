package certificate

import (
	"bytes"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"mailstead.dev/certificate/certtest"
	"mailstead.dev/store"
)

func seals(t *testing.T, lines ...string) *Seals {
	t.Helper()
	s, err := parseSeals(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeals(t *testing.T) {
	first, second := certtest.SealKey(), certtest.SealKey()
	for _, wrong := range []string{"", "# nothing\n", "c2hvcnQ=", "not base64 \x00", first + "\n" + first[1:], strings.Repeat(first+"\n", 2) + strings.Join(many(16), "\n")} {
		if _, err := parseSeals(wrong); err == nil || len(wrong) > 0 && strings.Contains(err.Error(), strings.TrimSpace(wrong)) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	pair, other := certtest.Pair(t, time.Hour, "b.test", "A.test", "a.test"), certtest.RSA(t, time.Hour, "a.test")
	old := seals(t, "# the first", first)
	c, kept, err := old.Seal(pair, "", store.SourceAdded)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(c.Names, " ") != "a.test b.test" || c.Algorithm != "ECDSA" || c.SealedBy != old.By() || !c.Ends.Equal(pair.Leaf.NotAfter) {
		t.Errorf("kept is %+v", c)
	}
	_, otherKept, err := old.Seal(other, "", store.SourceAdded)
	if err != nil {
		t.Fatal(err)
	}
	opens := func(s *Seals, kept store.SealedCertificate, want tls.Certificate) {
		t.Helper()
		got, err := s.Open(kept)
		if err != nil || !bytes.Equal(got.Certificate[0], want.Certificate[0]) {
			t.Fatalf("%+v, %v", got, err)
		}
		if own, ok := want.PrivateKey.(interface{ Equal(any) bool }); ok && !own.Equal(got.PrivateKey) {
			t.Error("another key")
		}
	}
	opens(old, kept, pair)
	opens(old, otherKept, other)
	both := seals(t, second, first)
	if both.By() == old.By() {
		t.Error("what comes later seals")
	}
	opens(both, kept, pair)
	anew, err := both.Reseal(kept)
	if err != nil {
		t.Fatal(err)
	}
	opens(seals(t, second), anew, pair)
	if _, err := seals(t, second).Open(kept); !errors.Is(err, errNoSeal) {
		t.Errorf("without its seal: %v", err)
	}

	// No key opens for another certificate, nor where anything has changed.
	for name, spoil := range map[string]func(c *store.SealedCertificate){
		"another's key":         func(c *store.SealedCertificate) { c.Sealed = otherKept.Sealed },
		"another's certificate": func(c *store.SealedCertificate) { c.Chain = otherKept.Chain },
		"cut":                   func(c *store.SealedCertificate) { c.Sealed = c.Sealed[:20] },
		"nothing":               func(c *store.SealedCertificate) { c.Sealed = nil },
		"no chain":              func(c *store.SealedCertificate) { c.Chain = nil },
		"changed":               func(c *store.SealedCertificate) { c.Sealed = bytes.Clone(c.Sealed); c.Sealed[30] ^= 1 },
	} {
		spoilt := kept
		spoil(&spoilt)
		if _, err := old.Open(spoilt); !errors.Is(err, errSealed) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := old.Reseal(spoilt); !errors.Is(err, errSealed) {
			t.Errorf("%s, sealed anew: %v", name, err)
		}
	}
}

func many(n int) (lines []string) {
	for range n {
		lines = append(lines, certtest.SealKey())
	}
	return lines
}

func FuzzSeals(f *testing.F) {
	f.Add("# key\n" + strings.Repeat("A", 43) + "=\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSeals(text)
		if (err == nil) != (s != nil && s.Knows(s.by) && len(s.all) <= maxSeals) {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	})
}
