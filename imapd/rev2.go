package imapd

// IMAP4rev2.
//
// RFC 9051, beside RFC 3501 (appendix A): what is only told otherwise there, the commands
// that are in both tell otherwise where session.rev2 is set. After ENABLE IMAP4rev2
//   - mailbox names are in UTF-8, and what is in quotes can be (sections 4.3.1 and 5.1),
//   - SEARCH is answered by ESEARCH (section 6.4.4),
//   - SELECT and EXAMINE tell a LIST of the mailbox, and no UNSEEN (section 6.3.2),
//   - there is no \Recent, and no RECENT but for who asks for it (appendix E),
//   - FETCH responses to what others did have the UID (section 7.5.2),
//   - parts that are message/global have envelope and structure, and parameters of MIME are
//     decoded (section 7.5.2).
//
// All else of it is there for all clients: STATUS DELETED, BINARY, and what were extensions.
// So are the commands and items that it has removed, for those who have not.

import (
	"context"

	"mailstead.dev/store/view"
)

// enableRev2 is ENABLE IMAP4rev2.
func (s *session) enableRev2() {
	s.rev2 = true
	s.useUTF8(true)
	if s.selected != nil {
		s.selected.recent = view.UIDSet{}
	}
}

// listSelected tells the LIST response of the selected mailbox, with the name that the
// client gave it where that is not its own (RFC 9051 sections 6.3.2 and 6.3.9.7).
func (s *session) listSelected(ctx context.Context, as string) error {
	entries, err := s.store.List(ctx, s.user)
	if err != nil {
		return err
	}
	n := tree(entries).at(s.selected.Name)
	n.selectable = true // it is, also if somebody has deleted it just now
	s.enc.Raw("* LIST (").Raw((&listCmd{}).attributes(n)).Raw(`) "` + delimiter + `" `).Mailbox(n.name)
	if as != n.name {
		s.enc.Raw(` ("OLDNAME" (`).Mailbox(as).Raw("))")
	}
	s.enc.CRLF()
	return nil
}
