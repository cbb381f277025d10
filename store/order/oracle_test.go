package order

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// What this package answers is compared with what the text of RFC 5256 says, followed step by step: slowly, with nothing of
// this package, on mail of which is known what it says.

// letter is a message of which is known what it says.
type letter struct {
	id, replyTo string
	refs        []string
	base        string // subject, of ASCII
	reply       bool
	from        string
	date        int64 // 0: there is none
	arrival     int64
	size        int64
}

// meta parses it as it would be on the wire.
func (l letter) meta(t testing.TB, r *rand.Rand) *message.Meta {
	var b strings.Builder
	if l.id != "" {
		fmt.Fprintf(&b, "Message-ID: %s\r\n", spelled(l.id, r))
	}
	if len(l.refs) > 0 {
		b.WriteString("References:")
		for _, ref := range l.refs {
			b.WriteString("\r\n " + spelled(ref, r))
		}
		b.WriteString("\r\n")
	}
	if l.replyTo != "" {
		fmt.Fprintf(&b, "In-Reply-To: %s\r\n", l.replyTo)
	}
	subject := l.base
	if r.IntN(2) == 0 {
		subject = strings.ToUpper(subject)
	}
	if r.IntN(3) == 0 {
		subject = "[list] " + subject
	}
	if l.base == "" {
		subject = ""
	}
	if l.reply {
		subject = []string{"Re: ", "fwd[x]:", "[list] RE:"}[r.IntN(3)] + subject
	}
	fmt.Fprintf(&b, "Subject: %s\r\n", subject)
	if l.from != "" {
		fmt.Fprintf(&b, "From: Name <%s@example.test>\r\n", l.from)
	}
	if l.date != 0 {
		zone := time.FixedZone("", 3600*(r.IntN(20)-10))
		fmt.Fprintf(&b, "Date: %s\r\n", time.Unix(l.date, 0).In(zone).Format(time.RFC1123Z))
	}
	m, err := message.Parse(strings.NewReader(b.String()+"\r\n"), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// spelled writes a msg-id with quotes or without them.
func spelled(id string, r *rand.Rand) string {
	if r.IntN(4) > 0 {
		return id
	}
	left, right, _ := strings.Cut(strings.Trim(id, "<>"), "@")
	return fmt.Sprintf(`<"%s"@%s>`, left, right)
}

// sentDate is section 2.2.
func (l letter) sentDate() int64 { return cmp.Or(l.date, l.arrival) }

// randomLetters are messages that refer to each other in every way.
func randomLetters(r *rand.Rand, n int) []letter {
	pool := 1 + r.IntN(2*n)
	anyID := func() string { return fmt.Sprintf("<%d@x>", r.IntN(pool)) }
	letters := make([]letter, n)
	for i := range letters {
		l := &letters[i]
		if r.IntN(10) > 0 {
			l.id = anyID()
		}
		for range []int{0, 0, 1, 1, 2, 3, 8}[r.IntN(7)] {
			l.refs = append(l.refs, anyID())
		}
		if r.IntN(4) == 0 {
			l.replyTo = anyID()
		}
		l.base = []string{"", "a", "b", "c", "long subject"}[r.IntN(5)]
		l.reply = r.IntN(2) == 0
		l.from = []string{"", "ann", "bob", "Bob"}[r.IntN(4)]
		l.date = []int64{0, 1e9, 1e9 + 1, 1e9 + 2, 1e9 + int64(r.IntN(100))}[r.IntN(5)]
		l.arrival = 1e9 + int64(r.IntN(50))
		l.size = int64(r.IntN(5))
	}
	return letters
}

func tableOf(t testing.TB, r *rand.Rand, letters []letter) (*Table, []Message) {
	table := NewTable()
	messages := make([]Message, len(letters))
	emails := r.Perm(3 * len(letters))
	for i, l := range letters {
		messages[i] = Message{Email: id.Email(emails[i] + 1), Arrival: l.arrival, Size: l.size}
	}
	for _, i := range r.Perm(len(letters)) {
		table.Add(messages[i].Email, letters[i].meta(t, r))
	}
	return table, messages
}

// member is a message of a thread, or a dummy.
type member struct {
	at       int // none: a dummy
	parent   *member
	children []*member
}

func (m *member) dummy() bool { return m.at < 0 }

func (m *member) below(other *member) bool {
	for ; m != nil; m = m.parent {
		if m == other {
			return true
		}
	}
	return false
}

func (m *member) setParent(p *member) {
	if m.parent != nil {
		m.parent.children = slices.DeleteFunc(m.parent.children, func(c *member) bool { return c == m })
	}
	if m.parent = p; p != nil {
		p.children = append(p.children, m)
	}
}

// byReferences is REFERENCES of section 3.
func byReferences(letters []letter) []*member {
	top := linked(letters)
	sortSiblings(letters, top) // (4)
	top = mergeSubjects(letters, top)
	sortSiblings(letters, top) // (6)
	return top
}

// byRefs is REFS of the draft.
func byRefs(letters []letter) []*member {
	top := linked(letters)
	sortSiblings(letters, top)
	slices.SortStableFunc(top, func(a, b *member) int { return cmp.Compare(a.latest(letters), b.latest(letters)) })
	return top
}

// latest is when the last message of a thread came.
func (m *member) latest(letters []letter) (arrival int64) {
	if !m.dummy() {
		arrival = letters[m.at].arrival
	}
	for _, c := range m.children {
		arrival = max(arrival, c.latest(letters))
	}
	return arrival
}

// linked is steps (1) to (3).
func linked(letters []letter) []*member {
	members := make([]*member, len(letters))
	byID := map[string]*member{}
	for i, l := range letters {
		members[i] = &member{at: i}
		if l.id != "" && byID[l.id] == nil {
			byID[l.id] = members[i]
		}
	}
	all := slices.Clone(members)
	for i, l := range letters { // (1)
		refs := l.refs
		if len(refs) == 0 && l.replyTo != "" {
			refs = []string{l.replyTo}
		}
		var last *member
		for _, ref := range refs {
			if byID[ref] == nil {
				byID[ref] = &member{at: -1}
				all = append(all, byID[ref])
			}
			m := byID[ref]
			if last != nil && m.parent == nil && !last.below(m) {
				m.setParent(last)
			}
			last = m
		}
		members[i].setParent(nil)
		if last != nil && !last.below(members[i]) {
			members[i].setParent(last)
		}
	}
	var root []*member // (2)
	for _, m := range all {
		if m.parent == nil {
			root = append(root, m)
		}
	}
	var top []*member // (3)
	for _, m := range root {
		m.children = pruned(m.children)
		switch {
		case !m.dummy() || len(m.children) > 1:
			top = append(top, m)
		case len(m.children) == 1:
			top = append(top, m.children...)
		}
	}
	for _, m := range top {
		m.parent = nil
	}
	return top
}

func pruned(list []*member) (kept []*member) {
	for _, m := range list {
		m.children = pruned(m.children)
		if m.dummy() {
			kept = append(kept, m.children...)
		} else {
			kept = append(kept, m)
		}
	}
	return kept
}

func sortSiblings(letters []letter, list []*member) {
	for _, m := range list {
		sortSiblings(letters, m.children)
	}
	first := func(m *member) int {
		if m.dummy() {
			m = m.children[0]
		}
		return m.at
	}
	slices.SortFunc(list, func(a, b *member) int {
		x, y := first(a), first(b)
		return cmp.Or(cmp.Compare(letters[x].sentDate(), letters[y].sentDate()), cmp.Compare(x, y))
	})
}

// mergeSubjects is step (5).
func mergeSubjects(letters []letter, top []*member) []*member {
	subject := func(m *member) string {
		if m.dummy() {
			m = m.children[0]
		}
		return letters[m.at].base
	}
	reply := func(m *member) bool { return !m.dummy() && letters[m.at].reply }
	table := map[string]*member{}
	for _, m := range top {
		s := subject(m)
		if s == "" {
			continue
		}
		switch known := table[s]; {
		case known == nil:
			table[s] = m
		case !known.dummy() && (m.dummy() || reply(known) && !reply(m)):
			table[s] = m
		}
	}
	left := slices.Clone(top)
	remove := func(m *member) {
		left = slices.DeleteFunc(left, func(o *member) bool { return o == m })
	}
	for _, m := range top {
		s := subject(m)
		if s == "" || table[s] == m || !slices.Contains(left, m) {
			continue
		}
		known := table[s]
		remove(m)
		switch {
		case known.dummy() && m.dummy():
			known.children = append(known.children, m.children...)
		case known.dummy(), reply(m) && !reply(known):
			known.children = append(known.children, m)
		default:
			remove(known)
			table[s] = &member{at: -1, children: []*member{m, known}}
			left = append(left, table[s])
		}
	}
	return left
}

// byOrderedSubject is ORDEREDSUBJECT of section 3.
func byOrderedSubject(letters []letter) (top []*member) {
	sorted := sortedBy(letters, func(a, b letter) int { return cmp.Compare(a.base, b.base) }, func(a, b letter) int { return cmp.Compare(a.sentDate(), b.sentDate()) })
	for n, i := range sorted {
		m := &member{at: i}
		if n > 0 && letters[sorted[n-1]].base == letters[i].base {
			head := top[len(top)-1]
			head.children = append(head.children, m)
		} else {
			top = append(top, m)
		}
	}
	slices.SortFunc(top, func(a, b *member) int {
		return cmp.Or(cmp.Compare(letters[a.at].sentDate(), letters[b.at].sentDate()), cmp.Compare(a.at, b.at))
	})
	return top
}

// sortedBy returns the places of letters, sorted by one after the other.
func sortedBy(letters []letter, by ...func(a, b letter) int) []int {
	places := make([]int, len(letters))
	for i := range places {
		places[i] = i
	}
	for _, compare := range slices.Backward(by) {
		slices.SortStableFunc(places, func(a, b int) int { return compare(letters[a], letters[b]) })
	}
	return places
}

// written is a list of threads in the syntax of section 5.
func written(list []*member) string {
	var b strings.Builder
	for _, m := range list {
		b.WriteString("(" + writtenMember(m) + ")")
	}
	return b.String()
}

func writtenMember(m *member) string {
	s := ""
	if !m.dummy() {
		s = fmt.Sprint(m.at + 1)
	}
	switch {
	case len(m.children) == 1:
		return s + " " + writtenMember(m.children[0])
	case len(m.children) > 1 && s != "":
		return s + " " + written(m.children)
	}
	return s + written(m.children)
}

// walked is a forest in the same syntax.
func walked(f *Forest) string {
	var b []byte
	for step, at := range f.Walk() {
		last := byte('(')
		if len(b) > 0 {
			last = b[len(b)-1]
		}
		switch {
		case step == Close:
			b = append(b, ')')
			continue
		case last != '(' && last != ')':
			b = append(b, ' ')
		}
		if step == Open {
			b = append(b, '(')
		} else {
			b = fmt.Append(b, at+1)
		}
	}
	return string(b)
}

func TestThreadsAsTheTextSays(t *testing.T) {
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 5256))
		letters := randomLetters(r, 1+r.IntN(40))
		table, messages := tableOf(t, r, letters)
		for algorithm, want := range map[Algorithm]string{References: written(byReferences(letters)), Refs: written(byRefs(letters)), OrderedSubject: written(byOrderedSubject(letters))} {
			f, ok, err := table.Thread(context.Background(), messages, algorithm)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if got := walked(f); got != want {
				t.Fatalf("seed %d, algorithm %d of %+v:\n got %s\nwant %s", seed, algorithm, letters, got, want)
			}
		}
	}
}

