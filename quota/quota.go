// Package quota holds the rules of quotas: roots and their names, resources and
// how they are told, limits, soft limits, and when to warn. It does no I/O: what is used is counted
// by store, in the transaction of the change, which must fit all roots of a mailbox at once.
//
// RFC 9208, and RFC 2087, which it replaces.
package quota

import (
	"fmt"
	"time"
)

// Resource is a quota resource name (RFC 9208 section 5).
type Resource string

// The resources that are counted.
const (
	Storage           Resource = "STORAGE"            // the sum of RFC822.SIZE of every copy; in octets here, in units of 1024 on the wire
	Message           Resource = "MESSAGE"            // messages
	Mailbox           Resource = "MAILBOX"            // mailboxes
	AnnotationStorage Resource = "ANNOTATION-STORAGE" // annotations with their names; in octets here, in units of 1024 on the wire
)

// Resources lists all resources, in the order that Amounts have.
var Resources = [...]Resource{Storage, Message, Mailbox, AnnotationStorage}

// Known reports whether a resource is one that is counted.
func (r Resource) Known() bool { return r.index() >= 0 }

func (r Resource) index() int {
	for i, known := range Resources {
		if r == known {
			return i
		}
	}
	return -1
}

// unit is how many of what is counted make one on the wire.
func (r Resource) unit() int64 {
	if r == Storage || r == AnnotationStorage {
		return 1024
	}
	return 1
}

// Amounts are of each of Resources: octets, or pieces.
type Amounts [len(Resources)]int64

// Of returns the amount of a resource.
func (a Amounts) Of(r Resource) int64 { return a[r.index()] }

// Limits are of each of Resources; nil is none.
type Limits [len(Resources)]*int64

// Of returns the limit of a resource.
func (l Limits) Of(r Resource) *int64 { return l[r.index()] }

// With returns the limits with another one of a resource.
func (l Limits) With(r Resource, limit *int64) Limits {
	l[r.index()] = limit
	return l
}

// Named returns the limits that there are, by resource.
func (l Limits) Named() map[Resource]int64 {
	named := make(map[Resource]int64)
	for i, limit := range l {
		if limit != nil {
			named[Resources[i]] = *limit
		}
	}
	return named
}

// Any reports whether there is a limit.
func (l Limits) Any() bool { return l != Limits{} }

// Terms are what a root is held to. What is used may be more than a soft limit for as long as Grace lasts; then nothing
// more is taken until it is no more than that, which winds the clock up again.
type Terms struct {
	Limits, Soft Limits
	Grace        time.Duration
}

// With returns the terms with another limit of a resource.
func (t Terms) With(r Resource, limit *int64) Terms {
	t.Limits = t.Limits.With(r, limit)
	return t
}

// State is how a mailbox stands to the limits of its roots.
type State string

// The states.
const (
	Within   State = ""
	OverSoft State = "soft" // more is used than a soft limit
	Full     State = "full" // nothing more fits
)

// With returns the worse of two states.
func (s State) With(o State) State {
	if s == Full || o == Within {
		return s
	}
	return o
}

// An OverError says that a change would exceed a limit. All numbers are in
// octets for Storage and AnnotationStorage and in pieces otherwise.
type OverError struct {
	Resource            Resource
	Level               Level // of the root that it does not fit
	Used, Limit, Wanted int64
}

func (e *OverError) Error() string {
	return fmt.Sprintf("%s of the %s over quota: %d used and %d wanted of %d", e.Resource, e.Level, e.Used, e.Wanted, e.Limit)
}
