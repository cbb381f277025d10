package message

import "strings"

// maxSubject bounds what is looked at: the procedure is quadratic for "[a][a][a]...".
const maxSubject = 8 << 10

// Replies reports whether the subject says that the message is a reply or was forwarded (RFC 5256 section 3, REFERENCES).
func (m *Meta) Replies() bool {
	if m.Envelope.Subject == m.BaseSubject {
		return false // as that of most
	}
	_, replies := baseSubject(DecodeHeader(m.Envelope.Subject))
	return replies
}

// baseSubject extracts the base subject of a decoded one, by the procedure of
// RFC 5256 section 2.1 and the grammar of its section 5, and reports whether it has removed what
// says that the message is a reply or was forwarded.
func baseSubject(decoded string) (base string, replies bool) {
	s := collapseSpace(decoded[:min(len(decoded), maxSubject)])
	for {
		s, replies = trimTrailers(s, replies)
		for {
			before := s
			s, replies = trimLeaders(s, replies)
			if rest, ok := trimBlob(s); ok && rest != "" {
				s = rest
			}
			if s == before {
				break
			}
		}
		if !hasPrefixFold(s, "[fwd:") || !strings.HasSuffix(s, "]") {
			return s, replies
		}
		s, replies = s[len("[fwd:"):len(s)-1], true
	}
}

// collapseSpace converts tabs and line ends to spaces, and several spaces to one.
func collapseSpace(s string) string {
	var out strings.Builder
	out.Grow(len(s))
	space := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n':
			if !space {
				out.WriteByte(' ')
			}
			space = true
		default:
			out.WriteByte(c)
			space = false
		}
	}
	return out.String()
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// subj-trailer = "(fwd)" / WSP
func trimTrailers(s string, replies bool) (string, bool) {
	for {
		t := strings.TrimRight(s, " ")
		if len(t) >= 5 && strings.EqualFold(t[len(t)-5:], "(fwd)") {
			t, replies = t[:len(t)-5], true
		}
		if t == s {
			return s, replies
		}
		s = t
	}
}

// subj-leader = (*subj-blob subj-refwd) / WSP
func trimLeaders(s string, replies bool) (string, bool) {
	for {
		t := strings.TrimLeft(s, " ")
		rest := t
		for {
			after, ok := trimBlob(rest)
			if !ok {
				break
			}
			rest = after
		}
		if after, ok := trimRefwd(rest); ok {
			t, replies = after, true
		}
		if t == s {
			return s, replies
		}
		s = t
	}
}

// subj-blob = "[" *BLOBCHAR "]" *WSP ; BLOBCHAR is any but "[" and "]"
func trimBlob(s string) (string, bool) {
	if s == "" || s[0] != '[' {
		return s, false
	}
	i := strings.IndexAny(s[1:], "[]")
	if i < 0 || s[1+i] != ']' {
		return s, false
	}
	return strings.TrimLeft(s[i+2:], " "), true
}

// subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"
func trimRefwd(s string) (string, bool) {
	switch {
	case hasPrefixFold(s, "re"):
		s = s[2:]
	case hasPrefixFold(s, "fwd"):
		s = s[3:]
	case hasPrefixFold(s, "fw"):
		s = s[2:]
	default:
		return s, false
	}
	s = strings.TrimLeft(s, " ")
	s, _ = trimBlob(s)
	if s == "" || s[0] != ':' {
		return s, false
	}
	return s[1:], true
}
