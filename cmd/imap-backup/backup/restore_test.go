package backup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// restore puts a directory onto a server.
func (s *server) restore(o Options, r Restore) outcome {
	s.t.Helper()
	s.quiet()
	defer s.quiet()
	var out outcome
	o.Show = func(e Event) {
		if e.Kind == Problem {
			out.problems = append(out.problems, e.Mailbox+": "+e.Text)
		}
	}
	out.Result, out.err = RunRestore(s.t.Context(), o, r)
	return out
}

// held is what a server has, for comparing.
func held(s *server) []string {
	var all []string
	for _, box := range s.boxes {
		for _, m := range box.messages {
			all = append(all, fmt.Sprint(box.name, m.flags, m.date, m.text))
		}
	}
	slices.Sort(all)
	return all
}

func TestRestore(t *testing.T) {
	box := inbox(5)
	box.messages[1].flags, box.messages[2].date = `\Answered \Flagged kw`, "31-Dec-1999 23:59:59 -0500"
	box.add("no Message-ID\r\n\r\n", "twice\r\n\r\n", "twice\r\n\r\n", box.messages[0].text)
	deep := &fakeBox{name: "Archive/2026", validity: 3}
	deep.add(text(1), text(2))
	from, to := serve(t, box, deep), serve(t)
	o := from.options(t.TempDir())
	from.run(o).good(t, 11)
	at := to.options(o.Dir)
	out := to.restore(at, Restore{})
	out.good(t, 11)
	if got, want := held(to), held(from); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	again := to.restore(at, Restore{})
	if again.good(t, 0); again.Again != 11 || !slices.Equal(held(to), held(from)) {
		t.Errorf("%+v", again.Result)
	}
	// What is missing there, and that alone, is put there again.
	there := to.box("INBOX")
	there.messages = slices.Delete(there.messages, 1, 3)
	to.restore(at, Restore{}).good(t, 2)
	if !slices.Equal(held(to), held(from)) {
		t.Errorf("%q", held(to))
	}
	to.restore(at, Restore{Prefix: "Old"}).good(t, 11)
	if to.box("Old/INBOX") == nil || to.box("Old/Archive/2026") == nil {
		t.Errorf("%q", held(to))
	}
}

// A message that the server refuses is a line in the report; keywords that it refuses cost no message.
func TestRestoreRefused(t *testing.T) {
	box := inbox(3)
	box.messages[0].flags = `$Forwarded \Seen`
	from, to := serve(t, box), serve(t)
	o := from.options(t.TempDir())
	from.run(o).good(t, 3)
	to.before = func(command string) (string, bool) {
		return "<tag> NO it is a bad one\r\n", strings.HasPrefix(command, "APPEND") && strings.Contains(command, "<2@x>")
	}
	to.restore(to.options(o.Dir), Restore{}).bad(t, 2, "message UID 1: the server takes it without its keywords only", "message UID 2: the server refuses it: it is a bad one")
}

// A server that refuses a message before it has come ends the connection, as go-imap's client sees it. The others come.
func TestRestoreRefusedAtOnce(t *testing.T) {
	box := inbox(20)
	for i := 2; i < 10; i++ {
		box.messages[i].text += strings.Repeat("much too long\r\n", 400)
	}
	box.messages[3].flags = `kw \Seen`
	from, to := serve(t, box), serve(t)
	to.capabilities = "IMAP4rev1"
	to.literal = func(size int) string {
		if size > 4096 {
			return "<tag> NO [TOOBIG] too large\r\n"
		}
		return ""
	}
	o := from.options(t.TempDir())
	from.run(o).good(t, 20)
	out := to.restore(to.options(o.Dir), Restore{})
	if out.err != nil || out.New != 12 || out.Again != 0 || len(out.problems) != 8 || !strings.Contains(out.problems[1], "message UID 4: the server refuses it: too large") {
		t.Errorf("%+v", out)
	}
}

// What is damaged here is not put there, and does not keep the others from it.
func TestRestoreDamaged(t *testing.T) {
	from, to := serve(t, inbox(5)), serve(t)
	o := from.options(t.TempDir())
	from.run(o).good(t, 5)
	path := filepath.Join(o.Dir, "INBOX.mbox")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"number 2", "crlf\nMessage-ID: <4"} {
		if err := damage(path, int64(bytes.Index(text, []byte(at)))); err != nil {
			t.Fatal(err)
		}
	}
	to.restore(to.options(o.Dir), Restore{}).bad(t, 3, "message UID 2: not put there", "message UID 4: not put there")
}

// Some servers end all lines with CR LF, or find another Message-ID than we do. What was put there is known again all the same.
func TestRestoreLineEnds(t *testing.T) {
	box := &fakeBox{name: "INBOX", validity: 1}
	box.add("Message-ID: <1@x>\n\nbare\n", "no Message-ID\n\nbare\r\n")
	from, to := serve(t, box), serve(t)
	o := from.options(t.TempDir())
	from.run(o).good(t, 2)
	to.restore(to.options(o.Dir), Restore{}).good(t, 2)
	for i, m := range to.boxes[0].messages {
		to.boxes[0].messages[i].text = strings.ReplaceAll(strings.ReplaceAll(m.text, "\r\n", "\n"), "\n", "\r\n")
	}
	to.head = func(string) string { return "Message-ID: <of another line@x>" }
	to.restore(to.options(o.Dir), Restore{}).good(t, 0)
}

