package store_test

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// historyModel is the plain model: mailboxes as maps. It replays what front
// ends noted, and collects what is not right.
type historyModel struct {
	boxes     []modelBox
	retention int64 // nanoseconds
	problems  []string
}

type modelBox struct {
	modSeq   id.ModSeq
	uidNext  id.UID
	messages messageSet
	gone     map[id.UID]*goneMessage

	changes map[id.ModSeq]*event
	notes   map[id.ModSeq][]*event // what was seen at a MODSEQ
}

// goneMessage is a message that was expunged.
type goneMessage struct {
	at   id.ModSeq
	by   *event
	was  shown
	back bool // it was brought back
}

func (m *historyModel) problem(e *event, format string, args ...any) {
	where := ""
	if e != nil {
		where = fmt.Sprintf("front end %d, worker %d: %s in mailbox %d with MODSEQ %d: ", e.FrontEnd, e.Worker, e.Kind, e.Box, e.ModSeq)
	}
	m.problems = append(m.problems, where+fmt.Sprintf(format, args...))
}

// check replays the events, compares the end with the database, and returns
// what is not right.
func (h *history) check(t testing.TB, events []event) []string {
	t.Helper()
	m := &historyModel{boxes: make([]modelBox, len(h.Mailboxes)), retention: int64(h.Retention)}
	for i := range m.boxes {
		m.boxes[i] = modelBox{
			modSeq: 1, uidNext: 1, messages: newMessageSet(), gone: map[id.UID]*goneMessage{},
			changes: map[id.ModSeq]*event{}, notes: map[id.ModSeq][]*event{},
		}
	}
	for i := range events {
		m.enter(&events[i])
	}
	m.checkTimes(events)
	m.checkRecent(events)
	m.checkUIDValidity(events)
	m.checkLooks(events)
	if len(m.problems) == 0 { // else there may be no order
		m.replay()
		m.checkEnd(t, h)
	}
	return m.problems
}

// isChange reports whether e changed a mailbox.
func (e *event) isChange() bool {
	switch e.Kind {
	case "append", "flags", "expunge", "copy", "move", "replace", "undelete":
		return e.ModSeq > 0
	}
	return false
}

// enter puts an event where it belongs in the histories of its mailboxes.
func (m *historyModel) enter(e *event) {
	if e.Err != "" {
		m.problem(e, "%s", e.Err)
		return
	}
	change := func(box int, at id.ModSeq) {
		if other := m.boxes[box].changes[at]; other != nil {
			m.problem(e, "but %s of front end %d has MODSEQ %d of mailbox %d, too", other.Kind, other.FrontEnd, at, box)
		}
		m.boxes[box].changes[at] = e
	}
	note := func(at id.ModSeq) { m.boxes[e.Box].notes[at] = append(m.boxes[e.Box].notes[at], e) }
	switch e.Kind {
	case "append", "flags", "expunge":
		if e.ModSeq > 0 {
			change(e.Box, e.ModSeq)
		} else {
			note(e.Seen)
		}
	case "copy", "move":
		if e.ModSeq == 0 {
			note(e.Seen)
			return
		}
		change(e.To, e.ModSeq)
		if e.Kind == "move" && e.Box != e.To {
			change(e.Box, e.Seen)
		}
	case "replace":
		if e.ModSeq > 0 {
			change(e.To, e.ModSeq)
			change(e.Box, e.Seen)
		}
	case "undelete":
		if e.ModSeq > 0 {
			change(e.Box, e.ModSeq)
		}
	case "view":
		note(e.ModSeq)
	}
}

