package order

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// The ways that are taken where threads are deep, and where few of many IDs are named, lead to the same links.
func TestDeepLinks(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		n, ids := 1+r.IntN(60), 1+r.IntN(80)
		var c said
		rows := make([]int, n)
		for i := range n {
			rows[i] = i
			c.own = append(c.own, messageID(r.IntN(ids+1)))
			for range r.IntN(6) {
				c.refs = append(c.refs, messageID(1+r.IntN(ids)))
			}
			c.refEnd = append(c.refEnd, uint32(len(c.refs)))
		}
		slow, deep := newLinks(n, ids, ids), newLinks(n, 100*ids, ids)
		deep.steps = r.IntN(3)
		for _, l := range []*links{&slow, &deep} {
			if err := l.follow(context.Background(), c, rows); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(slow.parents, deep.parents) {
			t.Fatalf("seed %d: parents\n%v\n%v", seed, slow.parents, deep.parents)
		}
	}
}

// hostile are messages that are as hard to thread as can be.
var hostile = map[string]func(n int) []*message.Meta{
	"a chain": func(n int) []*message.Meta {
		return metas(n, func(i int) (string, []string) { return msgID(i), []string{msgID(i - 1)} })
	},
	"a chain, and the top looked for from its end": func(n int) []*message.Meta {
		return metas(n, func(i int) (string, []string) {
			if i < n/2 {
				return msgID(i), []string{msgID(i - 1)}
			}
			refs := make([]string, 0, 200)
			for range 20 {
				refs = append(refs, msgID(n/2-1), msgID(-1))
			}
			return msgID(i), refs
		})
	},
	"a ring": func(n int) []*message.Meta {
		return metas(n, func(i int) (string, []string) { return msgID(i), []string{msgID((i + 1) % n)} })
	},
	"one ID": func(n int) []*message.Meta {
		return metas(n, func(int) (string, []string) { return msgID(1), slices.Repeat([]string{msgID(1)}, 50) })
	},
	"ancestors that are not there": func(n int) []*message.Meta {
		return metas(n/100, func(i int) (string, []string) {
			refs := make([]string, 1000)
			for k := range refs {
				refs[k] = msgID(-1000*i - k - 1)
			}
			return msgID(i), refs
		})
	},
	"one subject": func(n int) []*message.Meta {
		all := metas(n, func(i int) (string, []string) { return msgID(i), nil })
		for i, m := range all {
			m.BaseSubject, m.Envelope.Subject = "s", []string{"s", "Re: s"}[i%2]
		}
		return all
	},
}

func msgID(i int) string { return fmt.Sprintf("<%d@hostile.test>", i) }

func metas(n int, of func(i int) (id string, refs []string)) []*message.Meta {
	all := make([]*message.Meta, n)
	for i := range all {
		all[i] = &message.Meta{}
		all[i].Envelope.MessageID, all[i].References = of(i)
	}
	return all
}

func TestHostileThreads(t *testing.T) {
	const n = 10_000
	for name, make := range hostile {
		all := make(n)
		table, messages := NewTable(), []Message(nil)
		for i, m := range all {
			messages = append(messages, Message{Email: id.Email(i + 1)})
			table.Add(id.Email(i+1), m)
		}
		began := time.Now()
		f, ok, err := table.Thread(context.Background(), messages, References)
		if err != nil || !ok {
			t.Fatal(name, ok, err)
		}
		if took := time.Since(began); took > 20*time.Second { // with the race detector, on a busy machine
			t.Errorf("%s: threading took %s", name, took)
		}
		wantEach(t, f, len(all))
	}
}

// wantEach demands that each message is in the answer once, and that what is opened is closed.
func wantEach(t *testing.T, f *Forest, n int) {
	t.Helper()
	seen := make([]bool, n)
	found, depth := 0, 0
	for step, at := range f.Walk() {
		switch step {
		case Open:
			depth++
		case Close:
			depth--
		case Member:
			if seen[at] || depth == 0 {
				t.Fatalf("message %d is there twice, or in no thread", at)
			}
			seen[at] = true
			found++
		}
	}
	if found != n || depth != 0 {
		t.Fatalf("%d of %d messages are there, and %d are open", found, n, depth)
	}
}

// Whatever messages refer to, each is in the answer once.
func FuzzThread(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 2, 1, 0, 3, 3})
	f.Add([]byte{1, 2, 0, 2, 3, 0, 3, 1, 0, 9, 8, 7, 6, 5, 4, 3, 2, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var c said
		var rows []int
		for len(data) > 0 && len(rows) < 200 { // an ID, then references up to a zero
			rows = append(rows, len(rows))
			c.own, data = append(c.own, messageID(data[0])), data[1:]
			for len(data) > 0 && data[0] > 0 {
				c.refs, data = append(c.refs, messageID(data[0])), data[1:]
			}
			if len(data) > 0 {
				data = data[1:]
			}
			c.refEnd = append(c.refEnd, uint32(len(c.refs)))
		}
		n := len(rows)
		x := &threading{n: n, dates: make([]uint64, n), subject: make([]textID, n), replies: make([]bool, n), known: 4}
		for i := range n {
			x.byDate = append(x.byDate, int32(i))
			x.subject[i], x.replies[i] = textID(c.own[i]%4), c.own[i]%3 == 0
		}
		x.links = newLinks(n, 255, 255)
		x.links.steps = 4
		if err := x.links.follow(context.Background(), c, rows); err != nil {
			t.Fatal(err)
		}
		wantEach(t, x.references(), n)
		wantEach(t, x.orderedSubject(), n)
	})
}

