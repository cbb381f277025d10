package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/time/rate"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/remote"
	"mailstead.dev/cmd/imap-backup/state"
)

func text(n int) string {
	return fmt.Sprintf("Message-ID: <%d@x>\r\nSubject: number %d\r\n\r\nFrom here\r\n", n, n)
}

func inbox(n int) *fakeBox {
	box := &fakeBox{name: "INBOX", validity: 7}
	for i := range n {
		box.add(text(i + 1))
	}
	return box
}

// texts returns what is in a copy by UID, read back through the plain files.
func texts(t *testing.T, dir, mailbox string) map[imap.UID]string {
	t.Helper()
	a, err := archive.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	box, err := a.LoadMailbox(mailbox, '/')
	if err != nil || box == nil {
		t.Fatalf("%s: %v, %v", mailbox, box, err)
	}
	defer box.Close()
	found := map[imap.UID]string{}
	err = box.Records(func(rec *state.Record) error {
		var b strings.Builder
		if rec.Live() {
			if err := box.CopyTo(&b, rec); err != nil {
				return err
			}
			found[rec.UID] = b.String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantTexts(t *testing.T, dir string, box *fakeBox) {
	t.Helper()
	got := texts(t, dir, box.name)
	for _, m := range box.messages {
		if got[imap.UID(m.uid)] != m.text {
			t.Errorf("UID %d: %.60q, want %.60q", m.uid, got[imap.UID(m.uid)], m.text)
		}
	}
	if len(got) != len(box.messages) {
		t.Errorf("%d messages, want %d", len(got), len(box.messages))
	}
}

// Each kind of server, down to one that knows nothing but RFC 3501 and of that not all.
func TestIncremental(t *testing.T) {
	for name, capabilities := range map[string]string{
		"condstore": "IMAP4rev1 CONDSTORE ESEARCH LITERAL+", "esearch": "IMAP4rev1 ESEARCH", "plain": "IMAP4rev1", "old": "IMAP4rev1",
	} {
		t.Run(name, func(t *testing.T) {
			box := inbox(10)
			box.noNext = name == "old"
			s := serve(t, box, &fakeBox{name: "Empty", validity: 1})
			s.capabilities = capabilities
			o := s.options(t.TempDir())
			s.run(o).good(t, 10)
			wantTexts(t, o.Dir, box)
			s.run(o).good(t, 0)

			box.messages = slices.Delete(box.messages, 2, 4)
			box.modSeq++
			box.messages[0].flags, box.messages[0].modSeq = `\Flagged $kw`, box.modSeq
			box.add(text(11))
			s.fetched = 0
			out := s.run(o)
			out.good(t, 1)
			if s.fetched != 1 || out.Removed != 2 || out.Reflagged != 1 || out.Kept != 2 {
				t.Errorf("%d fetched, %+v", s.fetched, out.Result)
			}
			wantTexts(t, o.Dir, box)
			o.Drop = true
			if out := s.run(o); out.Kept != 0 {
				t.Errorf("%+v", out.Result)
			}
			wantTexts(t, o.Dir, box)
			for _, command := range s.commands {
				if verb := strings.Join(strings.Fields(command)[:min(2, len(strings.Fields(command)))], " "); strings.Contains(verb, "SELECT") || strings.Contains(verb, "STORE") ||
					strings.Contains(command, "BODY[") {
					t.Errorf("%q is not reading only", command)
				}
			}
		})
	}
}

// With CONDSTORE a mailbox in which nothing changed is not even opened.
func TestUnchangedIsNotOpened(t *testing.T) {
	s := serve(t, inbox(3))
	o := s.options(t.TempDir())
	s.run(o).good(t, 3)
	s.commands = nil
	s.run(o).good(t, 0)
	if slices.ContainsFunc(s.commands, func(c string) bool { return strings.HasPrefix(c, "EXAMINE") }) {
		t.Errorf("%q", s.commands)
	}
}

// Under another UIDVALIDITY nothing is fetched or kept twice: not what its Message-ID tells, nor, once it has
// come, what its sum tells.
func TestUIDValidity(t *testing.T) {
	box := inbox(5)
	box.add("no Message-ID\r\n\r\n")
	s := serve(t, box)
	o := s.options(t.TempDir())
	s.run(o).good(t, 6)
	box.validity, s.fetched = 8, 0
	for i := range box.messages {
		box.messages[i].uid += 100
	}
	box.messages = box.messages[1:]
	out := s.run(o)
	if s.fetched != 1 || out.Again != 5 || out.Kept != 1 || len(out.problems) > 0 {
		t.Errorf("%d fetched, %+v, %q", s.fetched, out.Result, out.problems)
	}
	wantTexts(t, o.Dir, box)
	info, err := os.Stat(filepath.Join(o.Dir, "INBOX.mbox"))
	if err != nil {
		t.Fatal(err)
	}
	s.run(o).good(t, 0)
	if after, err := os.Stat(filepath.Join(o.Dir, "INBOX.mbox")); err != nil || after.Size() != info.Size() {
		t.Errorf("the file grew: %v", err)
	}
}

// What a filter hides, or what is not sent, under another UIDVALIDITY may be what is here: it does not go. What the server
// has no more does.
func TestDropBehindFilter(t *testing.T) {
	box := inbox(4)
	box.add("no Message-ID\r\n\r\n", "nor here, and longer\r\n\r\n")
	s := serve(t, box)
	o := s.options(t.TempDir())
	s.run(o).good(t, 6)
	box.validity = 8
	for i := range box.messages {
		box.messages[i].uid += 100
	}
	box.messages = slices.Delete(box.messages, 3, 5) // the fourth, and the one without a Message-ID
	s.before = func(command string) (string, bool) {
		return "* ESEARCH (TAG \"<tag>\") UID ALL 101\r\n", strings.Contains(command, "SINCE")
	}
	at := o
	at.Drop, at.Filter = true, remote.Filter{Since: time.Unix(0, 0)}
	for range 2 {
		if out := s.run(at); out.err != nil || len(out.problems) > 0 || out.Messages != 1 || out.Kept != 3 {
			t.Errorf("%+v", out)
		}
	}
	s.fetched = 0
	if out := s.run(o); out.err != nil || s.fetched != 1 || out.Again != 3 || out.Kept != 0 {
		t.Errorf("%d fetched, %+v", s.fetched, out)
	}
	wantTexts(t, o.Dir, box)
}

// A server whose SEARCH does not find what is there does not make us drop it.
func TestSearchThatFindsNothing(t *testing.T) {
	box := inbox(4)
	s := serve(t, box)
	o := s.options(t.TempDir())
	o.Drop = true
	s.run(o).good(t, 4)
	box.messages = box.messages[1:]
	box.modSeq++
	s.before = func(command string) (string, bool) {
		return "* ESEARCH (TAG \"<tag>\") UID\r\n", strings.HasPrefix(command, "UID SEARCH")
	}
	out := s.run(o)
	if out.bad(t, 0, "SEARCH does not find 3 messages that are there"); out.Removed != 1 {
		t.Errorf("%+v", out)
	}
	wantTexts(t, o.Dir, box)
}

// A server that was restored from an older copy has a lower HIGHESTMODSEQ, and changes that it counts below ours.
func TestModSeqGoesBack(t *testing.T) {
	box := inbox(3)
	box.modSeq = 100
	s := serve(t, box)
	o := s.options(t.TempDir())
	s.run(o).good(t, 3)
	box.messages[1].flags, box.messages[1].modSeq, box.modSeq = `\Flagged`, 50, 50
	if out := s.run(o); out.Reflagged != 1 {
		t.Errorf("%+v", out)
	}
}

// More flags, and more mailboxes, than anybody has.
func TestTooMuch(t *testing.T) {
	box := inbox(2)
	var flags []string
	for i := range 1000 {
		flags = append(flags, fmt.Sprintf("keyword%d", i))
	}
	box.messages[0].flags = strings.Join(flags, " ")
	s := serve(t, box)
	o := s.options(t.TempDir())
	if out := s.run(o); out.New != 2 || len(out.problems) == 0 || !strings.Contains(out.problems[0], "a message has more than 4096 octets of flags") {
		t.Errorf("%+v", out)
	}
	s.run(o).good(t, 0)
	wantTexts(t, o.Dir, box)

	for range 115_000 {
		s.list = append(s.list, "* LIST () \"/\" x\r\n")
	}
	var bad *remote.BadResponseError
	if out := s.run(o); !errors.As(out.err, &bad) {
		t.Errorf("%+v", out)
	}
}

// The same where all that is here was gone before: the header of the state file grows.
func TestUIDValidityOfWhatIsGone(t *testing.T) {
	box := &fakeBox{name: "INBOX", validity: 7}
	box.add("no Message-ID\r\n\r\n", "nor here\r\n\r\n")
	s := serve(t, box)
	o := s.options(t.TempDir())
	s.run(o).good(t, 2)
	messages := box.messages
	box.messages, box.modSeq = nil, 5
	s.run(o).good(t, 0)
	box.messages, box.validity, box.modSeq = messages, 1234567890, 9
	if out := s.run(o); out.Again != 2 || out.Kept != 0 || len(out.problems) > 0 {
		t.Errorf("%+v", out)
	}
	wantTexts(t, o.Dir, box)
}

// A message that was moved away and back is not fetched again.
func TestMovedBack(t *testing.T) {
	box := inbox(3)
	s := serve(t, box)
	o := s.options(t.TempDir())
	s.run(o).good(t, 3)
	moved := box.messages[0]
	box.messages = box.messages[1:]
	box.modSeq++
	s.run(o).good(t, 0)
	box.add(moved.text)
	s.fetched = 0
	if out := s.run(o); s.fetched != 0 || out.Again != 1 || out.Kept != 0 {
		t.Errorf("%d fetched, %+v", s.fetched, out.Result)
	}
	wantTexts(t, o.Dir, box)
}

// More messages than one command asks for, and than sizes are asked for at once; with holes in the UIDs.
func TestManyMessages(t *testing.T) {
	box := &fakeBox{name: "INBOX", validity: 1}
	for i := range 2*batchMessages + planned {
		box.add(text(i))
		last := &box.messages[len(box.messages)-1]
		last.uid += i / 5 % 2 // now and then one is left out
	}
	s := serve(t, box)
	o := s.options(t.TempDir())
	s.run(o).good(t, len(box.messages))
	wantTexts(t, o.Dir, box)
	s.run(o).good(t, 0)
}

func TestSizesThatLie(t *testing.T) {
	box := inbox(5)
	s := serve(t, box)
	s.size = func(uid int, text string) int {
		if uid == 3 {
			return len(text) + 1000
		}
		return len(text)
	}
	o := s.options(t.TempDir())
	s.run(o).bad(t, 5, "1 messages have another size than the server said (UID 3")
	wantTexts(t, o.Dir, box)
}

func TestConnectionThatDrops(t *testing.T) {
	box := inbox(20)
	s := serve(t, box)
	drops := 0
	s.body = func(uid int, text string) string {
		if uid%5 == 0 && drops < uid/5 {
			drops++
			return fmt.Sprintf("{%d}\r\n%s<cut>", len(text), text[:uid])
		}
		return fmt.Sprintf("{%d}\r\n%s", len(text), text)
	}
	o := s.options(t.TempDir())
	s.run(o).good(t, 20)
	if drops != 4 {
		t.Errorf("%d drops", drops)
	}
	wantTexts(t, o.Dir, box)
}

// A message at which the connection always ends is left out, and the others come.
func TestMessageThatCannotBeHad(t *testing.T) {
	box := inbox(5)
	s := serve(t, box)
	s.body = func(uid int, text string) string {
		if uid == 3 {
			return fmt.Sprintf("{%d}\r\n%s<cut>", len(text), text[:10])
		}
		return fmt.Sprintf("{%d}\r\n%s", len(text), text)
	}
	o := s.options(t.TempDir())
	s.run(o).bad(t, 4, "message UID 3: the connection ended here 3 times; left out")
	s.body = nil
	s.run(o).good(t, 1)
	wantTexts(t, o.Dir, box)
}

// A line that breaks now here and now there in a message is tried on.
func TestBadLine(t *testing.T) {
	box := inbox(3)
	s := serve(t, box)
	cuts := 0
	s.body = func(uid int, text string) string {
		if uid == 2 && cuts < 8 {
			cuts++
			return fmt.Sprintf("{%d}\r\n%s<cut>", len(text), text[:cuts])
		}
		return fmt.Sprintf("{%d}\r\n%s", len(text), text)
	}
	o := s.options(t.TempDir())
	s.run(o).good(t, 3)
	wantTexts(t, o.Dir, box)
}

// A server that is there no more ends the run, and does not cost all mailboxes their tries.
func TestServerThatGoesAway(t *testing.T) {
	s := serve(t, inbox(1), &fakeBox{name: "Other", validity: 1}, &fakeBox{name: "Third", validity: 1})
	s.before = func(command string) (string, bool) {
		if strings.HasPrefix(command, "EXAMINE") {
			s.listener.Close()
			return "<cut>", true
		}
		return "", false
	}
	if out := s.run(s.options(t.TempDir())); out.err == nil || len(out.problems) > 0 || !strings.Contains(out.err.Error(), "refused") {
		t.Errorf("%+v", out)
	}
}

// 4 GB are announced; nothing of them is read.
func TestHugeLiteral(t *testing.T) {
	box := inbox(3)
	s := serve(t, box)
	s.body = func(uid int, text string) string {
		if uid == 2 {
			return "{4294967296}\r\n" + text
		}
		return fmt.Sprintf("{%d}\r\n%s", len(text), text)
	}
	o := s.options(t.TempDir())
	o.MaxMessage = 1 << 20
	s.run(o).bad(t, 2, "message UID 2: the server sends 4294967296 octets, and 1048576 is the limit")
}

// Without a limit the server sends less than 4 GB, and falls silent: the message is given up.
func TestHugeLiteralWithoutLimit(t *testing.T) {
	box := inbox(2)
	s := serve(t, box)
	s.body = func(uid int, text string) string {
		if uid == 1 {
			return "{4294967296}\r\n" + text + "<cut>"
		}
		return fmt.Sprintf("{%d}\r\n%s", len(text), text)
	}
	s.run(s.options(t.TempDir())).bad(t, 1, "message UID 1: the connection ended here 3 times")
}

func TestHugeLiteralElsewhere(t *testing.T) {
	s := serve(t, inbox(1), &fakeBox{name: "Other", validity: 1})
	s.before = func(command string) (string, bool) {
		return "* 1 FETCH (ENVELOPE ({4294967296}\r\n", strings.HasPrefix(command, "EXAMINE") && strings.Contains(command, "Other")
	}
	s.run(s.options(t.TempDir())).bad(t, 1, "a literal of 4294967296 octets where no message is")
}

func TestSilence(t *testing.T) {
	s := serve(t, inbox(1))
	s.timeout = time.Second
	silent := true
	s.before = func(command string) (string, bool) {
		if strings.HasPrefix(command, "UID SEARCH") && silent {
			silent = false
			return "* OK I am thinking\r\n<silence>", true
		}
		return "", false
	}
	s.run(s.options(t.TempDir())).good(t, 1)
}

// UIDVALIDITY changes while messages are fetched.
func TestUIDValidityInTheMiddle(t *testing.T) {
	box := inbox(4)
	s := serve(t, box)
	changed := false
	s.before = func(command string) (string, bool) {
		if strings.Contains(command, "BODY.PEEK[]") && !changed {
			changed = true
			box.validity = 9
			return "* OK [UIDVALIDITY 9] it is another\r\n", true
		}
		return "", false
	}
	o := s.options(t.TempDir())
	s.run(o).bad(t, 4, "UIDVALIDITY changed from 7 to 9 in the middle; begun again")
	wantTexts(t, o.Dir, box)
}

func TestExpungeInTheMiddle(t *testing.T) {
	box := inbox(6)
	s := serve(t, box)
	s.before = func(command string) (string, bool) {
		if !strings.Contains(command, "BODY.PEEK[]") || len(box.messages) < 6 {
			return "", false
		}
		box.messages = slices.Delete(box.messages, 1, 3)
		var selected = box
		return "* 2 EXPUNGE\r\n* 2 EXPUNGE\r\n* 4 EXISTS\r\n" + s.answer(command, &selected), true
	}
	o := s.options(t.TempDir())
	s.run(o).good(t, 4)
	wantTexts(t, o.Dir, box)
}

// Names of all kinds: a clear line for those that cannot be, a safe file for the others, and nothing outside the directory.
func TestNames(t *testing.T) {
	deep := strings.Repeat("level/", 4000) + "deep"
	names := []string{"../../escape", "/etc/passwd", "..", ".", "a/../b", "-rf", "CON", "INBOX.mbox", "x\\y", deep, "&AOQ-"}
	s := serve(t)
	for _, name := range names {
		box := &fakeBox{name: name, validity: 1}
		box.add(text(1))
		s.boxes = append(s.boxes, box)
	}
	for _, box := range s.boxes {
		s.list = append(s.list, fmt.Sprintf("* LIST () \"/\" %s\r\n", quote(box.name)))
	}
	s.list = append(s.list,
		"* LIST () \"/\" \"bad &AOQ utf7\"\r\n", "* LIST () \"/\" {3}\r\na\x00b\r\n", "* LIST () \"/\" {6}\r\na\r\nb\r\n\r\n", "* LIST () \"/\" \"\xff\xfe\"\r\n",
		"* LIST nonsense\r\n", "* WHAT is this {3}\r\nabc\r\n", "* 12 WHAT\r\n")
	o := s.options(filepath.Join(t.TempDir(), "copies"))
	s.run(o).bad(t, len(names), `"bad &AOQ utf7": the name is not modified UTF-7`, `"a\x00b": no IMAP command can name it`, `"a\r\nb\r\n": no IMAP command`,
		`"\xff\xfe": the name is not`, "a LIST response that cannot be read was left out")
	outside := 0
	err := filepath.WalkDir(filepath.Dir(o.Dir), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Dir(path) != o.Dir {
			outside++
		}
		return err
	})
	if err != nil || outside > 0 {
		t.Errorf("%d files outside of the directory; %v", outside, err)
	}
	for _, box := range s.boxes[:len(s.boxes)-1] {
		wantTexts(t, o.Dir, box)
	}
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func TestForeignFile(t *testing.T) {
	s := serve(t, inbox(2), &fakeBox{name: "Other", validity: 1, messages: inbox(1).messages})
	o := s.options(t.TempDir())
	path := filepath.Join(o.Dir, "INBOX.mbox")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(o).bad(t, 1, "INBOX.mbox: there is no state file beside it, so it is not ours; left alone")
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestLoginRefused(t *testing.T) {
	s := serve(t, inbox(1))
	s.before = func(command string) (string, bool) {
		return "<tag> NO wrong password\r\n", strings.HasPrefix(command, "LOGIN")
	}
	var login *remote.LoginError
	if out := s.run(s.options(t.TempDir())); !errors.As(out.err, &login) {
		t.Errorf("%v", out.err)
	}
}

// A server that takes one connection and no more is served by that one.
func TestNoFurtherConnection(t *testing.T) {
	s := serve(t)
	for i := range 6 {
		box := &fakeBox{name: fmt.Sprint("Box", i), validity: 1}
		box.add(text(1), text(2))
		s.boxes = append(s.boxes, box)
	}
	logins := 0
	s.before = func(command string) (string, bool) {
		if !strings.HasPrefix(command, "LOGIN") {
			return "", false
		}
		logins++
		return "<tag> NO [LIMIT] too many connections\r\n", logins > 1
	}
	o := s.options(t.TempDir())
	o.Connections = 4
	s.run(o).good(t, 12)
	for _, box := range s.boxes {
		wantTexts(t, o.Dir, box)
	}
}

func TestInterrupt(t *testing.T) {
	s := serve(t, inbox(50))
	o := s.options(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	o.Show = func(e Event) {
		if e.Kind == Moved {
			cancel()
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if out := s.run(o); out.err != nil || out.Messages != 50 {
		t.Errorf("%+v", out)
	}
	wantTexts(t, o.Dir, s.boxes[0])
}

func TestBandwidth(t *testing.T) {
	box := &fakeBox{name: "INBOX", validity: 1}
	box.add(strings.Repeat("0123456789abcdef", 4096))
	s := serve(t, box)
	o := s.options(t.TempDir())
	o.Dial = func(ctx context.Context, report func(string)) (*remote.Session, error) {
		return remote.Dial(ctx, remote.Options{Address: s.listener.Addr().String(), Plaintext: true, User: "u", Password: "p", Report: report,
			Limiter: rate.NewLimiter(128<<10, 16<<10)})
	}
	started := time.Now()
	s.run(o).good(t, 1)
	if spent := time.Since(started); spent < 300*time.Millisecond {
		t.Errorf("64 KiB at 128 KiB in a second took %v", spent)
	}
}

// damage changes an octet of a file.
func damage(path string, at int64) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte{0}, at)
	return errors.Join(err, file.Close())
}

func TestFilters(t *testing.T) {
	s := serve(t, inbox(1), &fakeBox{name: "Junk", validity: 1}, &fakeBox{name: "Lists/go", validity: 1}, &fakeBox{name: "Lists/c", validity: 1})
	for _, c := range []struct {
		sel  Select
		want string
	}{
		{Select{}, "INBOX Junk Lists.c Lists.go"},
		{Select{Include: []string{"Lists*"}}, "Lists.c Lists.go"},
		{Select{Exclude: []string{"J*", "*/c"}}, "INBOX Lists.go"},
		{Select{Include: []string{Literally("Lists*"), Literally("Lists/go")}}, "Lists.go"},
		{Select{Include: []string{"*"}, Exclude: []string{"*[ko]*"}}, "INBOX Lists.c"},
	} {
		o := s.options(t.TempDir())
		o.Select = c.sel
		if out := s.run(o); out.err != nil {
			t.Error(out.err)
		}
		a, err := archive.Read(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		names, _, err := a.Names()
		if got := strings.Join(names, " "); err != nil || got != c.want {
			t.Errorf("%+v: %q, want %q; %v", c.sel, got, c.want, err)
		}
		a.Close()
	}
}

func FuzzMinus(f *testing.F) {
	f.Add([]byte{1, 2, 9}, []byte{2, 3})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		set := func(bytes []byte) (s imap.UIDSet) {
			for _, n := range bytes {
				s.AddNum(imap.UID(n) + 1)
			}
			return s
		}
		x, y := set(a), set(b)
		got := minus(x, y)
		for uid := imap.UID(1); uid <= 257; uid++ {
			if want := x.Contains(uid) && !y.Contains(uid); got.Contains(uid) != want {
				t.Fatalf("%v minus %v is %v: %d", x, y, got, uid)
			}
		}
		if n := len(slices.Collect(uids(got))); n != count(got) {
			t.Fatalf("%v: %d and %d", got, n, count(got))
		}
		parts := 0
		for _, part := range chunk(got, 3) {
			parts += count(part)
			if count(part) > 3 {
				t.Fatalf("chunk %v", part)
			}
		}
		if parts != count(got) {
			t.Fatalf("chunks of %v have %d", got, parts)
		}
	})
}
