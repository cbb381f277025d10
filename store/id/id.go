// Package id holds the identifier types of the mail model, so that a Mailbox
// cannot be passed where an Account is wanted. It has no behaviour beyond
// formatting and knows nothing of storage.
package id

import (
	"crypto/sha256"
	"encoding/hex"
)

// Tenant names a customer of the platform. It leads every key of every row,
// object and cache entry. The zero value names none.
type Tenant int64

// Domain names a mail domain of a tenant.
type Domain int64

// Account names a mail account. Accounts are numbered across tenants, so that
// an account number is never used twice, but every key still leads with the Tenant.
type Account int64

// AppPassword names an app password of an account.
type AppPassword int64

// Mailbox names a mailbox for as long as it exists and after; renaming does not
// change it. Mailboxes are numbered across accounts.
type Mailbox int64

// Email is the number of a stored email within its account, from 1, given out
// in commit order. It is internal; clients see Object.
type Email int64

// UID is the unique identifier of a message in its mailbox (RFC 9051 section
// 2.3.1.1). Zero is no UID.
type UID uint32

// ModSeq numbers the changes of a mailbox (RFC 7162 section 3.1), from 1, 63 bits.
type ModSeq int64

// Digest is the SHA-256 sum of content as the client sent it, before compression.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Object is an EMAILID, THREADID or MAILBOXID as clients see it (RFC 8474): up
// to 255 of A-Z a-z 0-9 - _.
type Object string