// replay makes the changes in an order that is that of MODSEQs in each mailbox,
// and in which every copy finds its source as it was copied from.
func (m *historyModel) replay() {
	after := make(map[*event][]*event) // what comes behind an event
	waits := make(map[*event]int)      // for how many others
	order := func(a, b *event) {
		if a != nil && b != nil && a != b {
			after[a] = append(after[a], b)
			waits[b]++
		}
	}
	all := make(map[*event]bool)
	for i := range m.boxes {
		b := &m.boxes[i]
		for n, e := range b.changes {
			all[e] = true
			if n < 2 || n > 2 && b.changes[n-1] == nil {
				m.problem(e, "but nobody made the change before it")
			}
			order(b.changes[n-1], e)
			if e.Kind == "copy" && e.Box != e.To {
				order(m.boxes[e.Box].changes[e.Seen], e)
				order(e, m.boxes[e.Box].changes[e.Seen+1])
			}
		}
	}
	if len(m.problems) > 0 {
		return
	}
	var ready []*event
	for e := range all {
		if waits[e] == 0 {
			ready = append(ready, e)
		}
	}
	for i := range m.boxes {
		m.checkNotes(i)
	}
	for len(ready) > 0 {
		e := ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		delete(all, e)
		m.change(e)
		for _, next := range after[e] {
			if waits[next]--; waits[next] == 0 {
				ready = append(ready, next)
			}
		}
	}
	for e := range all {
		m.problem(e, "is part of changes that can have happened in no order")
		return
	}
}

// change makes a change and then looks at what was seen at that MODSEQ.
func (m *historyModel) change(e *event) {
	b := &m.boxes[e.Box]
	switch e.Kind {
	case "append":
		m.add(e, e.Box, e.uids(), e.Messages)
	case "flags":
		changed, modified := b.flags(e)
		if !changed.Equal(ranges(e.Changed)) || !modified.Equal(ranges(e.Modified)) {
			m.problem(e, "changed %s, modified %s; want %s, %s", ranges(e.Changed), ranges(e.Modified), changed, modified)
		}
		for uid := range changed.All() {
			s := b.messages.by[uid].shown
			s.Flags, s.Keywords = e.applied(s)
			s.ModSeq = e.ModSeq
			b.messages.put(uid, s)
		}
		b.modSeq = e.ModSeq
	case "expunge":
		if want := b.deleted(e); !want.Equal(ranges(e.Gone)) {
			m.problem(e, "removed %s, want %s", ranges(e.Gone), want)
		}
		b.remove(e, e.Gone, e.ModSeq)
	case "copy", "move":
		m.transfer(e)
		m.checkNotes(e.To)
	case "replace":
		uid := e.FromUID[0]
		if _, ok := b.messages.by[uid]; !ok {
			m.problem(e, "replaces UID %d, which is gone", uid)
			return
		}
		b.remove(e, []view.Range{{First: uid, Last: uid}}, e.Seen)
		m.add(e, e.To, e.ToUID, e.Messages)
		m.checkNotes(e.To)
	case "undelete":
		m.undelete(e)
	}
	m.checkNotes(e.Box)
}

func (e *event) uids() []id.UID { return slices.Collect(ranges(e.UIDs).All()) }

func ranges(r []view.Range) view.UIDSet { return view.UIDSetOf(r...) }

// add puts messages into a mailbox.
func (m *historyModel) add(e *event, box int, uids []id.UID, messages []newMessage) {
	b := &m.boxes[box]
	if len(uids) != len(messages) {
		m.problem(e, "%d messages have %d UIDs", len(messages), len(uids))
		return
	}
	for i, uid := range uids {
		if uid != b.uidNext {
			m.problem(e, "gives out UID %d, the next is %d", uid, b.uidNext)
		}
		b.uidNext = uid + 1
		n := messages[i]
		b.messages.put(uid, shown{n.Tag, n.Size, e.ModSeq, n.Flags, foldKeywords(n.Keywords)})
	}
	b.modSeq = e.ModSeq
}

func (m *historyModel) transfer(e *event) {
	from := &m.boxes[e.Box]
	if want := from.existing(ranges(e.UIDs)); !slices.Equal(want, e.FromUID) {
		m.problem(e, "took %v, want %v", e.FromUID, want)
		return
	}
	var messages []newMessage
	for _, uid := range e.FromUID {
		s := from.messages.by[uid]
		messages = append(messages, newMessage{s.Tag, s.Size, s.Flags, strings.Fields(s.Keywords)})
	}
	m.add(e, e.To, e.ToUID, messages)
	if e.Kind == "move" {
		at := e.Seen
		if e.Box == e.To {
			at = e.ModSeq
		}
		from.remove(e, view.NewUIDSet(e.FromUID...).Ranges(), at)
	}
}