func TestSortsAsTheTextSays(t *testing.T) {
	compare := map[Criterion]func(a, b letter) int{
		Arrival: func(a, b letter) int { return cmp.Compare(a.arrival, b.arrival) },
		Date:    func(a, b letter) int { return cmp.Compare(a.sentDate(), b.sentDate()) },
		From:    func(a, b letter) int { return strings.Compare(strings.ToUpper(a.from), strings.ToUpper(b.from)) },
		Size:    func(a, b letter) int { return cmp.Compare(a.size, b.size) },
		Subject: func(a, b letter) int { return strings.Compare(strings.ToUpper(a.base), strings.ToUpper(b.base)) },
		Cc:      func(a, b letter) int { return 0 }, // nobody has any
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5957))
		letters := randomLetters(r, 1+r.IntN(60))
		table, messages := tableOf(t, r, letters)
		var keys []Key
		var by []func(a, b letter) int
		for _, c := range []Criterion{Arrival, Date, From, Size, Subject, Cc} {
			if r.IntN(2) > 0 || c == Cc && len(keys) == 0 {
				k := Key{c, r.IntN(2) == 0}
				keys = append(keys, k)
				by = append(by, func(a, b letter) int {
					if k.Reverse {
						return compare[k.By](b, a)
					}
					return compare[k.By](a, b)
				})
			}
		}
		want := sortedBy(letters, by...)
		got, ok := table.Sort(messages, keys)
		if !ok {
			t.Fatal("not in the table")
		}
		for i := range got {
			if int(got[i]) != want[i] {
				t.Fatalf("seed %d, %v of %+v:\n got %v\nwant %v", seed, keys, letters, got, want)
			}
		}
	}
}
