// Package filename maps the names of mailboxes to names of files, and back.
//
// A server may call a mailbox anything: "../../etc/passwd", a NUL, 4,000 levels.
// The name of a file has only what is safe on every file system, begins with no
// dot or dash, has no separator of paths, and is short enough; and from it the
// name of the mailbox can be told again, so that no two mailboxes share a file.
package filename

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

// longest is the length of a file's name without its extension that file systems
// bear (255 octets are usual), with room for extensions.
const longest = 200

// digestMark stands before the digest of a name that was cut. No other name has
// it: a percent sign is otherwise followed by two hexadecimal digits.
const digestMark = "%~"

// Encode returns the name of a file, without extension, for a mailbox. The
// delimiter of levels (0 if there is none) becomes a dot, and what else is not safe
// becomes %XX, octet by octet. A name that is too long is cut and ends with a digest
// of itself; its mailbox stands in the state file alone.
func Encode(mailbox string, delimiter rune) string {
	var b strings.Builder
	for i, r := range mailbox {
		size := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, size = utf8.DecodeRuneInString(mailbox[i:])
		}
		octets := mailbox[i : i+size]
		switch {
		case delimiter != 0 && r == delimiter && b.Len() > 0 && i+size < len(mailbox):
			b.WriteByte('.')
		case safe(r, octets) && !(b.Len() == 0 && (r == '-' || r == '~')) && !(i+size == len(mailbox) && r == ' '):
			b.WriteString(octets)
		default:
			escape(&b, octets)
		}
	}
	if b.Len() == 0 {
		return "%"
	}
	if b.Len() <= longest {
		return b.String()
	}
	sum := sha256.Sum256([]byte(mailbox))
	head := b.String()[:longest-len(digestMark)-32]
	if at := strings.LastIndexByte(head, '%'); at >= 0 && len(head)-at < 3 {
		head = head[:at] // half of an escape
	}
	for !utf8.ValidString(head) {
		head = head[:len(head)-1]
	}
	return head + digestMark + hex.EncodeToString(sum[:16])
}

// safe reports whether a character may stand in the name of a file as it is: what can be seen
// and means nothing to a shell's redirections, to a path or to other file systems. The
// dot is not among it, since it stands for the delimiter.
func safe(r rune, octets string) bool {
	if r == utf8.RuneError && len(octets) == 1 {
		return false // not UTF-8
	}
	return (r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r)) && !strings.ContainsRune(`/\:*?"<>|%.`, r)
}

func escape(b *strings.Builder, octets string) {
	const digits = "0123456789ABCDEF"
	for _, octet := range []byte(octets) {
		b.WriteByte('%')
		b.WriteByte(digits[octet>>4])
		b.WriteByte(digits[octet&15])
	}
}
