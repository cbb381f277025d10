package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/maypok86/otter/v2"
)

// loginKey stands for a login, the password given and what it was verified
// by, a hash or a directory's settings: none of them can be had from it without the process's own key, and
// another hash (after a change of the password) is another loginKey.
type loginKey [sha256.Size]byte

// verified remembers for a time which passwords were right, and the login of whose account they were.
type verified struct {
	secret  [32]byte
	entries *otter.Cache[loginKey, string] // nil: remembers nothing
}

func newVerified(ttl time.Duration, entries int) *verified {
	v := new(verified)
	rand.Read(v.secret[:])
	if ttl > 0 {
		v.entries = otter.Must(&otter.Options[loginKey, string]{
			MaximumSize:      entries,
			ExpiryCalculator: otter.ExpiryWriting[loginKey, string](ttl),
		})
	}
	return v
}

func (v *verified) key(login string, p password, by string) loginKey {
	mac := hmac.New(sha256.New, v.secret[:])
	for _, s := range []string{login, p.prepared, p.given, by} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		mac.Write(length[:])
		mac.Write([]byte(s))
	}
	return loginKey(mac.Sum(nil))
}

func (v *verified) get(k loginKey) (login string, ok bool) {
	if v.entries == nil {
		return "", false
	}
	return v.entries.GetIfPresent(k)
}

func (v *verified) add(k loginKey, login string) {
	if v.entries != nil {
		v.entries.Set(k, login)
	}
}
