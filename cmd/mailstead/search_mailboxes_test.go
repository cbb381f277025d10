package main

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ledger is all that is known of the mail in some mailboxes, by those who put it there. What happens has a number; what
// happens at the same time has numbers that lie within each other.
type ledger struct {
	mu        sync.Mutex
	now       int64
	boxes     []*box
	letters   []*letter
	delivered map[string]delivery // by the letter's id: what nobody knows the UID of yet
}

type delivery struct {
	*letter
	came span
}

// span is when something began and when it was acknowledged; 0: not yet.
type span struct{ begun, done int64 }

// box is a mailbox.
type box struct {
	name   string // in the mailboxes of who searches
	own    string // in those of its owner
	owner  string // who changes it
	shared bool   // has a \Seen for each of its readers, so that it tells nothing here
	mail   map[uint32]*entry
}

// entry is a message that is or was in a mailbox.
type entry struct {
	held
	came, went span
	flagged    []flagging // the first when it came
	busy       bool       // somebody is about to change it
}

// flagging is a change of all flags.
type flagging struct {
	span
	flags []string
}

func (l *ledger) tick() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now++
	return l.now
}

// add notes a message that has come.
func (l *ledger) add(b *box, uid uint32, x *letter, flags []string, arrived time.Time, size int64, came span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.mail[uid] = &entry{
		held: held{letter: x, uid: uid, arrived: arrived, size: size},
		came: came, flagged: []flagging{{came, flags}},
	}
	l.letters = append(l.letters, x)
}

// take returns some messages of a mailbox, which then nobody else changes; fit says which will do.
func (l *ledger) take(r *rand.Rand, b *box, most int, fit func(*entry) bool) []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var some []*entry
	uids := slices.Sorted(maps.Keys(b.mail))
	for range 4 * most {
		if len(uids) == 0 || len(some) == most {
			break
		}
		e := b.mail[pick(r, uids)]
		if !e.busy && e.went.begun == 0 && fit(e) {
			e.busy = true
			some = append(some, e)
		}
	}
	slices.SortFunc(some, func(a, b *entry) int { return int(a.uid) - int(b.uid) })
	return some
}

func (l *ledger) release(some []*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range some {
		e.busy = false
	}
}

func setOf(some []*entry) string {
	var uids []string
	for _, e := range some {
		uids = append(uids, fmt.Sprint(e.uid))
	}
	return strings.Join(uids, ",")
}

// changer changes mailboxes of one owner, by IMAP and LMTP.
type changer struct {
	*ledger
	*writer
	imap, lmtp *mailClient
	login      string
	boxes      []*box // of the owner
}

// change makes one change.
func (c *changer) change() error {
	b := pick(c.Rand, c.boxes)
	switch c.IntN(10) {
	case 0, 1, 2:
		return c.append(b, 1)
	case 3:
		return c.append(b, 2+c.IntN(4))
	case 4, 5:
		if b.own == "INBOX" {
			return c.deliver()
		}
		return c.append(b, 1)
	}
	if _, err := c.imap.do("SELECT " + b.own + "\r\n"); err != nil {
		return err
	}
	to := pick(c.Rand, c.boxes)
	some := c.take(c.Rand, b, 1+c.IntN(5), func(e *entry) bool { return true })
	if len(some) == 0 {
		return nil
	}
	defer c.release(some)
	switch c.IntN(4) {
	case 0:
		return c.expunge(some)
	case 1:
		return c.copy("MOVE", some, to)
	case 2:
		return c.copy("COPY", some, to)
	}
	return c.flag(some)
}

// append appends some messages with one command.
func (c *changer) append(b *box, count int) error {
	type arriving struct {
		*letter
		flags   []string
		arrived time.Time
	}
	var some []arriving
	var command bytes.Buffer
	command.WriteString("APPEND " + b.own)
	for range count {
		a := arriving{c.letter(), c.someFlags(b), arrival(c.Rand)}
		some = append(some, a)
		fmt.Fprintf(&command, ` (%s) "%s" {%d+}`+"\r\n%s", strings.Join(a.flags, " "), a.arrived.Format("_2-Jan-2006 15:04:05 -0700"), len(a.octets), a.octets)
	}
	command.WriteString("\r\n")
	begun := c.tick()
	answers, err := c.imap.do(command.String())
	if err != nil {
		return err
	}
	came := span{begun, c.tick()}
	sets, err := coded(answers, "APPENDUID")
	if err != nil || len(sets[0]) != count {
		return fmt.Errorf("%v, %w", sets, err)
	}
	for i, uid := range sets[0] {
		a := some[i]
		c.add(b, uid, a.letter, a.flags, a.arrived, int64(len(a.octets)), came)
	}
	return nil
}

// someFlags makes flags for a message.
func (c *changer) someFlags(b *box) []string {
	var flags []string
	for _, flag := range append([]string{`\Answered`, `\Deleted`, `\Draft`, `\Flagged`, `\Seen`}, keywords...) {
		if c.IntN(4) == 0 && (flag != `\Seen` || !b.shared) {
			flags = append(flags, flag)
		}
	}
	slices.Sort(flags)
	return flags
}

