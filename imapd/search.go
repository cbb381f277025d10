package imapd

// SEARCH and UID SEARCH: how they are read and answered. What a key matches is
// in search_eval.go.
//
// RFC 3501 section 6.4.4; MODSEQ: RFC 7162 section 3.1.5; RETURN: RFC 4731; SAVE: RFC 5182;
// PARTIAL: RFC 9394; EMAILID and THREADID: RFC 8474 section 6; SAVEDON and its like: RFC 8514 section
// 4.3; OLDER and YOUNGER: RFC 5032; FUZZY: RFC 6203 (search_fuzzy.go).

import (
	"cmp"
	"context"
	"iter"
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
	fuzzyTexts []int // those of FUZZY keys
	modSeq     bool  // a MODSEQ key is among the keys
	extended   bool  // there are return options
	returns    returnOptions
	partial    *partial // of returnPartial

	filters  []*searchKey // whose keys are not there yet
	keyCount int
	of       *store.Mailbox // that an ESEARCH response names; nil: it is the selected one
	fuzzy    bool           // a FUZZY key is among the keys
	scored   bool           // how relevant each message is, is asked for

	// Of the search under way:
	answers  *answers // of the index; nil: none
	progress *progress
	done     int // messages that are known to match or not
}

// returnOptions is a set of what a search returns, and whether it saves.
type returnOptions uint16

const (
	returnMin returnOptions = 1 << iota
	returnMax
	returnAll
	returnCount
	returnSave
	returnPartial
	returnUpdate  // the client is kept up to date (context.go)
	returnContext // it will ask again (RFC 5267 section 4.2): what that is answered from is kept in any case
	returnRelevancy

	returnData = returnMin | returnMax | returnAll | returnCount | returnPartial | returnRelevancy
)

var returnNames = map[string]returnOptions{
	"UPDATE": returnUpdate, "CONTEXT": returnContext,
	"MIN": returnMin, "MAX": returnMax, "ALL": returnAll, "COUNT": returnCount, "SAVE": returnSave, "PARTIAL": returnPartial,
	"RELEVANCY": returnRelevancy,
}

// searchKey is a node of the program.
type searchKey struct {
	op   searchOp
	kids []*searchKey // of opAnd, opOr and opNot

	set     messageSet
	flags   view.Flags
	keyword string
	day     int64     // of date keys, as dayOf tells it
	number  int64     // of LARGER, SMALLER and MODSEQ, and the seconds of OLDER and YOUNGER
	query   int       // of opText: index of queries
	object  id.Object // of EMAILID and THREADID
	filter  string    // of FILTER, whose keys are the kids of opAnd until they are put in its place
	fuzzy   bool      // of FILTER: its first key is that of FUZZY

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
	// maxFuzzyTexts bounds those that are looked for fuzzily, for each word of them is compared with each of the mail.
	maxFuzzyTexts = 20
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
	fuzzy   bool // the key that is read is one of FUZZY
}

// search = "SEARCH" [SP search-return-opts] [SP "CHARSET" SP astring] 1*(SP search-key)
func readSearchCmd(d *wire.Decoder, uid bool) *searchCmd {
	c := &searchCmd{uid: uid, key: &searchKey{op: opAnd}}
	d.SP()
	c.readProgram(d, readKeyName(d))
	return c
}

// readProgram reads what is searched, behind a name that has been read.
func (c *searchCmd) readProgram(d *wire.Decoder, first string) {
	r := searchReader{d: d, cmd: c, charset: defaultCharset}
	if first == "RETURN" {
		d.SP()
		c.readReturns(d)
		d.SP()
		first = readKeyName(d)
	}
	if first == "CHARSET" {
		d.SP()
		r.readCharset()
		first = ""
	}
	r.keysInto(c.key, first)
	c.keyCount = r.keys
	if c.scored && !c.fuzzy && len(c.filters) == 0 {
		d.Refuse(errNoScores)
	}
}

// readKeyName reads the name that a search, or what stands before it, begins with; "" if it has none.
func readKeyName(d *wire.Decoder) string {
	if !isKeyName(d.Peek()) {
		return ""
	}
	return d.Keyword()
}

// search-criteria = charset 1*(SP search-key)
//
// RFC 5256 section 5: as SORT and THREAD have them.
func (c *searchCmd) readCriteria(d *wire.Decoder) {
	r := searchReader{d: d, cmd: c}
	r.readCharset()
	r.keysInto(c.key, "")
	c.keyCount = r.keys
	if c.scored && !c.fuzzy && len(c.filters) == 0 {
		d.Refuse(errNoScores)
	}
}

func (r *searchReader) readCharset() {
	r.cmd.charset, r.charset = true, findCharset(r.d.AString())
	r.cmd.badCharset = r.charset == nil && r.d.Err() == nil
	r.d.SP()
}

