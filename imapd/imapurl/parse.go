package imapurl

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// SyntaxError says which part of a URL is wrong, and why.
type SyntaxError struct{ Part, Why string }

func (e *SyntaxError) Error() string { return "IMAP URL: " + e.Part + ": " + e.Why }

// quote shows the beginning of a text.
func quote(text string) string { return fmt.Sprintf("%.40q", text) }

// Parse reads an absolute URL.
//
//	imapurl     = "imap://" iserver ipath-query
//	ipath-query = ["/" [ icommand ]]
func Parse(text string) (*URL, error) {
	const scheme = "imap://"

	if len(text) > MaxLength {
		return nil, &SyntaxError{"URL", "it has more than " + strconv.Itoa(MaxLength) + " octets"}
	}
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
		return nil, &SyntaxError{"scheme", "it begins with " + quote(text) + " and not with " + scheme}
	}
	server, command, hasPath := strings.Cut(text[len(scheme):], "/")
	u := &URL{}
	if err := u.readServer(server); err != nil {
		return nil, err
	}
	if !hasPath || command == "" {
		return u, nil
	}
	return u, u.readCommand(command)
}

// iserver = [iuserinfo "@"] host [ ":" port ]
func (u *URL) readServer(text string) error {
	if user, host, ok := strings.Cut(text, "@"); ok {
		if err := u.readUser(user); err != nil {
			return err
		}
		text = host
	}
	return u.readHost(text)
}

// iuserinfo = enc-user [iauth] / [enc-user] iauth
// iauth     = ";AUTH=" ( "*" / enc-auth-type )
func (u *URL) readUser(text string) (err error) {
	user, auth, hasAuth := strings.Cut(text, ";")
	if user != "" || !hasAuth {
		if u.User, err = decodeText("user", user, inUser); err != nil {
			return err
		}
	}
	if !hasAuth {
		return nil
	}
	name, ok := cutKeyword(auth, "AUTH=")
	if !ok {
		return &SyntaxError{"user", "behind it is " + quote(auth) + " and not AUTH="}
	}
	if u.Auth = name; name == AnyAuth {
		return nil
	}
	if name, err = decode("AUTH", name, inUser); err != nil {
		return err
	}
	if strings.Trim(name, alphanumeric+"-_") != "" { // also "*" that is encoded (RFC 5092 section 3.2)
		return &SyntaxError{"AUTH", quote(name) + " is no mechanism"}
	}
	u.Auth = strings.ToUpper(name)
	return nil
}

// host and port are those of RFC 3986 section 3.2.
func (u *URL) readHost(text string) (err error) {
	if address, rest, ok := strings.Cut(strings.TrimPrefix(text, "["), "]"); ok && text[0] == '[' {
		ip, err := netip.ParseAddr(address)
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return &SyntaxError{"host", quote(address) + " is no address of IPv6"}
		}
		u.Host = ip.String()
		if rest == "" {
			return nil
		}
		if rest[0] != ':' {
			return &SyntaxError{"host", "behind it is " + quote(rest)}
		}
		return u.readPort(rest[1:])
	}
	name, port, hasPort := strings.Cut(text, ":")
	if u.Host, err = decodeText("host", name, inUser); err != nil {
		return err
	}
	if strings.ContainsAny(u.Host, " :/?#@[]%\\") {
		return &SyntaxError{"host", quote(u.Host) + " is none"}
	}
	u.Host = strings.ToLower(u.Host)
	if hasPort {
		return u.readPort(port)
	}
	return nil
}

// An empty port is the default one (RFC 3986 section 3.2.3).
func (u *URL) readPort(text string) error {
	if text == "" {
		return nil
	}
	port, err := number("port", text, 1, 1<<16-1)
	if u.Port = uint16(port); u.Port == DefaultPort {
		u.Port = 0
	}
	return err
}

// icommand     = imessagelist / imessagepart [iurlauth]
// imessagelist = imailbox-ref [ "?" enc-search ]
// imailbox-ref = enc-mailbox [uidvalidity]
func (u *URL) readCommand(text string) (err error) {
	text, search, hasSearch := strings.Cut(text, "?")
	mailbox, rest := cutParameter(text)
	if !isKeyword(rest, ";UIDVALIDITY=") { // then the slash before it is not the mailbox's
		mailbox, rest = restoreSlash(mailbox, rest)
	}
	if strings.HasPrefix(mailbox, "/") {
		return &SyntaxError{"mailbox", "a slash at the beginning has to be encoded"}
	}
	if u.Mailbox, err = decodeText("mailbox", mailbox, inPath); err != nil {
		return err
	}
	if value, ok := cutKeyword(rest, ";UIDVALIDITY="); ok {
		value, rest = cutParameter(value)
		value, rest = restoreSlash(value, rest)
		n, err := number("UIDVALIDITY", value, 1, 1<<32-1)
		if err != nil {
			return err
		}
		u.UIDValidity = uint32(n)
	}
	switch {
	case isKeyword(rest, ";TYPE="), isKeyword(rest, "/;TYPE="):
		return &SyntaxError{"mailbox", "there are no URLs of lists of mailboxes any more (RFC 5092 appendix B)"}
	case hasSearch && rest != "":
		return &SyntaxError{"search", "it cannot be of " + quote(rest)}
	case hasSearch:
		return u.readSearch(search)
	}
	return u.readMessage(rest)
}

