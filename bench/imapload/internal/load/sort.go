package load

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"imapload/internal/corpus"
	"imapload/internal/wire"
)

func (r *Runner) workSort(ctx context.Context) error {
	if !r.caps["SORT"] {
		r.skip("sort", "the server has no SORT")
		return nil
	}
	for _, q := range []struct {
		name, key string
		compare   func(b *box) func(i, j int) int
	}{
		{"date", "REVERSE DATE", func(*box) func(i, j int) int { // in which they were made
			return func(i, j int) int { return cmp.Compare(j, i) }
		}},
		{"subject", "SUBJECT", func(b *box) func(i, j int) int { return b.byText(b.gen.SubjectKey) }},
		{"from", "FROM REVERSE ARRIVAL", func(b *box) func(i, j int) int {
			byFrom := b.byText(b.gen.SenderKey)
			return func(i, j int) int { return cmp.Or(byFrom(i, j), cmp.Compare(j, i)) }
		}},
		{"size", "REVERSE SIZE", func(b *box) func(i, j int) int {
			return func(i, j int) int { return cmp.Compare(b.size[j], b.size[i]) }
		}},
	} {
		err := r.wholeAnswer(ctx, "sort/"+q.name, "SORT", fmt.Sprintf("SORT (%s) UTF-8 ALL", q.key), func(b *box) []byte {
			order := make([]int, b.len())
			for i := range order {
				order[i] = i
			}
			slices.SortStableFunc(order, q.compare(b))
			var answer []byte
			for _, i := range order {
				answer = fmt.Appendf(answer, " %d", i+1)
			}
			return answer
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// byText compares messages by a string of each.
func (b *box) byText(key func(i int) string) func(i, j int) int {
	keys := make([]string, b.len())
	for i := range keys {
		keys[i] = key(i)
	}
	return func(i, j int) int { return strings.Compare(keys[i], keys[j]) }
}

func (r *Runner) workThread(ctx context.Context) error {
	for _, by := range []string{"REFERENCES", "ORDEREDSUBJECT"} {
		name := "thread/" + strings.ToLower(by)
		if !r.caps["THREAD="+by] {
			r.skip(name, "the server has no THREAD="+by)
			continue
		}
		err := r.wholeAnswer(ctx, name, "THREAD", "THREAD "+by+" UTF-8 ALL", func(b *box) []byte {
			return threads(b.len(), by == "REFERENCES")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// threads returns those of n messages, which come in the order of their dates. No two have one subject.
func threads(n int, references bool) []byte {
	answer := []byte(" ")
	for i := range n {
		begins, ends := corpus.Root(i) == i, i+1 == n || corpus.Root(i+1) == i+1
		switch {
		case !references || begins && ends:
			answer = fmt.Appendf(answer, "(%d)", i+1)
		case begins:
			answer = fmt.Appendf(answer, "(%d ", i+1)
		case ends && corpus.Root(i) == i-1: // an only child
			answer = fmt.Appendf(answer, "%d)", i+1)
		case ends:
			answer = fmt.Appendf(answer, "(%d))", i+1)
		default:
			answer = fmt.Appendf(answer, "(%d)", i+1)
		}
	}
	return answer
}

// wholeAnswer runs a series of a command that has one answer, of which every octet is known.
func (r *Runner) wholeAnswer(ctx context.Context, series, name, command string, want func(*box) []byte) error {
	return r.read(ctx, series, func(s *session, t *timer) error {
		if s.answer == nil {
			s.answer = bytes.TrimSpace(want(s.box))
		}
		t.items = int64(s.box.len())
		t.restart()
		good := false
		err := s.Exec(command, func(resp *wire.Response) error {
			if resp.Is(name) {
				good = bytes.Equal(bytes.TrimSpace(resp.Rest), s.answer)
			}
			return nil
		})
		t.stop()
		if err == nil && !good {
			err = wire.Wrongf("%s: the answer is not the right one", command)
		}
		return err
	})
}
