package imapd

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailstead.dev/index"
	"mailstead.dev/store"
	"mailstead.dev/store/message"
	"mailstead.dev/store/view"
)

// describeKey writes a program with prefix operators.
func describeKey(c *searchCmd, k *searchKey) string {
	names := map[searchOp]string{
		opAnd: "and", opOr: "or", opNot: "not", opAll: "all", opFlags: "flags", opUnflags: "unflags", opRecent: "recent",
		opBefore: "before", opOn: "on", opSince: "since", opLarger: "larger", opSmaller: "smaller", opModSeq: "modseq",
		opSentBefore: "sentbefore", opSentOn: "senton", opSentSince: "sentsince", opEmailID: "emailid", opThreadID: "threadid",
		opSavedBefore: "savedbefore", opSavedOn: "savedon", opSavedSince: "savedsince", opOlder: "older", opYounger: "younger",
	}
	switch k.op {
	case opAnd, opOr, opNot:
		var kids []string
		for _, kid := range k.kids {
			kids = append(kids, describeKey(c, kid))
		}
		return names[k.op] + "(" + strings.Join(kids, " ") + ")"
	case opSet:
		if k.set.saved {
			return "set($)"
		}
		return fmt.Sprintf("set(%s%s)", k.set.seqs.String(), k.set.uids.String())
	case opFlags, opUnflags:
		return fmt.Sprintf("%s%d", names[k.op], k.flags)
	case opKeyword:
		return "keyword:" + k.keyword
	case opBefore, opOn, opSince, opSentBefore, opSentOn, opSentSince, opSavedBefore, opSavedOn, opSavedSince:
		return names[k.op] + ":" + time.Unix(k.day*24*60*60, 0).UTC().Format("20060102")
	case opLarger, opSmaller, opModSeq, opOlder, opYounger:
		return fmt.Sprintf("%s:%d", names[k.op], k.number)
	case opEmailID, opThreadID:
		return names[k.op] + ":" + string(k.object)
	case opText:
		q := c.queries[k.query]
		return fmt.Sprintf("text:%d:%s:%s", q.In, q.Field, q.Text)
	}
	return names[k.op]
}

