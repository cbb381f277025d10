package lmtpd

import (
	"errors"

	"github.com/emersion/go-smtp"

	"mailstead.dev/quota"
	"mailstead.dev/store"
)

// The replies (RFC 5321 section 4.2.3, codes of RFC 3463).
var (
	noSuchUser  = reply(550, smtp.EnhancedCode{5, 1, 1}, "No such user here")
	nested      = reply(503, smtp.EnhancedCode{5, 5, 1}, "The transaction has begun; RSET ends it")
	badSender   = reply(553, smtp.EnhancedCode{5, 1, 7}, "Sender address not allowed")
	disabled    = reply(450, smtp.EnhancedCode{4, 2, 1}, "Mailbox disabled, not accepting messages")
	tooBig      = reply(552, smtp.EnhancedCode{5, 3, 4}, "Message size exceeds the limit")
	overQuota   = reply(452, smtp.EnhancedCode{4, 2, 2}, "Mailbox full")
	overQuota5  = reply(552, smtp.EnhancedCode{5, 2, 2}, "Mailbox full")
	unavailable = reply(451, smtp.EnhancedCode{4, 3, 0}, "Not possible now, try again")
	incomplete  = reply(451, smtp.EnhancedCode{4, 4, 2}, "The message ended before its end")
)

func reply(code int, enhanced smtp.EnhancedCode, text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: text}
}

// replyTo says what the client is told of an error of the store. 5xx must be
// named here: what is not is in doubt, and tried again.
func replyTo(err error, rejectOverQuota bool) *smtp.SMTPError {
	var over *quota.OverError
	switch {
	case errors.Is(err, store.ErrNotExist):
		return noSuchUser
	case errors.Is(err, store.ErrDisabled):
		return disabled
	case errors.Is(err, store.ErrTooBig):
		return tooBig
	case errors.As(err, &over) && rejectOverQuota:
		return overQuota5
	case errors.As(err, &over):
		return overQuota
	default:
		return unavailable
	}
}
