// Package imapd is the IMAP engine: connections, sessions and the commands.
package imapd

import (
	"context"

	"mailstead.dev/imapd/wire"
)

// run does what a parsed command asks; the engine sends the tagged OK when it
// returns nil, and what errors.go says of its error otherwise.
type run func(ctx context.Context, s *session) error

// state is a set of the states in which a command is allowed.
type state uint8

const (
	notAuthenticated state = 1 << iota
	authenticated
	selectedState

	always   = notAuthenticated | authenticated | selectedState
	loggedIn = authenticated | selectedState
)

// trait is what the engine must know of a command before running it.
type trait uint8

const (
	// keepsSeqs: no EXPUNGE may be sent during or in answer to it (RFC 9051 section 7.5.1).
	keepsSeqs trait = 1 << iota
)

// command is a row of the command table: read parses to the end of the line and only then returns what to run.
type command struct {
	states state
	traits trait
	read   func(d *wire.Decoder) (run, error)
}

// session is one client's state after the greeting.
type session struct{}
