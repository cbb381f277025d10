package kerberos

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailstead.dev/auth/kerberos/krbtest"
)

// Whatever a client begins with that no KDC has made is refused, and nothing else happens.
func FuzzAccept(f *testing.F) {
	keys := NewKeytab(filepath.Join(f.TempDir(), "keytab"))
	var valid []byte
	var made time.Time
	f.Add([]byte{0x60, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01, 0x00})
	f.Add([]byte{0x60})
	f.Fuzz(func(t *testing.T, token []byte) {
		if time.Since(made) > maxSkew/5 { // or what is laid over would soon be refused for its age alone
			kdc := krbtest.New(t)
			valid, made = kdc.Client(krbtest.Ask{}).Token, time.Now()
			text, err := os.ReadFile(kdc.Keytab)
			if err := errors.Join(err, os.WriteFile(keys.file, text, 0o600)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := keys.Accept("imap", netip.Addr{}, valid); err != nil {
				t.Fatal(err)
			}
		}
		for _, try := range [][]byte{token, overlaid(valid, token)} {
			if c, _, err := keys.Accept("imap", netip.Addr{}, try); err == nil && (c.Name != "jane" || c.Realm != krbtest.Realm) { // some of a token is not protected, and says nothing
				t.Errorf("%x is taken as %s of %s", try, c.Name, c.Realm)
			}
		}
	})
}

// What was shown is remembered for as long as it could be shown again, up to a bound.
func TestReplays(t *testing.T) {
	var r replays
	now := time.Now()
	one := func(n int) []byte { return []byte{byte(n), byte(n >> 8), byte(n >> 16)} }
	for n := range mostSeen {
		if err := r.add(one(n), now); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		n     int
		after time.Duration
		taken bool
	}{{7, 0, false}, {mostSeen, 0, false}, {7, 2*maxSkew - 1, false}, {7, 2*maxSkew + time.Minute, true}, {mostSeen, 2*maxSkew + time.Minute, true}} {
		if err := r.add(one(test.n), now.Add(test.after)); (err == nil) != test.taken {
			t.Errorf("%d after %v: %v", test.n, test.after, err)
		}
	}
	if len(r.until) != 2 {
		t.Errorf("%d are remembered", len(r.until))
	}
}

// overlaid is a token with another laid over some of it: at the place that its first octets say.
func overlaid(token, over []byte) []byte {
	token = append([]byte(nil), token...)
	if len(over) > 2 {
		copy(token[(int(over[0])<<8+int(over[1]))%len(token):], over[2:])
	}
	return token
}
