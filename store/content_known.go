package store

import (
	"fmt"

	"github.com/maypok86/otter/v2"
)

// knownContents remembers what never changes of the contents of emails that
// were read, so that cached content is found without the database.
type knownContents struct {
	entries *otter.Cache[emailKey, *emailContent]
}

// knownBytes bounds it, in octets.
const knownBytes = 8 << 20

func newKnownContents() (*knownContents, error) {
	entries, err := otter.New(&otter.Options[emailKey, *emailContent]{
		MaximumWeight: knownBytes,
		Weigher: func(_ emailKey, c *emailContent) uint32 {
			return uint32(len(c.prefix) + 8*len(c.layout.Frames) + 250)
		},
		Executor: func(f func()) { f() }, // on eviction, in the caller's goroutine: none is left behind
	})
	if err != nil {
		return nil, fmt.Errorf("cache of known contents: %w", err)
	}
	return &knownContents{entries}, nil
}

func (k *knownContents) get(key emailKey) (*emailContent, bool) { return k.entries.GetIfPresent(key) }
func (k *knownContents) put(key emailKey, c *emailContent)      { k.entries.Set(key, c) }
func (k *knownContents) drop(key emailKey)                      { k.entries.Invalidate(key) }
