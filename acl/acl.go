// Package acl is the algebra of access to mailboxes (RFC 4314): whom an entry of
// an access control list is about, what the letters of rights mean, what a user
// may do in the end. It does no I/O: lists are kept, and rights checked, by store.
//
// What the text leaves open is decided here, once:
//
//   - Rights that several entries grant are added up, then what negative entries
//     take is taken away, whoever granted it (section 2).
//   - No rights are tied. "c" is "kx", "d" is "te": the first of the two readings of
//     section 2.1.1, the one of its examples.
//   - The owner of a mailbox has all rights unless the list has an entry of their
//     own, and Irrevocable ones whatever it says: nobody locks themself out.
//   - "anyone" is everyone of the tenant. Who has come in without a name (RFC 4505) is not: the store leaves that entry out for them.
//   - A mailbox without Lookup does not exist (section 6), so a user without it has
//     no use of any other right.
package acl

import "fmt"

// Entry is what a list says of those whom an identifier stands for.
type Entry struct {
	Identifier Identifier
	Rights     Rights // what a negative identifier takes away
}

// Effective returns the rights of a user on a mailbox. groups are the names of those that they are in;
// these, and login, are in the form in which they are kept.
func Effective(owner bool, login string, groups []string, entries []Entry) Rights {
	var granted, taken Rights
	own := false
	for _, e := range entries {
		switch subject := e.Identifier.Subject(); {
		case !subject.standsFor(login, groups):
		case e.Identifier.Negative():
			taken |= e.Rights
		default:
			granted |= e.Rights
			own = own || subject == User(login)
		}
	}
	if !owner {
		return granted &^ taken
	}
	if !own {
		granted = All
	}
	return granted&^taken | Irrevocable
}

// Required returns the rights that an identifier has on a mailbox whatever is
// set, and Optional those of which each may be granted or not (RFC 4314 section 3.4).
// owner is the login of its owner, "" where it has none.
func Required(owner string, i Identifier) Rights {
	if owner != "" && i == User(owner) && !i.Negative() {
		return Irrevocable
	}
	return 0
}

// Optional is what Required leaves. Of what is the owner's for good nothing can be taken.
func Optional(owner string, i Identifier) Rights {
	return All &^ Required(owner, i.Subject())
}

// Settle returns the rights of an entry as they are kept where r was to be set.
func Settle(owner string, i Identifier, r Rights) Rights {
	return r&Optional(owner, i) | Required(owner, i)
}

// A DeniedError says that a user who may see a mailbox lacks rights on it.
type DeniedError struct {
	Missing Rights
}

func (e *DeniedError) Error() string { return fmt.Sprintf("missing rights %s", e.Missing) }
