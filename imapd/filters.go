package imapd

// FILTERS: searches that have a name.
//
// RFC 5466. A filter is an annotation of the server, and set as such (metadata.go). It stands for its text, verbatim (section 3.1): a
// NOT before it is of its first key alone, unless its keys are in parentheses.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

const (
	filterValues = "/filters/values/"
	// maxFilterDepth bounds filters in filters, and ends those that name themselves. Three is the least (section 3.1).
	maxFilterDepth = 5
	// maxFilterOctets is up to what size the value of a filter is read.
	maxFilterOctets = 64 << 10
)

// filter reads what follows FILTER. All of a search with one is in UTF-8.
//
// filter-name = 1*<any ATOM-CHAR except "/">
func (r *searchReader) filter(k *searchKey) *searchKey {
	k.op, k.filter, k.fuzzy = opAnd, r.d.Atom(), r.fuzzy
	if strings.Contains(k.filter, "/") {
		r.d.Fail("%.40q is no name of a filter", k.filter)
	}
	r.cmd.filters = append(r.cmd.filters, k)
	if r.charset == nil || r.charset.encoding != nil {
		r.d.Refuse(&refusal{"BAD", "BADCHARSET (US-ASCII UTF-8)", "A filter is in UTF-8, and so is a search with one"})
	}
	return k
}

// expand puts the keys of filters in their places.
func (c *searchCmd) expand(ctx context.Context, s *session) error {
	named := len(c.filters) > 0
	for depth := 0; len(c.filters) > 0; depth++ {
		some := c.filters
		c.filters = nil
		values, err := s.filterValues(ctx, some)
		if err != nil {
			return err
		}
		for _, k := range some {
			value, ok := values[strings.ToLower(k.filter)]
			if !ok || depth == maxFilterDepth {
				return no("UNDEFINED-FILTER "+k.filter, "No such filter")
			}
			limits := s.server.o.limits()
			limits.UTF8 = true
			if err := c.readFilter(k, value, limits); err != nil {
				return no("UNDEFINED-FILTER "+k.filter, fmt.Sprintf("The filter is no search: %.100s", err))
			}
		}
	}
	if named {
		c.key.inline()
	}
	switch {
	case c.numbers && s.uidOnly:
		return errUIDRequired
	case c.scored && !c.fuzzy:
		return errNoScores
	}
	return nil
}

// inline puts the keys of filters into the lists that the filters are in, as if they had been written there.
func (k *searchKey) inline() {
	var words []*searchKey
	for _, kid := range k.kids {
		words = kid.appendWords(words)
	}
	for k.kids = nil; len(words) > 0; {
		var kid *searchKey
		kid, words = operands(words)
		k.kids = append(k.kids, kid)
	}
}

// appendWords appends a key as it is written: NOT and OR, then what they are of.
func (k *searchKey) appendWords(words []*searchKey) []*searchKey {
	switch {
	case k.filter != "":
	case k.op == opNot, k.op == opOr:
		words = append(words, k)
	default:
		if k.op == opAnd {
			k.inline()
		}
		return append(words, k)
	}
	for _, kid := range k.kids {
		words = kid.appendWords(words)
	}
	return words
}

// operands gives the first of some words what it is of, and returns what is left.
func operands(words []*searchKey) (k *searchKey, rest []*searchKey) {
	k, rest = words[0], words[1:]
	if k.op == opNot || k.op == opOr {
		for i := range k.kids {
			k.kids[i], rest = operands(rest)
		}
	}
	return k, rest
}

// filterValues returns the values of filters by their names, those of the user before those of all.
func (s *session) filterValues(ctx context.Context, of []*searchKey) (map[string]string, error) {
	q := store.MetadataQuery{MaxSize: maxFilterOctets}
	for _, k := range of {
		for _, of := range []string{"/private", "/shared"} {
			entry, err := store.MetadataEntry(of + filterValues + k.filter)
			if err != nil {
				return nil, no("UNDEFINED-FILTER "+k.filter, "No such filter")
			}
			q.Entries = append(q.Entries, entry)
		}
	}
	found, err := s.store.Metadata(ctx, s.user, "", q)
	if err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for _, a := range found { // the private ones come first
		_, name, _ := strings.Cut(a.Entry, filterValues)
		name = strings.ToLower(name)
		if _, ok := values[name]; !ok && a.Value != nil {
			values[name] = string(a.Value)
		}
	}
	return values, nil
}

// readFilter reads the value of a filter: search-criteria = search-key *(SP search-key).
func (c *searchCmd) readFilter(k *searchKey, value string, limits wire.DecoderOptions) error {
	in := bufio.NewReader(strings.NewReader(value + "\r\n"))
	d := wire.NewDecoder(in, limits)
	r := searchReader{d: d, cmd: c, charset: defaultCharset, keys: c.keyCount, fuzzy: k.fuzzy}
	r.keysInto(k, readKeyName(d))
	c.keyCount = r.keys
	if err := d.End(); err != nil {
		return err
	}
	if _, err := in.Peek(1); err == nil {
		return errors.New("it goes on behind a line end")
	}
	return nil
}
