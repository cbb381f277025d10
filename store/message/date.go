package message

import (
	"strconv"
	"strings"
	"time"
)

// obsoleteZones are those of RFC 5322 section 4.3, in hours. Military zones
// were defined the wrong way round in RFC 822, and so mean -0000, as does whatever else is not known.
var obsoleteZones = map[string]int{
	"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
	"CET": 1, "CEST": 2, "MET": 1, "MEST": 2, "BST": 1, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9,
}

var months = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}

// dateParts is what has been found of a date so far; -1 is nothing yet.
type dateParts struct {
	year, month, day  int
	hour, minute, sec int
	zone              int // minutes east
	hasZone           bool
}

// parseDate reads a Date value: date-time of RFC 5322 section 3.3 with the
// obsolete forms of section 4.3, and what else is met, such as asctime's order
// and ISO 8601. It goes by what each token looks like, not by its place.
func parseDate(value string) (time.Time, bool) {
	p := dateParts{year: -1, month: -1, day: -1, hour: -1}
	l := lexer{s: value}
	for n := 0; n < 16; n++ {
		l.skipCFWS()
		if l.end() {
			break
		}
		if c := l.peek(); c == ',' || c == ';' {
			l.i++
			continue
		}
		if !p.token(l.readWhile(func(c byte) bool { return c > ' ' && c != ',' && c != ';' && c != '(' })) {
			return time.Time{}, false
		}
	}
	return p.time()
}

// token takes one token of a date; it reports false where none such can stand.
func (p *dateParts) token(t string) bool {
	switch {
	case p.hour < 0 && strings.Count(t, ":") >= 1 && isDigit(t[0]) && !strings.Contains(t, "T"):
		if !p.clock(t) { // the date stands (RFC 5256 section 2.2)
			p.hour, p.minute, p.sec = 0, 0, 0
		}
		return true
	case p.hour >= 0 && !p.hasZone && (t[0] == '+' || t[0] == '-'):
		return p.numericZone(t)
	case isDigit(t[0]) && strings.ContainsAny(t, "-/T"):
		return p.compound(t)
	case isDigit(t[0]):
		return p.number(t)
	}
	if m := monthOf(t); m > 0 && p.month < 0 {
		p.month = m
		return true
	}
	if p.hour >= 0 && !p.hasZone {
		p.zone, p.hasZone = obsoleteZones[strings.ToUpper(t)]*60, true
	}
	return true // the day of the week, or a zone that is not known
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func monthOf(t string) int {
	if len(t) < 3 {
		return 0
	}
	for i, m := range months {
		if strings.EqualFold(t[:3], m) {
			return i + 1
		}
	}
	return 0
}

// number takes a day or a year.
func (p *dateParts) number(t string) bool {
	n, err := strconv.Atoi(t)
	if err != nil || n < 0 || n > 9999 {
		return false
	}
	switch {
	case p.day < 0 && len(t) <= 2:
		p.day = n
	case p.year < 0 && len(t) >= 2:
		p.year = fullYear(n, len(t))
	}
	return true
}

// fullYear makes four digits of two or three (RFC 5322 section 4.3).
func fullYear(n, digits int) int {
	switch {
	case digits == 2 && n < 50:
		return n + 2000
	case digits <= 3:
		return n + 1900
	}
	return n
}

// clock takes hh:mm[:ss[.fraction]], with a zone where it touches.
func (p *dateParts) clock(t string) bool {
	if i := strings.IndexAny(t, "+-Z"); i > 0 {
		if t[i] == 'Z' {
			p.hasZone = true
		} else if !p.numericZone(t[i:]) {
			return false
		}
		t = t[:i]
	}
	t, _, _ = strings.Cut(t, ".")
	parts := strings.Split(t, ":")
	if len(parts) > 3 {
		return false
	}
	var hms [3]int
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return false
		}
		hms[i] = n
	}
	p.hour, p.minute, p.sec = hms[0], hms[1], hms[2]
	return p.hour < 24 && p.minute < 60 && p.sec <= 60
}

// numericZone takes +hhmm or +hh:mm.
func (p *dateParts) numericZone(t string) bool {
	digits := strings.ReplaceAll(t[1:], ":", "")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > 9999 {
		p.hasZone = true // -0000: the date stands, its zone is not known
		return true
	}
	if len(digits) <= 2 {
		n *= 100
	}
	p.zone, p.hasZone = n/100*60+n%100, true
	if p.zone >= 24*60 {
		p.zone = 0
	}
	if t[0] == '-' {
		p.zone = -p.zone
	}
	return true
}

// compound takes 21-Nov-97, 1997-11-21, 1997-11-21T09:55:06Z, 21/11/1997.
func (p *dateParts) compound(t string) bool {
	if date, clock, ok := strings.Cut(t, "T"); ok && monthOf(t[strings.IndexByte(t, 'T'):]) == 0 && strings.Contains(clock, ":") {
		return p.compound(date+"-") && p.clock(clock)
	}
	parts := strings.FieldsFunc(t, func(r rune) bool { return r == '-' || r == '/' })
	if len(parts) != 3 {
		return true
	}
	var n [3]int
	for i, part := range parts {
		if m := monthOf(part); m > 0 {
			n[i] = m
		} else if v, err := strconv.Atoi(part); err == nil && v >= 0 {
			n[i] = v
		} else {
			return false
		}
	}
	if len(parts[0]) == 4 {
		p.year, p.month, p.day = n[0], n[1], n[2]
	} else {
		p.day, p.month, p.year = n[0], n[1], fullYear(n[2], len(parts[2]))
	}
	return true
}

// time makes a time of the parts; there must be a date at least.
func (p *dateParts) time() (time.Time, bool) {
	if p.year < 1 || p.month < 1 || p.month > 12 || p.day < 1 || p.year > 9999 {
		return time.Time{}, false
	}
	t := time.Date(p.year, time.Month(p.month), p.day, max(p.hour, 0), p.minute, p.sec, 0, time.FixedZone("", p.zone*60))
	if wantDay := p.day; p.sec < 60 && t.Day() != wantDay {
		return time.Time{}, false // the 31st of a month without one
	}
	return t, true
}
