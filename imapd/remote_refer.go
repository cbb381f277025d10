package imapd

import (
	"strings"

	"mailstead.dev/imapd/imapurl"
	"mailstead.dev/store"
)

// Referrals to mailboxes of other cells: RFC 2193 section 4. The URL is that of the guest, who logs in there with what the user has here.

// refer returns the answer to a command that names mailboxes of another cell: where they are, or both names of a RENAME.
func (s *session) refer(v store.Visit, names []string) error {
	code := "REFERRAL"
	for _, name := range names {
		u := s.server.o.Cells[v.Cell].url(v.Login)
		u.Mailbox = strings.TrimSuffix(name, delimiter) // which CREATE may have
		url := u.String()
		if len(url) > imapurl.MaxLength {
			return store.ErrBadName
		}
		code += " " + url
	}
	return no(code, "The mailbox is on another server")
}