// undelete brings messages back as they were, each once: what was asked for and
// is gone, and of that at least what was gone when it began and had its time until it ended.
func (m *historyModel) undelete(e *event) {
	b := &m.boxes[e.Box]
	asked := ranges(e.UIDs)
	var messages []newMessage
	for _, uid := range e.FromUID {
		gone := b.gone[uid]
		if gone == nil || gone.back || !e.All && !asked.Contains(uid) {
			m.problem(e, "UID %d comes back", uid)
			return
		}
		gone.back = true
		messages = append(messages, newMessage{gone.was.Tag, gone.was.Size, gone.was.Flags &^ view.Deleted, strings.Fields(gone.was.Keywords)})
	}
	for uid := range asked.All() {
		if gone := b.gone[uid]; gone != nil && !gone.back && gone.by.End < e.Start && e.End < gone.by.Start+m.retention {
			m.problem(e, "UID %d, which has been gone for %v, does not come back", uid, time.Duration(e.End-gone.by.Start))
		}
	}
	m.add(e, e.Box, e.ToUID, messages)
}

// existing returns which of set there are.
func (b *modelBox) existing(set view.UIDSet) []id.UID {
	var uids []id.UID
	if set.Len() < len(b.messages.by) {
		for uid := range set.All() {
			if _, ok := b.messages.by[uid]; ok {
				uids = append(uids, uid)
			}
		}
		return uids
	}
	for uid := range b.messages.by {
		if set.Contains(uid) {
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	return uids
}

// flags returns what a STORE changes now, and what fails its condition.
func (b *modelBox) flags(e *event) (changed, modified view.UIDSet) {
	var c, m []id.UID
	for _, uid := range b.existing(ranges(e.UIDs)) {
		s := b.messages.by[uid].shown
		flags, keywords := e.applied(s)
		switch {
		case e.UnchangedSince >= 0 && s.ModSeq > e.UnchangedSince:
			m = append(m, uid)
		case flags != s.Flags || keywords != s.Keywords:
			c = append(c, uid)
		}
	}
	return view.NewUIDSet(c...), view.NewUIDSet(m...)
}

// applied returns the flags of a message after the STORE e.
func (e *event) applied(s shown) (view.Flags, string) {
	old, given := strings.Fields(s.Keywords), strings.Fields(foldKeywords(e.Keywords))
	switch e.Mode {
	case view.Add:
		return s.Flags | e.Flags, foldKeywords(append(old, given...))
	case view.Remove:
		kept := slices.DeleteFunc(old, func(k string) bool { return slices.Contains(given, k) })
		return s.Flags &^ e.Flags, foldKeywords(kept)
	}
	return e.Flags, foldKeywords(given)
}

// deleted returns what an EXPUNGE removes now.
func (b *modelBox) deleted(e *event) view.UIDSet {
	if b.messages.counts.Deleted == 0 {
		return view.UIDSet{}
	}
	var uids []id.UID
	among := ranges(e.UIDs)
	for uid, s := range b.messages.by {
		if s.Flags&view.Deleted != 0 && (e.All || among.Contains(uid)) {
			uids = append(uids, uid)
		}
	}
	return view.NewUIDSet(uids...)
}

func (b *modelBox) remove(by *event, uids []view.Range, at id.ModSeq) {
	for uid := range ranges(uids).All() {
		b.gone[uid] = &goneMessage{at: at, by: by, was: b.messages.by[uid].shown}
		b.messages.remove(uid)
	}
	b.modSeq = at
}

// checkNotes compares what was seen of a mailbox at its MODSEQ.
func (m *historyModel) checkNotes(box int) {
	b := &m.boxes[box]
	for _, e := range b.notes[b.modSeq] {
		switch e.Kind {
		case "flags":
			changed, modified := b.flags(e)
			if !changed.Empty() || !modified.Equal(ranges(e.Modified)) {
				m.problem(e, "changed nothing, modified %s; want %s, %s", ranges(e.Modified), changed, modified)
			}
		case "expunge":
			if gone := b.deleted(e); !gone.Empty() {
				m.problem(e, "removed nothing, want %s", gone)
			}
		case "copy", "move":
			if there := b.existing(ranges(e.UIDs)); len(there) > 0 {
				m.problem(e, "took nothing, want %v", there)
			}
		case "view":
			m.checkView(e, b)
		}
	}
	delete(b.notes, b.modSeq)
}

func (m *historyModel) checkView(e *event, b *modelBox) {
	if want := b.messages.digest(view.UIDSet{}); e.Digest != want {
		m.problem(e, "since %d: the client shows other messages or flags than there are", e.Since)
	}
	if e.UIDNext != b.uidNext {
		m.problem(e, "UIDNEXT %d, want %d", e.UIDNext, b.uidNext)
	}
	if want := b.messages.counts; e.Counts != want {
		m.problem(e, "counts %+v, want %+v", e.Counts, want)
	}
	if e.Covered > e.ModSeq || len(e.Withheld) == 0 && e.Covered != e.ModSeq {
		m.problem(e, "HIGHESTMODSEQ %d", e.Covered)
	}
	for uid := range ranges(e.Withheld).All() {
		if gone := b.gone[uid]; gone == nil || gone.at > e.ModSeq || gone.at <= e.Covered {
			m.problem(e, "HIGHESTMODSEQ %d, but of the EXPUNGE of UID %d the client has not been told: %+v", e.Covered, uid, gone)
		}
	}
}

// checkTimes checks that who asks gets the truth: whatever began after the
// answer to a change was given has that change before it.
func (m *historyModel) checkTimes(events []event) {
	type point struct {
		e      *event
		box    int
		modSeq id.ModSeq
		change bool
	}
	var points []point
	for i := range events {
		e := &events[i]
		switch {
		case e.Err != "":
		case e.Kind == "view":
			points = append(points, point{e, e.Box, e.ModSeq, false})
		case e.isChange() && (e.Kind == "copy" || e.Kind == "move" || e.Kind == "replace"):
			points = append(points, point{e, e.To, e.ModSeq, true})
			if e.Box != e.To {
				points = append(points, point{e, e.Box, e.Seen, e.Kind != "copy"})
			}
		case e.isChange():
			points = append(points, point{e, e.Box, e.ModSeq, true})
		case e.Seen > 0:
			points = append(points, point{e, e.Box, e.Seen, false})
		}
	}
	ends := slices.SortedFunc(slices.Values(points), func(a, b point) int { return cmp.Compare(a.e.End, b.e.End) })
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.e.Start, b.e.Start) })
	highest := make([]id.ModSeq, len(m.boxes))
	for _, p := range points {
		for len(ends) > 0 && ends[0].e.End < p.e.Start {
			if ends[0].change {
				highest[ends[0].box] = max(highest[ends[0].box], ends[0].modSeq)
			}
			ends = ends[1:]
		}
		if known := highest[p.box]; p.modSeq < known || p.modSeq == known && p.change {
			m.problem(p.e, "is at %d of mailbox %d, but %d had been acknowledged before it began", p.modSeq, p.box, known)
		}
	}
}

