package lmtpd

import "strings"

// path writes an address as a Return-Path or Delivered-To has it (RFC 5321
// section 4.1.2): go-smtp takes the quotes off a local part that needs them.
func path(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 || isDotString(address[:at]) {
		return address
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range at {
		if address[i] == '"' || address[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(address[i])
	}
	b.WriteByte('"')
	b.WriteString(address[at:])
	return b.String()
}

// Dot-string = Atom *("." Atom), UTF-8 allowed (RFC 6531 section 3.3)
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool {
			return r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>[]:;@\,"`, r)
		}) {
			return false
		}
	}
	return true
}