func TestReadSearch(t *testing.T) {
	tests := []struct{ line, want string }{
		{" ALL", "and(all)"},
		{" UNSEEN DELETED", "and(unflags1 flags8)"},
		{" NEW", "and(and(recent unflags1))"},
		{" OLD", "and(not(recent))"},
		{" 1:*,5", "and(set(1:*))"},
		{" 7 UID 4:6", "and(set(7) set(4:6))"},
		{" (1 (ALL))", "and(and(set(1) and(all)))"},
		{" NOT NOT SEEN", "and(not(not(flags1)))"},
		{" OR ANSWERED (UNSEEN LARGER 20000)", "and(or(flags2 and(unflags1 larger:20000)))"},
		{" OR OR SEEN DRAFT NOT 3", "and(or(or(flags1 flags16) not(set(3))))"},
		{" SINCE 1-Feb-2026", "and(since:20260201)"},
		{` SENTON "12-Dec-1999" BEFORE 01-jan-2000`, "and(senton:19991212 before:20000101)"},
		{" LARGER 9223372036854775807 SMALLER 0", "and(larger:9223372036854775807 smaller:0)"},
		{" KEYWORD Foo UNKEYWORD $Bar", "and(keyword:Foo not(keyword:$Bar))"},
		{` SUBJECT "a b" FROM x`, "and(text:0:Subject:a b text:0:From:x)"},
		{` HEADER X-Foo "" BODY b TEXT t`, "and(text:0:X-Foo: text:1::b text:2::t)"},
		{" SUBJECT {3+}\r\nabc SEEN", "and(text:0:Subject:abc flags1)"},
		{" CHARSET UTF-8 SUBJECT {2+}\r\n\xc3\xbc", "and(text:0:Subject:\xc3\xbc)"},
		{" CHARSET iso-8859-1 TEXT {1+}\r\n\xfc", "and(text:2::\xc3\xbc)"},
		{" CHARSET ISO-2022-JP TEXT {8+}\r\n\x1b$B$\"\x1b(B", "and(text:2::\u3042)"},
		{" CHARSET gb2312 TEXT {2+}\r\n\xc4\xe3", "and(text:2::\u4f60)"},
		{" MODSEQ 620162338", "and(modseq:620162338)"},
		{` MODSEQ "/flags/\\draft" all 5 SEEN`, "and(modseq:5 flags1)"},
		{" TO charset", "and(text:0:To:charset)"},
		{" SAVEDON 1-Feb-2026 SAVEDBEFORE 1-Mar-2026 SAVEDSINCE 1-Jan-2026 SAVEDATESUPPORTED", "and(savedon:20260201 savedbefore:20260301 savedsince:20260101 all)"},
		{" OLDER 1 YOUNGER 4294967295", "and(older:1 younger:4294967295)"},
		{" EMAILID M1 NOT THREADID t-_", "and(emailid:M1 not(threadid:t-_))"},
		{" $ NOT UID $", "and(set($) not(set($)))"},
		{" RETURN (MIN) SEEN", "and(flags1)"},
		{" RETURN () (SEEN)", "and(and(flags1))"},
		{" RETURN (SAVE) CHARSET UTF-8 1 TO return", "and(set(1) text:0:To:return)"},

		{"", "BAD"},
		{" ", "BAD"},
		{" ()", "BAD"},
		{" (SEEN", "BAD"},
		{" SEEN ", "BAD"},
		{" SEEN)", "BAD"},
		{" FOO", "BAD"},
		{" NOT", "BAD"},
		{" OR SEEN", "BAD"},
		{" 0", "BAD"},
		{" 4294967296", "BAD"},
		{" LARGER", "BAD"},
		{" LARGER -1", "BAD"},
		{" LARGER 9223372036854775808", "BAD"},
		{" SINCE 31-Feb-2026", "BAD"},
		{" SINCE yesterday", "BAD"},
		{" KEYWORD \\Seen", "BAD"},
		{" HEADER X", "BAD"},
		{" SUBJECT", "BAD"},
		{" CHARSET UTF-8", "BAD"},
		{" CHARSET UTF-8 RETURN (MIN) SEEN", "BAD"},
		{" RETURN (MIN)", "BAD"},
		{" OLDER 0", "BAD"},
		{" YOUNGER -1", "BAD"},
		{" YOUNGER 4294967296", "BAD"},
		{" SAVEDON", "BAD"},
		{" EMAILID", "BAD"},
		{` EMAILID "M1"`, "BAD"},
		{" THREADID T.1", "BAD"},
		{" RETURN MIN SEEN", "BAD"},
		{" RETURN (MEAN) SEEN", "BAD"},
		{" $,1", "BAD"},
		{" CHARSET", "BAD"},
		{" CHARSET UTF-8 SUBJECT {1+}\r\n\xfc", "BAD"},
		{" SUBJECT {1+}\r\n\xfc", "BAD"},
		{" MODSEQ x", "BAD"},
		{` MODSEQ "/flags/a" mine 5`, "BAD"},
		{strings.Repeat(" NOT", 150) + " SEEN", "BAD"},
		{strings.Repeat(" OR SEEN", 150) + " SEEN", "BAD"},
		{" " + strings.Repeat("(", 150) + "SEEN" + strings.Repeat(")", 150), "BAD"},
		{strings.Repeat(" SEEN", 2001), "BAD"},
		{strings.Repeat(" BODY x", 201), "BAD"},
	}
	for _, test := range tests {
		d := decoderOf(test.line)
		c := readSearchCmd(d, false)
		got := describeKey(c, c.key)
		if d.End() != nil {
			got = "BAD"
		}
		if got != test.want {
			t.Errorf("SEARCH%.80s = %s, want %s", test.line, got, test.want)
		}
	}
}