// checkRecent checks that each message was recent for one session.
func (m *historyModel) checkRecent(events []event) {
	claims := make([][]*event, len(m.boxes))
	for i := range events {
		if e := &events[i]; e.Kind == "recent" && e.First < e.UIDNext {
			claims[e.Box] = append(claims[e.Box], e)
		}
	}
	for _, c := range claims {
		slices.SortFunc(c, func(a, b *event) int { return cmp.Compare(a.First, b.First) })
		next := id.UID(1)
		for _, e := range c {
			if e.First != next {
				m.problem(e, "\\Recent from UID %d on, the next was %d", e.First, next)
			}
			next = e.UIDNext
		}
	}
}

// checkUIDValidity checks that no mailbox has the UIDVALIDITY of one that had its name.
func (m *historyModel) checkUIDValidity(events []event) {
	made := make(map[string][]*event)
	for i := range events {
		if e := &events[i]; e.Kind == "create" && e.UIDValidity > 0 {
			made[e.Name] = append(made[e.Name], e)
		}
	}
	for name, c := range made {
		slices.SortFunc(c, func(a, b *event) int { return cmp.Compare(a.Start, b.Start) })
		for i := 1; i < len(c); i++ {
			if c[i-1].End < c[i].Start && c[i].UIDValidity <= c[i-1].UIDValidity || c[i].UIDValidity == c[i-1].UIDValidity {
				m.problem(c[i], "%s has UIDVALIDITY %d after %d", name, c[i].UIDValidity, c[i-1].UIDValidity)
			}
		}
	}
}

