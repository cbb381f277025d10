package imapd

// STORE and UID STORE.
//
// RFC 3501 section 6.4.6; UNCHANGEDSINCE and MODIFIED: RFC 7162 section 3.1.3;
// of messages that are gone: RFC 2180 section 4.2.
//
// A condition also fails where only other flags have changed, since all of a message share one
// MODSEQ. Section 3.1.12 avoids it by comparing with the flags that each client was told, and a session keeps
// none; but of what failed the flags are told, so that the client can try again at once.

import (
	"context"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// flagger is what STORE needs of the mailbox.
type flagger interface {
	SetFlags(ctx context.Context, c store.FlagChange) (store.FlagResult, error)
}

var _ flagger = (*store.Mailbox)(nil)

type storeCmd struct {
	set            messageSet
	mode           view.Mode
	silent         bool
	flags          flagSet
	unchangedSince id.ModSeq // -1: unconditional
}

func readStore(d *wire.Decoder) (run, error)    { return parseStore(d, false) }
func readUIDStore(d *wire.Decoder) (run, error) { return parseStore(d, true) }

// storeModes are the names of store-att-flags without .SILENT.
var storeModes = map[string]view.Mode{"FLAGS": view.Replace, "+FLAGS": view.Add, "-FLAGS": view.Remove}

// store           = "STORE" SP sequence-set [store-modifiers] SP store-att-flags
// store-modifiers = SP "(" store-modifier *(SP store-modifier) ")"
// store-modifier  = "UNCHANGEDSINCE" SP mod-sequence-valzer
// store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))
func parseStore(d *wire.Decoder, uid bool) (run, error) {
	c := storeCmd{unchangedSince: -1}
	d.SP()
	c.set = readMessageSet(d, uid)
	d.SP()
	if d.Peek() == '(' {
		d.List(func() {
			switch name := d.Keyword(); {
			case d.Err() != nil:
			case name == "UNCHANGEDSINCE" && c.unchangedSince < 0:
				d.SP()
				c.unchangedSince = id.ModSeq(d.Number64())
			default:
				d.Fail("Unknown or repeated STORE modifier %.40q", name)
			}
		})
		d.SP()
	}
	name := d.Keyword()
	name, c.silent = strings.CutSuffix(name, ".SILENT")
	mode, ok := storeModes[name]
	if !ok {
		d.Fail("Unknown STORE item %.40q", name)
	}
	c.mode = mode
	d.SP()
	var flags []imap.Flag
	if d.Peek() == '(' {
		flags = d.FlagList()
	} else {
		flags = append(flags, d.Flag())
		for d.TrySP() {
			flags = append(flags, d.Flag())
		}
	}
	c.flags = readFlags(d, flags)
	return c, d.End()
}

// flagSet are flags as store takes them.
type flagSet struct {
	system   view.Flags
	keywords []string
}

// maxKeyword is how long a keyword can be, in octets.
const maxKeyword = 255

// readFlags sorts flags. \Recent, which clients cannot change, is passed over
// (RFC 3501 section 2.3.2).
func readFlags(d *wire.Decoder, flags []imap.Flag) flagSet {
	var set flagSet
	known := make(map[string]bool)
flags:
	for _, flag := range flags {
		for _, f := range systemFlags {
			if f.name == flag {
				set.system |= f.flag
				continue flags
			}
		}
		name := string(flag)
		switch {
		case name == "" || name == `\Recent`:
		case name[0] == '\\':
			d.Fail("There is no flag %.40s", name)
		case len(name) > maxKeyword:
			d.Exceed("Keyword longer than %d octets", maxKeyword)
		case !known[strings.ToLower(name)]:
			known[strings.ToLower(name)] = true
			set.keywords = append(set.keywords, name)
		}
	}
	if len(set.keywords) > view.MaxKeywords {
		d.Refuse(store.ErrKeywords) // whatever is in the mailbox
	}
	return set
}

// weight returns how many octets the names of keywords take in memory.
func (f flagSet) weight() (octets int64) {
	for _, name := range f.keywords {
		octets += int64(len(name))
	}
	return octets
}

// allowed returns those flags that the rights let a user change (RFC 4314 section 4).
func (f flagSet) allowed(r acl.Rights) flagSet {
	var set flagSet
	for _, s := range systemFlags {
		if r.Has(s.need) {
			set.system |= f.system & s.flag
		}
	}
	if r.Has(acl.Write) {
		set.keywords = f.keywords
	}
	return set
}

// errReadOnly answers commands that would change a mailbox that was opened with EXAMINE.
var errReadOnly = no("", "The mailbox is open for reading only")

// knowsModSeqs implements modSeqKnower.
func (c storeCmd) knowsModSeqs() bool { return c.unchangedSince >= 0 }

func (c storeCmd) run(ctx context.Context, s *session) error {
	if s.selected.examined {
		return errReadOnly
	}
	if c.knowsModSeqs() {
		s.enableCondstore()
	}
	uids, err := c.set.in(s)
	if err != nil || uids.Empty() {
		return err
	}
	told := s.selected.told.ModSeq
	var r store.FlagResult
	err = s.withRights(ctx, c.rights(), func() (err error) {
		r, err = s.selected.SetFlags(ctx, store.FlagChange{
			UIDs: uids, Mode: c.mode, Flags: c.flags.system, Keywords: c.flags.keywords, UnchangedSince: c.unchangedSince,
		})
		return err
	})
	if err != nil {
		return ofSelected(err)
	}
	s.tellStored(ctx, r, c.set.uid)
	c.tellResult(s, uids, r, told)

	gone := !c.set.uid && uids.Intersect(r.View.UIDs()).Len() < uids.Len()
	if c.silent && r.Modified.Empty() {
		gone = false // who wants to hear nothing need not hear of that (RFC 2180 section 4.2.1)
	}
	switch {
	case gone && !r.Modified.Empty():
		return no("MODIFIED "+c.modified(s, r), "Some of the messages no longer exist, some have changed")
	case gone:
		return store.ErrExpunged // RFC 2180 section 4.2.3
	case !r.Modified.Empty():
		s.ok("MODIFIED "+c.modified(s, r), "Conditional STORE failed for some messages")
	}
	return nil
}

// rights are those to change all flags that the command may change. With some of them it changes those
// flags, which is no failure (RFC 4314 section 4).
func (c storeCmd) rights() (want acl.Rights) {
	for _, f := range systemFlags {
		if c.mode == view.Replace || c.flags.system&f.flag != 0 {
			want |= f.need
		}
	}
	if len(c.flags.keywords) > 0 {
		want |= acl.Write
	}
	return want
}

// tellResult tells the flags that messages have now, or only their new MODSEQ
// where the client wants silence, and their old one too where they passed a condition
// (RFC 7162 section 3.1.3). Of those that failed it the flags are told, if what
// others did, told already, did not include them.
func (c storeCmd) tellResult(s *session, uids view.UIDSet, r store.FlagResult, told id.ModSeq) {
	if c.silent && !s.condstore && r.Modified.Empty() {
		return
	}
	keywords := r.View.Keywords()
	b := s.scratch[:0]
	for m := range r.View.In(uids) {
		switch {
		case !r.Modified.Empty() && r.Modified.Contains(m.UID):
			if m.ModSeq <= told {
				b = s.appendChanged(b, s.number(m.UID), &m, keywords)
			}
		case !c.silent:
			b = s.appendChanged(b, s.number(m.UID), &m, keywords)
		case s.condstore && (m.ModSeq == r.ModSeq || c.unchangedSince >= 0):
			b = s.appendModSeqChanged(b, s.number(m.UID), &m)
		}
		if len(b) >= flushAt {
			s.enc.Bytes(b)
			b = b[:0]
		}
	}
	s.enc.Bytes(b)
	s.scratch = b[:0]
}

// modified returns the messages that failed the condition, as the command named them.
func (c storeCmd) modified(s *session, r store.FlagResult) string {
	if c.set.uid {
		return r.Modified.String()
	}
	return s.numbersOf(r.Modified).String()
}

// numbersOf returns the message numbers of UIDs, in the clothes of UIDs.
func (s *session) numbersOf(uids view.UIDSet) view.UIDSet {
	numbers := make([]id.UID, 0, uids.Len())
	for uid := range uids.All() {
		numbers = append(numbers, id.UID(s.number(uid)))
	}
	return view.NewUIDSet(numbers...)
}
