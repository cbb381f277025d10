package imapd

// UIDONLY.
//
// RFC 9586. Once it is enabled a client is told of messages by their UIDs alone,
// and may name them by nothing else.

import (
	"strconv"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store/id"
)

// errUIDRequired answers commands with message numbers in them.
var errUIDRequired = &wire.SyntaxError{Code: "UIDREQUIRED", Text: "Message numbers are not allowed once UIDONLY is enabled"}

// beginFetch begins the response that tells of a message.
//
// message-data =/ nz-number SP ("FETCH" / "UIDFETCH") SP msg-att
func (s *session) beginFetch(b []byte, number uint32, uid id.UID) []byte {
	b = append(b, "* "...)
	if s.uidOnly {
		b = strconv.AppendUint(b, uint64(uid), 10)
		return append(b, " UIDFETCH ("...)
	}
	b = strconv.AppendUint(b, uint64(number), 10)
	return append(b, " FETCH ("...)
}

// enableUIDOnly begins to speak of messages by their UIDs alone, also in what is kept up to date.
func (s *session) enableUIDOnly() {
	s.uidOnly = true
	if s.selected != nil {
		for _, c := range s.selected.contexts {
			c.search.uid = true
		}
	}
}
