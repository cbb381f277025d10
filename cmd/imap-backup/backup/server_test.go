package backup

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/cmd/imap-backup/remote"
)

// server is an IMAP server that behaves as a test wants, also badly. It is a listener and a few
// mailboxes; a test changes them between runs (see quiet).
type server struct {
	t        *testing.T
	listener net.Listener

	mutex        sync.Mutex
	talking      int // conversations
	silent       sync.Cond
	capabilities string
	boxes        []*fakeBox
	list         []string // lines in place of those of the boxes
	// before is called for each command; what it returns is sent in place of an answer, and "<cut>" at its end ends the connection.
	before   func(command string) (answer string, instead bool)
	body     func(uid int, text string) string // what is sent for a message, from { on
	size     func(uid int, text string) int    // RFC822.SIZE
	head     func(text string) string          // what is sent for the field Message-ID
	literal  func(size int) string             // what is sent in place of a continuation, if anything
	timeout  time.Duration                     // of the client
	commands []string
	fetched  int // messages in full
}

type fakeBox struct {
	name     string
	validity int
	modSeq   int
	noNext   bool
	messages []fakeMessage
}

type fakeMessage struct {
	uid    int
	flags  string
	text   string
	modSeq int
	date   string
}

const aDay = " 5-Jan-2026 10:00:00 +0100"

func (b *fakeBox) next() int {
	if len(b.messages) == 0 {
		return 1
	}
	return b.messages[len(b.messages)-1].uid + 1
}

// add appends messages.
func (b *fakeBox) add(texts ...string) {
	for _, text := range texts {
		b.modSeq++
		b.messages = append(b.messages, fakeMessage{b.next(), `\Seen`, text, b.modSeq, aDay})
	}
}

func serve(t *testing.T, boxes ...*fakeBox) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, listener: listener, boxes: boxes, capabilities: "IMAP4rev1 CONDSTORE ESEARCH LITERAL+", timeout: time.Minute}
	s.silent.L = &s.mutex
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				s.talk(conn)
				conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		done.Wait()
	})
	return s
}

// quiet waits until nobody talks with the server; until somebody does, it is the test's alone.
func (s *server) quiet() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for s.talking > 0 {
		s.silent.Wait()
	}
}

var announced = regexp.MustCompile(`\{(\d+)(\+?)\}\r\n$`)

func (s *server) talk(conn net.Conn) {
	r := bufio.NewReader(conn)
	s.mutex.Lock()
	s.talking++
	greeting := fmt.Sprintf("* OK [CAPABILITY %s] ready\r\n", s.capabilities)
	s.mutex.Unlock()
	defer func() {
		s.mutex.Lock()
		s.talking--
		s.silent.Broadcast()
		s.mutex.Unlock()
	}()
	io.WriteString(conn, greeting)
	var selected *fakeBox
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
	literals:
		for m := announced.FindStringSubmatch(line); m != nil; m = announced.FindStringSubmatch(line) {
			size, _ := strconv.Atoi(m[1])
			if m[2] == "" {
				s.mutex.Lock()
				instead := ""
				if s.literal != nil {
					instead = s.literal(size)
				}
				s.mutex.Unlock()
				if instead != "" {
					tag, _, _ := strings.Cut(line, " ")
					io.WriteString(conn, strings.ReplaceAll(instead, "<tag>", tag))
					line = ""
					break literals
				}
				io.WriteString(conn, "+ go on\r\n")
			}
			text := make([]byte, size)
			if _, err := io.ReadFull(r, text); err != nil {
				return
			}
			rest, err := r.ReadString('\n')
			if err != nil {
				return
			}
			line = line[:len(line)-len(m[0])] + strconv.Quote(string(text)) + rest
		}
		if line == "" {
			continue
		}
		tag, command, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		s.mutex.Lock()
		answer := s.answer(command, &selected)
		s.mutex.Unlock()
		text, cut := strings.CutSuffix(answer, "<cut>")
		text, silent := strings.CutSuffix(text, "<silence>")
		if !cut && !silent && !strings.Contains(answer, "\r\n<tag> ") && !strings.HasPrefix(answer, "<tag> ") {
			text += "<tag> OK done\r\n"
		}
		if _, err := io.WriteString(conn, strings.ReplaceAll(text, "<tag>", tag)); err != nil || cut {
			return
		}
	}
}

