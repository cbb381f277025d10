package imapd

// SEARCH and UID SEARCH: how they are read and answered. What a key matches is
// in search_eval.go.
//
// RFC 3501 section 6.4.4; MODSEQ: RFC 7162 section 3.1.5; RETURN: RFC 4731; SAVE: RFC 5182;
// PARTIAL: RFC 9394; EMAILID and THREADID: RFC 8474 section 6; SAVEDON and its like: RFC 8514 section
// 4.3; OLDER and YOUNGER: RFC 5032.

import (
	"cmp"
	"context"
	"strings"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/index"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// searchLedger is told of searches.
type searchLedger interface {
	CountSearch(u store.User)
}

var _ searchLedger = (*store.Store)(nil)

type searchCmd struct {
	uid        bool
	numbers    bool // message numbers are among the keys
	charset    bool // one is named,
	badCharset bool // and is not known
	key        *searchKey
	queries    []index.Query
	modSeq     bool // a MODSEQ key is among the keys
	extended   bool // there are return options
	returns    returnOptions
	partial    *partial // of returnPartial

	// Of the search under way:
	answers  *answers // of the index; nil: none
	progress *progress
	done     int // messages that are known to match or not
}

// returnOptions is a set of what a search returns, and whether it saves.
type returnOptions uint8

const (
	returnMin returnOptions = 1 << iota
	returnMax
	returnAll
	returnCount
	returnSave
	returnPartial
)

var returnNames = map[string]returnOptions{
	"MIN": returnMin, "MAX": returnMax, "ALL": returnAll, "COUNT": returnCount, "SAVE": returnSave, "PARTIAL": returnPartial,
}

// searchKey is a node of the program.
type searchKey struct {
	op   searchOp
	kids []*searchKey // of opAnd, opOr and opNot

	set     messageSet
	flags   view.Flags
	keyword string
	day     int       // of date keys, as dayOf tells it
	number  int64     // of LARGER, SMALLER and MODSEQ, and the seconds of OLDER and YOUNGER
	query   int       // of opText: index of queries
	object  id.Object // of EMAILID and THREADID

	// Set by resolve, for one view:
	uids view.UIDSet
	bit  int   // of keyword; -1: not defined
	then int64 // so many seconds ago, since the epoch
}

type searchOp uint8

const (
	opAnd searchOp = iota
	opOr
	opNot
	opAll
	opSet
	opFlags   // has all of flags
	opUnflags // has none of flags
	opKeyword
	opRecent
	opBefore
	opOn
	opSince
	opSavedBefore
	opSavedOn
	opSavedSince
	opOlder
	opYounger
	opLarger
	opSmaller
	opModSeq
	// What follows needs what was kept of the message on its arrival.
	opSentBefore
	opSentOn
	opSentSince
	opEmailID
	opThreadID
	opText
)

const (
	// maxSearchKeys bounds the work for each message.
	maxSearchKeys = 2000
	// maxSearchTexts bounds the strings that are looked for.
	maxSearchTexts = 200
)

// flagKeys are the keys that ask for system flags.
var flagKeys = map[string]struct {
	op    searchOp
	flags view.Flags
}{
	"ANSWERED": {opFlags, view.Answered}, "UNANSWERED": {opUnflags, view.Answered},
	"DELETED": {opFlags, view.Deleted}, "UNDELETED": {opUnflags, view.Deleted},
	"DRAFT": {opFlags, view.Draft}, "UNDRAFT": {opUnflags, view.Draft},
	"FLAGGED": {opFlags, view.Flagged}, "UNFLAGGED": {opUnflags, view.Flagged},
	"SEEN": {opFlags, view.Seen}, "UNSEEN": {opUnflags, view.Seen},
}

// dateKeys and numberKeys are the keys with a date and with a number.
var (
	dateKeys = map[string]searchOp{
		"BEFORE": opBefore, "ON": opOn, "SINCE": opSince,
		"SAVEDBEFORE": opSavedBefore, "SAVEDON": opSavedOn, "SAVEDSINCE": opSavedSince,
		"SENTBEFORE": opSentBefore, "SENTON": opSentOn, "SENTSINCE": opSentSince,
	}
	numberKeys = map[string]searchOp{"LARGER": opLarger, "SMALLER": opSmaller}
)

// textKeys are the keys with a string.
var textKeys = map[string]index.Query{
	"BCC":     {In: index.Header, Field: "Bcc"},
	"CC":      {In: index.Header, Field: "Cc"},
	"FROM":    {In: index.Header, Field: "From"},
	"SUBJECT": {In: index.Header, Field: "Subject"},
	"TO":      {In: index.Header, Field: "To"},
	"BODY":    {In: index.Body},
	"TEXT":    {In: index.Anywhere},
}

func readSearch(d *wire.Decoder) (run, error)    { return parseSearch(d, false) }
func readUIDSearch(d *wire.Decoder) (run, error) { return parseSearch(d, true) }

func parseSearch(d *wire.Decoder, uid bool) (run, error) {
	c := readSearchCmd(d, uid)
	return c, d.End()
}

// searchReader reads one command.
type searchReader struct {
	d       *wire.Decoder
	cmd     *searchCmd
	charset *charset // nil: not known, so that strings mean nothing
	keys    int
}

// search = "SEARCH" [SP search-return-opts] [SP "CHARSET" SP astring] 1*(SP search-key)
func readSearchCmd(d *wire.Decoder, uid bool) *searchCmd {
	c := &searchCmd{uid: uid, key: &searchKey{op: opAnd}}
	r := searchReader{d: d, cmd: c, charset: defaultCharset}
	d.SP()
	var first string
	if isKeyName(d.Peek()) {
		if first = d.Keyword(); first == "RETURN" {
			first = ""
			d.SP()
			c.readReturns(d)
			d.SP()
			if isKeyName(d.Peek()) {
				first = d.Keyword()
			}
		}
		if first == "CHARSET" {
			d.SP()
			c.charset, r.charset = true, findCharset(d.AString())
			c.badCharset = r.charset == nil && d.Err() == nil
			d.SP()
			first = ""
		}
	}
	for {
		if first != "" {
			c.key.kids = append(c.key.kids, r.named(first))
			first = ""
		} else {
			c.key.kids = append(c.key.kids, r.key())
		}
		if !d.TrySP() {
			return c
		}
	}
}

// readReturns reads what is to be returned. Nothing named is ALL, something
// named twice is named once (RFC 4731 section 3.1).
//
// search-return-opts = "RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")"
// search-return-opt  =/ "PARTIAL" SP partial-range
func (c *searchCmd) readReturns(d *wire.Decoder) {
	c.extended = true
	d.List(func() {
		name := d.Keyword()
		if returnNames[name] == 0 && d.Err() == nil {
			d.Fail("Unknown return option %.40s", name)
		}
		if name == "PARTIAL" {
			if c.partial != nil {
				d.Fail("PARTIAL given twice")
			}
			d.SP()
			c.partial = readPartial(d)
		}
		c.returns |= returnNames[name]
	})
	if c.returns&returnAll != 0 && c.partial != nil { // RFC 9394 section 3.1
		d.Fail("ALL and PARTIAL exclude each other")
	}
	if c.returns == 0 {
		c.returns = returnAll
	}
}

// isKeyName tells whether a key that begins with c has a name.
func isKeyName(c byte) bool { return c != '(' && c != '*' && c != '$' && (c < '0' || c > '9') }

// search-key = sequence-set / "(" search-key *(SP search-key) ")" / a key with a name
func (r *searchReader) key() *searchKey {
	d := r.d
	if c := d.Peek(); isKeyName(c) {
		return r.named(d.Keyword())
	} else if c != '(' {
		set := readMessageSet(d, false)
		r.cmd.numbers = r.cmd.numbers || !set.saved
		return r.count(&searchKey{op: opSet, set: set})
	}
	k := r.count(&searchKey{op: opAnd})
	d.List(func() { k.kids = append(k.kids, r.key()) })
	if len(k.kids) == 0 {
		d.Fail("A list of search keys cannot be empty")
	}
	return k
}

func (r *searchReader) count(k *searchKey) *searchKey {
	if r.keys++; r.keys > maxSearchKeys {
		r.d.Exceed("Too many search keys: at most %d are allowed", maxSearchKeys)
	}
	return k
}

// named reads what follows the name of a key.
func (r *searchReader) named(name string) *searchKey {
	d := r.d
	k := r.count(&searchKey{})
	if d.Err() != nil {
		return k
	}
	if f, ok := flagKeys[name]; ok {
		k.op, k.flags = f.op, f.flags
		return k
	}
	if op, ok := dateKeys[name]; ok {
		d.SP()
		k.op, k.day = op, dayOf(d.Date())
		return k
	}
	if op, ok := numberKeys[name]; ok {
		d.SP()
		k.op, k.number = op, int64(d.Number64())
		return k
	}
	if q, ok := textKeys[name]; ok {
		d.SP()
		return r.text(k, q)
	}
	switch name {
	case "ALL", "SAVEDATESUPPORTED": // which it is of all
		k.op = opAll
	case "OLDER", "YOUNGER":
		d.SP()
		k.op, k.number = opOlder, int64(d.NZNumber())
		if name == "YOUNGER" {
			k.op = opYounger
		}
	case "RECENT":
		k.op = opRecent
	case "OLD":
		k.op, k.kids = opNot, []*searchKey{{op: opRecent}}
	case "NEW":
		k.op, k.kids = opAnd, []*searchKey{{op: opRecent}, {op: opUnflags, flags: view.Seen}}
	case "UID":
		d.SP()
		k.op, k.set = opSet, readMessageSet(d, true)
	case "EMAILID", "THREADID":
		d.SP()
		k.op, k.object = opEmailID, id.Object(d.ObjectID())
		if name == "THREADID" {
			k.op = opThreadID
		}
	case "KEYWORD", "UNKEYWORD":
		d.SP()
		return r.keyword(k, name == "UNKEYWORD")
	case "HEADER":
		d.SP()
		field := d.AString()
		d.SP()
		return r.text(k, index.Query{In: index.Header, Field: field})
	case "MODSEQ":
		d.SP()
		r.modSeq(k)
	case "NOT":
		d.SP()
		k.op = opNot
		d.Nest(func() { k.kids = []*searchKey{r.key()} })
	case "OR":
		d.SP()
		k.op = opOr
		d.Nest(func() {
			a := r.key()
			d.SP()
			k.kids = []*searchKey{a, r.key()}
		})
	default:
		d.Fail("Unknown search key %.40q", name)
	}
	return k
}

func (r *searchReader) keyword(k *searchKey, not bool) *searchKey {
	k.op, k.keyword = opKeyword, string(r.d.Flag())
	if strings.HasPrefix(k.keyword, `\`) {
		r.d.Fail("%.40s is no keyword", k.keyword)
	}
	if not {
		return &searchKey{op: opNot, kids: []*searchKey{k}}
	}
	return k
}

// modSeq reads what follows MODSEQ. All flags of a message share one MODSEQ, so
// which of them is asked about does not matter (RFC 7162 section 3.1.5).
//
// search-modsequence = "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer
func (r *searchReader) modSeq(k *searchKey) {
	d := r.d
	if d.Peek() == '"' {
		_ = d.String()
		d.SP()
		if kind := d.Keyword(); kind != "SHARED" && kind != "PRIV" && kind != "ALL" {
			d.Fail("Unknown kind of metadata %.40q", kind)
		}
		d.SP()
	}
	k.op, k.number = opModSeq, int64(d.Number64())
	r.cmd.modSeq = true
}

// text reads the string of a key.
func (r *searchReader) text(k *searchKey, q index.Query) *searchKey {
	s := r.d.AString()
	k.op, k.query = opText, len(r.cmd.queries)
	if k.query == maxSearchTexts {
		r.d.Exceed("Too many strings to search for: at most %d are allowed", maxSearchTexts)
	}
	if r.charset != nil {
		var ok bool
		if q.Text, ok = r.charset.decode(s); !ok {
			r.d.Fail("The string to search for is not in %s", r.charset.name)
		}
	}
	r.cmd.queries = append(r.cmd.queries, q)
	return k
}

// mayRunBeside implements chooser.
func (c *searchCmd) mayRunBeside(s *session) bool {
	return c.returns&returnSave == 0 && (s.condstore || !c.modSeq)
}

// looks implements looker. An EXPUNGE would make other messages of the numbers that a UID SEARCH has (RFC 7162 section 3.2.10.2).
func (c *searchCmd) looks(*session) look { return look{expunges: c.uid && !c.numbers} }

// run searches, and saves what is to be saved: nothing where the search fails, so
// that no later command takes an older result for this one's (RFC 5182 section 2.1).
func (c *searchCmd) run(ctx context.Context, s *session) error {
	switch { // of what is BAD there is no result, and no older one lost
	case c.numbers && s.uidOnly:
		return errUIDRequired
	case c.charset && s.utf8: // RFC 6855 section 3
		return bad("With UTF8=ACCEPT enabled no charset can be named: all is in UTF-8")
	}
	err := c.answer(ctx, s)
	if err != nil && c.returns&returnSave != 0 && s.selected != nil {
		s.selected.saved = view.UIDSet{}
	}
	return err
}

func (c *searchCmd) answer(ctx context.Context, s *session) error {
	if err := s.tellBefore(ctx, c.looks(s)); err != nil {
		return err
	}
	if c.badCharset {
		return no("BADCHARSET ("+charsetNames()+")", "Charset not supported")
	}
	if c.modSeq {
		s.enableCondstore()
	}
	done, err := s.searchTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	v, err := s.view(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.server.o.SearchTimeout)
	defer cancel()
	c.progress = s.startProgress(s.selected.told.UIDs.Len())
	s.store.CountSearch(s.user)
	found, err := c.search(ctx, s, v)
	if err != nil {
		return cmp.Or(ctx.Err(), err) // whatever the end of its time has made to fail
	}
	switch {
	case c.extended:
		return c.tellExtended(s, v, found)
	case s.rev2: // as with an empty list of options (RFC 9051 section 6.4.4)
		c.returns = returnAll
		return c.tellExtended(s, v, found)
	}
	c.tell(s, v, found)
	return nil
}

// mailbox-data =/ "SEARCH" [1*(SP nz-number) SP search-sort-mod-seq]
func (c *searchCmd) tell(s *session, v *view.View, found view.UIDSet) {
	b := append(s.scratch[:0], "* SEARCH"...)
	for uid := range found.All() {
		n := uint32(uid)
		if !c.uid {
			n = s.number(uid)
		}
		b = appendNumber(append(b, ' '), n)
		if len(b) >= flushAt {
			s.enc.Bytes(b)
			b = b[:0]
		}
	}
	if c.modSeq && !found.Empty() {
		b = append(b, " (MODSEQ "...)
		b = appendNumber(b, s.reportHighest(v, found))
		b = append(b, ')')
	}
	b = append(b, "\r\n"...)
	s.enc.Bytes(b)
	s.scratch = b[:0]
}

// reportHighest returns the highest MODSEQ of some messages, and notes that the client has seen it.
func (s *session) reportHighest(v *view.View, uids view.UIDSet) id.ModSeq {
	highest := id.ModSeq(0)
	for m := range v.In(uids) {
		highest = max(highest, m.ModSeq)
	}
	s.reported = max(s.reported, highest)
	return highest
}

// tellExtended tells what the return options ask for, and saves. Where they ask
// for the ends or a part alone, those are what is saved (RFC 5182 section 2.4, RFC 9394
// section 3.2), and what the MODSEQ is of (RFC 7162 section 3.1.10). What would be
// too much to be kept is not saved, and nothing is told (RFC 5182 section 2.5).
//
// esearch-response = "ESEARCH" SP "(TAG" SP tag-string ")" [SP "UID"] *(SP search-return-data)
func (c *searchCmd) tellExtended(s *session, v *view.View, found view.UIDSet) error {
	returned, part := found, view.UIDSet{}
	if c.partial != nil {
		part = c.partial.of(found)
	}
	if c.returns&(returnMin|returnMax|returnPartial) != 0 && c.returns&(returnAll|returnCount) == 0 && !found.Empty() {
		var ends []id.UID
		if c.returns&returnMin != 0 {
			ends = append(ends, found.Min())
		}
		if c.returns&returnMax != 0 {
			ends = append(ends, found.Max())
		}
		returned = view.NewUIDSet(ends...).Union(part)
	}
	if c.returns&returnSave != 0 {
		if len(returned.Ranges()) > s.server.o.MaxRanges {
			return no("NOTSAVED", "The result has too many ranges to be saved")
		}
		s.selected.saved = returned
	}
	if c.returns == returnSave {
		return nil // nothing is asked for (RFC 5182 section 2.2)
	}
	s.enc.Raw("* ESEARCH (TAG ").String(s.tag).Raw(")")
	number := s.number
	if c.uid {
		s.enc.Raw(" UID")
		number = func(uid id.UID) uint32 { return uint32(uid) }
	}
	if c.returns&returnMin != 0 && !found.Empty() {
		s.enc.Raw(" MIN ").Number(uint64(number(found.Min())))
	}
	if c.returns&returnMax != 0 && !found.Empty() {
		s.enc.Raw(" MAX ").Number(uint64(number(found.Max())))
	}
	set := func(uids view.UIDSet) string {
		if !c.uid {
			uids = s.numbersOf(uids)
		}
		return uids.String()
	}
	if c.returns&returnAll != 0 && !found.Empty() {
		s.enc.Raw(" ALL ").Raw(set(found))
	}
	if c.partial != nil {
		s.enc.Raw(" PARTIAL (").Raw(c.partial.String()).SP()
		if part.Empty() {
			s.enc.Raw("NIL)")
		} else {
			s.enc.Raw(set(part)).Raw(")")
		}
	}
	if c.returns&returnCount != 0 {
		s.enc.Raw(" COUNT ").Number(uint64(found.Len()))
	}
	if c.modSeq && !returned.Empty() {
		s.enc.Raw(" MODSEQ ").Number(uint64(s.reportHighest(v, returned)))
	}
	s.enc.CRLF()
	return nil
}
