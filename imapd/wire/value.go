package wire

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
)

// Number reads a number of 32 bits.
func (d *Decoder) Number() uint32 { return uint32(d.number(1<<32 - 1)) }

// NZNumber reads a number of 32 bits that is not 0.
func (d *Decoder) NZNumber() uint32 { return uint32(d.notZero(uint64(d.Number()))) }

// Number64 reads a number of at most 63 bits.
func (d *Decoder) Number64() uint64 { return d.number(maxInt64) }

// NZNumber64 reads a number of at most 63 bits that is not 0.
func (d *Decoder) NZNumber64() uint64 { return d.notZero(d.Number64()) }

func (d *Decoder) notZero(n uint64) uint64 {
	if d.err == nil && n == 0 {
		d.Fail("The number must not be 0")
	}
	return n
}

func (d *Decoder) number(limit uint64) uint64 {
	if c := d.Peek(); c < '0' || c > '9' {
		d.expected("a number")
		return 0
	}
	n := uint64(0)
	for c := d.Peek(); c >= '0' && c <= '9'; c = d.Peek() {
		digit := uint64(c - '0')
		if n > (limit-digit)/10 {
			d.Fail("The number is larger than %d", limit)
			return 0
		}
		n = n*10 + digit
		d.advance()
	}
	if d.err != nil {
		return 0
	}
	return n
}

// maxObjectID is how long an objectid can be.
const maxObjectID = 255

// ObjectID reads an objectid (RFC 8474 section 7).
func (d *Decoder) ObjectID() string {
	s := d.word(objectChars, "an object identifier")
	if len(s) > maxObjectID {
		d.Fail("Object identifier longer than %d octets", maxObjectID)
	}
	return s
}

// Mailbox reads the name of a mailbox, with INBOX in upper case, also as the first
// level of a longer name.
func (d *Decoder) Mailbox() string {
	name, _ := d.MailboxAs()
	return name
}

// MailboxAs is Mailbox that also returns the name as the client spells it.
func (d *Decoder) MailboxAs() (name, as string) {
	s := d.AString()
	if d.err != nil {
		return "", ""
	}
	name, err := d.decodeName(s)
	if err != nil {
		d.Fail("Mailbox name %v", err)
		return "", ""
	}
	d.keepMailbox(name)
	if first, rest, _ := strings.Cut(name, "/"); strings.EqualFold(first, "INBOX") {
		return "INBOX" + name[len(name)-len(rest)-min(len(name)-len(first), 1):], name
	}
	return name, name
}

// ListMailbox reads a mailbox pattern of LIST; ok is false for what cannot be one of names.
func (d *Decoder) ListMailbox() (pattern string, ok bool) {
	var s string
	if c := d.Peek(); c == '"' || c == '{' {
		s = d.String()
	} else {
		s = d.word(listChars, "a mailbox pattern")
	}
	if d.err != nil {
		return "", false
	}
	pattern, err := d.decodeName(s)
	return pattern, err == nil
}

// Errors of decodeName, behind "Mailbox name".
var (
	errNotUTF8 = errors.New("is not in UTF-8")
	errControl = errors.New("has control characters")
)

// decodeName returns a name that stands for itself in UTF-8, or is in modified UTF-7.
func (d *Decoder) decodeName(s string) (string, error) {
	switch {
	case !d.o.UTF8:
		name, err := decodeMixed(s)
		if err != nil {
			return "", fmt.Errorf("is not in modified UTF-7: %w", err)
		}
		return name, nil
	case !utf8.ValidString(s):
		return "", errNotUTF8
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", errControl
	}
	return s, nil
}

// SequenceSet reads a set of message numbers, in which 0 stands for "*".
func (d *Decoder) SequenceSet() imap.SeqSet {
	var set imap.SeqSet
	for _, r := range d.ranges() {
		set = append(set, imap.SeqRange{Start: r.first, Stop: r.last})
	}
	return set
}

// UIDSet reads a set of UIDs, in which 0 stands for "*".
func (d *Decoder) UIDSet() imap.UIDSet {
	var set imap.UIDSet
	for _, r := range d.ranges() {
		set = append(set, imap.UIDRange{Start: imap.UID(r.first), Stop: imap.UID(r.last)})
	}
	return set
}

// span is a range of numbers; last is 0 for "*", and both are for "*" alone.
type span struct{ first, last uint32 }

// ranges reads a sequence-set in the form that go-imap keeps: ascending and
// disjoint. It does not add one range after the other with go-imap's AddRange, for
// whom a set in descending order takes quadratic time.
//
// sequence-set = (seq-number / seq-range) ["," sequence-set]
func (d *Decoder) ranges() []span {
	var spans []span
	for {
		first := d.SeqNumber()
		last := first
		if d.TrySpecial(':') {
			last = d.SeqNumber()
		}
		if d.err != nil {
			return nil
		}
		if first == 0 || last != 0 && last < first {
			first, last = last, first
		}
		if len(spans) == d.o.MaxRanges {
			d.Exceed("The set has too many ranges: at most %d are allowed", d.o.MaxRanges)
			return nil
		}
		spans = append(spans, span{first, last})
		if !d.TrySpecial(',') {
			break
		}
	}
	if d.err != nil {
		return nil
	}
	return merge(spans)
}

