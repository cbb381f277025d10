package imapurl

import "strings"

// Resolve reads a reference that is relative to u, or absolute. References that are relative to a path are not accepted (RFC 5092 section 7.2), although
// section 9 shows some: nothing that refers to mail here needs them.
//
//	imapurl-rel = inetwork-path / iabsolute-path / irelative-path / ipath-empty
func (u *URL) Resolve(reference string) (*URL, error) {
	if len(reference) > MaxLength {
		return Parse(reference) // which says so
	}
	first := reference
	if i := strings.IndexAny(reference, "/?"); i >= 0 {
		first = reference[:i]
	}
	switch {
	case reference == "":
		return Parse(u.String())
	case strings.HasPrefix(reference, "//"):
		return parseClean("imap:" + reference)
	case strings.HasPrefix(reference, "/"):
		return parseClean(strings.TrimSuffix(u.Server().String(), "/") + reference)
	case strings.Contains(first, ":"): // or it were of a path (RFC 3986 section 4.2)
		return parseClean(reference)
	}
	return nil, &SyntaxError{"reference", quote(reference) + " is relative to a path"}
}

// parseClean parses an absolute URL without the dot segments of its path.
func parseClean(text string) (*URL, error) {
	text, search, hasSearch := strings.Cut(text, "?")
	if start := strings.Index(text, "://"); start >= 0 {
		if i := strings.IndexByte(text[start+3:], '/'); i >= 0 {
			path := start + 3 + i
			text = text[:path] + withoutDots(text[path:])
		}
	}
	if hasSearch {
		text += "?" + search
	}
	return Parse(text)
}

// withoutDots is remove_dot_segments of RFC 3986 section 5.2.4, but that what ends with a dot segment is named without a slash at its end:
// "/foo/;UID=20/.." is "/foo" (RFC 5092 section 9.1).
func withoutDots(path string) string {
	var kept []string
	for _, segment := range strings.Split(path[1:], "/") {
		switch segment {
		case ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
		}
	}
	return "/" + strings.Join(kept, "/")
}
