//go:build crash

package crash

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// counters are of all clients.
type counters struct {
	acknowledged, refused, unknown, large atomic.Int64
}

// crashClient works in two mailboxes that are its own, one operation after
// another, and so knows what must be there.
type crashClient struct {
	*counters
	dev    *devServer
	number int
	login  string
	boxes  []string
	rnd    *rand.Rand

	imap     *imapConn
	selected int // index of the mailbox + 1
	lmtp     *lmtpConn
	serial   int
	steps    int
	unseen   int // deliveries whose UIDs are not known

	known    map[string]*tracked
	lost     []*unknownChange
	problems []string
}

// tracked is a message and where it must be.
type tracked struct {
	token string
	sum   [32]byte
	state crashState
	uid   uint32         // 0: not known
	maybe *unknownChange // that may or may not have been made; the message is left alone after it
	other crashState     // if it has
}

// crashState is where a message is, and its flags in order; box -1 is nowhere.
type crashState struct {
	box   int
	flags string
}

// unknownChange is an operation whose answer got lost. It was made as a whole or not at all.
type unknownChange struct {
	what     string
	messages []*tracked
}

func (c *crashClient) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf("client %d: ", c.number)+fmt.Sprintf(format, args...))
}

// address is that of a service of one of the two front ends.
func (c *crashClient) address(port int) string {
	return fmt.Sprintf("127.0.0.1:%d", c.dev.portBase+port+frontEndPorts*c.rnd.IntN(2))
}

// prepare makes the client's mailboxes.
func (c *crashClient) prepare() error {
	if err := c.connect(); err != nil {
		return err
	}
	for _, box := range c.boxes {
		if _, err := c.imap.do("CREATE " + box); err != nil {
			return err
		}
	}
	return nil
}

func (c *crashClient) connect() error {
	if c.imap != nil {
		return nil
	}
	conn, err := dialIMAP(c.address(portIMAP), c.login)
	if err == nil {
		c.imap, c.selected = conn, 0
	}
	return err
}

func (c *crashClient) disconnect() {
	if c.imap != nil {
		c.imap.conn.Close() // whatever it says, we are done with it
		c.imap = nil
	}
	if c.lmtp != nil {
		c.lmtp.conn.Close()
		c.lmtp = nil
	}
}

// work does operations until told to end, and goes on whatever breaks.
func (c *crashClient) work(ending <-chan struct{}) {
	defer c.disconnect()
	for {
		select {
		case <-ending:
			return
		default:
		}
		if c.steps++; c.steps%150 == 0 {
			c.disconnect() // to meet the other front end
		}
		err := c.step()
		var refused *refusedError
		switch {
		case err == nil:
			continue
		case errors.As(err, &refused):
			c.refused.Add(1)
		case errors.Is(err, errLost):
			c.disconnect()
		default:
			c.problem("%v", err)
			c.disconnect()
		}
		select {
		case <-ending:
			return
		case <-time.After(50 * time.Millisecond): // what is away comes back
		}
	}
}

func (c *crashClient) step() error {
	if err := c.connect(); err != nil {
		return err
	}
	box := c.rnd.IntN(2)
	if n := c.rnd.IntN(100); n < 28 {
		return c.append(box)
	} else if n < 48 {
		return c.deliver(box)
	}
	if err := c.selectBox(box); err != nil {
		return err
	}
	if c.unseen > 20 {
		c.unseen = 0
		return errors.Join(c.scan(0), c.scan(1))
	}
	messages := c.choose(box)
	if len(messages) == 0 {
		return nil
	}
	switch n := c.rnd.IntN(52); {
	case n < 28:
		return c.flag(messages)
	case n < 38:
		return c.move(box, messages)
	case n < 44:
		return c.replace(box, messages[0])
	default:
		return c.expunge(messages)
	}
}

func (c *crashClient) selectBox(box int) error {
	if c.selected == box+1 {
		return nil
	}
	c.selected = 0
	if _, err := c.imap.do("SELECT " + c.boxes[box]); err != nil {
		return err
	}
	c.selected = box + 1
	return nil
}

