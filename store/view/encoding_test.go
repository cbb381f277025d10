package view

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"mailstead.dev/store/id"
)

func someMessages(n int) []Message {
	messages := make([]Message, n)
	for i := range messages {
		at := time.Date(2024, 1, 1, 0, 0, 37*i, 0, time.UTC)
		messages[i] = Message{
			UID:          id.UID(3*i + 1),
			Email:        id.Email(i + 1),
			ModSeq:       id.ModSeq(i + 2),
			Flags:        Flags(i * 7 % 32),
			InternalDate: at,
			SaveDate:     at.Add(time.Second),
			Size:         int64(1000 + i*i%77777),
		}
	}
	return messages
}

func TestRecordsAreSmall(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).UTC()
	for _, c := range []struct {
		what  string
		r     Record
		limit int
	}{
		{"STORE 1:* +FLAGS (\\Seen)", Record{SetFlags{UIDs: UIDSetOf(Range{1, 100_000}), Flags: Seen}}, 30},
		{"STORE of one", Record{SetFlags{UIDs: NewUIDSet(99_999), Flags: Seen}}, 30},
		{"APPEND of one", Record{Append{[]Message{{UID: 1, Email: 1, Flags: Seen, InternalDate: now, SaveDate: now, Size: 5000}}}}, 30},
		{"EXPUNGE of one", Record{Expunge{[]Message{{UID: 99_999, Email: 1_000_000, ModSeq: 5_000_000, InternalDate: now, SaveDate: now, Size: 50_000}}}}, 40},
		{"COPY of 10,000", Record{Append{someMessages(10_000)}}, 10_000 * 8},
	} {
		if n := len(c.r.Encode(0, 0)); n > c.limit {
			t.Errorf("%s takes %d octets, more than %d", c.what, n, c.limit)
		}
	}
	if n := len(EncodeSegment(someMessages(16_384))); n > 16_384*8 {
		t.Errorf("a segment of 16,384 messages takes %d octets", n)
	}
}

func TestRecordBases(t *testing.T) {
	r := Record{Append{[]Message{{UID: 1, Email: 1}, {UID: 2, Email: 2}}}}
	for _, at := range []struct {
		uid   id.UID
		email id.Email
	}{{0, 0}, {41, 1000}} {
		got, err := DecodeRecord(r.Encode(0, 0), at.uid, at.email)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range got[0].(Append).Messages {
			if m.UID != at.uid+id.UID(i+1) || m.Email != at.email+id.Email(i+1) {
				t.Errorf("message %d behind bases %d, %d is UID %d, email %d", i+1, at.uid, at.email, m.UID, m.Email)
			}
		}
	}
	based, err := DecodeRecord(Record{Append{[]Message{{UID: 42, Email: 1001}}}}.Encode(41, 1000), 7, 8)
	if err != nil || based[0].(Append).Messages[0].UID != 8 || based[0].(Append).Messages[0].Email != 9 {
		t.Errorf("bases that differ: %v, %v", based, err)
	}
}

// Whatever octet of the stored form changes, it is found.
func TestDamageIsFound(t *testing.T) {
	record := Record{DefineKeyword{"$Junk"}, Append{someMessages(3)}, SetFlags{UIDs: NewUIDSet(1, 4), Flags: Seen, Own: true}, SetSeen{3, true, NewUIDSet(2)}, SeenMode{false, NewUIDSet(2, 4)}, Expunge{someMessages(2)}, Vanished{NewUIDSet(2, 3, 9)}}.Encode(0, 0)
	segment := EncodeSegment(someMessages(300))
	for _, c := range []struct {
		what   string
		data   []byte
		decode func([]byte) error
	}{
		{"record", record, func(b []byte) error { _, err := DecodeRecord(b, 0, 0); return err }},
		{"segment", segment, func(b []byte) error { _, err := DecodeSegment(b); return err }},
	} {
		if err := c.decode(c.data); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		for i := range c.data {
			damaged := slices.Clone(c.data)
			damaged[i] ^= 0x20
			if err := c.decode(damaged); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s with octet %d of %d flipped: %v", c.what, i, len(c.data), err)
			}
			if err := c.decode(c.data[:i]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut to %d octets: %v", c.what, i, err)
			}
		}
	}
	if _, err := DecodeSegment(record); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a record read as a segment: %v", err)
	}
}

