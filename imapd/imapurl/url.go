// Package imapurl reads, writes and resolves IMAP URLs: what names a server, a mailbox, the messages of a search, a message or a part of
// one. It does no I/O, and leaves to its callers whether what a URL names may be had.
//
// RFC 5092, which replaces RFC 2192; resolving: RFC 3986 section 5.2.
package imapurl

import (
	"strconv"
	"strings"
	"time"
)

// MaxLength is how many octets a URL may have.
const MaxLength = 16 << 10

// URL is an absolute IMAP URL, its parts decoded. What is there depends on what it names: a server, a mailbox (Mailbox), a search in it
// (Search), or a message (UID) or a part of it (Section, Partial).
type URL struct {
	User string // "": none, and where there is no Auth either that is who is anonymous (RFC 5092 section 3.2)
	Auth string // mechanism of SASL, or AnyAuth; "": none is said, which is AnyAuth where there is a User
	Host string // a name in lower case, or an address; that of IPv6 without its brackets
	Port uint16 // 0: DefaultPort

	Mailbox     string // in UTF-8; "": the server itself
	UIDValidity uint32 // 0: none
	Search      string // what can follow SEARCH in a command, and is not more than it; "": none
	UID         uint32 // 0: none
	Section     string // what would stand in BODY[]; "": the whole message
	Partial     *Partial

	Expire  time.Time // of Access, in UTC; zero: never
	Access  *Access   // who else may have the message (URLAUTH, RFC 4467); nil: nobody is named
	Verdict *Verdict  // what proves that Access was granted; nil: the URL is to be granted yet
}

// DefaultPort is that of IMAP.
const DefaultPort = 143

// AnyAuth stands for any mechanism.
const AnyAuth = "*"

// Partial is a range of octets.
type Partial struct {
	Offset uint64
	Length uint64 // 0: to the end
}

// Access says who may have a message by its URL (RFC 5092 section 6.1.2).
type Access struct {
	Kind string // one of the constants below
	User string // of AccessSubmit and AccessUser
}

// Kinds of Access.
const (
	AccessSubmit    = "submit+"   // who submits mail for the user
	AccessUser      = "user+"     // the user
	AccessAuthUser  = "authuser"  // who has logged in, but not as anonymous
	AccessAnonymous = "anonymous" // everybody
)

// Verdict is by which mechanism, and token, Access was granted.
type Verdict struct {
	Mechanism string // in upper case
	Token     string // in hexadecimal digits, lower case
}

// String writes a URL so that Parse reads the same from it.
func (u *URL) String() string {
	var b strings.Builder
	b.WriteString("imap://")
	u.writeServer(&b)
	b.WriteByte('/')
	b.WriteString(encodeMailbox(u.Mailbox))
	if u.UIDValidity != 0 {
		b.WriteString(";UIDVALIDITY=" + strconv.FormatUint(uint64(u.UIDValidity), 10))
	}
	if u.Search != "" {
		b.WriteString("?" + encode(u.Search, inPath))
	}
	if u.UID != 0 {
		b.WriteString("/;UID=" + strconv.FormatUint(uint64(u.UID), 10))
	}
	if u.Section != "" {
		b.WriteString("/;SECTION=" + encode(u.Section, inPath))
	}
	if p := u.Partial; p != nil {
		b.WriteString("/;PARTIAL=" + strconv.FormatUint(p.Offset, 10))
		if p.Length != 0 {
			b.WriteString("." + strconv.FormatUint(p.Length, 10))
		}
	}
	u.writeAccess(&b)
	return b.String()
}

// Server returns the URL of the server alone, with the user.
func (u *URL) Server() *URL { return &URL{User: u.User, Auth: u.Auth, Host: u.Host, Port: u.Port} }

// writeServer writes iserver = [iuserinfo "@"] host [ ":" port ].
func (u *URL) writeServer(b *strings.Builder) {
	b.WriteString(encode(u.User, inUser))
	if u.Auth != "" {
		b.WriteString(";AUTH=" + u.Auth)
	}
	if u.User != "" || u.Auth != "" {
		b.WriteByte('@')
	}
	if strings.Contains(u.Host, ":") {
		b.WriteString("[" + u.Host + "]")
	} else {
		b.WriteString(encode(u.Host, inUser))
	}
	if u.Port != 0 {
		b.WriteString(":" + strconv.FormatUint(uint64(u.Port), 10))
	}
}

// writeAccess writes iurlauth.
func (u *URL) writeAccess(b *strings.Builder) {
	if u.Access == nil {
		return
	}
	if !u.Expire.IsZero() {
		b.WriteString(";EXPIRE=" + u.Expire.Format(time.RFC3339Nano))
	}
	b.WriteString(";URLAUTH=" + u.Access.Kind + encode(u.Access.User, inUser))
	if v := u.Verdict; v != nil {
		b.WriteString(":" + v.Mechanism + ":" + v.Token)
	}
}