// choose returns some messages of a mailbox whose state is known.
func (c *crashClient) choose(box int) []*tracked {
	var all []*tracked
	for _, token := range slices.Sorted(maps.Keys(c.known)) {
		if m := c.known[token]; m.state.box == box && m.uid != 0 && m.maybe == nil {
			all = append(all, m)
		}
	}
	c.rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(len(all), 1+c.rnd.IntN(4))]
}

// settle notes the outcome of an operation that takes each of messages to the
// state that after says.
func (c *crashClient) settle(what string, err error, messages []*tracked, after func(*tracked) crashState) error {
	var refused *refusedError
	switch {
	case err == nil:
		c.acknowledged.Add(1)
		for _, m := range messages {
			m.state = after(m)
		}
	case errors.As(err, &refused): // it was not made
	default:
		c.unknown.Add(1)
		u := &unknownChange{what, messages}
		c.lost = append(c.lost, u)
		for _, m := range messages {
			m.maybe, m.other = u, after(m)
		}
	}
	return err
}

// compose makes a message; one in twenty is larger, compressed, than staging takes.
func (c *crashClient) compose() (*tracked, []byte) {
	c.serial++
	token := fmt.Sprintf("crash-%d-%d", c.number, c.serial)
	size := 100 + c.rnd.IntN(3000)
	if c.rnd.IntN(20) == 0 {
		size = 200_000 + c.rnd.IntN(200_000)
		c.large.Add(1)
	}
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = byte(c.rnd.Uint32())
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: crash@crash.test\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: <%s@crash.test>\r\nX-Crash: %s\r\n\r\n", c.login, token, token, token)
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(noise)), 76) {
		b.Write(line)
		b.WriteString("\r\n")
	}
	return &tracked{token: token, sum: sha256.Sum256(b.Bytes()), state: crashState{box: -1}}, b.Bytes()
}

func (c *crashClient) append(box int) error {
	m, text := c.compose()
	flags := c.randomFlags()
	c.known[m.token] = m
	answers, err := c.imap.do(fmt.Sprintf("APPEND %s (%s)", c.boxes[box], strings.Join(flags, " ")), text)
	if err == nil {
		u := matched(answers, appendUID)
		if u == nil {
			return fmt.Errorf("%w: APPEND without APPENDUID", errBroken)
		}
		m.uid = numbers(u[2])[0]
	}
	return c.settle("APPEND "+m.token, err, []*tracked{m}, func(*tracked) crashState { return crashState{box, join(flags)} })
}

func (c *crashClient) deliver(box int) error {
	if c.lmtp == nil {
		conn, err := dialLMTP(c.address(portLMTP))
		if err != nil {
			return err
		}
		c.lmtp = conn
	}
	m, text := c.compose()
	user, domain, _ := strings.Cut(c.login, "@")
	sent, err := c.lmtp.deliver(user+"+"+c.boxes[box]+"@"+domain, text)
	if err != nil {
		c.lmtp.conn.Close() // in whichever state it is
		c.lmtp = nil
		if !sent {
			return err
		}
		var refused *refusedError
		if errors.As(err, &refused) {
			// LMTP may answer 4xx where the outcome is unknown: a second delivery is better than none.
			c.refused.Add(1)
			err = fmt.Errorf("%w: %s", errLost, refused.text)
		}
	}
	c.known[m.token] = m
	c.unseen++
	return c.settle("delivery of "+m.token, err, []*tracked{m}, func(*tracked) crashState { return crashState{box, ""} })
}

var crashFlags = []string{`\Seen`, `\Flagged`, `\Answered`, "$Work", "later"}

func (c *crashClient) randomFlags() []string {
	var flags []string
	for _, f := range crashFlags {
		if c.rnd.IntN(3) == 0 {
			flags = append(flags, f)
		}
	}
	return flags
}

// join returns a set of flags as text.
func join(flags []string) string {
	flags = slices.Clone(flags)
	for i, f := range flags {
		flags[i] = strings.ToLower(f)
	}
	slices.Sort(flags)
	return strings.Join(slices.Compact(flags), " ")
}

func uidSet(messages []*tracked) string {
	var uids []string
	for _, m := range messages {
		uids = append(uids, strconv.FormatUint(uint64(m.uid), 10))
	}
	return strings.Join(uids, ",")
}

