package acl

import (
	"fmt"
	"strings"
)

// Rights is a set of the rights of RFC 4314 section 2.1. How they are numbered is kept in the database.
type Rights uint16

// The rights, in the order of RFC 4314 section 2.1.
const (
	Lookup         Rights = 1 << iota // l: see the mailbox in LIST, subscribe to it
	Read                              // r: SELECT, FETCH, SEARCH, COPY from
	Seen                              // s: keep \Seen across sessions
	Write                             // w: set flags other than \Seen and \Deleted
	Insert                            // i: APPEND, COPY into
	Post                              // p: deliver to the mailbox's address
	Create                            // k: CREATE below it, RENAME into it
	DeleteMailbox                     // x: DELETE and RENAME it
	DeleteMessages                    // t: set and clear \Deleted
	Expunge                           // e: EXPUNGE
	Administer                        // a: SETACL, DELETEACL, GETACL, LISTRIGHTS
)

const (
	// All is what an owner has.
	All = Administer<<1 - 1
	// Irrevocable is what an owner keeps: to see and to read the mailbox, and to give themself the rest again.
	Irrevocable = Lookup | Read | Administer

	oldCreate = Create | DeleteMailbox   // c of RFC 2086
	oldDelete = DeleteMessages | Expunge // d of RFC 2086
)

const letters = "lrswipkxtea"

// Has reports whether r includes all of want.
func (r Rights) Has(want Rights) bool { return r&want == want }

// Any reports whether r includes one of some.
func (r Rights) Any(some Rights) bool { return r&some != 0 }

// String returns the letters of r in the order of RFC 4314 section 2.1.
func (r Rights) String() string { return r.spell(false) }

// Announced is String as it is told to clients: with "c" and "d" for those that
// only know RFC 2086, where any right is set of those that they stand for (RFC 4314 section 2.1.1).
func (r Rights) Announced() string { return r.spell(true) }

func (r Rights) spell(old bool) string {
	var b strings.Builder
	for i := range len(letters) {
		right := Rights(1 << i)
		if right == Administer && old {
			if r.Any(oldCreate) {
				b.WriteByte('c')
			}
			if r.Any(oldDelete) {
				b.WriteByte('d')
			}
		}
		if r.Has(right) {
			b.WriteByte(letters[i])
		}
	}
	return b.String()
}

// A RightError is a letter that is no right. Its text is meant for clients.
type RightError struct{ Letter rune }

func (e *RightError) Error() string {
	if e.Letter >= 'A' && e.Letter <= 'Z' {
		return "Rights are lower-case letters"
	}
	return fmt.Sprintf("There is no right %+q", e.Letter)
}

// ParseRights reads letters of rights; *RightError for one that is none (RFC 4314 section 3.1).
func ParseRights(s string) (Rights, error) {
	var r Rights
	for _, letter := range s {
		switch i := strings.IndexRune(letters, letter); {
		case i >= 0:
			r |= 1 << i
		case letter == 'c':
			r |= oldCreate
		case letter == 'd':
			r |= oldDelete
		default:
			return 0, &RightError{letter}
		}
	}
	return r, nil
}

// Modification is what SETACL does to the rights of an identifier: the zero value takes all.
type Modification struct {
	Keep   Rights // of those that there are
	Rights Rights // added to those
}

// ParseModification reads the third argument of SETACL (RFC 4314 section 3.1).
//
// mod-rights = ["+" / "-"] rights
func ParseModification(s string) (Modification, error) {
	letters := strings.TrimLeft(s, "+-")
	sign := s[:len(s)-len(letters)]
	if len(sign) > 1 {
		return Modification{}, &RightError{rune(sign[1])}
	}
	r, err := ParseRights(letters)
	switch {
	case err != nil:
		return Modification{}, err
	case sign == "+":
		return Modification{Keep: All, Rights: r}, nil
	case sign == "-":
		return Modification{Keep: All &^ r}, nil
	}
	return Modification{Rights: r}, nil
}

// Of returns what becomes of rights.
func (m Modification) Of(r Rights) Rights { return r&m.Keep | m.Rights }