// PartNumber reads the number of a part that is level levels deep in a section's; 0 is for the caller to refuse.
func (d *Decoder) PartNumber(level int) int {
	if level > d.o.MaxLevels {
		d.Exceed("Part number too deep: at most %d levels are allowed", d.o.MaxLevels)
	}
	return int(d.Number())
}

// SeqNumber reads one message number or UID, 0 for "*".
//
// seq-number = nz-number / "*"
func (d *Decoder) SeqNumber() uint32 {
	if d.TrySpecial('*') {
		return 0
	}
	if c := d.Peek(); c < '0' || c > '9' {
		d.expected(`a number or "*"`)
		return 0
	}
	return d.NZNumber()
}

func merge(spans []span) []span {
	// "*" sorts last, for it is what no number exceeds; 0-1 is the largest uint32.
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.first-1, b.first-1), cmp.Compare(a.last-1, b.last-1))
	})
	merged := spans[:1]
	for _, s := range spans[1:] {
		last := &merged[len(merged)-1]
		switch {
		case last.last == 0: // n:* holds all that can follow
		case s.first != 0 && uint64(s.first) <= uint64(last.last)+1:
			if s.last == 0 || s.last > last.last {
				last.last = s.last
			}
		default:
			merged = append(merged, s)
		}
	}
	return merged
}

// FlagList reads "(" [flag *(SP flag)] ")".
func (d *Decoder) FlagList() []imap.Flag {
	var flags []imap.Flag
	d.List(func() { flags = append(flags, d.Flag()) })
	if d.err != nil {
		return nil
	}
	return flags
}

// flagNames are the system flags as RFC 9051 section 2.3.2 spells them.
var flagNames = []imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft, `\Recent`}

// Flag reads a flag. System flags are returned as the RFC spells them,
// keywords as the client does.
func (d *Decoder) Flag() imap.Flag {
	prefix := ""
	if d.TrySpecial('\\') {
		prefix = `\`
	}
	name := imap.Flag(prefix + d.word(atomChars, "a flag"))
	if d.err != nil {
		return ""
	}
	for _, known := range flagNames {
		if strings.EqualFold(string(name), string(known)) {
			return known
		}
	}
	return name
}

// Date reads the date of a SEARCH key.
//
// date = date-text / DQUOTE date-text DQUOTE
//
// The year may have two digits (RFC 1730 section 9, date_year_old).
func (d *Decoder) Date() time.Time {
	quoted := d.TrySpecial('"')
	text := d.word(atomChars, "a date such as 1-Feb-2006")
	if quoted {
		d.Special('"')
	}
	return d.parseTime(longYear(text), "2-Jan-2006", "a date such as 1-Feb-2006")
}

// DateTime reads the date-time of APPEND.
//
// date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
//
// The year may have two digits, and the zone a name, behind a "-" (RFC 1730 section 9, date_time_old). A leap second is
// the one before it, since time.Time knows none.
func (d *Decoder) DateTime() time.Time {
	const example = `a date such as "01-Feb-2006 15:04:05 +0000"`
	// A day before the 10th has a space or, with many clients, a 0 before it.
	text := strings.Replace(strings.TrimLeft(d.quoted(), " "), ":60 ", ":59 ", 1)
	return d.parseTime(offsetOf(longYear(text)), "2-Jan-2006 15:04:05 -0700", example)
}

func (d *Decoder) parseTime(text, layout, example string) time.Time {
	if d.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(layout, text)
	if err != nil {
		d.Fail("Expected %s", example)
		return time.Time{}
	}
	return t
}

// longYear makes four digits of the two of a year, which are those since 1900.
func longYear(text string) string {
	date, _, _ := strings.Cut(text, " ")
	if i := strings.LastIndexByte(date, '-'); i > 0 && len(date)-i == 3 {
		return text[:i+1] + "19" + text[i+1:]
	}
	return text
}

// offsetOf makes an offset of the name of a zone, where one stands behind the time.
func offsetOf(text string) string {
	i := strings.LastIndexByte(text, '-')
	if i < 0 || i < strings.IndexByte(text, ':') {
		return text
	}
	if offset, ok := zoneNames[strings.ToUpper(text[i+1:])]; ok {
		return text[:i] + " " + offset
	}
	return text
}

// zoneNames are the zones that had names (RFC 2062, zone_name).
var zoneNames = map[string]string{
	"UT": "+0000", "GMT": "+0000", "Z": "+0000",
	"AST": "-0400", "EDT": "-0400", "EST": "-0500", "CDT": "-0500", "CST": "-0600", "MDT": "-0600", "MST": "-0700", "PDT": "-0700",
	"PST": "-0800", "YDT": "-0800", "YST": "-0900", "HDT": "-0900", "HST": "-1000", "BDT": "-1000", "BST": "-1100",
	"A": "+0100", "B": "+0200", "C": "+0300", "D": "+0400", "E": "+0500", "F": "+0600",
	"G": "+0700", "H": "+0800", "I": "+0900", "K": "+1000", "L": "+1100", "M": "+1200",
	"N": "-0100", "O": "-0200", "P": "-0300", "Q": "-0400", "R": "-0500", "S": "-0600",
	"T": "-0700", "U": "-0800", "V": "-0900", "W": "-1000", "X": "-1100", "Y": "-1200",
}