func (c *crashClient) flag(messages []*tracked) error {
	flags := c.randomFlags()
	item := []string{"FLAGS", "+FLAGS", "-FLAGS"}[c.rnd.IntN(3)]
	_, err := c.imap.do(fmt.Sprintf("UID STORE %s %s.SILENT (%s)", uidSet(messages), item, strings.Join(flags, " ")))
	return c.settle("STORE "+item, err, messages, func(m *tracked) crashState {
		old := strings.Fields(m.state.flags)
		switch item {
		case "FLAGS":
			old = flags
		case "+FLAGS":
			old = append(old, flags...)
		default:
			old = slices.DeleteFunc(old, func(f string) bool { return slices.Contains(strings.Fields(join(flags)), f) })
		}
		return crashState{m.state.box, join(old)}
	})
}

func (c *crashClient) move(from int, messages []*tracked) error {
	answers, err := c.imap.do(fmt.Sprintf("UID MOVE %s %s", uidSet(messages), c.boxes[1-from]))
	uids := map[uint32]uint32{}
	if err == nil {
		u := matched(answers, copyUID)
		if u == nil {
			return fmt.Errorf("%w: MOVE of %s without COPYUID", errBroken, uidSet(messages))
		}
		to := numbers(u[3])
		for i, uid := range numbers(u[2]) {
			uids[uid] = to[i]
		}
	}
	err = c.settle("MOVE", err, messages, func(m *tracked) crashState { return crashState{1 - from, m.state.flags} })
	for _, m := range messages {
		if err != nil {
			break
		}
		if uids[m.uid] == 0 {
			c.problem("UID %d of %s, which was acknowledged, could not be moved", m.uid, c.boxes[from])
		}
		m.uid = uids[m.uid]
	}
	return err
}

// replace has a new message take the place of one, there or in the other mailbox.
func (c *crashClient) replace(from int, old *tracked) error {
	to := c.rnd.IntN(2)
	m, text := c.compose()
	flags := c.randomFlags()
	c.known[m.token] = m
	answers, err := c.imap.do(fmt.Sprintf("UID REPLACE %d %s (%s)", old.uid, c.boxes[to], strings.Join(flags, " ")), text)
	if err == nil {
		u := matched(answers, appendUID)
		if u == nil {
			return fmt.Errorf("%w: REPLACE without APPENDUID", errBroken)
		}
		m.uid = numbers(u[2])[0]
	}
	return c.settle("REPLACE of "+old.token+" by "+m.token, err, []*tracked{old, m}, func(one *tracked) crashState {
		if one == m {
			return crashState{to, join(flags)}
		}
		return crashState{box: -1}
	})
}

func (c *crashClient) expunge(messages []*tracked) error {
	_, err := c.imap.do(fmt.Sprintf(`UID STORE %s +FLAGS.SILENT (\Deleted)`, uidSet(messages)))
	err = c.settle("STORE of \\Deleted", err, messages, func(m *tracked) crashState {
		return crashState{m.state.box, join(append(strings.Fields(m.state.flags), `\Deleted`))}
	})
	if err != nil {
		return err
	}
	_, err = c.imap.do("UID EXPUNGE " + uidSet(messages))
	return c.settle("EXPUNGE", err, messages, func(*tracked) crashState { return crashState{box: -1} })
}

// scan learns the UIDs of what was delivered.
func (c *crashClient) scan(box int) error {
	if err := c.selectBox(box); err != nil {
		return err
	}
	answers, err := c.imap.do("UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (X-Crash)])")
	if err != nil {
		return err
	}
	for _, a := range answers {
		token, uid := tokenOf(a), matched([]response{a}, fetchUID)
		if m := c.known[token]; m != nil && uid != nil && m.maybe == nil && m.uid == 0 && m.state.box == box {
			m.uid = numbers(uid[1])[0]
		}
	}
	return nil
}

var tokenField = regexp.MustCompile(`(?m)^X-Crash: (\S+)\r$`)

func tokenOf(r response) string {
	if len(r.literals) == 0 {
		return ""
	}
	m := tokenField.FindSubmatch(r.literals[0])
	if m == nil {
		return ""
	}
	return string(m[1])
}

// found is a message as it is there at the end.
type found struct {
	state crashState
	sum   [32]byte
}