// checkLooks checks that a mailbox that is gone shows nothing: what begins
// after another has got its name finds it gone, also where a view of it is cached.
func (m *historyModel) checkLooks(events []event) {
	made := make(map[string][]*event)
	for i := range events {
		if e := &events[i]; e.Kind == "create" && e.UIDValidity > 0 {
			made[e.Name] = append(made[e.Name], e)
		}
	}
	for i := range events {
		e := &events[i]
		if e.Kind != "look" || e.UIDValidity == 0 {
			continue
		}
		for _, c := range made[e.Name] {
			if c.UIDValidity > e.UIDValidity && c.End < e.Start {
				m.problem(e, "%s with UIDVALIDITY %d is shown, but had been deleted for %d", e.Name, e.UIDValidity, c.UIDValidity)
				break
			}
		}
	}
}

// checkEnd compares the model with what a front end finds that has seen nothing of it.
func (m *historyModel) checkEnd(t testing.TB, h *history) {
	t.Helper()
	s := storetest.Open(t, h.Cluster)
	status, err := s.Status(t.Context(), h.User, h.Mailboxes)
	if err != nil {
		m.problem(nil, "STATUS at the end: %v", err)
	}
	emails := make(map[int64]id.Email)
	for i, name := range h.Mailboxes {
		b := &m.boxes[i]
		for n := range b.notes {
			m.problem(nil, "mailbox %d was seen at MODSEQ %d, which nobody made", i, n)
		}
		row := status[name]
		if row.Counts != b.messages.counts || row.UIDNext != b.uidNext || row.HighestModSeq != b.modSeq {
			m.problem(nil, "STATUS of mailbox %d is %+v, want %+v, UIDNEXT %d, HIGHESTMODSEQ %d", i, row, b.messages.counts, b.uidNext, b.modSeq)
		}
		if err := m.checkFinal(t, s, h.User, name, b, emails); err != nil {
			m.problem(nil, "mailbox %d at the end: %v", i, err)
		}
	}
	if _, err := s.Fsck(t.Context(), h.User.Tenant, func(f store.Finding) { m.problem(nil, "fsck at the end: %s", f) }); err != nil {
		m.problem(nil, "fsck at the end: %v", err)
	}
	var deadlocks int
	h.query(t, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`, &deadlocks)
	if deadlocks > 0 {
		m.problem(nil, "%d deadlocks", deadlocks)
	}
}

// checkFinal reads a mailbox whole, some of its content too. emails collects
// which email each message is: COPY makes no new ones.
func (m *historyModel) checkFinal(t testing.TB, s *store.Store, u store.User, name string, b *modelBox, emails map[int64]id.Email) error {
	box, err := s.Open(t.Context(), u, name, acl.Read)
	if err != nil {
		return err
	}
	v, err := box.View(t.Context())
	if err != nil {
		return err
	}
	messages, show := newMessageSet(), shower(v)
	for msg := range v.All() {
		messages.put(msg.UID, show(msg))
		tag := msg.InternalDate.Unix()
		if e, ok := emails[tag]; ok && e != msg.Email {
			return fmt.Errorf("message %d is email %d and email %d", tag, e, msg.Email)
		}
		emails[tag] = msg.Email
		if msg.UID%16 == 0 {
			if err := checkHistoryContent(t, box, msg); err != nil {
				return fmt.Errorf("UID %d: %w", msg.UID, err)
			}
		}
	}
	if !messages.equal(b.messages) {
		return fmt.Errorf("%d messages, want %d, or other flags", len(messages.by), len(b.messages.by))
	}
	return nil
}

func checkHistoryContent(t testing.TB, box *store.Mailbox, m view.Message) error {
	r, err := box.Content(t.Context(), m.Email)
	if err != nil {
		return err
	}
	stream, err := r.Open(t.Context(), 0, m.Size+1)
	if err != nil {
		return err
	}
	defer stream.Close()
	text, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	if int64(len(text)) != m.Size || !slices.Contains(historyTexts(m.InternalDate.Unix()), string(text)) {
		return fmt.Errorf("content %q", text)
	}
	return nil
}