func (s *server) answer(command string, selected **fakeBox) string {
	s.commands = append(s.commands, command)
	if s.before != nil {
		if answer, instead := s.before(command); instead {
			return answer
		}
	}
	verb, rest, _ := strings.Cut(command, " ")
	switch strings.ToUpper(verb) {
	case "CAPABILITY":
		return "* CAPABILITY " + s.capabilities + "\r\n"
	case "LOGIN", "NOOP":
		return ""
	case "LOGOUT":
		return "* BYE\r\n<tag> OK\r\n<cut>"
	case "LIST":
		return s.listing()
	case "STATUS":
		name, _, _ := strings.Cut(rest, " (")
		b := s.box(name)
		if b == nil {
			return "<tag> NO no such mailbox\r\n"
		}
		if b.noNext {
			return fmt.Sprintf("* STATUS %s (MESSAGES %d UIDVALIDITY %d)\r\n", name, len(b.messages), b.validity)
		}
		return fmt.Sprintf("* STATUS %s (MESSAGES %d UIDNEXT %d UIDVALIDITY %d HIGHESTMODSEQ %d)\r\n", name, len(b.messages), b.next(), b.validity, b.modSeq)
	case "EXAMINE":
		name, _, _ := strings.Cut(rest, " (")
		b := s.box(name)
		if b == nil {
			return "<tag> NO no such mailbox\r\n"
		}
		*selected = b
		answer := fmt.Sprintf("* %d EXISTS\r\n* OK [UIDVALIDITY %d] \r\n", len(b.messages), b.validity)
		if !b.noNext {
			answer += fmt.Sprintf("* OK [UIDNEXT %d] \r\n* OK [HIGHESTMODSEQ %d] \r\n", b.next(), b.modSeq)
		}
		return answer
	case "CREATE":
		if s.box(rest) != nil {
			return "<tag> NO [ALREADYEXISTS] there is one\r\n"
		}
		name, err := strconv.Unquote(rest)
		if err != nil {
			name = rest
		}
		s.boxes = append(s.boxes, &fakeBox{name: name, validity: 1})
		return ""
	case "APPEND":
		return s.append(rest)
	case "UID":
		return s.uid(rest, *selected)
	}
	return "<tag> BAD what is that?\r\n"
}

var appendArguments = regexp.MustCompile(`^(\S+|"[^"]*") (?:\(([^)]*)\) )?"([^"]*)" ("(?:\\.|[^"\\])*")$`)

// append takes a message, as keepers of mail with no keywords do if there is a $ in the flags.
func (s *server) append(arguments string) string {
	m := appendArguments.FindStringSubmatch(arguments)
	if m == nil {
		return "<tag> BAD what is appended?\r\n"
	}
	box := s.box(m[1])
	text, err := strconv.Unquote(m[4])
	switch {
	case box == nil || err != nil:
		return "<tag> NO [TRYCREATE] there is none\r\n"
	case strings.Contains(m[2], "$"):
		return "<tag> NO no keywords here\r\n"
	}
	box.add(text)
	last := &box.messages[len(box.messages)-1]
	last.flags, last.date = m[2], m[3]
	return ""
}

func (s *server) listing() string {
	if s.list != nil {
		return strings.Join(s.list, "")
	}
	var b strings.Builder
	for _, box := range s.boxes {
		fmt.Fprintf(&b, "* LIST () \"/\" %q\r\n", box.name)
	}
	return b.String()
}

func (s *server) box(name string) *fakeBox {
	if unquoted, err := strconv.Unquote(name); err == nil {
		name = unquoted
	}
	for _, b := range s.boxes {
		if b.name == name {
			return b
		}
	}
	return nil
}