// verify compares what is there with what must be.
func (l *crashLoad) verify(t *testing.T, d *devServer) []string {
	t.Helper()
	var problems []string
	for _, c := range l.clients {
		before := len(c.problems)
		for attempt := 0; ; attempt++ {
			err := c.check()
			if err == nil {
				break
			}
			c.disconnect()
			if attempt == 5 {
				c.problem("reading back: %v", err)
				break
			}
			time.Sleep(500 * time.Millisecond) // the last that was killed is just coming back
		}
		c.disconnect()
		problems = append(problems, c.problems[before:]...)
		c.problems = c.problems[:before]
	}
	return problems
}

func (c *crashClient) check() error {
	if err := c.connect(); err != nil {
		return err
	}
	there := map[string][]found{}
	for box := range c.boxes {
		if err := c.read(box, there); err != nil {
			return err
		}
	}
	for token := range there {
		if c.known[token] == nil {
			c.problem("there is a message %s, which nobody sent", token)
		}
	}
	for token, m := range c.known {
		c.checkMessage(m, there[token])
	}
	for _, u := range c.lost {
		c.checkWhole(u, there)
	}
	return nil
}

// read reads a mailbox, and holds its counters against what is in it.
func (c *crashClient) read(box int, there map[string][]found) error {
	c.selected = 0 // as it is now
	if err := c.selectBox(box); err != nil {
		return err
	}
	answers, err := c.imap.do("UID FETCH 1:* (UID FLAGS BODY.PEEK[])")
	if err != nil {
		return err
	}
	messages, unseen := 0, 0
	for _, a := range answers {
		flags := matched([]response{a}, fetchFlag)
		if flags == nil || len(a.literals) != 1 {
			continue // a FLAGS response or the like
		}
		set := strings.Fields(join(slices.DeleteFunc(strings.Fields(flags[1]), func(f string) bool { return f == `\Recent` })))
		messages++
		if !slices.Contains(set, `\seen`) {
			unseen++
		}
		text := a.literals[0]
		if i := bytes.Index(text, []byte("From: crash@crash.test\r\n")); i > 0 && bytes.HasPrefix(text, []byte("Return-Path:")) {
			text = text[i:] // what LMTP adds
		}
		token := tokenOf(a)
		there[token] = append(there[token], found{crashState{box, strings.Join(set, " ")}, sha256.Sum256(text)})
	}
	if err := c.selectBox(1 - box); err != nil { // STATUS is not for the selected mailbox (RFC 9051 section 6.3.11)
		return err
	}
	status, err := c.imap.do("STATUS " + c.boxes[box] + " (MESSAGES UNSEEN)")
	if err != nil {
		return err
	}
	for _, want := range []string{fmt.Sprintf(`MESSAGES %d\b`, messages), fmt.Sprintf(`UNSEEN %d\b`, unseen)} {
		if matched(status, regexp.MustCompile(want)) == nil {
			c.problem("STATUS of %s says %q, but there are MESSAGES %d UNSEEN %d", c.boxes[box], status[0].text, messages, unseen)
		}
	}
	return nil
}

func (c *crashClient) checkMessage(m *tracked, there []found) {
	if len(there) > 1 {
		c.problem("%s is there %d times: %v, %v", m.token, len(there), there[0].state, there[1].state)
		return
	}
	is := crashState{box: -1}
	if len(there) == 1 {
		is = there[0].state
		if there[0].sum != m.sum {
			c.problem("%s has other content than was sent", m.token)
		}
	}
	if is != m.state && (m.maybe == nil || is != m.other) {
		c.problem("%s is %v, want %v (or %v: %v)", m.token, is, m.state, m.other, m.maybe != nil)
	}
}

// checkWhole checks that a change was made to all of its messages or to none.
func (c *crashClient) checkWhole(u *unknownChange, there map[string][]found) {
	made, not := 0, 0
	for _, m := range u.messages {
		is := crashState{box: -1}
		if f := there[m.token]; len(f) > 0 {
			is = f[0].state
		}
		switch {
		case m.state == m.other:
		case is == m.other:
			made++
		default:
			not++
		}
	}
	if made > 0 && not > 0 {
		c.problem("%s was made to %d messages and not to %d", u.what, made, not)
	}
}