// A server that keeps no dates: what was put there is known again by its Message-ID and its sum.
func TestRestoreDates(t *testing.T) {
	from, to := serve(t, inbox(3)), serve(t)
	from.boxes[0].add(text(1))
	o := from.options(t.TempDir())
	from.run(o).good(t, 4)
	to.restore(to.options(o.Dir), Restore{}).good(t, 4)
	for i := range to.boxes[0].messages {
		to.boxes[0].messages[i].date = "26-Nov-2026 11:22:33 +0000"
	}
	if again := to.restore(to.options(o.Dir), Restore{}); again.Again != 4 {
		t.Errorf("%+v", again)
	}
}

// The line drops after a message was taken and before the server says so: it is not put there twice.
func TestRestoreLost(t *testing.T) {
	from, to := serve(t, inbox(5)), serve(t)
	o := from.options(t.TempDir())
	from.run(o).good(t, 5)
	drops := 0
	to.before = func(command string) (string, bool) {
		if !strings.HasPrefix(command, "APPEND") || drops == 2 {
			return "", false
		}
		drops++
		return to.append(strings.TrimPrefix(command, "APPEND ")) + "<cut>", true
	}
	if out := to.restore(to.options(o.Dir), Restore{}); out.err != nil || len(out.problems) > 0 {
		t.Errorf("%+v", out)
	}
	if !slices.Equal(held(to), held(from)) {
		t.Errorf("%q, want %q", held(to), held(from))
	}
}

func TestVerify(t *testing.T) {
	box := inbox(4)
	s := serve(t, box)
	o := s.options(t.TempDir())
	s.run(o).good(t, 4)
	verify := func(server, fetch bool) []string {
		t.Helper()
		s.quiet()
		defer s.quiet()
		at := s.options(o.Dir)
		if !server {
			at.Dial = nil
		}
		var problems []string
		at.Show = func(e Event) {
			if e.Kind == Problem {
				problems = append(problems, e.Text)
			}
		}
		if _, err := Verify(t.Context(), at, fetch); err != nil {
			t.Fatal(err)
		}
		return problems
	}
	if problems := slices.Concat(verify(false, false), verify(true, false), verify(true, true)); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
	box.messages[0].flags = `\Deleted`
	box.messages[1].text = strings.Replace(box.messages[1].text, "2", "3", 1)
	box.messages[3].text += "more\r\n"
	box.messages = slices.Delete(box.messages, 2, 3)
	box.add(text(9))
	got := strings.Join(verify(true, true), "\n")
	for _, want := range []string{"UID 1: flags are", "UID 2: the server sends another", "UID 4: the server says", "1 messages here are removed", "1 messages on the server are not here"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if err := damage(filepath.Join(o.Dir, "INBOX.mbox"), 120); err != nil {
		t.Fatal(err)
	}
	if problems := verify(false, false); len(problems) != 1 {
		t.Errorf("%q", problems)
	}
}

// What a mailbox is used for the server says alone.
func TestUses(t *testing.T) {
	s := serve(t, inbox(2), &fakeBox{name: "Gone", validity: 1, messages: inbox(3).messages})
	s.list = []string{"* LIST () \"/\" INBOX\r\n", "* LIST (\\Trash) \"/\" Gone\r\n"}
	o := s.options(t.TempDir())
	s.run(o).good(t, 5)
	for _, c := range []struct {
		sel  Select
		want int
	}{{Select{}, 5}, {Select{Uses: []string{"trash"}}, 3}, {Select{NotUses: []string{"Trash"}}, 2}} {
		o.Select = c.sel
		s.quiet()
		if out, err := Verify(t.Context(), o, false); err != nil || out.New != c.want || out.Problems > 0 {
			t.Errorf("%+v: %+v, %v", c.sel, out, err)
		}
		s.quiet()
		rows, _, err := List(t.Context(), o)
		here := 0
		for _, row := range rows {
			here += row.Here
			if row.ToFetch > 0 {
				t.Errorf("%+v", row)
			}
		}
		if err != nil || here != c.want {
			t.Errorf("%+v: %+v, %v", c.sel, rows, err)
		}
	}
}

func TestList(t *testing.T) {
	box := inbox(4)
	s := serve(t, box, &fakeBox{name: "Other", validity: 1, messages: inbox(2).messages})
	o := s.options(t.TempDir())
	o.Select = Select{Exclude: []string{"Other"}}
	s.run(o).good(t, 4)
	box.messages = box.messages[1:]
	box.add(text(5), text(6))
	o.Select = Select{}
	s.quiet()
	rows, _, err := List(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := []Row{
		{Mailbox: "INBOX", File: "INBOX.mbox", Here: 4, Bytes: rows[0].Bytes, OnServer: true, Server: 5, ToFetch: 2, FetchBytes: int64(2 * len(text(5))), ToRemove: 1},
		{Mailbox: "Other", File: "Other.mbox", OnServer: true, Server: 2, ToFetch: 2, FetchBytes: int64(2 * len(text(1)))},
	}
	if !slices.Equal(rows, want) {
		t.Errorf("%+v, want %+v", rows, want)
	}
}
