// Package store is the mail model: tenants, domains and accounts, mailboxes as
// logs of changes, emails and their content, and everything that is counted of
// them. It holds all SQL, and is the only way in which mail changes.
package store

import (
	"context"
	"io"
	"sync/atomic"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// User is who acts: the session's user, not necessarily the owner of what they act on.
type User struct {
	Tenant  id.Tenant
	Account id.Account
	Login   string // local@domain
}

// Content is a message received, parsed and digested, in memory while small, else already in object storage.
type Content struct {
	Size int64
	Meta *message.Meta

	tenant    id.Tenant
	digest    id.Digest
	layout    blob.Layout
	staged    []byte      // the stored form; nil when it went to an object
	objectKey string      // of the object that was PUT, whose intent is committed
	kept      atomic.Bool // a transaction that relies on it has been committed
}

// encodedMeta returns the stored form of Meta.
func (c *Content) encodedMeta() []byte { return c.Meta.Encode() }

// Close drops the content; what is not yet part of a mailbox is forgotten.
func (c *Content) Close() error { panic("skeleton") }

// Receive reads a message of at most the store's limit (ErrTooBig; r is then not read further). It may be appended to any number of mailboxes of the tenant before Close.
func (s *Store) Receive(ctx context.Context, t id.Tenant, r io.Reader) (*Content, error) {
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
