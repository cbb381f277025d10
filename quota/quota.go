// Package quota decides whether a change fits its limits. It does no I/O: what
// is used is counted by store, in the transaction of the change.
package quota

import "fmt"

// Resource is a quota resource name (RFC 9208 section 5).
type Resource string

// The resources that are counted.
const (
	Storage Resource = "STORAGE" // the sum of RFC822.SIZE of every copy; in octets here, in units of 1024 on the wire
	Message Resource = "MESSAGE" // messages
	Mailbox Resource = "MAILBOX" // mailboxes
)

// An OverError says that a change would exceed a limit. All numbers are in
// octets for Storage and in pieces otherwise.
type OverError struct {
	Resource            Resource
	Used, Limit, Wanted int64
}

func (e *OverError) Error() string {
	return fmt.Sprintf("%s over quota: %d used and %d wanted of %d", e.Resource, e.Used, e.Wanted, e.Limit)
}
