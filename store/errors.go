package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"mailstead.dev/store/blob"
)

// Errors of names. A mailbox a user may not look up does not exist for them (RFC 4314 section 6).
var (
	ErrNotExist    = errors.New("no such mailbox")
	ErrExists      = errors.New("mailbox exists")
	ErrBadName     = errors.New("mailbox name not allowed")
	ErrHasChildren = errors.New("mailbox has children")
	ErrNoSelect    = errors.New("mailbox cannot be selected")
	ErrNamespace   = fmt.Errorf("%w: a mailbox stays among those of its owner", ErrBadName)
	ErrSpecialUse  = errors.New("another mailbox has the special use")
)

// Errors of state.
var (
	// ErrRightsChanged says that the rights on a mailbox, of whomever, are others than when it was opened: Mailbox.Renew tells.
	ErrRightsChanged = errors.New("the rights on the mailbox have changed")
	// ErrUnavailable wraps whatever trying later may mend: the database or the object store is away, staging is full.
	ErrUnavailable = errors.New("temporarily unavailable")
	// ErrOutcomeUnknown says that the database went away during COMMIT, so that the change may have been made.
	// It is never told as NO: the connection is closed.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	ErrExpunged       = errors.New("message expunged meanwhile")
	ErrTooBig         = errors.New("message too big")
	ErrKeywords       = errors.New("too many keywords")
	ErrMailboxes      = errors.New("too many mailboxes")
	ErrSubscriptions  = errors.New("too many subscriptions")
	ErrDamaged        = blob.ErrDamaged // what was kept is not what was written
	ErrAuth           = errors.New("wrong login or password")
	ErrDisabled       = errors.New("account disabled")
	ErrActAs          = errors.New("may not act as that user")
)

// SQLSTATEs that the store's own functions raise (migrations 0006, 0007 and 0011). Class MS is ours.
const (
	stateGone     = "MS001" // the mailbox is not there (any more)
	stateMoved    = "MS002" // the mailbox has moved on from the state that a change was computed for
	stateOver     = "MS003" // a quota; DETAIL holds resource, used, limit, wanted and level, separated by blanks
	stateFull     = "MS004" // UIDs or MODSEQs are used up
	stateIntent   = "MS005" // the intent of an object is gone, or condemned: its collector was faster
	stateNotFresh = "MS007" // content that the change relies on is gone: store it again
	stateUseless  = "MS008" // nothing that a new object holds is still where it was copied from
	stateRights   = "MS009" // the rights on the mailbox have changed
	stateSlot     = "MS010" // it does not fit its slot of a quota: again, under the locks of all slots
)

// isState reports whether err was raised by the database with that SQLSTATE.
func isState(err error, state string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == state
}

// Wordless is the text of an error for the log: PostgreSQL's words are left out, which may quote what it was given, and SQLSTATE and
// constraint stand in their place.
func Wordless(err error) string {
	text := err.Error()
	for _, e := range said(err) {
		short := "SQLSTATE " + e.Code
		if e.ConstraintName != "" {
			short += ", constraint " + e.ConstraintName
		}
		text = strings.ReplaceAll(text, e.Error(), short)
	}
	return text
}

// said returns the errors of PostgreSQL's that an error wraps.
func said(err error) (all []*pgconn.PgError) {
	switch e := err.(type) {
	case *pgconn.PgError:
		return []*pgconn.PgError{e}
	case interface{ Unwrap() error }:
		return said(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, said(one)...)
		}
	}
	return all
}

// unavailable lists the SQLSTATEs, and whole classes of them, that say nothing
// of the change but that the database cannot serve it now.
func unavailable(state string) bool {
	switch state {
	case "57P01", "57P02", "57P03", // shutdown, crash of another process, not up yet
		"57014",          // statement_timeout
		"55P03",          // lock_timeout
		"25006",          // read-only: a standby after a failover
		"25P03", "25P04", // idle in transaction for too long
		"58000", "58030": // system error, I/O error
		return true
	}
	return len(state) == 5 && (state[:2] == "08" || state[:2] == "53") // connection, resources
}

// stage is how far a transaction had come when its connection was lost.
type stage int

const (
	unsent   stage = iota // no commit had been sent, or there was nothing to commit
	sent                  // all had been sent, with the commit
	executed              // and the server had answered all but the commit
)

// isFatal reports whether the server ended the connection with the error, so
// that it is no answer to the statement. Severity would be in the server's language.
func isFatal(e *pgconn.PgError) bool {
	return e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC"
}

// lost maps an error of a connection or statement to what it means for the
// caller. Without the server's word on a commit that was sent, the outcome is
// unknown. What the server says arrives in order: when it dies with words
// before it has answered the last statement, it has not begun to commit.
func lost(ctx context.Context, err error, at stage) error {
	if err == nil {
		return nil
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch {
		case at == executed && isFatal(e):
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		case !unavailable(e.Code):
			return err
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if at != unsent && !pgconn.SafeToRetry(err) {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
