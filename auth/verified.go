package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/maypok86/otter/v2"

	"mailstead.dev/store"
)

// loginKey stands for a login, the password given and the hash it was verified
// against: none of them can be had from it without the process's own key, and
// another hash (after a change of the password) is another loginKey.
type loginKey [sha256.Size]byte

// verified remembers for a short time which passwords were right.
type verified struct {
	secret  [32]byte
	entries *otter.Cache[loginKey, struct{}] // nil: remembers nothing
}

func newVerified(ttl time.Duration, entries int) *verified {
	v := new(verified)
	rand.Read(v.secret[:])
	if ttl > 0 {
		v.entries = otter.Must(&otter.Options[loginKey, struct{}]{
			MaximumSize:      entries,
			ExpiryCalculator: otter.ExpiryWriting[loginKey, struct{}](ttl),
		})
	}
	return v
}

func (v *verified) key(account store.Login, p password) loginKey {
	mac := hmac.New(sha256.New, v.secret[:])
	for _, s := range []string{account.User.Login, p.prepared, p.given, account.Password} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		mac.Write(length[:])
		mac.Write([]byte(s))
	}
	return loginKey(mac.Sum(nil))
}

func (v *verified) has(k loginKey) bool {
	if v.entries == nil {
		return false
	}
	_, ok := v.entries.GetIfPresent(k)
	return ok
}

func (v *verified) add(k loginKey) {
	if v.entries != nil {
		v.entries.Set(k, struct{}{})
	}
}