// deliver sends a message to the owner. It is found by its id when it is asked for.
func (c *changer) deliver() error {
	x := c.letter()
	for !bytes.HasSuffix(x.octets, []byte("\r\n")) { // which LMTP would add
		x = c.letter()
	}
	begun := c.tick()
	if err := c.lmtp.deliver(c.login, x.octets); err != nil {
		return err
	}
	came := span{begun, c.tick()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delivered[x.id] = delivery{x, came}
	return nil
}

func (c *changer) flag(some []*entry) error {
	b := &box{}
	flags := c.someFlags(b)
	flags = slices.DeleteFunc(flags, func(flag string) bool { return flag == `\Seen` }) // it need not be for who searches
	begun := c.tick()
	if _, err := c.imap.do("UID STORE " + setOf(some) + " +FLAGS (" + strings.Join(flags, " ") + ")\r\n"); err != nil {
		return err
	}
	c.noteFlags(some, flags, span{begun, c.tick()})
	return nil
}

// noteFlags notes flags that messages have got.
func (c *changer) noteFlags(some []*entry, flags []string, when span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range some {
		now := append(slices.Clone(e.flagged[len(e.flagged)-1].flags), flags...)
		slices.Sort(now)
		e.flagged = append(e.flagged, flagging{when, slices.Compact(now)})
	}
}

func (c *changer) expunge(some []*entry) error {
	begun := c.tick()
	if _, err := c.imap.do("UID STORE " + setOf(some) + ` +FLAGS.SILENT (\Deleted)` + "\r\n"); err != nil {
		return err
	}
	c.noteFlags(some, []string{`\Deleted`}, span{begun, c.tick()})
	c.going(some)
	if _, err := c.imap.do("UID EXPUNGE " + setOf(some) + "\r\n"); err != nil {
		return err
	}
	c.gone(some)
	return nil
}

func (c *changer) going(some []*entry) {
	begun := c.tick()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range some {
		e.went.begun = begun
	}
}

func (c *changer) gone(some []*entry) {
	done := c.tick()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range some {
		e.went.done = done
	}
}

// copy copies or moves messages.
func (c *changer) copy(command string, some []*entry, to *box) error {
	begun := c.tick()
	if command == "MOVE" {
		c.going(some)
	}
	answers, err := c.imap.do("UID " + command + " " + setOf(some) + " " + to.own + "\r\n")
	if err != nil {
		return err
	}
	if command == "MOVE" {
		c.gone(some)
	}
	came := span{begun, c.tick()}
	sets, err := coded(answers, "COPYUID")
	if err != nil || len(sets) != 2 || len(sets[1]) != len(some) {
		return fmt.Errorf("%v of %s, %w", sets, setOf(some), err)
	}
	for i, e := range some {
		if sets[0][i] != e.uid {
			return fmt.Errorf("%v of %s", sets, setOf(some))
		}
		c.add(to, sets[1][i], e.letter, e.flagged[len(e.flagged)-1].flags, e.arrived, e.size, came)
	}
	return nil
}

var (
	fetchedSize = regexp.MustCompile(`\bRFC822\.SIZE (\d+)`)
	fetchedDate = regexp.MustCompile(`INTERNALDATE "([^"]+)"`)
	fetchedText = regexp.MustCompile(`(?s)BODY\[HEADER\] \{\d+\}\r\n(.*)`)
	messageID   = regexp.MustCompile(`(?mi)^Message-ID: <([^>]+)>`)
)

// learn asks for the UIDs of what has been delivered, and for the trace that delivery has put before it.
func (l *ledger) learn(m *mailClient, b *box) error {
	if _, err := m.do("EXAMINE " + b.own + "\r\n"); err != nil {
		return err
	}
	answers, err := m.do("UID SEARCH ALL\r\n")
	if err != nil {
		return err
	}
	all, err := foundIn(answers)
	if err != nil {
		return err
	}
	for _, uid := range all {
		if b.mail[uid] != nil {
			continue
		}
		answers, err := m.do(fmt.Sprintf("UID FETCH %d (UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER])\r\n", uid))
		if err != nil {
			return err
		}
		fetched := strings.Join(answers, "")
		size, err := strconv.ParseInt(fetchedSize.FindStringSubmatch(fetched)[1], 10, 64)
		if err != nil {
			return err
		}
		arrived, err := time.Parse("_2-Jan-2006 15:04:05 -0700", fetchedDate.FindStringSubmatch(fetched)[1])
		if err != nil {
			return err
		}
		header := fetchedText.FindStringSubmatch(fetched)[1]
		d, ok := l.delivered[messageID.FindStringSubmatch(header)[1]]
		if !ok {
			return fmt.Errorf("nobody has put UID %d into %s: %s", uid, b.name, header)
		}
		own, _, _ := bytes.Cut(d.octets, []byte("\r\n\r\n"))
		trace, _, ok := strings.Cut(header, string(own))
		if !ok {
			return fmt.Errorf("UID %d of %s is not as it was delivered: %s", uid, b.name, header)
		}
		x := *d.letter
		x.passages = append(tracePassages(trace), x.passages...)
		l.add(b, uid, &x, nil, arrived, size, d.came)
		delete(l.delivered, d.id)
	}
	return nil
}

// tracePassages reads the fields that delivery has put before a message.
func tracePassages(trace string) (list []passage) {
	trace = strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(trace)
	for line := range strings.Lines(trace) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		list = append(list, passage{where: inHeader, field: strings.ToLower(name), text: value, folded: fold(value)})
	}
	return list
}
