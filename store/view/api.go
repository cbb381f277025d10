// Package view is a mailbox at one MODSEQ, and the differences between two
// such states. Views are immutable values that share what did not change; they
// are built from segments and log records, whose encodings live here too. No
// clock, no socket, no database.
package view

import (
	"iter"
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
)

// MaxKeywords is how many keywords one mailbox can define.
const MaxKeywords = 128

// Keywords is a set of keywords: bit i stands for name i of the mailbox's
// keyword table (View.Keywords).
type Keywords [2]uint64

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
}

// UIDSet is a set of UIDs as ascending, disjoint, non-adjacent ranges. It is
// a value: no method changes it.
type UIDSet struct{ ranges []Range }

// Range is an inclusive range of UIDs.
type Range struct{ First, Last id.UID }

func NewUIDSet(uids ...id.UID) UIDSet    { panic("skeleton") }
func UIDSetOf(ranges ...Range) UIDSet    { panic("skeleton") } // in any order, overlapping allowed
func (s UIDSet) Ranges() []Range         { panic("skeleton") } // must not be changed
func (s UIDSet) Len() int                { panic("skeleton") } // number of UIDs
func (s UIDSet) Empty() bool             { panic("skeleton") }
func (s UIDSet) Contains(id.UID) bool    { panic("skeleton") }
func (s UIDSet) Max() id.UID             { panic("skeleton") } // 0 if empty
func (s UIDSet) Rank(id.UID) int         { panic("skeleton") } // how many of s are <= uid: the message number of a uid in s
func (s UIDSet) Select(n int) id.UID     { panic("skeleton") } // the n-th smallest from 1: the UID of message number n; 0 if none
func (s UIDSet) All() iter.Seq[id.UID]   { panic("skeleton") }
func (s UIDSet) Union(UIDSet) UIDSet     { panic("skeleton") }
func (s UIDSet) Intersect(UIDSet) UIDSet { panic("skeleton") }
func (s UIDSet) Minus(UIDSet) UIDSet     { panic("skeleton") }
func (s UIDSet) String() string          { panic("skeleton") } // sequence-set form, "" if empty

// Counts are the figures of a view, for STATUS and the mailbox row.
type Counts struct {
	Messages, Unseen, Deleted int64
	Bytes, DeletedBytes       int64 // sums of Message.Size
}

// View is a mailbox at one MODSEQ.
type View struct{}

// New returns the empty view of a mailbox that has given out no message.
func New(uidNext id.UID, modSeq id.ModSeq, keywords []string) *View { panic("skeleton") }

func (v *View) ModSeq() id.ModSeq                          { panic("skeleton") }
func (v *View) UIDNext() id.UID                            { panic("skeleton") }
func (v *View) Len() int                                   { panic("skeleton") }
func (v *View) Counts() Counts                             { panic("skeleton") }
func (v *View) Keywords() []string                         { panic("skeleton") } // the keyword table; must not be changed
func (v *View) At(i int) Message                           { panic("skeleton") } // i from 0, ascending UID
func (v *View) Find(uid id.UID) (Message, bool)            { panic("skeleton") }
func (v *View) UIDs() UIDSet                               { panic("skeleton") }
func (v *View) All() iter.Seq[Message]                     { panic("skeleton") } // ascending UID
func (v *View) In(UIDSet) iter.Seq[Message]                { panic("skeleton") } // those of the set that exist, ascending
func (v *View) ChangedSince(id.ModSeq) iter.Seq[Message]   { panic("skeleton") } // with a higher MODSEQ; skips untouched chunks
func (v *View) Weight() int                                { panic("skeleton") } // bytes of memory, about
func (v *View) Apply(m id.ModSeq, r Record) (*View, error) { panic("skeleton") } // m must be ModSeq()+1; an error says the record does not fit

// Record is what one command changed, in order, at one MODSEQ.
type Record []Op

// Op is Append, SetFlags, Expunge or DefineKeyword.
type Op interface{ op() }

type (
	// Append adds messages. In the encoded form UIDs and Email numbers are
	// relative to bases that the database gives out, so that APPEND needs no
	// look at the mailbox before it: Decode adds the bases.
	Append struct{ Messages []Message } // ModSeq is ignored: it is that of the record
	// SetFlags changes the flags of messages that exist, all of which take the record's MODSEQ.
	SetFlags struct {
		UIDs     UIDSet
		Mode     Mode
		Flags    Flags
		Keywords Keywords
	}
	// Expunge removes messages, and keeps what they were for undelete.
	Expunge struct{ Messages []Message }
	// DefineKeyword gives the next bit of Keywords a name.
	DefineKeyword struct{ Name string }
)

// Mode says what SetFlags does with its flags.
type Mode uint8

const (
	Add Mode = iota
	Remove
	Replace
)

// Encode returns the stored form of r: a version, the operations, a CRC-32C.
// Append's UIDs and Emails are written relative to uidBase and emailBase (the first message
// of an APPEND whose numbers are not known yet has UID 1 and Email 1 relative to bases of 0).
func (r Record) Encode(uidBase id.UID, emailBase id.Email) []byte                  { panic("skeleton") }
func DecodeRecord(data []byte, uidBase id.UID, emailBase id.Email) (Record, error) { panic("skeleton") }

// EncodeSegment returns the folded form of messages, ascending by UID: columns, zstd, version, CRC-32C.
func EncodeSegment(messages []Message) []byte      { panic("skeleton") }
func DecodeSegment(data []byte) ([]Message, error) { panic("skeleton") }

// Load builds a view from decoded segments, ascending, at the folded MODSEQ. The log is then applied with Apply.
func Load(modSeq id.ModSeq, uidNext id.UID, keywords []string, segments [][]byte) (*View, error) {
	panic("skeleton")
}

// Told is what one client has been told of a mailbox. The zero value is a client that knows nothing.
type Told struct {
	UIDs UIDSet // what the client counts as messages, in order
	// ModSeq is up to where flags and arrivals have been told; Covered is up to where everything has, expunges too:
	// a HIGHESTMODSEQ or MODSEQ-covering code sent to the client must not exceed it.
	ModSeq, Covered id.ModSeq
	Keywords        int // how many of the keyword table the client has seen in FLAGS
}

// Update is Expunged, Exists, Changed or FlagsDefined.
type Update interface{ update() }

type (
	Expunged struct {
		UIDs    UIDSet
		Numbers []uint32
	} // Numbers: the EXPUNGE responses to send, in this order (descending, so that none shifts another)
	Exists struct {
		Messages uint32
		New      UIDSet
	}
	Changed struct {
		Number  uint32
		Message Message
	}
	FlagsDefined struct{ Keywords []string }
)

// Diff returns what brings a client from what it has been told to now, and what it has been told then.
// Where no EXPUNGE may be sent messages that are gone stay in it until the next time.
func Diff(told Told, now *View, expunges bool) ([]Update, Told) { panic("skeleton") }
