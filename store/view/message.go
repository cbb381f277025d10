package view

import (
	"sync/atomic"
	"time"

	"mailstead.dev/store/id"
)

// Flags is a set of system flags (RFC 9051 section 2.3.2).
type Flags uint8

// The system flags; \Recent is not among them, for it belongs to a session.
const (
	Seen Flags = 1 << iota
	Answered
	Flagged
	Deleted
	Draft

	// AllFlags are all of them.
	AllFlags = Seen | Answered | Flagged | Deleted | Draft
)

// MaxKeywords is how many keywords one mailbox can define.
const MaxKeywords = 128

// Keywords is a set of keywords: bit i stands for name i of the mailbox's
// keyword table (View.Keywords).
type Keywords [2]uint64

// KeywordBit returns the set that holds only keyword i.
func KeywordBit(i int) Keywords {
	var k Keywords
	k[i/64] = 1 << (i % 64)
	return k
}

// Has reports whether keyword i is in the set.
func (k Keywords) Has(i int) bool { return k[i/64]>>(i%64)&1 != 0 }

// Union returns the keywords of k and of o.
func (k Keywords) Union(o Keywords) Keywords { return Keywords{k[0] | o[0], k[1] | o[1]} }

// Minus returns the keywords of k that are not in o.
func (k Keywords) Minus(o Keywords) Keywords { return Keywords{k[0] &^ o[0], k[1] &^ o[1]} }

// within reports whether the set names only keywords of a table of n.
func (k Keywords) within(n int) bool {
	if n < 64 {
		return k[0]>>n == 0 && k[1] == 0
	}
	return k[1]>>(n-64) == 0
}

// Message is what a mailbox knows of one of its messages.
type Message struct {
	UID          id.UID
	Email        id.Email
	ModSeq       id.ModSeq // of its last change
	Flags        Flags
	Keywords     Keywords
	InternalDate time.Time // whole seconds, with the zone that the client gave
	SaveDate     time.Time // whole seconds, UTC (RFC 8514)
	Size         int64     // RFC822.SIZE, octets

	// SharedModSeq is that of the last change that others than the owner see, 0 where it is ModSeq.
	SharedModSeq id.ModSeq
}

// sharedModSeq is what others than the owner see as the message's MODSEQ.
func (m *Message) sharedModSeq() id.ModSeq {
	if m.SharedModSeq == 0 {
		return m.ModSeq
	}
	return m.SharedModSeq
}

// Counts are the figures of a view, for STATUS and the mailbox row.
type Counts struct {
	Messages, Unseen, Deleted int64
	Bytes, DeletedBytes       int64 // sums of Message.Size
}

// add counts a message with these flags and size n times; n is 1 or -1.
func (c *Counts) add(flags Flags, size, n int64) {
	c.Messages += n
	c.Bytes += n * size
	if flags&Seen == 0 {
		c.Unseen += n
	}
	if flags&Deleted != 0 {
		c.Deleted += n
		c.DeletedBytes += n * size
	}
}

// maxZone is the widest zone offset that is kept, in minutes: what +9959 of
// the date-time syntax amounts to (RFC 9051 section 9).
const maxZone = 99*60 + 59

// zoneOf returns the offset of t's zone in minutes.
func zoneOf(t time.Time) int16 {
	_, seconds := t.Zone()
	return int16(min(max(seconds/60, -maxZone), maxZone))
}

// zones holds a Location for each offset that has been used, so that reading a
// message allocates nothing.
var zones [2*maxZone + 1]atomic.Pointer[time.Location]

// inZone returns the time that is so many seconds after the epoch, in the zone
// with the offset of so many minutes.
func inZone(seconds int64, minutes int16) time.Time {
	t := time.Unix(seconds, 0)
	if minutes == 0 {
		return t.UTC()
	}
	zone := zones[int(minutes)+maxZone].Load()
	if zone == nil {
		zone = time.FixedZone("", int(minutes)*60)
		zones[int(minutes)+maxZone].Store(zone)
	}
	return t.In(zone)
}
