package view

import (
	"testing"

	"mailstead.dev/store/id"
)

// large returns the segments of a mailbox of n messages, with or without gaps
// between its UIDs, and the view of it.
func large(b *testing.B, n int, gaps bool) ([][]byte, *View) {
	b.Helper()
	messages := someMessages(n)
	if !gaps {
		for i := range messages {
			messages[i].UID = id.UID(i + 1)
		}
	}
	var segments [][]byte
	for from := 0; from < n; from += 16_384 {
		segments = append(segments, EncodeSegment(messages[from:min(n, from+16_384)]))
	}
	v, err := Load(id.ModSeq(n+2), messages[n-1].UID+1, nil, segments)
	if err != nil {
		b.Fatal(err)
	}
	return segments, v
}

func BenchmarkLoad(b *testing.B) {
	segments, v := large(b, 100_000, true)
	for b.Loop() {
		if _, err := Load(v.ModSeq(), v.UIDNext(), nil, segments); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(v.Weight())/float64(v.Len()), "B/message")
}

func benchmarkApply(b *testing.B, gaps bool, record func(v *View, i int) Record) {
	_, v := large(b, 100_000, gaps)
	first := v
	for i := 0; b.Loop(); i++ {
		if v.Len() < 50_000 {
			v = first
		}
		next, err := v.Apply(v.ModSeq()+1, record(v, i))
		if err != nil {
			b.Fatal(err)
		}
		v = next
	}
}

func flagOne(v *View, i int) Record {
	return Record{SetFlags{UIDs: NewUIDSet(v.At(i * 7919 % v.Len()).UID), Mode: Mode(i % 2), Flags: Seen}}
}

func appendOne(v *View, _ int) Record {
	return Record{Append{[]Message{{UID: v.UIDNext(), Email: 1, Size: 5000}}}}
}

func expungeOne(v *View, i int) Record {
	return Record{Expunge{[]Message{v.At(i * 7919 % v.Len())}}}
}

func flagAll(v *View, i int) Record {
	return Record{SetFlags{UIDs: UIDSetOf(Range{1, 1 << 31}), Mode: Mode(i % 2), Flags: Seen}}
}

func BenchmarkApplyFlag(b *testing.B)        { benchmarkApply(b, false, flagOne) }
func BenchmarkApplyAppend(b *testing.B)      { benchmarkApply(b, false, appendOne) }
func BenchmarkApplyExpunge(b *testing.B)     { benchmarkApply(b, false, expungeOne) }
func BenchmarkApplyFlagAll(b *testing.B)     { benchmarkApply(b, false, flagAll) }
func BenchmarkApplyAppendGaps(b *testing.B)  { benchmarkApply(b, true, appendOne) }
func BenchmarkApplyExpungeGaps(b *testing.B) { benchmarkApply(b, true, expungeOne) }

// BenchmarkApplyTail brings a view up to date with 1,000 records of the log.
func BenchmarkApplyTail(b *testing.B) {
	_, v := large(b, 100_000, false)
	records := make([]Record, 1000)
	for i := range records {
		if i%2 == 0 {
			records[i] = flagOne(v, i)
		} else {
			records[i] = Record{Append{[]Message{{UID: v.UIDNext() + id.UID(i), Email: 1}}}}
		}
	}
	for b.Loop() {
		if _, err := v.ApplyAll(v.ModSeq()+1, records...); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkDiff(b *testing.B, gaps bool, record func(v *View, i int) Record) {
	_, v := large(b, 100_000, gaps)
	_, told := Diff(Told{}, v, true)
	if record != nil {
		next, err := v.Apply(v.ModSeq()+1, record(v, 1))
		if err != nil {
			b.Fatal(err)
		}
		v = next
	}
	for b.Loop() {
		Diff(told, v, true)
	}
}

func BenchmarkDiffNothing(b *testing.B)     { benchmarkDiff(b, true, nil) }
func BenchmarkDiffFlag(b *testing.B)        { benchmarkDiff(b, true, flagOne) }
func BenchmarkDiffAppend(b *testing.B)      { benchmarkDiff(b, false, appendOne) }
func BenchmarkDiffAppendGaps(b *testing.B)  { benchmarkDiff(b, true, appendOne) }
func BenchmarkDiffExpungeGaps(b *testing.B) { benchmarkDiff(b, true, expungeOne) }
