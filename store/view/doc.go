// Package view is a mailbox at one MODSEQ, and the differences between two
// such states. Views are immutable values that share what did not change; they
// are built from segments and log records, whose encodings live here too. No
// clock, no socket, no database.
//
// MODSEQ and what a client may be told of it: RFC 7162. Message numbers and
// UIDs: RFC 9051 section 2.3.1.
package view

import "errors"

var (
	// ErrCorrupt is wrapped by whatever finds stored data damaged: an unknown
	// version, a wrong checksum, a value that cannot be.
	ErrCorrupt = errors.New("corrupt mailbox data")

	// ErrMisfit is wrapped where a record is sound but not the next change of
	// the view that it is applied to.
	ErrMisfit = errors.New("record does not fit the view")
)