// Bodies that no encoder writes, with a right checksum.
func TestDecodingIsStrict(t *testing.T) {
	for what, body := range map[string][]byte{
		"unknown operation":      {9},
		"unknown mode":           {opSetFlags, 3, 0, 0, 0, 1, 1, 0},
		"unknown flag":           {opSetFlags, 0, 0x80, 0, 0, 1, 1, 0},
		"UID 0":                  {opSetFlags, 0, 0, 0, 0, 1, 0, 0},
		"more ranges than fit":   {opSetFlags, 0, 0, 0, 0, 0xff, 0xff, 0x7f},
		"more messages than fit": {opAppend, 0xff, 0xff, 0xff, 0x7f, 0},
		"unknown column":         {opAppend, 1, 0x80, 1, 2, 0, 0, 0, 0},
		"UID 0 appended":         {opAppend, 1, 0, 0, 2, 0, 0, 0, 0},
		"endless number":         {opDefineKeyword, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"name cut short":         {opDefineKeyword, 5, 'a'},
	} {
		if r, err := DecodeRecord(seal(recordVersion, body), 0, 0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, %v", what, r, err)
		}
	}
	trailing := append(appendMessages(nil, someMessages(1), 0, 0, true), 0)
	if _, err := DecodeSegment(seal(segmentVersion, trailing)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an octet behind the segment: %v", err)
	}
}

func TestLoadIsStrict(t *testing.T) {
	messages := someMessages(10)
	keyword := someMessages(1)
	keyword[0].Keywords = KeywordBit(100)
	for what, load := range map[string]func() (*View, error){
		"segments in the wrong order": func() (*View, error) {
			return Load(99, 99, nil, [][]byte{EncodeSegment(messages[5:]), EncodeSegment(messages[:5])})
		},
		"the same segment twice": func() (*View, error) {
			return Load(99, 99, nil, [][]byte{EncodeSegment(messages), EncodeSegment(messages)})
		},
		"a UID not given out":  func() (*View, error) { return Load(99, 28, nil, [][]byte{EncodeSegment(messages)}) },
		"a MODSEQ not reached": func() (*View, error) { return Load(10, 99, nil, [][]byte{EncodeSegment(messages)}) },
		"an unknown keyword":   func() (*View, error) { return Load(99, 99, make([]string, 100), [][]byte{EncodeSegment(keyword)}) },
	} {
		if _, err := load(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if v, err := Load(11, 29, nil, [][]byte{EncodeSegment(messages)}); err != nil || v.Len() != 10 {
		t.Errorf("Load = %v, %v", v, err)
	}
}

func TestMisfits(t *testing.T) {
	v, err := New(1, 1, nil).Apply(2, Record{Append{someMessages(3)}}) // UIDs 1, 4, 7
	if err != nil {
		t.Fatal(err)
	}
	gone := func(uid id.UID, email id.Email) Record {
		return Record{Expunge{[]Message{{UID: uid, Email: email}}}}
	}
	for what, c := range map[string]struct {
		m id.ModSeq
		r Record
	}{
		"a gap":                    {4, Record{DefineKeyword{"a"}}},
		"once more":                {2, Record{DefineKeyword{"a"}}},
		"a UID again":              {3, Record{Append{[]Message{{UID: 7}}}}},
		"the last UID":             {3, Record{Append{[]Message{{UID: 1<<32 - 1}}}}},
		"UIDs that descend":        {3, Record{Append{[]Message{{UID: 9}, {UID: 8}}}}},
		"flags of none":            {3, Record{SetFlags{UIDs: NewUIDSet(2, 3), Flags: Seen}}},
		"an undefined keyword":     {3, Record{SetFlags{UIDs: NewUIDSet(1), Keywords: KeywordBit(0)}}},
		"an appended one":          {3, Record{Append{[]Message{{UID: 8, Keywords: KeywordBit(0)}}}}},
		"expunge of none":          {3, gone(2, 1)},
		"expunge behind the last":  {3, gone(8, 1)},
		"expunge of another email": {3, gone(4, 1)},
		"expunge twice":            {3, append(gone(4, 2), gone(4, 2)...)},
		"what has vanished":        {3, Record{Vanished{NewUIDSet(1)}}},
		"a keyword twice":          {3, Record{DefineKeyword{"a"}, DefineKeyword{"A"}}},
	} {
		if _, err := v.Apply(c.m, c.r); !errors.Is(err, ErrMisfit) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if v.Len() != 3 || v.ModSeq() != 2 {
		t.Errorf("the view changed: %d messages, MODSEQ %d", v.Len(), v.ModSeq())
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, r := range []Record{
		{DefineKeyword{"$Junk"}, SetFlags{UIDs: UIDSetOf(Range{1, 9}, Range{11, 12}), Mode: Replace, Flags: Seen, Keywords: KeywordBit(0)}},
		{Append{someMessages(3)}, SetSeen{7, true, NewUIDSet(1, 3)}, SeenMode{true, NewUIDSet(1)}, Expunge{someMessages(2)}},
		{Expunge{someMessages(2)}, Vanished{UIDSetOf(Range{1, 9}, Range{11, 12})}},
	} {
		sealed := r.Encode(0, 0)
		f.Add(sealed[2 : len(sealed)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 1<<16 {
			return
		}
		r, err := DecodeRecord(seal(recordVersion, body), 0, 0)
		if err != nil {
			return
		}
		again, err := DecodeRecord(r.Encode(0, 0), 0, 0)
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%v comes back as %v, %v", r, again, err)
		}
		if v, err := New(1, 1, []string{"a", "b"}).Apply(2, r); err == nil && v.Len() != v.UIDs().Len() {
			t.Errorf("a view of %d messages with %d UIDs", v.Len(), v.UIDs().Len())
		}
	})
}

func FuzzDecodeSegment(f *testing.F) {
	f.Add(appendMessages(nil, someMessages(5), 0, 0, true))
	f.Fuzz(func(t *testing.T, body []byte) {
		data := seal(segmentVersion, body)
		messages, err := DecodeSegment(data)
		if err != nil {
			return
		}
		again, err := DecodeSegment(EncodeSegment(messages))
		if err != nil || !slices.Equal(messages, again) {
			t.Errorf("%v comes back as %v, %v", messages, again, err)
		}
		if v, err := Load(1<<62, 1<<32-1, nil, [][]byte{data}); err == nil && v.Len() != len(messages) {
			t.Errorf("a view of %d messages, want %d", v.Len(), len(messages))
		}
	})
}

// FuzzUnseal reads whole stored forms, so compressed ones too.
func FuzzUnseal(f *testing.F) {
	f.Add(EncodeSegment(someMessages(100)))
	f.Add(seal(segmentVersion, []byte("body")))
	f.Fuzz(func(t *testing.T, data []byte) {
		if body, err := unseal(segmentVersion, data); err != nil && !errors.Is(err, ErrCorrupt) || len(body) > maxBody {
			t.Errorf("%d octets, %v", len(body), err)
		}
	})
}
