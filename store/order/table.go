package order

import (
	"hash/maphash"
	"iter"
	"math"
	"sync"
	"unicode/utf8"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// Table is what SORT and THREAD need of emails of one account, a row each, in the order in which they were added. It is safe
// for concurrent use.
type Table struct {
	mu sync.Mutex // guards what follows
	columns
	age    uint8 // goes on with each Prune
	pruned int   // rows that were left by the last Prune
}

type columns struct {
	pages  []*page // where an email's row is, by its number
	paged  int     // pages that are there
	emails []id.Email
	sent   []int64 // seconds after the epoch, noDate where INTERNALDATE counts
	texts  [textColumns][]textID
	flags  []rowFlags
	own    []messageID // Message-ID
	refs   []messageID // References of all rows, one after the other
	refEnd []uint32    // where those of a row end
	used   []uint8     // the age of the table when the row was asked for last

	words dictionary
	ids   map[uint64]messageID // by hash
	seed  maphash.Seed
}

// messageID stands for a Message-ID; 0 is none.
type messageID uint32

// textColumn is a column of strings.
type textColumn uint8

const (
	subjects textColumn = iota
	froms
	tos
	ccs
	displayFroms
	displayTos
	textColumns
)

type rowFlags uint8

const replies rowFlags = 1 // the subject says that it is a reply, or forwarded

// noDate is for emails without a Date that can be read.
const noDate = math.MinInt64

const pageSize = 1024

// page holds for each email of a run of numbers its row plus one, 0 where there is none.
type page [pageSize]uint32

// NewTable returns a table without rows.
func NewTable() *Table { return &Table{columns: newColumns(maphash.MakeSeed())} }

func newColumns(seed maphash.Seed) columns {
	c := columns{ids: make(map[uint64]messageID), seed: seed, words: dictionary{seed: seed}}
	c.words.add(nil) // so that "" is 0
	return c
}

// Len returns how many emails are there.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.emails)
}

// Add adds an email. meta is nil for one that is gone, of which nothing is known any more.
func (t *Table) Add(email id.Email, meta *message.Meta) {
	if meta == nil {
		meta = &message.Meta{}
	}
	r := newRow(meta) // what takes time, before the lock
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.row(email); ok {
		return
	}
	t.add(email, r.sent, r.flags, t.age)
	for c := range t.texts {
		t.texts[c] = append(t.texts[c], t.words.add(r.texts[c]))
	}
	t.own = append(t.own, t.intern(r.own))
	for _, ref := range r.refs {
		t.refs = append(t.refs, t.intern(ref))
	}
	t.refEnd = append(t.refEnd, uint32(len(t.refs)))
}

// add begins a row.
func (c *columns) add(email id.Email, sent int64, flags rowFlags, age uint8) {
	c.place(email, len(c.emails))
	c.emails, c.sent = append(c.emails, email), append(c.sent, sent)
	c.flags, c.used = append(c.flags, flags), append(c.used, age)
}

// row is what is kept of an email, before it is packed.
type row struct {
	sent  int64
	texts [textColumns][]byte
	flags rowFlags
	own   string
	refs  []string
}

func newRow(m *message.Meta) row {
	r := row{sent: noDate, own: m.ID(), refs: m.References}
	if !m.SentDate.IsZero() {
		r.sent = m.SentDate.Unix()
	}
	if m.Replies() {
		r.flags |= replies
	}
	e := &m.Envelope
	for c, text := range [textColumns]string{
		subjects: m.BaseSubject, froms: mailbox(e.From), tos: mailbox(e.To), ccs: mailbox(e.Cc),
		displayFroms: display(e.From), displayTos: display(e.To),
	} {
		r.texts[c] = collated(text)
	}
	return r
}

// collated returns octets that are in the order of i;unicode-casemap (RFC 5051), and behind them
// what is no UTF-8, by its octets (RFC 5255 section 4.6).
func collated(text string) []byte {
	if !utf8.ValidString(text) {
		return append([]byte{0xff}, text...)
	}
	return []byte(message.Normalize(text))
}

// mailbox returns the addr-mailbox of the first address (RFC 5256 section 3).
func mailbox(list []message.Address) string {
	if len(list) == 0 {
		return ""
	}
	return list[0].Mailbox
}

