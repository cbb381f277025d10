package store

import (
	"fmt"

	"github.com/maypok86/otter/v2"
)

// knownEmails keeps rows of emails that were read, in their stored form. They
// are written once, and their numbers are never used again, so nothing here
// ever goes stale; a list of messages that is shown again costs no query.
type knownEmails struct {
	entries *otter.Cache[emailKey, *emailRow]
}

// knownEmailBytes bounds it, in octets: some 80,000 emails.
const knownEmailBytes = 64 << 20

func newKnownEmails() (*knownEmails, error) {
	entries, err := otter.New(&otter.Options[emailKey, *emailRow]{
		MaximumWeight: knownEmailBytes,
		Weigher:       func(_ emailKey, r *emailRow) uint32 { return uint32(len(r.Prefix) + len(r.Meta) + 300) },
		Executor:      func(f func()) { f() }, // on eviction, in the caller's goroutine: none is left behind
	})
	if err != nil {
		return nil, fmt.Errorf("cache of known emails: %w", err)
	}
	return &knownEmails{entries}, nil
}

func (k *knownEmails) get(key emailKey) (*emailRow, bool) { return k.entries.GetIfPresent(key) }
func (k *knownEmails) put(key emailKey, r *emailRow)      { k.entries.Set(key, r) }