func (s *server) uid(command string, box *fakeBox) string {
	verb, rest, _ := strings.Cut(command, " ")
	if verb == "SEARCH" {
		uids := []string{}
		for _, m := range box.messages {
			uids = append(uids, strconv.Itoa(m.uid))
		}
		switch {
		case !strings.Contains(s.capabilities, "ESEARCH"):
			return "* SEARCH " + strings.Join(uids, " ") + "\r\n"
		case len(uids) == 0:
			return "* ESEARCH (TAG \"<tag>\") UID\r\n"
		}
		return "* ESEARCH (TAG \"<tag>\") UID ALL " + strings.Join(uids, ",") + "\r\n"
	}
	set, items, _ := strings.Cut(rest, " ")
	since := 0
	if m := regexp.MustCompile(`CHANGEDSINCE (\d+)`).FindStringSubmatch(items); m != nil {
		since, _ = strconv.Atoi(m[1])
	}
	wanted := inSet(set)
	var b strings.Builder
	for i, m := range box.messages {
		if !wanted(m.uid) || m.modSeq <= since {
			continue
		}
		size := len(m.text)
		if s.size != nil {
			size = s.size(m.uid, m.text)
		}
		fmt.Fprintf(&b, "* %d FETCH (UID %d FLAGS (%s) INTERNALDATE %q RFC822.SIZE %d", i+1, m.uid, m.flags, m.date, size)
		switch {
		case strings.Contains(items, "HEADER.FIELDS"):
			head, _, _ := strings.Cut(m.text, "\r\n\r\n")
			if s.head != nil {
				head = s.head(m.text)
			}
			fmt.Fprintf(&b, " BODY[HEADER.FIELDS (\"Message-ID\")] {%d}\r\n%s\r\n\r\n", len(head)+4, head)
		case strings.Contains(items, "BODY.PEEK[]"):
			s.fetched++
			body := fmt.Sprintf("{%d}\r\n%s", len(m.text), m.text)
			if s.body != nil {
				body = s.body(m.uid, m.text)
			}
			b.WriteString(" BODY[] " + body)
			if strings.HasSuffix(body, "<cut>") {
				return b.String()
			}
		}
		b.WriteString(")\r\n")
	}
	return b.String()
}

// inSet returns a function that reports whether a UID is in a set.
func inSet(set string) func(uid int) bool {
	var ranges [][2]int
	for part := range strings.SplitSeq(set, ",") {
		from, to, isRange := strings.Cut(part, ":")
		first, _ := strconv.Atoi(from)
		last := first
		if isRange {
			last, _ = strconv.Atoi(to)
			if to == "*" {
				last = 1 << 32
			}
		}
		ranges = append(ranges, [2]int{first, last})
	}
	return func(uid int) bool {
		return slices.ContainsFunc(ranges, func(r [2]int) bool { return r[0] <= uid && uid <= r[1] })
	}
}

// options are those of a run from this server.
func (s *server) options(dir string) Options {
	return Options{
		Dir: dir, Format: "mbox", Connections: 1, Pause: time.Millisecond, Show: func(Event) {},
		Dial: func(ctx context.Context, report func(string)) (*remote.Session, error) {
			return remote.Dial(ctx, remote.Options{Address: s.listener.Addr().String(), Plaintext: true, User: "u", Password: "p", Report: report, Timeout: s.timeout})
		},
	}
}

// outcome is a run with its problems.
type outcome struct {
	Result
	problems []string
	err      error
}

func (s *server) run(o Options) outcome {
	s.t.Helper()
	s.quiet()
	defer s.quiet()
	var out outcome
	o.Show = func(e Event) {
		if e.Kind == Problem {
			out.problems = append(out.problems, e.Mailbox+": "+e.Text)
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	out.Result, out.err = Run(ctx, o)
	return out
}

// good fails the test if a run had problems, or brought another number of messages.
func (o outcome) good(t *testing.T, fresh int) {
	t.Helper()
	if o.err != nil || len(o.problems) > 0 || o.New != fresh {
		t.Errorf("%d messages, want %d; problems %q; %v", o.New, fresh, o.problems, o.err)
	}
}

// bad fails the test if the problems are not these, each a part of one.
func (o outcome) bad(t *testing.T, fresh int, problems ...string) {
	t.Helper()
	if o.err != nil || o.New != fresh || len(o.problems) != len(problems) {
		t.Errorf("%d messages, want %d; problems %q, want %q; %v", o.New, fresh, o.problems, problems, o.err)
		return
	}
	for _, want := range problems {
		if !slices.ContainsFunc(o.problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("problems %q, want %q", o.problems, want)
		}
	}
}
