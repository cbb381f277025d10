package view

import (
	"encoding/binary"

	"mailstead.dev/store/id"
)

// Record is what one command changed, in order, at one MODSEQ.
type Record []Op

// Op is Append, SetFlags, SetSeen, SeenMode, Expunge or DefineKeyword; in expunge records that are kept, also Vanished.
type Op interface{ op() }

type (
	// Append adds messages, whose UIDs ascend. Their ModSeq is ignored: it is
	// that of the record.
	Append struct{ Messages []Message }

	// SetFlags changes the flags of those of UIDs that exist, of which there
	// is at least one; all take the record's MODSEQ. A wide set, 1:1000, stays
	// short whatever is missing in it.
	SetFlags struct {
		UIDs     UIDSet
		Mode     Mode
		Flags    Flags
		Keywords Keywords
		Own      bool // it adds or removes no more than the owner's \Seen, of which others see nothing
	}

	// SetSeen changes a reader's own \Seen of those of UIDs that exist, of which there is at least one. To
	// the reader they take the record's MODSEQ, to all others nothing changes.
	SetSeen struct {
		Reader id.Account
		Seen   bool
		UIDs   UIDSet
	}

	// SeenMode says from when on all have one \Seen, which is the owner's, or each reader their own, to
	// begin with the owner's as it is then. All messages take the record's MODSEQ.
	SeenMode struct {
		Shared bool
		Seen   UIDSet // what the owner has seen
	}

	// Expunge removes messages, whose UIDs ascend, and keeps what they were
	// for undelete.
	Expunge struct{ Messages []Message }

	// DefineKeyword gives the next bit of Keywords a name.
	DefineKeyword struct{ Name string }

	// Vanished is what is left of an Expunge that cannot be undone any more. It
	// never stands in a log.
	Vanished struct{ UIDs UIDSet }
)

func (Append) op()        {}
func (SetFlags) op()      {}
func (SetSeen) op()       {}
func (SeenMode) op()      {}
func (Expunge) op()       {}
func (DefineKeyword) op() {}
func (Vanished) op()      {}

// Mode says what SetFlags does with its flags.
type Mode uint8

// The modes of SetFlags: STORE's +FLAGS, -FLAGS and FLAGS.
const (
	Add Mode = iota
	Remove
	Replace
)

// Changes reports whether the flags of m would be others after op.
func (op *SetFlags) Changes(m Message) bool {
	return op.flags(m.Flags) != m.Flags || op.keywords(m.Keywords) != m.Keywords
}

func (op *SetFlags) flags(old Flags) Flags {
	switch op.Mode {
	case Add:
		return old | op.Flags
	case Remove:
		return old &^ op.Flags
	}
	return op.Flags
}

func (op *SetFlags) keywords(old Keywords) Keywords {
	switch op.Mode {
	case Add:
		return old.Union(op.Keywords)
	case Remove:
		return old.Minus(op.Keywords)
	}
	return op.Keywords
}

// The codes of operations in the stored form. They are never given a new meaning.
const (
	opAppend        = 1
	opSetFlags      = 2
	opExpunge       = 3
	opDefineKeyword = 4
	opVanished      = 5
	opSetSeen       = 6
	opSeenArrived   = 7 // SetSeen of messages that the record adds
	opSeenMode      = 8
)

// ownBit marks, in the mode of SetFlags, what is the owner's alone.
const ownBit = 1 << 7

// maxKeywordName is how long a keyword can be, in octets.
const maxKeywordName = 1000

// Encode returns the stored form of r. The UIDs and Emails of Append, and the UIDs of
// a SetSeen that are all above uidBase, are
// written relative to uidBase and emailBase, which DecodeRecord adds: so that
// an APPEND can be written before the database gives out its numbers, its first
// message has UID 1 and Email 1 and the bases are 0.
func (r Record) Encode(uidBase id.UID, emailBase id.Email) []byte {
	var b []byte
	for _, op := range r {
		switch op := op.(type) {
		case Append:
			b = append(b, opAppend)
			b = appendMessages(b, op.Messages, uidBase, emailBase, false)
		case SetFlags:
			mode := byte(op.Mode)
			if op.Own {
				mode |= ownBit
			}
			b = append(b, opSetFlags, mode, byte(op.Flags))
			b = appendKeywords(b, op.Keywords)
			b = appendUIDSet(b, op.UIDs)
		case SetSeen:
			b = op.encode(b, uidBase)
		case SeenMode:
			b = append(b, opSeenMode, bit(op.Shared))
			b = appendUIDSet(b, op.Seen)
		case Expunge:
			b = append(b, opExpunge)
			b = appendMessages(b, op.Messages, 0, 0, true)
		case DefineKeyword:
			b = append(b, opDefineKeyword)
			b = binary.AppendUvarint(b, uint64(len(op.Name)))
			b = append(b, op.Name...)
		case Vanished:
			b = append(b, opVanished)
			b = appendUIDSet(b, op.UIDs)
		}
	}
	return seal(recordVersion, b)
}

func (op *SetSeen) encode(b []byte, uidBase id.UID) []byte {
	code := byte(opSetSeen)
	uids := op.UIDs
	if uids.Min() > uidBase {
		code, uids = opSeenArrived, uids.minusBase(uidBase)
	}
	b = append(b, code, bit(op.Seen))
	b = binary.AppendUvarint(b, uint64(op.Reader))
	return appendUIDSet(b, uids)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// DecodeRecord reads the stored form of a record. An error wraps ErrCorrupt.
func DecodeRecord(data []byte, uidBase id.UID, emailBase id.Email) (Record, error) {
	body, err := unseal(recordVersion, data)
	if err != nil {
		return nil, err
	}
	d := decoder{data: body}
	var r Record
	for d.err == nil && len(d.data) > 0 {
		r = append(r, d.op(uidBase, emailBase))
	}
	if d.err != nil {
		return nil, d.err
	}
	return r, nil
}

func (d *decoder) op(uidBase id.UID, emailBase id.Email) Op {
	switch code := d.byte(); code {
	case opAppend:
		c := d.messages(uidBase, emailBase, false)
		return Append{c.messages()}
	case opSetFlags:
		mode := d.byte()
		op := SetFlags{Mode: Mode(mode &^ ownBit), Flags: Flags(d.byte()), Own: mode&ownBit != 0}
		if op.Mode > Replace || op.Flags&^AllFlags != 0 {
			d.fail("flags that there are not")
		}
		op.Keywords = d.keywords()
		op.UIDs = d.uidSet(0)
		return op
	case opSetSeen, opSeenArrived:
		op := SetSeen{Seen: d.bool(), Reader: id.Account(d.uvarint())}
		if code == opSetSeen {
			uidBase = 0
		}
		op.UIDs = d.uidSet(uidBase)
		if op.Reader < 1 || op.UIDs.Empty() {
			d.fail("\\Seen of nobody or nothing")
		}
		return op
	case opSeenMode:
		return SeenMode{d.bool(), d.uidSet(0)}
	case opExpunge:
		c := d.messages(0, 0, true)
		return Expunge{c.messages()}
	case opDefineKeyword:
		return DefineKeyword{d.string(maxKeywordName)}
	case opVanished:
		return Vanished{d.uidSet(0)}
	default:
		d.fail("operation %d", code)
		return nil
	}
}