func emailsOf(messages []Message) iter.Seq[id.Email] {
	return func(yield func(id.Email) bool) {
		for _, m := range messages {
			if !yield(m.Email) {
				return
			}
		}
	}
}

// What nobody asks for goes, and what is left is as it was.
func TestPrune(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	letters := randomLetters(r, 2*fewRows)
	table, messages := tableOf(t, r, letters)
	kept := messages[:fewRows]
	keys := []Key{{Subject, false}, {From, true}, {Date, false}}
	before, _ := table.Sort(kept, keys)
	forest, _, err := table.Thread(context.Background(), kept, References)
	if err != nil {
		t.Fatal(err)
	}
	weight := table.Weight()
	table.Prune() // all were used since they were added: nothing goes
	if table.Len() != len(letters) {
		t.Fatalf("%d of %d are left", table.Len(), len(letters))
	}
	for i := range 2 * len(letters) { // so that it is as large again
		table.Add(id.Email(10*len(letters)+i), nil)
	}
	table.Missing(emailsOf(kept))
	table.Prune() // those which were there before and not asked for since have gone
	if table.Len() >= 3*len(letters) || len(table.Missing(emailsOf(kept))) > 0 {
		t.Fatalf("%d are left, and %d missing", table.Len(), len(table.Missing(emailsOf(kept))))
	}
	if _, ok := table.Sort(messages, keys); ok {
		t.Error("what is gone is sorted")
	}
	after, ok := table.Sort(kept, keys)
	again, _, err := table.Thread(context.Background(), kept, References)
	if !ok || err != nil || !slices.Equal(after, before) || walked(again) != walked(forest) {
		t.Error("what is left is not as it was")
	}
	if weight <= 0 {
		t.Error("no weight")
	}
}

// To thread few of many messages takes little memory, and leads to what a table of those alone leads to.
func TestFewOfMany(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	all := randomLetters(r, 4000)
	table, messages := tableOf(t, r, all)
	for _, n := range []int{0, 1, 10, 300} {
		some := messages[100 : 100+n]
		alone := table.Only(emailsOf(some))
		if alone.Len() != n || n > 0 && len(alone.Missing(emailsOf(some))) > 0 {
			t.Fatalf("%d of %d emails are in a table of their own", alone.Len(), n)
		}
		for _, by := range []Algorithm{References, OrderedSubject} {
			got, _, err := table.Thread(context.Background(), some, by)
			want, _, err2 := alone.Thread(context.Background(), some, by)
			if err != nil || err2 != nil || walked(got) != walked(want) {
				t.Errorf("%d messages are threaded to %s, of a table of their own to %s: %v, %v", n, walked(got), walked(want), err, err2)
			}
		}
		if weight := table.ThreadWeight(some); weight > int64(1000*(n+1)) {
			t.Errorf("to thread %d of %d messages takes %d octets", n, len(messages), weight)
		}
	}
	if few, most := table.ThreadWeight(messages[:10]), table.ThreadWeight(messages); most < 50*few {
		t.Errorf("all %d messages take %d octets, ten of them %d", len(messages), most, few)
	}
}

func BenchmarkOrder(b *testing.B) {
	const n = 100_000
	table, messages := NewTable(), make([]Message, n)
	for i := range messages {
		m := &message.Meta{SentDate: time.Unix(int64(1e9+(i*7919)%n*60), 0), BaseSubject: fmt.Sprintf("subject %d of the list", i*7919%n/4)}
		m.Envelope = message.Envelope{Subject: "Re: " + m.BaseSubject, MessageID: msgID(i), From: []message.Address{{Name: fmt.Sprint("Name ", i%997), Mailbox: fmt.Sprint("user", i%997), Host: "x"}}}
		m.References = []string{msgID(i - i%5), msgID(i - 1)}
		messages[i] = Message{Email: id.Email(i + 1), Arrival: int64(1e9 + i)}
		table.Add(messages[i].Email, m)
	}
	b.Logf("%d octets a message", table.Weight()/n)
	for name, keys := range map[string][]Key{"date": {{By: Date}}, "subject": {{By: Subject}, {By: Date}}, "arrival": {{By: Arrival}}, "from": {{By: From}}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				table.Sort(messages, keys)
			}
		})
	}
	for name, by := range map[string]Algorithm{"references": References, "orderedsubject": OrderedSubject} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f, _, _ := table.Thread(context.Background(), messages, by)
				for range f.Walk() {
				}
			}
		})
	}
}