// keysInto reads all keys; the name of the first may have been read.
func (r *searchReader) keysInto(root *searchKey, first string) {
	if first != "" {
		root.kids = append(root.kids, r.named(first))
	} else {
		root.kids = append(root.kids, r.key())
	}
	r.fuzzy = false // it is of the first key of a filter, which stands for its text
	for r.d.TrySP() {
		root.kids = append(root.kids, r.key())
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
	c.scored = c.returns&returnRelevancy != 0
	if c.returns&returnAll != 0 && c.partial != nil { // RFC 9394 section 3.1
		d.Fail("ALL and PARTIAL exclude each other")
	}
	if c.returns&^returnContext == 0 {
		c.returns |= returnAll
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
	case "FILTER":
		d.SP()
		return r.filter(k)
	case "FUZZY":
		d.SP()
		return r.readFuzzy()
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
	if r.fuzzy {
		q.Like = index.Loosest
		if len(r.cmd.fuzzyTexts) == maxFuzzyTexts {
			r.d.Exceed("Too many strings to search for with FUZZY: at most %d are allowed", maxFuzzyTexts)
		}
		r.cmd.fuzzyTexts = append(r.cmd.fuzzyTexts, k.query)
	}
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
	return c.returns&(returnSave|returnUpdate) == 0 && (s.condstore || !c.modSeq && len(c.filters) == 0)
}

// looks implements looker. An EXPUNGE would make other messages of the numbers that a UID SEARCH has (RFC 7162 section 3.2.10.2).
func (c *searchCmd) looks(*session) look { return look{expunges: c.uid && !c.numbers} }

// run searches, and saves what is to be saved: nothing where the search fails, so
// that no later command takes an older result for this one's (RFC 5182 section 2.1).
func (c *searchCmd) run(ctx context.Context, s *session) error {
	if c.charset && s.utf8 {
		return errCharsetOfUTF8
	}
	return c.saving(s, func() error { return c.find(ctx, s, c.tellFound) })
}

// RFC 6855 section 3.
var errCharsetOfUTF8 = bad("With UTF8=ACCEPT enabled no charset can be named: all is in UTF-8")

// saving runs a search that may have something to save.
func (c *searchCmd) saving(s *session, answer func() error) error {
	switch { // of what is BAD there is no result, and no older one lost
	case c.numbers && s.uidOnly:
		return errUIDRequired
	case c.returns&returnUpdate != 0 && s.selected.context(s.tag) >= 0: // RFC 5267 section 4.3
		return bad("The tag is that of a search that is kept up to date")
	}
	err := answer()
	if err != nil && c.returns&returnSave != 0 && s.selected != nil {
		s.selected.saved = view.UIDSet{}
	}
	return err
}

// finding is what a search has found.
type finding struct {
	view *view.View
	uids view.UIDSet
	scores
}

// find searches, and calls tell, which the time of the search is for as well.
func (c *searchCmd) find(ctx context.Context, s *session, tell func(context.Context, *session, finding) error) error {
	if err := s.tellBefore(ctx, c.looks(s)); err != nil {
		return err
	}
	return c.within(ctx, s, func(ctx context.Context) error {
		v, err := s.view(ctx)
		if err != nil {
			return err
		}
		c.progress = s.startProgress(s.selected.told.UIDs.Len())
		c.key.bind(s)
		found, err := c.findIn(ctx, s, v)
		if err != nil {
			return err
		}
		return tell(ctx, s, found)
	})
}

// findIn searches what the session knows of the selected mailbox.
func (c *searchCmd) findIn(ctx context.Context, s *session, v *view.View) (f finding, err error) {
	f.view = v
	if f.uids, err = c.search(ctx, s, v, s.selected.told.UIDs); err == nil && c.scored {
		f.scores, err = c.score(ctx, s, v, f.uids)
	}
	return f, err
}

// knowsModSeqs implements modSeqKnower.
func (c *searchCmd) knowsModSeqs() bool { return c.modSeq }

// within calls search once it is its turn, with the time that it has.
func (c *searchCmd) within(ctx context.Context, s *session, search func(context.Context) error) error {
	if c.badCharset {
		return no("BADCHARSET ("+charsetNames()+")", "Charset not supported")
	}
	if err := c.expand(ctx, s); err != nil {
		return err
	}
	if c.knowsModSeqs() {
		s.enableCondstore()
	}
	done, err := s.searchTurn(ctx)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, s.server.o.SearchTimeout)
	defer cancel()
	s.store.CountSearch(s.user)
	if err := search(ctx); err != nil {
		return cmp.Or(ctx.Err(), err) // whatever the end of its time has made to fail
	}
	return nil
}

func (c *searchCmd) tellFound(_ context.Context, s *session, f finding) error {
	all := results{set: f.uids}
	switch {
	case c.extended:
		if err := c.tellExtended(s, f, all); err != nil || c.returns&returnUpdate == 0 {
			return err
		}
		s.keepUpdated(&searchContext{tag: s.tag, search: c, at: f.view, found: all})
		return nil
	case s.rev2: // as with an empty list of options (RFC 9051 section 6.4.4)
		c.returns = returnAll
		return c.tellExtended(s, f, all)
	}
	c.tell(s, "SEARCH", f, f.uids.All())
	return nil
}

// mailbox-data =/ "SEARCH" [1*(SP nz-number) SP search-sort-mod-seq]
// sort-data    =/ "SORT" [1*(SP nz-number) SP search-sort-mod-seq]
func (c *searchCmd) tell(s *session, name string, f finding, uids iter.Seq[id.UID]) {
	b := append(append(s.scratch[:0], "* "...), name...)
	for uid := range uids {
		b = appendNumber(append(b, ' '), c.numberOf(s, uid))
		if len(b) >= flushAt {
			s.enc.Bytes(b)
			b = b[:0]
		}
	}
	if c.modSeq && !f.uids.Empty() {
		b = append(b, " (MODSEQ "...)
		b = appendNumber(b, s.reportHighest(f.view, f.uids))
		b = append(b, ')')
	}
	b = append(b, "\r\n"...)
	s.enc.Bytes(b)
	s.scratch = b[:0]
}

// numberOf returns what the command calls a message: its UID or its number.
func (c *searchCmd) numberOf(s *session, uid id.UID) uint32 {
	if c.uid {
		return uint32(uid)
	}
	return s.number(uid)
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
func (c *searchCmd) tellExtended(s *session, f finding, all results) error {
	returned, part := f.uids, results{}
	if c.partial != nil {
		part = all.part(c.partial)
	}
	if c.returns&(returnMin|returnMax|returnPartial) != 0 && c.returns&(returnAll|returnCount) == 0 && !all.set.Empty() {
		var ends []id.UID
		if c.returns&returnMin != 0 {
			ends = append(ends, all.first())
		}
		if c.returns&returnMax != 0 {
			ends = append(ends, all.last())
		}
		returned = view.NewUIDSet(ends...).Union(part.set)
	}
	if c.returns&returnSave != 0 {
		if len(returned.Ranges()) > s.server.o.MaxRanges {
			return no("NOTSAVED", "The result has too many ranges to be saved")
		}
		s.selected.saved = returned
	}
	if c.returns&returnData == 0 {
		return nil // nothing is asked for (RFC 5182 section 2.2)
	}
	c.beginExtended(s, s.tag)
	c.tellReturned(s, all, part)
	if c.returns&returnRelevancy != 0 && !all.set.Empty() {
		c.tellScores(s, f, all, part)
	}
	if c.modSeq && !returned.Empty() {
		s.enc.Raw(" MODSEQ ").Number(uint64(s.reportHighest(f.view, returned)))
	}
	s.enc.CRLF()
	return nil
}

// beginExtended writes what a response is about.
func (c *searchCmd) beginExtended(s *session, tag string) {
	s.enc.Raw("* ESEARCH (TAG ").String(tag)
	if c.of != nil { // RFC 7377 section 2.1
		s.enc.Raw(" MAILBOX ").Mailbox(c.of.Name).Raw(" UIDVALIDITY ").Number(uint64(c.of.UIDValidity))
	}
	s.enc.Raw(")")
}

// tellReturned writes what is returned of the results.
func (c *searchCmd) tellReturned(s *session, all, part results) {
	if c.uid {
		s.enc.Raw(" UID")
	}
	if c.returns&returnMin != 0 && !all.set.Empty() {
		s.enc.Raw(" MIN ").Number(uint64(c.numberOf(s, all.first())))
	}
	if c.returns&returnMax != 0 && !all.set.Empty() {
		s.enc.Raw(" MAX ").Number(uint64(c.numberOf(s, all.last())))
	}
	if c.returns&returnAll != 0 && !all.set.Empty() {
		s.enc.Raw(" ALL ").Raw(c.sequence(s, all))
	}
	if c.partial != nil {
		s.enc.Raw(" PARTIAL (").Raw(c.partial.String()).SP()
		if part.set.Empty() {
			s.enc.Raw("NIL)")
		} else {
			s.enc.Raw(c.sequence(s, part)).Raw(")")
		}
	}
	if c.returns&returnCount != 0 {
		s.enc.Raw(" COUNT ").Number(uint64(all.set.Len()))
	}
}
