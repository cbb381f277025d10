package index

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// The figures of an index, which `make index-bench` shows with 100,000 messages.

var benchMessages = flag.Int("index.messages", 2_000, "how many messages the benchmarks work on")

// ingest puts messages into an index as from their octets, and returns how long
// the processors worked for it and how much text they have.
func ingest(b testing.TB, a *Account, from, to int) (cpu time.Duration, text int64) {
	m := newMailer(uint64(from))
	const batch = 1000
	for ; from < to; from += batch {
		raw := make([]octets, min(batch, to-from))
		metas := make([]*message.Meta, len(raw))
		for i := range raw {
			raw[i] = m.message()
			var err error
			if metas[i], err = message.Parse(bytes.NewReader(raw[i]), message.Limits{}); err != nil {
				b.Fatal(err)
			}
		}
		begin := processorTime(b)
		list := make([]Document, len(raw))
		g, ctx := errgroup.WithContext(b.Context())
		g.SetLimit(runtime.GOMAXPROCS(0))
		for i := range raw {
			g.Go(func() (err error) {
				list[i], err = Extract(ctx, id.Email(from+i+1), metas[i], raw[i], nil)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		if err := a.Add(b.Context(), list, list[len(list)-1].Email); err != nil {
			b.Fatal(err)
		}
		cpu += processorTime(b) - begin
		for _, d := range list {
			for _, t := range d.Texts {
				text += int64(len(t.Value))
			}
		}
	}
	begin := processorTime(b)
	settle(b, a)
	return cpu + processorTime(b) - begin, text
}

// settle waits until bleve has merged what it wants to.
func settle(b testing.TB, a *Account) {
	for last, same := int64(-1), 0; same < 5; {
		st, err := a.Stats()
		if err != nil {
			b.Fatal(err)
		}
		if same++; st.WordBytes != last {
			last, same = st.WordBytes, 0
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func processorTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var benchDir = flag.String("index.dir", "", "where the index of the benchmarks is kept, and is found again; else it is made each time")

// benchIndex is where the index of the benchmarks is.
var benchIndex = sync.OnceValues(func() (dir string, err error) {
	if *benchDir != "" {
		return *benchDir, nil
	}
	benchTemp, err = os.MkdirTemp("", "mailstead-index-")
	return filepath.Join(benchTemp, "a"), err
})

var benchTemp string // goes when the benchmarks end

// What making the index of the benchmarks took: it is made once.
var benchCPU, benchText = time.Duration(0), int64(0)

// openBench opens the index of the benchmarks, and fills it the first time.
func openBench(b *testing.B) *Account {
	dir, err := benchIndex()
	if err != nil {
		b.Fatal(err)
	}
	a := mustOpen(b, dir)
	upTo, err := a.UpTo()
	if err != nil {
		b.Fatal(err)
	}
	if from := int(upTo); from < *benchMessages {
		cpu, text := ingest(b, a, from, *benchMessages)
		b.Logf("%.0f messages a second of a processor", float64(*benchMessages-from)/cpu.Seconds())
		if from == 0 {
			benchCPU, benchText = cpu, text
		}
	}
	return a
}

// BenchmarkIngest shows what the index of the benchmarks took to make, from the
// octets of its messages, and takes on disk.
func BenchmarkIngest(b *testing.B) {
	a := openBench(b)
	st, err := a.Stats()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() { // it was made already
	}
	b.ReportMetric(0, "ns/op")
	if benchText == 0 {
		b.Fatal("the index was not made by this run: without -index.dir it is")
	}
	b.ReportMetric(float64(*benchMessages)/benchCPU.Seconds(), "messages/CPU-s")
	b.ReportMetric(float64(benchText)/float64(*benchMessages), "text-B/message")
	b.ReportMetric(float64(st.WordBytes)/float64(benchText), "words/text")
	b.ReportMetric(float64(st.TextBytes)/float64(benchText), "kept/text")
	b.ReportMetric(float64(st.Files), "files")
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
	}
	code := m.Run()
	if benchTemp != "" {
		if err := os.RemoveAll(benchTemp); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// BenchmarkIdle shows what an open index of 1,000 messages takes that nobody searches in, and what it takes to open it.
func BenchmarkIdle(b *testing.B) {
	dir := b.TempDir()
	a := mustOpen(b, filepath.Join(dir, "a"))
	ingest(b, a, 0, 1000)
	const accounts = 100
	for i := range accounts {
		if err := a.CopyTo(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			b.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	measure := func() (memory uint64, goroutines int) {
		for range 3 { // what pools hold goes with the second
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse, runtime.NumGoroutine()
	}
	for b.Loop() {
		memory, goroutines := measure()
		begin := time.Now()
		var open []*Account
		for i := range accounts {
			open = append(open, mustOpen(b, filepath.Join(dir, fmt.Sprint(i))))
		}
		opening := time.Since(begin)
		time.Sleep(100 * time.Millisecond)
		memoryOpen, goroutinesOpen := measure()
		b.ReportMetric((float64(memoryOpen)-float64(memory))/accounts, "B/index")
		b.ReportMetric(float64(goroutinesOpen-goroutines)/accounts, "goroutines/index")
		b.ReportMetric(float64(opening.Microseconds())/1000/accounts, "ms/open")
		b.ReportMetric(0, "ns/op")
		for _, a := range open {
			if err := a.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// sample returns words of the texts of random emails, of their bodies.
func sample(b *testing.B, a *Account, rnd *rand.Rand, texts int) (list []string) {
	some := roaring.New()
	for range texts {
		some.Add(1 + uint32(rnd.IntN(*benchMessages)))
	}
	var mu sync.Mutex
	_, err := a.eachText(b.Context(), some, func(_ uint32, record string) (bool, error) {
		readTexts(record, func(t message.Text) bool {
			if t.Body {
				mu.Lock()
				list = append(list, strings.Clone(t.Value))
				mu.Unlock()
			}
			return true
		})
		return true, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	slices.Sort(list) // they come in no order
	return list
}

// BenchmarkSearch times 200 strings of each kind, each asked for once, with all that decides.
func BenchmarkSearch(b *testing.B) {
	a := openBench(b)
	begin := time.Now()
	if _, err := a.Search(b.Context(), []Query{{In: Anywhere, Text: "first"}}); err != nil {
		b.Fatal(err)
	}
	b.Logf("the first search, which reads the dictionaries, took %v", time.Since(begin))
	rnd := rand.New(rand.NewPCG(3, 3))
	texts := sample(b, a, rnd, 400)
	text := func() string { return texts[rnd.IntN(len(texts))] }
	word := func(least int) string {
		for {
			words := strings.FieldsFunc(text(), func(r rune) bool { return classOf(r) != letter || r >= 0x80 })
			if len(words) > 0 {
				if w := words[rnd.IntN(len(words))]; len(w) >= least {
					return w
				}
			}
		}
	}
	letters := func(n int) string {
		w := make([]byte, n)
		for i := range w {
			w[i] = byte('a' + rnd.IntN(26))
		}
		return string(w)
	}
	piece := func(n int) string {
		for {
			if runes := []rune(text()); len(runes) > n {
				from := rnd.IntN(len(runes) - n)
				return string(runes[from : from+n])
			}
		}
	}
	kinds := []struct {
		name string
		text func() string
	}{
		{"rare", func() string { return word(9) }},
		{"absent", func() string { return letters(11) }},
		{"midword", func() string { w := word(8); return w[1+rnd.IntN(2) : len(w)-1-rnd.IntN(2)] }},
		{"anyword", func() string { return word(1) }},
		{"piece8", func() string { return piece(8) }},
		{"piece20", func() string { return piece(20) }},
		{"three", func() string { return letters(3) }},
		{"two", func() string { return letters(2) }},
		{"one", func() string { return letters(1) }},
	}
	for _, in := range []Scope{Body, Anywhere} {
		for _, kind := range kinds {
			b.Run(fmt.Sprintf("%s/%s", []string{"header", "body", "text"}[in], kind.name), func(b *testing.B) {
				var times, work []time.Duration // by the clock, and by what the processors did
				var hits, decided uint64
				search := func(text string) {
					begin, cpu := time.Now(), processorTime(b)
					q := []Query{{In: in, Text: text}}
					r, err := a.Search(b.Context(), q)
					if err != nil {
						b.Fatal(err)
					}
					hits += r.Answers[0].Matches.GetCardinality()
					err = a.Verify(b.Context(), q, r.Answers[0].Maybe, func(_ id.Email, found, settled []bool) bool {
						decided++
						if found[0] {
							hits++
						}
						return true
					})
					if err != nil {
						b.Fatal(err)
					}
					times, work = append(times, time.Since(begin)), append(work, processorTime(b)-cpu)
				}
				search("warm up")
				times, work, hits, decided = nil, nil, 0, 0
				for b.Loop() {
					search(kind.text())
				}
				at := func(times []time.Duration, share float64) float64 {
					slices.Sort(times)
					return float64(times[int(share*float64(len(times)-1))].Microseconds()) / 1000
				}
				b.ReportMetric(at(times, 0.5), "p50-ms")
				b.ReportMetric(at(times, 0.99), "p99-ms")
				b.ReportMetric(at(work, 0.5), "p50-CPU-ms")
				b.ReportMetric(at(work, 0.99), "p99-CPU-ms")
				b.ReportMetric(float64(hits)/float64(len(times)), "hits")
				b.ReportMetric(float64(decided)/float64(len(times)), "decided")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
	st, err := a.Stats()
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%+v", st)
}
