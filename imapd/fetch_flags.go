package imapd

import (
	"strconv"

	"mailstead.dev/store/view"
)

// flagTexts are all sets of system flags as they stand between parentheses.
var flagTexts = func() (texts [1 << 5]string) {
	for set := range texts {
		sep := ""
		for _, f := range systemFlags {
			if view.Flags(set)&f.flag != 0 {
				texts[set] += sep + string(f.name)
				sep = " "
			}
		}
	}
	return texts
}()

// appendFlags appends the flags of a message, in parentheses.
func (m *selected) appendFlags(b []byte, msg *view.Message, keywords []string) []byte {
	b = append(b, '(')
	b = append(b, flagTexts[msg.Flags]...)
	start := len(b)
	sep := func() {
		if len(b) > start || msg.Flags != 0 {
			b = append(b, ' ')
		}
	}
	if m.recent.Contains(msg.UID) {
		sep()
		b = append(b, `\Recent`...)
	}
	if msg.Keywords != (view.Keywords{}) {
		for i, name := range keywords {
			if msg.Keywords.Has(i) {
				sep()
				b = append(b, name...)
			}
		}
	}
	return append(b, ')')
}

// appendChanged appends the response that tells the flags of a message, whoever changed them.
func (s *session) appendChanged(b []byte, number uint32, m *view.Message, keywords []string) []byte {
	b = s.beginChanged(b, number, m)
	b = append(b, "FLAGS "...)
	b = s.selected.appendFlags(b, m, keywords)
	if s.condstore {
		b = append(b, ' ')
		b = s.appendModSeq(b, m)
	}
	return append(b, ")\r\n"...)
}

// appendModSeqChanged appends the response that tells the new MODSEQ of a message and not its flags.
func (s *session) appendModSeqChanged(b []byte, number uint32, m *view.Message) []byte {
	b = s.beginChanged(b, number, m)
	b = s.appendModSeq(b, m)
	return append(b, ")\r\n"...)
}

func (s *session) beginChanged(b []byte, number uint32, m *view.Message) []byte {
	b = s.beginFetch(b, number, m.UID)
	if s.tellsUIDs() {
		b = append(b, "UID "...)
		b = strconv.AppendUint(b, uint64(m.UID), 10)
		b = append(b, ' ')
	}
	return b
}

// tellsUIDs tells whether the flags of a message are told together with its UID (RFC 9051 sections 6.4.9
// and 7.5.2, RFC 7162 section 3.2.4): not where the response begins with it.
func (s *session) tellsUIDs() bool { return (s.uid || s.condstore || s.rev2) && !s.uidOnly }

// appendModSeq appends the FETCH item MODSEQ, and notes that the client has seen it.
func (s *session) appendModSeq(b []byte, m *view.Message) []byte {
	s.reported = max(s.reported, m.ModSeq)
	b = append(b, "MODSEQ ("...)
	b = strconv.AppendInt(b, int64(m.ModSeq), 10)
	return append(b, ')')
}
