// Package acl is the algebra of mailbox rights: what the letters of RFC 4314
// mean and whether a set of them suffices. It does no I/O: which rights a user
// has on a mailbox is looked up by store.
package acl

import "strings"

// Rights is a set of the rights of RFC 4314 section 2.1.
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

// All is what an owner has.
const All = Administer<<1 - 1

const letters = "lrswipkxtea"

// Has reports whether r includes all of want.
func (r Rights) Has(want Rights) bool { return r&want == want }

// String returns the letters of r in the order of RFC 4314 section 2.1.
func (r Rights) String() string {
	var b strings.Builder
	for i := range len(letters) {
		if r&(1<<i) != 0 {
			b.WriteByte(letters[i])
		}
	}
	return b.String()
}

// A DeniedError says that a user who may see a mailbox lacks rights on it.
type DeniedError struct {
	Missing Rights
}

func (e *DeniedError) Error() string { return "missing rights " + e.Missing.String() }
