package imapd

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"mailstead.dev/acl"
	"mailstead.dev/auth"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/message"
)

// responses says how each error is told to a client. What is not in it is our
// fault: SERVERBUG. An empty text stands for the error's own, which is meant for
// clients. Codes: RFC 5530, RFC 9051 section 7.1.
var responses = []struct {
	match            func(error) bool
	kind, code, text string
}{
	{as[*wire.SyntaxError], "BAD", "CLIENTBUG", ""},
	{is(wire.ErrFlood), "BAD", "CLIENTBUG", "Command too long"},
	{is(store.ErrNotExist), "NO", "NONEXISTENT", "No such mailbox"},
	{is(store.ErrNoSelect), "NO", "NONEXISTENT", "This name has mailboxes below it but is none"},
	{is(store.ErrExists), "NO", "ALREADYEXISTS", "Mailbox exists already"},
	{is(store.ErrBadName), "NO", "CANNOT", "Mailbox name not allowed"},
	{is(store.ErrSpecialUse), "NO", "USEATTR", "Another mailbox has this special use"},
	{is(store.ErrNoIdentifier), "NO", "CANNOT", "There is no such user or group"},
	{is(store.ErrACL), "NO", "LIMIT", "Too many entries in the access control list"},
	{is(store.ErrHasChildren), "NO", "HASCHILDREN", "Mailbox has mailboxes below it"},
	{as[*acl.DeniedError], "NO", "NOPERM", "Permission denied"},
	{as[*quota.OverError], "NO", "OVERQUOTA", "Quota exceeded"},
	{is(store.ErrNoQuotaRoot), "NO", "NONEXISTENT", "No such quota root"},
	{is(store.ErrTooBig), "NO", "TOOBIG", "Message too big"},
	{is(store.ErrBadEntry), "BAD", "CLIENTBUG", "This annotation cannot have a value"},
	{is(store.ErrSeenMode), "NO", "CANNOT", `It is either "user" or "shared"`},
	{is(store.ErrMetadataTooMany), "NO", "METADATA TOOMANY", "Too many annotations"},
	{is(store.ErrKeywords), "NO", "LIMIT", "Too many keywords in this mailbox"},
	{is(store.ErrMailboxes), "NO", "LIMIT", "Too many mailboxes in this account"},
	{is(store.ErrSubscriptions), "NO", "LIMIT", "Too many subscriptions of this account"},
	{is(store.ErrOrder), "NO", "LIMIT", "Too much mail to be sorted or threaded at once"},
	{is(store.ErrFull), "NO", "LIMIT", "The mailbox has no UID left: create another"},
	{is(store.ErrExpunged), "NO", "EXPUNGEISSUED", "Some of the messages no longer exist"},
	{is(store.ErrAuth), "NO", "AUTHENTICATIONFAILED", "Wrong login or password"},
	{is(auth.ErrIntroduction), "NO", notBelieved, "Introduced by no cell that is believed here"},
	{is(auth.ErrBlocked), "NO", "LIMIT", "Too many failed logins, try again later"},
	{is(store.ErrOTPExchange), "NO", "INUSE", "Somebody is logging in with this name just now, try again later"},
	{is(auth.ErrOTPSpent), "NO", "EXPIRED", "This was the last one-time password, which only begins another sequence, and it is used up"},
	{is(auth.ErrOTPRenewal), "NO", "CANNOT", "Another sequence of one-time passwords cannot begin so, and this one is used up"},
	{is(store.ErrActAs), "NO", "AUTHORIZATIONFAILED", "Not allowed to act as this user"},
	{is(store.ErrDisabled), "NO", "CONTACTADMIN", "Account disabled"},
	{is(store.ErrDamaged), "NO", "CORRUPTION", "A message is damaged in storage"},
	{is(store.ErrUnavailable), "NO", "UNAVAILABLE", "Temporarily unavailable, try again later"},
	{is(context.DeadlineExceeded), "NO", "UNAVAILABLE", "Took too long, try again later"},
	{is(message.ErrFile), "NO", "UNAVAILABLE", "An attached file cannot be read now, try again later"},
}

// refusal is an answer to a command that is not OK, already in the words for the
// client: a rule of its own that a command has.
type refusal struct{ kind, code, text string }

func (r *refusal) Error() string { return r.kind + " " + r.text }

// bad says that the command is wrong, whatever the state of the mail.
func bad(format string, args ...any) error {
	return &wire.SyntaxError{Text: fmt.Sprintf(format, args...)}
}

// no says that the command cannot be done; code may be "".
func no(code, text string) error { return &refusal{"NO", code, text} }

// errBye ends the connection with BYE instead of answering.
type errBye struct{ code, text string }

func (e *errBye) Error() string { return "BYE " + e.text }

// tryCreate is for commands that put messages into a mailbox: where it does
// not exist they ask the client to create it (RFC 9051 section 7.1).
func tryCreate(err error) error {
	if errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrNoSelect) {
		return no("TRYCREATE", "No such mailbox")
	}
	return err
}

// answer returns what a client is told of an error, and whether it is no fault of ours.
func answer(err error) (r refusal, known bool) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return *r, true
	}
	for _, row := range responses {
		if !row.match(err) {
			continue
		}
		r := refusal{row.kind, row.code, row.text}
		if syntax, ok := errors.AsType[*wire.SyntaxError](err); ok && row.text == "" {
			r.text = syntax.Text
			if syntax.Code != "" {
				r.code = syntax.Code
			}
		}
		return r, !errors.Is(err, store.ErrDamaged) && !errors.Is(err, message.ErrNoFiles) // which are for the administrator to hear of
	}
	return refusal{"NO", "SERVERBUG", "Internal error"}, false
}

// recovered, deferred, makes an error of a panic: in a goroutine that serves a
// command it would end the process, and not only the session.
func recovered(err *error) {
	if bug := recover(); bug != nil {
		*err = fmt.Errorf("panic: %v\n%s", bug, debug.Stack())
	}
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
