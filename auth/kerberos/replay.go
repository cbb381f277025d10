package kerberos

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"
)

// mostSeen bounds what is remembered, some 10 MB. Who has a ticket can fill it; then what is not mutual is refused, for a forgotten one could be sent again.
const mostSeen = 100_000

// replays are the authenticators that this process has seen, for as long as they could be sent again (RFC 4120 section 3.2.3). Who could send one again
// that another process has seen has read it in TLS.
type replays struct {
	mu    sync.Mutex // guards what follows
	until map[[sha256.Size]byte]time.Time
	next  time.Time // to look which are over
}

// add remembers an authenticator, which is valid, if it is seen for the first time.
func (r *replays) add(encrypted []byte, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.After(r.next) {
		for sum, until := range r.until {
			if now.After(until) {
				delete(r.until, sum)
			}
		}
		r.next = now.Add(time.Minute)
	}
	if r.until == nil {
		r.until = make(map[[sha256.Size]byte]time.Time)
	}
	sum := sha256.Sum256(encrypted)
	_, before := r.until[sum]
	switch {
	case before:
		return errors.New("it was sent before")
	case len(r.until) >= mostSeen:
		return errors.New("too many are shown that are not mutual")
	}
	r.until[sum] = now.Add(2 * maxSkew)
	return nil
}
