package imapd

// GETMETADATA and SETMETADATA: annotations of mailboxes and of the server.
//
// RFC 5464; special uses as an entry: RFC 6154 section 4. Of the server's annotations those that are shared are shared by the
// users of a tenant, and set by the operator (section 3.3 allows to restrict it).

import (
	"context"
	"math"
	"slices"
	"strings"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// annotator is what these commands need of the store.
type annotator interface {
	Metadata(ctx context.Context, u store.User, mailbox string, q store.MetadataQuery) ([]store.Annotation, error)
	SetMetadata(ctx context.Context, u store.User, mailbox string, set []store.Annotation) error
	MaxMetadataSize() int64
}

var _ annotator = (*store.Store)(nil)

// maxEntries bounds how many annotations one command can name.
const maxEntries = 200

type getMetadataCmd struct {
	mailbox    string // "": the server
	entries    []string
	depth      int // -1: infinity
	maxSize    int64
	hasDepth   bool
	hasMaxSize bool
}

// getmetadata         = "GETMETADATA" [SP getmetadata-options] SP mailbox SP entries
// getmetadata-options = "(" getmetadata-option *(SP getmetadata-option) ")"
// entries             = entry / "(" entry *(SP entry) ")"
//
// The examples of the RFC have the options behind the mailbox, and several
// entries without parentheses. Clients have learned from both.
func readGetMetadata(d *wire.Decoder) (run, error) {
	var c getMetadataCmd
	d.SP()
	if d.Peek() == '(' {
		c.readOptions(d)
		d.SP()
	}
	c.mailbox = d.Mailbox()
	d.SP()
	if d.Ahead("(MAXSIZE") || d.Ahead("(DEPTH") {
		c.readOptions(d)
		d.SP()
	}
	one := func() { c.readEntry(d) }
	if d.Peek() == '(' {
		d.List(one)
	} else {
		for one(); d.TrySP(); one() {
		}
	}
	if d.Err() == nil && len(c.entries) == 0 {
		d.Fail("GETMETADATA of nothing")
	}
	return c, d.End()
}

// getmetadata-option = "MAXSIZE" SP number / "DEPTH" SP ("0" / "1" / "infinity")
func (c *getMetadataCmd) readOptions(d *wire.Decoder) {
	d.List(func() {
		switch name := d.Keyword(); {
		case d.Err() != nil:
		case name == "MAXSIZE" && !c.hasMaxSize:
			d.SP()
			c.maxSize, c.hasMaxSize = int64(d.Number()), true
		case name == "DEPTH" && !c.hasDepth:
			d.SP()
			c.depth, c.hasDepth = readDepth(d), true
		default:
			d.Fail("Unknown or repeated option %.40s", name)
		}
	})
}

func readDepth(d *wire.Decoder) int {
	switch depth := d.Keyword(); {
	case depth == "0":
		return 0
	case depth == "1":
		return 1
	case depth != "INFINITY" && d.Err() == nil:
		d.Fail("DEPTH is 0, 1 or infinity, not %.40s", depth)
	}
	return -1
}

// readEntry reads the name of an entry, and passes over one that was named before.
func (c *getMetadataCmd) readEntry(d *wire.Decoder) {
	entry := readEntryName(d)
	if !slices.Contains(c.entries, entry) {
		c.entries = append(c.entries, entry)
	}
	if len(c.entries) > maxEntries {
		d.Exceed("Too many annotations: at most %d can be asked for at once", maxEntries)
	}
}

// entry = astring
func readEntryName(d *wire.Decoder) string {
	name := d.AString()
	if d.Err() != nil {
		return ""
	}
	entry, err := store.MetadataEntry(name)
	if err != nil {
		d.Fail("%.60q is no name of an annotation", name)
	}
	return entry
}

func (c getMetadataCmd) run(ctx context.Context, s *session) error {
	largest := int64(math.MaxInt64)
	if c.hasMaxSize {
		largest = c.maxSize
	}
	found, err := s.store.Metadata(ctx, s.user, c.mailbox, store.MetadataQuery{Entries: c.entries, Depth: c.depth, MaxSize: largest})
	if err != nil {
		return err
	}
	octets := int64(0)
	for _, a := range found {
		octets += int64(len(a.Entry) + len(a.Value))
	}
	if err := s.hold(octets); err != nil {
		return err
	}
	c.tell(s, found, largest)
	return nil
}

// tell tells the annotations that were found, and of each entry that was asked
// for and under which there is none that it is none.
//
// metadata-resp = "METADATA" SP mailbox SP entry-values
func (c getMetadataCmd) tell(s *session, found []store.Annotation, largest int64) {
	var told []store.Annotation
	longest := int64(0)
	for _, a := range found {
		if a.Size > largest {
			longest = max(longest, a.Size)
		} else {
			told = append(told, a)
		}
	}
	for _, entry := range c.entries {
		if !slices.ContainsFunc(found, func(a store.Annotation) bool { return c.covers(entry, a.Entry) }) {
			told = append(told, store.Annotation{Entry: entry})
		}
	}
	if len(told) > 0 {
		s.enc.Raw("* METADATA ").Mailbox(c.mailbox)
		sep := " ("
		for _, a := range told {
			s.enc.Raw(sep).Bytes(wire.AppendAString(nil, a.Entry)).SP().Bytes(wire.AppendValue(nil, a.Value))
			sep = " "
		}
		s.enc.Raw(")").CRLF()
	}
	if longest > 0 {
		s.ok("METADATA LONGENTRIES "+numeral(longest), "")
	}
}

// covers tells whether what is asked for by one entry is another, or that is below it.
func (c getMetadataCmd) covers(asked, entry string) bool {
	below, ok := strings.CutPrefix(entry, asked+"/")
	return entry == asked || ok && (c.depth < 0 || c.depth == 1 && !strings.Contains(below, "/"))
}

type setMetadataCmd struct{ mailbox string }

// setmetadata = "SETMETADATA" SP mailbox SP entry-values
//
// It reads up to the values, and run reads the rest: how large they may be is the store's to say.
func readSetMetadata(d *wire.Decoder) (run, error) {
	d.SP()
	c := setMetadataCmd{d.Mailbox()}
	d.SP()
	return c, d.Err()
}

func (c setMetadataCmd) run(ctx context.Context, s *session) error {
	set, err := readAnnotations(s.dec, s.store.MaxMetadataSize())
	if err != nil {
		return err
	}
	if c.mailbox != "" {
		for i := range set {
			if err := checkSpecialUse(&set[i]); err != nil {
				return err
			}
		}
	}
	return s.store.SetMetadata(ctx, s.user, c.mailbox, set)
}

// checkSpecialUse checks the entry with the special uses of a mailbox, and
// spells them as we do (RFC 6154 section 4).
func checkSpecialUse(a *store.Annotation) error {
	if a.Entry != store.SpecialUseEntry || a.Value == nil {
		return nil
	}
	var uses []string
	for _, attr := range strings.Fields(string(a.Value)) {
		use, ok := specialUse(attr)
		if !ok {
			return no("USEATTR", "There is no such special use, or none that a mailbox can have")
		}
		if !slices.Contains(uses, use) {
			uses = append(uses, use)
		}
	}
	a.Value = []byte(strings.Join(uses, " "))
	return nil
}

// entry-values = "(" entry-value *(SP entry-value) ")"
// entry-value  = entry SP value
func readAnnotations(d *wire.Decoder, largest int64) ([]store.Annotation, error) {
	tooBig := no("METADATA MAXSIZE "+numeral(largest), "Annotation too big")
	accept := func(size int64, _ bool) error {
		if size > largest {
			return tooBig
		}
		return nil
	}
	var set []store.Annotation
	var refused error
	d.List(func() {
		entry := readEntryName(d)
		d.SP()
		value, ok := d.Value(accept)
		switch {
		case !ok:
			value = nil
		case int64(len(value)) > largest:
			refused = tooBig
		}
		if set = append(set, store.Annotation{Entry: entry, Value: value}); len(set) > maxEntries {
			d.Exceed("Too many annotations: at most %d can be set at once", maxEntries)
		}
	})
	if d.Err() == nil && len(set) == 0 {
		d.Fail("SETMETADATA of nothing")
	}
	if err := d.End(); err != nil {
		return nil, err
	}
	return set, refused
}
