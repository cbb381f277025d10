package store

import (
	"errors"
	"fmt"

	"github.com/maypok86/otter/v2"
)

// knownEmails keeps emails that were read: many in their stored form, and of
// those that are asked for most what it says. They are written once, and their
// numbers are never used again, so nothing here ever goes stale; a list of
// messages that is shown again costs no query.
type knownEmails struct {
	rows   *otter.Cache[emailKey, *emailRow]
	emails *otter.Cache[emailKey, Email]
}

// These bound it, in octets: some 80,000 rows, and of 10,000 what they say.
const (
	knownRowBytes   = 64 << 20
	knownEmailBytes = 64 << 20
)

func newKnownEmails() (*knownEmails, error) {
	rows, rowsErr := otter.New(&otter.Options[emailKey, *emailRow]{
		MaximumWeight: knownRowBytes,
		Weigher:       func(_ emailKey, r *emailRow) uint32 { return uint32(len(r.Prefix) + len(r.Meta) + 300) },
		Executor:      func(f func()) { f() }, // on eviction, in the caller's goroutine: none is left behind
	})
	emails, emailsErr := otter.New(&otter.Options[emailKey, Email]{
		MaximumWeight: knownEmailBytes,
		Weigher:       func(_ emailKey, e Email) uint32 { return uint32(e.Meta.Weight() + 300) },
		Executor:      func(f func()) { f() },
	})
	if err := errors.Join(rowsErr, emailsErr); err != nil {
		return nil, fmt.Errorf("cache of known emails: %w", err)
	}
	return &knownEmails{rows, emails}, nil
}
