// Package store is the mail model: tenants, domains and accounts, mailboxes as
// logs of changes, emails and their content, and everything that is counted of
// them. It holds all SQL, and is the only way in which mail changes.
package store

import (
	"context"
	"io"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/view"
)

// User is who acts: the session's user, not necessarily the owner of what they act on.
type User struct {
	Tenant  id.Tenant
	Account id.Account
	Login   string // local@domain
}

// Mailboxes and names. Names are UTF-8, "/" separates, INBOX is case-insensitive.

// Entry is a mailbox as LIST shows it.
type Entry struct {
	Name       string
	Mailbox    id.Mailbox // 0: a name that only has children or a subscription
	Owner      id.Account
	SpecialUse []string // "\\Sent" ...
	Subscribed bool
	Exists     bool // false: subscribed, but deleted
	Rights     acl.Rights
}

func (s *Store) List(ctx context.Context, u User) ([]Entry, error) { panic("skeleton") } // sorted by name; one query
func (s *Store) Create(ctx context.Context, u User, name string, specialUse []string) (*Mailbox, error) {
	panic("skeleton")
}                                                                           // makes missing parents
func (s *Store) Delete(ctx context.Context, u User, name string) error      { panic("skeleton") }
func (s *Store) Rename(ctx context.Context, u User, from, to string) error  { panic("skeleton") } // with children; INBOX: RFC 9051 section 6.3.6
func (s *Store) Subscribe(ctx context.Context, u User, name string) error   { panic("skeleton") }
func (s *Store) Unsubscribe(ctx context.Context, u User, name string) error { panic("skeleton") }
func (s *Store) Open(ctx context.Context, u User, name string, want acl.Rights) (*Mailbox, error) {
	panic("skeleton")
} // ErrNotExist, *acl.DeniedError

// Status is the mailbox row.
type Status struct {
	UIDValidity   uint32
	UIDNext       id.UID
	HighestModSeq id.ModSeq
	Counts        view.Counts
	Recent        int64
	MailboxID     id.Object
}

func (s *Store) Status(ctx context.Context, u User, names []string) (map[string]Status, error) {
	panic("skeleton")
} // one query; names that do not exist are missing

// Mailbox is an opened mailbox, acted on by one user with the rights they had. It holds no resources.
type Mailbox struct {
	Tenant      id.Tenant
	Owner       id.Account
	ID          id.Mailbox
	Name        string
	UIDValidity uint32
	ObjectID    id.Object
	Rights      acl.Rights
}

// View returns the mailbox as it is now: the cached view, brought up to date by one keyed read. ErrNotExist when it is gone.
func (m *Mailbox) View(ctx context.Context) (*view.View, error) { panic("skeleton") }

// ClaimRecent moves the mailbox's recent mark up to below next and returns the UIDs that became this session's \Recent: [first, next). peek (EXAMINE) moves nothing.
func (m *Mailbox) ClaimRecent(ctx context.Context, next id.UID, peek bool) (first id.UID, err error) {
	panic("skeleton")
}

// Watch returns a channel that gets a value soon after the mailbox changed on any front end (a hint; capacity 1), and a function that ends it.
func (m *Mailbox) Watch() (<-chan struct{}, func()) { panic("skeleton") }

// Draft is a message on its way in.
type Incoming struct {
	Content      *Content // from Receive
	Prefix       []byte   // header lines put before the content (LMTP's Return-Path and Delivered-To), whole fields with CRLF
	Flags        view.Flags
	Keywords     []string
	InternalDate time.Time // zero: now
}

// Content is a message received, parsed and digested, in memory while small, else already in object storage.
type Content struct {
	Size int64
	Meta *message.Meta
}

// Close drops the content; what is not yet part of a mailbox is forgotten.
func (c *Content) Close() error { panic("skeleton") }

// Receive reads a message of at most the store's limit (ErrTooBig; r is then not read further). It may be appended to any number of mailboxes of the tenant before Close.
func (s *Store) Receive(ctx context.Context, t id.Tenant, r io.Reader) (*Content, error) {
	panic("skeleton")
}

// Appended tells where messages went. UIDs are ascending, in the order given.
type Appended struct {
	UIDValidity uint32
	UIDs        view.UIDSet
	ModSeq      id.ModSeq
}

// Append adds all messages or none, in one transaction. Once it returns nil, they are durable.
func (m *Mailbox) Append(ctx context.Context, messages ...Incoming) (Appended, error) {
	panic("skeleton")
}

// FlagChange is a STORE.
type FlagChange struct {
	UIDs           view.UIDSet
	Mode           view.Mode
	Flags          view.Flags
	Keywords       []string
	UnchangedSince id.ModSeq // -1: unconditional (RFC 7162 section 3.1.3); 0 is a legal condition that fails always
}

// FlagResult: ModSeq is that of the record, 0 where nothing changed. Changed are those whose flags differ now; Modified failed the condition.
// Before is the mailbox just before the record: what others did until then, which a session tells apart from what its own client did.
type FlagResult struct {
	Before   *view.View
	View     *view.View
	ModSeq   id.ModSeq
	Changed  view.UIDSet
	Modified view.UIDSet
}

func (m *Mailbox) SetFlags(ctx context.Context, c FlagChange) (FlagResult, error) { panic("skeleton") }

// Copied pairs source and destination UIDs by position (COPYUID, RFC 4315 section 3).
type Copied struct {
	UIDValidity uint32
	From, To    []id.UID
	ModSeq      id.ModSeq  // of the destination
	SourceView  *view.View // after a Move
}

// Copy copies those of uids that exist; all or nothing. None existing is no error and an empty Copied.
func (m *Mailbox) Copy(ctx context.Context, uids view.UIDSet, to *Mailbox) (Copied, error) {
	panic("skeleton")
}
func (m *Mailbox) Move(ctx context.Context, uids view.UIDSet, to *Mailbox) (Copied, error) {
	panic("skeleton")
}

// Expunge removes messages that are \Deleted, among uids if that is not nil, and returns the view after it and what went.
func (m *Mailbox) Expunge(ctx context.Context, uids *view.UIDSet) (*view.View, view.UIDSet, error) {
	panic("skeleton")
}

// Vanished returns the UIDs below next that were expunged after since, among within (nil: all); it may name more (RFC 7162 section 3.2.5.2), never fewer.
func (m *Mailbox) Vanished(ctx context.Context, since id.ModSeq, within *view.UIDSet) (view.UIDSet, error) {
	panic("skeleton")
}

// Email is a stored email of an account, without its content.
type Email struct {
	ID       id.Email
	EmailID  id.Object
	ThreadID id.Object
	Size     int64
	Meta     *message.Meta // with the prefix applied
}

// Emails calls yield for each email, in the order asked, reading a bounded number at a time. Those that do not exist (any more) are left out.
func (m *Mailbox) Emails(ctx context.Context, ids []id.Email, yield func(Email) error) error {
	panic("skeleton")
}

// Content returns access to the octets of an email, prefix included: a message.Reader.
func (m *Mailbox) Content(ctx context.Context, email id.Email) (message.Reader, error) {
	panic("skeleton")
}