// imessagepart = imailbox-ref iuid [isection] [ipartial]
// iuid         = "/;UID=" nz-number
// isection     = "/;SECTION=" enc-section
// ipartial     = "/;PARTIAL=" partial-range
func (u *URL) readMessage(rest string) error {
	for _, part := range []struct {
		keyword string
		read    func(value string) error
	}{{"/;UID=", u.readUID}, {"/;SECTION=", u.readSection}, {"/;PARTIAL=", u.readPartial}} {
		value, ok := cutKeyword(rest, part.keyword)
		if !ok {
			continue
		}
		if u.UID == 0 && part.keyword != "/;UID=" {
			return &SyntaxError{"message", quote(rest) + " is of no message: UID is missing"}
		}
		value, rest = cutParameter(value)
		value, rest = restoreSlash(value, rest)
		if err := part.read(value); err != nil {
			return err
		}
	}
	switch {
	case rest == "":
		return nil
	case u.UID == 0:
		return &SyntaxError{"mailbox", "behind it is " + quote(rest)}
	}
	return u.readAccess(rest)
}

func (u *URL) readUID(value string) error {
	n, err := number("UID", value, 1, 1<<32-1)
	u.UID = uint32(n)
	return err
}

func (u *URL) readSection(value string) (err error) {
	u.Section, err = decodeText("SECTION", value, inPath)
	return err
}

// partial-range = number ["." nz-number]
func (u *URL) readPartial(value string) (err error) {
	const most = 1<<63 - 1 // number64 (RFC 9051 section 9)

	u.Partial = &Partial{}
	offset, length, hasLength := strings.Cut(value, ".")
	if u.Partial.Offset, err = number("PARTIAL", offset, 0, most); err != nil || !hasLength {
		return err
	}
	u.Partial.Length, err = number("PARTIAL", length, 1, most)
	return err
}

// iurlauth      = iurlauth-rump iua-verifier
// iurlauth-rump = [expire] ";URLAUTH=" access
// expire        = ";EXPIRE=" date-time
// iua-verifier  = ":" uauth-mechanism ":" enc-urlauth
func (u *URL) readAccess(rest string) (err error) {
	if value, ok := cutKeyword(rest, ";EXPIRE="); ok {
		value, rest = cutParameter(value)
		if u.Expire, err = date(value); err != nil {
			return err
		}
	}
	value, ok := cutKeyword(rest, ";URLAUTH=")
	if !ok {
		return &SyntaxError{"message", "behind it is " + quote(rest)}
	}
	parts := strings.Split(value, ":")
	if u.Access, err = readAccess(parts[0]); err != nil {
		return err
	}
	switch len(parts) {
	case 1:
		return nil
	case 3:
		u.Verdict, err = readVerdict(parts[1], parts[2])
		return err
	}
	return &SyntaxError{"URLAUTH", "it has " + strconv.Itoa(len(parts)) + " parts and not 1 or 3"}
}

// date-time is that of RFC 3339.
func date(text string) (time.Time, error) {
	var t time.Time
	err := t.UnmarshalText([]byte(strings.ToUpper(text))) // which alone is strict
	if t = t.UTC(); err != nil || t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, &SyntaxError{"EXPIRE", quote(text) + " is no date and time"}
	}
	return t, nil
}

// access = ("submit+" enc-user) / ("user+" enc-user) / "authuser" / "anonymous"
func readAccess(text string) (*Access, error) {
	for _, kind := range []string{AccessAuthUser, AccessAnonymous} {
		if strings.EqualFold(text, kind) {
			return &Access{Kind: kind}, nil
		}
	}
	for _, kind := range []string{AccessSubmit, AccessUser} {
		if value, ok := cutKeyword(text, kind); ok {
			user, err := decodeText("URLAUTH", value, inUser)
			return &Access{kind, user}, err
		}
	}
	return nil, &SyntaxError{"URLAUTH", quote(text) + " is nobody"}
}

// uauth-mechanism = "INTERNAL" / 1*(ALPHA / DIGIT / "-" / ".")
// enc-urlauth     = 32*HEXDIG
func readVerdict(mechanism, token string) (*Verdict, error) {
	if mechanism == "" || strings.Trim(mechanism, alphanumeric+"-.") != "" {
		return nil, &SyntaxError{"URLAUTH", quote(mechanism) + " is no mechanism"}
	}
	if len(token) < 32 || strings.Trim(token, "0123456789abcdefABCDEF") != "" {
		return nil, &SyntaxError{"URLAUTH", "its token is not 32 hexadecimal digits or more"}
	}
	return &Verdict{strings.ToUpper(mechanism), strings.ToLower(token)}, nil
}

// number reads digits.
func number(part, text string, least, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || strings.Trim(text, "0123456789") != "" || n < least || n > most || least > 0 && text[0] == '0' {
		return 0, &SyntaxError{part, fmt.Sprintf("%s is no number from %d to %d", quote(text), least, most)}
	}
	return n, nil
}

// cutParameter cuts before the next parameter: no part can have a ";".
func cutParameter(text string) (before, from string) {
	i := strings.IndexByte(text, ';')
	if i < 0 {
		return text, ""
	}
	return text[:i], text[i:]
}

// restoreSlash gives the slash before a parameter, other than of URLAUTH, to the parameter.
func restoreSlash(before, from string) (string, string) {
	if from == "" || isKeyword(from, ";EXPIRE=") || isKeyword(from, ";URLAUTH=") || !strings.HasSuffix(before, "/") {
		return before, from
	}
	return before[:len(before)-1], "/" + from
}

func isKeyword(text, keyword string) bool {
	_, ok := cutKeyword(text, keyword)
	return ok
}

// cutKeyword takes off what a text begins with, in whatever case.
func cutKeyword(text, keyword string) (rest string, ok bool) {
	if len(text) < len(keyword) || !strings.EqualFold(text[:len(keyword)], keyword) {
		return text, false
	}
	return text[len(keyword):], true
}