func TestReadSearchCharset(t *testing.T) {
	d := decoderOf(" CHARSET X-UNKNOWN SUBJECT {1+}\r\n\xfc")
	if c := readSearchCmd(d, false); d.End() != nil || !c.badCharset {
		t.Errorf("an unknown charset is a matter of NO [BADCHARSET], not of syntax")
	}
}

// TestSearchEval compares with what each key means by itself: in two steps,
// from the view and then with the rest, as in one.
func TestSearchEval(t *testing.T) {
	zone := time.FixedZone("", -5*60*60)
	m := view.Message{
		UID: 10, ModSeq: 7, Flags: view.Seen | view.Flagged, Keywords: view.KeywordBit(1), Size: 1000,
		InternalDate: time.Date(2026, 2, 1, 23, 30, 0, 0, zone), // the next day in UTC
		SaveDate:     time.Date(2026, 2, 3, 0, 30, 0, 0, time.UTC),
	}
	meta := parsed(t, "From: Somebody <x@example.test>\r\nSubject: =?iso-8859-1?q?gr=FCn?= tree\r\nDate: Thu, 15 Jan 2026 23:59:00 -0800\r\n\r\nbody\r\n")
	tests := []struct {
		line string
		want bool
	}{
		{" ALL", true},
		{" SEEN FLAGGED UNANSWERED", true},
		{" UNSEEN", false},
		{" OR UNSEEN FLAGGED", true},
		{" OR UNSEEN UNFLAGGED", false},
		{" SAVEDON 3-Feb-2026 SAVEDSINCE 3-Feb-2026", true},
		{" SAVEDBEFORE 3-Feb-2026", false},
		{" SAVEDSINCE 4-Feb-2026", false},
		{" SAVEDBEFORE 4-Feb-2026 SAVEDATESUPPORTED", true},
		{" EMAILID Mone THREADID Tone", true},
		{" EMAILID mone", false},
		{" NOT EMAILID Mone", false},
		{" THREADID Mone", false},
		{" NOT (SEEN ANSWERED)", true},
		{" ON 1-Feb-2026", true},
		{" ON 2-Feb-2026", false},
		{" SINCE 1-Feb-2026", true},
		{" SINCE 2-Feb-2026", false},
		{" BEFORE 1-Feb-2026", false},
		{" BEFORE 2-Feb-2026", true},
		{" SENTON 15-Jan-2026", true},
		{" SENTSINCE 16-Jan-2026", false},
		{" SENTBEFORE 16-Jan-2026", true},
		{" NOT SENTBEFORE 16-Jan-2026", false},
		{" LARGER 999", true},
		{" LARGER 1000", false},
		{" SMALLER 1001", true},
		{" SMALLER 1000", false},
		{" MODSEQ 7", true},
		{" MODSEQ 8", false},
		{" KEYWORD TWO", true},
		{" KEYWORD one", false},
		{" KEYWORD none", false},
		{" UNKEYWORD none", true},
		{" RECENT", true},
		{" NEW", false},
		{" OLD", false},
		{" UID 5:10", true},
		{" UID 11:*", true}, // the last message, whatever its UID (RFC 3501 section 6.4.8)
		{" 1", true},
		{" 2", false},
		{" *", true},
		{" 3:5", false},
		{" SUBJECT GR\u00dcN", true},
		{" SUBJECT red", false},
		{` FROM "SOMEBODY <x@"`, true},
		{` HEADER subject ""`, true},
		{` HEADER X-None ""`, false},
		{" OR SUBJECT red SENTON 15-Jan-2026", true},
		{" NOT SUBJECT red SEEN", true},
	}
	table := []string{"one", "two"}
	v, err := view.New(10, 6, table).Apply(7, view.Record{view.Append{Messages: []view.Message{m}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{selected: &selected{recent: view.NewUIDSet(10)}}
	_, s.selected.told = view.Diff(view.Told{}, v, true)
	for _, test := range tests {
		line := test.line
		if strings.Contains(line, "\u00dc") {
			line = " SUBJECT {5+}\r\ngr\u00dcn"
		}
		d := decoderOf(line)
		c := readSearchCmd(d, false)
		if err := d.End(); err != nil {
			t.Fatalf("SEARCH%s: %v", test.line, err)
		}
		c.key.bind(s)
		c.key.resolve(v)
		c.key.order()
		first := c.key.eval(&m, s.selected.recent, nil)
		matcher := index.NewMatcher(c.queries)
		known := evidence{email: &store.Email{Meta: meta, EmailID: "Mone", ThreadID: "Tone"}}
		known.found, known.settled = matcher.FromMeta(t.Context(), meta)
		second := c.key.eval(&m, s.selected.recent, &known)
		if second != truthOf(test.want) || first != isOpen && first != second {
			t.Errorf("SEARCH%s = %d, then %d, want %t", test.line, first, second, test.want)
		}
	}
}

// TestSearchWithin compares dates of arrival with the clock (RFC 5032 section 2).
func TestSearchWithin(t *testing.T) {
	m := view.Message{UID: 1, InternalDate: time.Now().Add(-time.Hour)}
	for line, want := range map[string]bool{
		" OLDER 3540": true, " OLDER 3660": false, " YOUNGER 3540": false, " YOUNGER 3660": true,
		" OLDER 4294967295": false, " YOUNGER 4294967295": true, " NOT YOUNGER 1": true,
	} {
		d := decoderOf(line)
		c := readSearchCmd(d, false)
		if err := d.End(); err != nil {
			t.Fatal(err)
		}
		c.key.resolve(view.New(1, 1, nil))
		if got := c.key.eval(&m, view.UIDSet{}, nil); got != truthOf(want) {
			t.Errorf("SEARCH%s = %d, want %t", line, got, want)
		}
	}
}

// TestSearchOpen: what the content has to tell stays open until it is read.
func TestSearchOpen(t *testing.T) {
	meta := &message.Meta{HeaderCut: true}
	for line, want := range map[string]truth{
		" BODY x":                 isOpen,
		" NOT BODY x":             isOpen,
		" OR ALL BODY x":          isTrue,
		" UNSEEN BODY x":          isFalse,
		" OR UNSEEN BODY x":       isOpen,
		" NOT (SEEN NOT BODY x)":  isOpen,
		" NOT (UNSEEN BODY x)":    isTrue,
		" SUBJECT x":              isOpen,
		" (OR SEEN BODY x) 1:999": isFalse, // the set was not resolved, so it is empty
	} {
		d := decoderOf(line)
		c := readSearchCmd(d, false)
		if err := d.End(); err != nil {
			t.Fatal(err)
		}
		known := evidence{email: &store.Email{Meta: meta, EmailID: "Mone", ThreadID: "Tone"}}
		known.found, known.settled = index.NewMatcher(c.queries).FromMeta(context.Background(), meta)
		m := view.Message{Flags: view.Seen}
		if got := c.key.eval(&m, view.UIDSet{}, &known); got != want {
			t.Errorf("SEARCH%s = %d, want %d", line, got, want)
		}
	}
}

func FuzzReadSearch(f *testing.F) {
	f.Add(" CHARSET UTF-8 OR (1:5,* UID 3) NOT HEADER X {3+}\r\nabc SINCE 1-Jan-2026 KEYWORD x")
	f.Add(` MODSEQ "/flags/\\draft" all 5 NEW OLD LARGER 5`)
	v := view.New(1, 1, nil)
	f.Fuzz(func(t *testing.T, line string) {
		d := decoderOf(line)
		c := readSearchCmd(d, false)
		if d.End() != nil {
			return
		}
		c.key.bind(&session{selected: &selected{}})
		c.key.rebind(7)
		c.key.resolve(v)
		c.key.order()
		m := view.Message{UID: 1}
		found := make([]bool, len(c.queries))
		if c.key.eval(&m, view.UIDSet{}, &evidence{email: &store.Email{Meta: &message.Meta{}}, found: found}) == isOpen {
			t.Fatalf("open with all known: %q", line)
		}
	})
}
