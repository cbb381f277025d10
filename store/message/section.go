package message

// Find returns the part that an IMAP section path names (RFC 9051 section
// 6.4.5.1; 1 of a message that is no multipart is its body), nil if there is
// none. The empty path is the message itself.
func (m *Meta) Find(path []int) *Part {
	p := m.Root
	message := true // p is a message, not a part of one
	for _, n := range path {
		if !message && p.Inner != nil {
			p, message = p.Inner, true
		}
		switch {
		case p.Multipart() && 1 <= n && n <= len(p.Parts):
			p, message = p.Parts[n-1], false
		case !p.Multipart() && message && n == 1:
			message = false
		default:
			return nil
		}
	}
	return p
}

// Section returns where a body section lies: kind is "" (the body of the part;
// for the empty path the whole message), "HEADER", "TEXT" or "MIME".
// HEADER.FIELDS is a filter over HEADER that the caller applies with
// SelectFields. It reports false where there is no such part, or where HEADER
// or TEXT is asked of a part that is no message.
func (m *Meta) Section(path []int, kind string) (Range, bool) {
	p := m.Find(path)
	if p == nil {
		return Range{}, false
	}
	message := p.Inner
	if len(path) == 0 {
		message = p
	}
	switch {
	case kind == "" && len(path) == 0:
		return Range{0, m.Size}, true
	case kind == "":
		return p.Body, true
	case kind == "MIME" && len(path) > 0:
		return p.Header, true
	case kind == "HEADER" && message != nil:
		return message.Header, true
	case kind == "TEXT" && message != nil:
		return message.Body, true
	}
	return Range{}, false
}
