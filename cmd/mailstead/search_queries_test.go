package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// asker makes searches.
type asker struct {
	*rand.Rand
	pool  []*letter // that it takes its strings from
	still bool      // nothing changes meanwhile, so that it is known which UID * stands for
}

// query makes a search: a list of keys, all of which must match.
func (a *asker) query() *key {
	k := &key{name: "AND"}
	for range 1 + a.IntN(4)/2 {
		k.kids = append(k.kids, a.key(0))
	}
	return k
}

func (a *asker) key(depth int) *key {
	n := a.IntN(40)
	if depth < 5 && n < 9+depth*3/2 {
		switch n % 3 {
		case 0:
			return &key{name: "NOT", kids: []*key{a.key(depth + 1)}}
		case 1:
			return &key{name: "OR", kids: []*key{a.key(depth + 1), a.key(depth + 1)}}
		}
		k := &key{name: "AND"}
		for range 1 + a.IntN(3) {
			k.kids = append(k.kids, a.key(depth+1))
		}
		return k
	}
	if n < 34-4*depth {
		return a.text()
	}
	switch n % 6 {
	case 0:
		return &key{name: pick(a.Rand, []string{"ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN", "UNANSWERED", "UNDELETED", "UNDRAFT", "UNFLAGGED", "UNSEEN"})}
	case 1:
		return &key{name: pick(a.Rand, []string{"KEYWORD", "UNKEYWORD"}), flag: pick(a.Rand, append([]string{"nobody"}, keywords...))}
	case 2:
		return &key{name: pick(a.Rand, []string{"BEFORE", "ON", "SINCE"}), day: arrival(a.Rand)}
	case 3:
		day := pick(a.Rand, a.pool).sent
		if day.IsZero() {
			day = arrival(a.Rand)
		}
		return &key{name: pick(a.Rand, []string{"SENTBEFORE", "SENTON", "SENTSINCE"}), day: day}
	case 4:
		return &key{name: pick(a.Rand, []string{"LARGER", "SMALLER"}), size: int64(len(pick(a.Rand, a.pool).octets) + a.IntN(3) - 1)}
	}
	if a.IntN(8) == 0 {
		return &key{name: "ALL"}
	}
	k := &key{name: "UID"}
	for range 1 + a.IntN(4) {
		first := uint32(1 + a.IntN(len(a.pool)))
		last := first + uint32(a.IntN(len(a.pool)))
		if a.still && a.IntN(3) == 0 {
			last = 0
		}
		k.uids = append(k.uids, uidRange{first, pick(a.Rand, []uint32{first, last, last})})
	}
	return k
}

// text makes a key with a string, most often one that is somewhere.
func (a *asker) text() *key {
	l := pick(a.Rand, a.pool)
	p := pick(a.Rand, l.passages)
	if a.IntN(2) == 0 { // there are many short fields, and few texts
		for range 8 {
			if p.where == inBody && len(p.text) > 20 {
				break
			}
			p = pick(a.Rand, l.passages)
		}
	}
	k := &key{name: "TEXT", text: a.piece(p.text)}
	switch a.IntN(30) {
	case 0:
		k.text = pick(a.Rand, languages).word(a.Rand) // of no letter that is known
	case 1:
		k.text += fmt.Sprintf("%x", a.Uint32()) // in none
	case 2:
		if len(l.decoys) > 0 {
			k.text = pick(a.Rand, l.decoys)
		}
	}
	n := a.IntN(20)
	switch {
	case p.where == inBody && n > 5:
		k.name = "BODY"
	case p.where == inHeader && n > 6:
		k.name, k.field = "HEADER", pick(a.Rand, []string{p.field, strings.ToUpper(p.field), strings.ToLower(p.field)})
		if name := strings.ToUpper(p.field); n > 10 && fieldKeys[name] != "" {
			k.name, k.field = name, ""
		}
	case n == 0: // elsewhere
		k.name = pick(a.Rand, []string{"SUBJECT", "FROM", "TO", "CC", "BCC", "BODY", "HEADER"})
		if k.name == "HEADER" {
			k.field = pick(a.Rand, []string{"Subject", "X-Empty", "X-Nobody-Has", "Content-Type", "Content-Disposition", "Received", "comments"})
		}
	}
	return k
}