// display returns the display value of the first address (RFC 5957 section 3).
func display(list []message.Address) string {
	if len(list) == 0 {
		return ""
	}
	a := list[0]
	if name := message.DecodeHeader(a.Name); name != "" {
		return name
	}
	if a.Mailbox != "" && a.Host != "" {
		return a.Mailbox + "@" + a.Host
	}
	return a.Mailbox
}

// intern returns what stands for a Message-ID. Those of one hash would be taken for the same: of so many octets, with a seed
// that nobody knows, no two will be.
func (c *columns) intern(s string) messageID {
	if s == "" {
		return 0
	}
	return c.internHash(maphash.String(c.seed, s))
}

func (c *columns) internHash(h uint64) messageID {
	known, ok := c.ids[h]
	if !ok {
		known = messageID(len(c.ids) + 1)
		c.ids[h] = known
	}
	return known
}

// row returns where an email is.
func (c *columns) row(email id.Email) (int, bool) {
	n := int(email / pageSize)
	if n >= len(c.pages) || c.pages[n] == nil {
		return 0, false
	}
	at := c.pages[n][email%pageSize]
	return int(at) - 1, at > 0
}

func (c *columns) place(email id.Email, row int) {
	n := int(email / pageSize)
	for n >= len(c.pages) {
		c.pages = append(c.pages, nil)
	}
	if c.pages[n] == nil {
		c.pages[n] = new(page)
		c.paged++
	}
	c.pages[n][email%pageSize] = uint32(row + 1)
}

// Missing returns those emails that are not in the table, each once.
func (t *Table) Missing(emails iter.Seq[id.Email]) (missing []id.Email) {
	t.mu.Lock()
	defer t.mu.Unlock()
	asked := make(map[id.Email]struct{})
	for email := range emails {
		if at, ok := t.row(email); ok {
			t.used[at] = t.age
			continue
		}
		if _, twice := asked[email]; !twice {
			asked[email] = struct{}{}
			missing = append(missing, email)
		}
	}
	return missing
}

// fewRows is up to how many rows a table is not pruned.
const fewRows = 4096

// Prune lets go of emails that nobody has asked for since the time before, if the table has become twice as large since then:
// they are expunged, as a rule. Where one is asked for after all it is missing, and added again.
func (t *Table) Prune() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.emails) < 2*max(t.pruned, fewRows) {
		return
	}
	t.columns = t.only(func(row int) bool { return t.used[row] == t.age })
	t.pruned, t.age = len(t.emails), t.age+1
}

// Only returns a table with the rows of some emails alone, as far as they are there.
func (t *Table) Only(emails iter.Seq[id.Email]) *Table {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := make([]bool, len(t.emails))
	for email := range emails {
		if row, ok := t.row(email); ok {
			kept[row] = true
		}
	}
	next := t.only(func(row int) bool { return kept[row] })
	return &Table{columns: next, age: t.age, pruned: len(next.emails)}
}

// only returns columns with some of the rows.
func (c *columns) only(keep func(row int) bool) columns {
	next := newColumns(c.seed)
	hashes := make([]uint64, len(c.ids)+1)
	for h, known := range c.ids {
		hashes[known] = h
	}
	move := func(known messageID) messageID {
		if known == 0 {
			return 0
		}
		return next.internHash(hashes[known])
	}
	said := c.said()
	for i, email := range c.emails {
		if !keep(i) {
			continue
		}
		next.add(email, c.sent[i], c.flags[i], c.used[i])
		for column := range next.texts {
			next.texts[column] = append(next.texts[column], next.words.add(c.words.text(c.texts[column][i])))
		}
		next.own = append(next.own, move(c.own[i]))
		for _, ref := range said.refsOf(i) {
			next.refs = append(next.refs, move(ref))
		}
		next.refEnd = append(next.refEnd, uint32(len(next.refs)))
	}
	return next
}

// Weight returns how many octets of memory the table takes, about.
func (t *Table) Weight() int64 {
	const perRow = 8 + 8 + 4*int64(textColumns) + 1 + 4 + 4 + 1
	t.mu.Lock()
	defer t.mu.Unlock()
	return 1000 + int64(cap(t.emails))*perRow + int64(cap(t.refs))*4 + int64(len(t.ids))*24 +
		int64(t.paged)*pageSize*4 + int64(cap(t.pages))*8 + t.words.weight()
}