// piece cuts something out of a text, and may write it differently.
func (a *asker) piece(text string) string {
	runes := []rune(text)
	cut := func(from, to int) string { return string(runes[max(0, from):min(to, len(runes))]) }
	at := 0
	if len(runes) > 0 {
		at = a.IntN(len(runes))
	}
	word := func(at int) (from, to int) {
		for from = at; from > 0 && !unicode.IsSpace(runes[from-1]); from-- {
		}
		for to = at; to < len(runes) && !unicode.IsSpace(runes[to]); to++ {
		}
		return from, to
	}
	var s string
	switch from, to := word(at); a.IntN(16) {
	case 0:
		s = cut(at, at+1)
	case 1:
		s = cut(at, at+2)
	case 2, 3, 4: // a word
		s = cut(from, to)
	case 5, 6, 7: // a piece of one
		s = cut(at, min(to, at+3+a.IntN(6)))
	case 8: // its end and what follows it
		s = cut(at, to+1)
	case 9:
		s = cut(from-1, at+1)
	case 10, 11: // across the ends of words
		s = cut(at, at+5+a.IntN(20))
	case 12:
		_, next := word(min(to+1, len(runes)))
		s = cut(from, next) // two words
	case 13:
		s = cut(at, at+40+a.IntN(200))
	case 14: // marks alone, and what is not letters
		s = strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || r <= ' ' {
				return -1
			}
			return r
		}, cut(at, at+8))
	default:
		if a.IntN(3) > 0 {
			s = cut(at, at+4)
		}
	}
	switch a.IntN(12) {
	case 0:
		return strings.ToUpper(s)
	case 1:
		return strings.ToLower(s)
	case 2:
		return strings.ToTitle(s)
	case 3:
		return norm.NFC.String(s)
	case 4:
		return norm.NFD.String(s)
	case 5:
		return strings.ReplaceAll(s, "\r\n", " ") // which is not the same
	case 6:
		return norm.NFKC.String(s)
	}
	return s
}

// command writes a search as it is sent: pieces, after each of which but the last the server is to say that it wants the next.
type command struct {
	*rand.Rand
	pieces []string
}

func (c *command) add(text string) { c.pieces[len(c.pieces)-1] += text }

// encode writes a command, without its tag.
func (a *asker) encode(k *key, verb string) *command {
	c := &command{a.Rand, []string{verb}}
	if c.IntN(3) == 0 {
		c.add(pick(c.Rand, []string{" RETURN (ALL)", " RETURN ()", " RETURN (MIN MAX COUNT ALL)", " return (all count)"}))
	}
	c.add(pick(c.Rand, []string{" CHARSET UTF-8", ` charset "utf-8"`}))
	for _, kid := range k.kids {
		c.add(" ")
		c.key(kid)
	}
	c.add("\r\n")
	return c
}

func (c *command) key(k *key) {
	if k.name == "AND" {
		before := "("
		for _, kid := range k.kids {
			c.add(before)
			c.key(kid)
			before = " "
		}
		c.add(")")
		return
	}
	c.add(pick(c.Rand, []string{k.name, k.name, strings.ToLower(k.name)}))
	if k.name == "HEADER" {
		c.add(" ")
		c.astring(k.field)
	}
	_, named := fieldKeys[k.name]
	switch {
	case named || k.name == "HEADER" || k.name == "BODY" || k.name == "TEXT":
		c.add(" ")
		c.astring(k.text)
	case k.flag != "":
		c.add(" " + k.flag)
	case !k.day.IsZero():
		c.add(" " + k.day.Format(pick(c.Rand, []string{"2-Jan-2006", `"2-Jan-2006"`})))
	case k.uids != nil:
		var sets []string
		for _, r := range k.uids {
			switch r.last {
			case 0:
				sets = append(sets, fmt.Sprintf("%d:*", r.first))
			case r.first:
				sets = append(sets, fmt.Sprint(r.first))
			default:
				sets = append(sets, fmt.Sprintf("%d:%d", r.first, r.last))
			}
		}
		c.add(" " + strings.Join(sets, ","))
	case k.name == "LARGER" || k.name == "SMALLER":
		c.add(fmt.Sprintf(" %d", k.size))
	}
	for _, kid := range k.kids {
		c.add(" ")
		c.key(kid)
	}
}

// astring writes a string in one of the ways that it can be written in.
func (c *command) astring(s string) {
	atom := s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`(){%*"\]`, r) })
	quoted := !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
	switch n := c.IntN(6); {
	case atom && n < 2:
		c.add(s)
	case quoted && n < 4:
		c.add(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`)
	case n < 5:
		c.add(fmt.Sprintf("{%d+}\r\n%s", len(s), s))
	default:
		c.add(fmt.Sprintf("{%d}\r\n", len(s)))
		c.pieces = append(c.pieces, s)
	}
}

// keywords are those that messages have.
var keywords = []string{"$Forwarded", "$Junk", "Work", "later"}

// arrival makes a time at which a message may have arrived.
func arrival(r *rand.Rand) time.Time {
	return time.Date(2015+r.IntN(10), time.Month(1+r.IntN(12)), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), 0,
		time.FixedZone("", 60*(30*r.IntN(53)-13*60)))
}
