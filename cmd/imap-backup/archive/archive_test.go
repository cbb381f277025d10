package archive

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/cmd/imap-backup/state"
)

var (
	day   = time.Date(2026, 11, 26, 3, 33, 4, 0, time.FixedZone("", 3600))
	texts = []string{
		"Message-ID: <1@x>\r\n\r\nFrom here\r\n", "A: b\n\nbare\n", "message-id:\r\n <3@x>\r\n\r\nno end", "",
		"Message-ID: <5@x>\r\n\r\n" + strings.Repeat(">From x\r\n", 120_000),
	}
)

func create(t *testing.T, dir string) *Archive {
	t.Helper()
	a, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func open(t *testing.T, a *Archive, format string) *Box {
	t.Helper()
	box, err := a.Open("Some/Box", '/', format)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	return box
}

// fill puts messages in, under the UIDs from first on.
func fill(t *testing.T, a *Archive, box *Box, first imap.UID, texts ...string) {
	t.Helper()
	if err := box.Begin(); err != nil {
		t.Fatal(err)
	}
	spool := a.NewSpool()
	defer spool.Close()
	for i, text := range texts {
		spool.Reset()
		if _, err := spool.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		rec := state.Record{UID: first + imap.UID(i), Date: day, MessageID: spool.MessageID(), Flags: []imap.Flag{`\Seen`}}
		if err := box.Add(&rec, spool); err != nil {
			t.Fatal(err)
		}
	}
	if err := box.Commit(); err != nil {
		t.Fatal(err)
	}
}

func finish(t *testing.T, box *Box, modSeq uint64, drop bool) {
	t.Helper()
	if err := box.Finish(state.Synced{ModSeq: modSeq, UIDNext: 9, Messages: 1}, func(*state.Record) bool { return drop }); err != nil {
		t.Fatal(err)
	}
}

// contents returns what is in a copy: text and flags by UID, with a minus for what is gone.
func contents(t *testing.T, box *Box) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := box.Records(func(rec *state.Record) error {
		var text bytes.Buffer
		if err := box.CopyTo(&text, rec); err != nil {
			return err
		}
		if shown, err := box.FlagsShown(rec); err != nil || !shown && rec.Kind != state.Reflag {
			t.Errorf("UID %d: the plain file does not show %v (%v)", rec.UID, rec.Flags, err)
		}
		key := fmt.Sprint(rec.UID, rec.Flags)
		if !rec.Live() {
			key = "-" + key
		}
		found[key] = text.String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func want(t *testing.T, box *Box, want map[string]string) {
	t.Helper()
	if got := contents(t, box); !maps.Equal(got, want) {
		for key := range got {
			got[key] = fmt.Sprintf("%.20q", got[key])
		}
		t.Errorf("got %v", got)
	}
}

func TestBox(t *testing.T) {
	for _, format := range Formats {
		t.Run(format, func(t *testing.T) {
			a := create(t, t.TempDir())
			box := open(t, a, format)
			fill(t, a, box, 1, texts...)
			finish(t, box, 1, false)
			all := map[string]string{}
			for i, text := range texts {
				all[fmt.Sprintf("%d [\\Seen]", i+1)] = text
			}
			want(t, box, all)

			// New flags for one, and two are removed.
			err := box.Rewrite(func(rec *state.Record) error {
				switch rec.UID {
				case 1:
					rec.Kind, rec.Flags = state.Reflag, []imap.Flag{`\Flagged`}
				case 2, 5:
					rec.Kind = state.Gone
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			finish(t, box, 2, false)
			want(t, box, map[string]string{`1 [\Flagged]`: texts[0], `-2 [\Seen]`: texts[1], `3 [\Seen]`: texts[2], `4 [\Seen]`: texts[3], `-5 [\Seen]`: texts[4]})
			if box.Live != 3 || box.Kept != 2 {
				t.Errorf("%d live, %d kept", box.Live, box.Kept)
			}

			// One of them comes again; the other is dropped.
			var gone state.Record
			if err := box.Records(func(rec *state.Record) error {
				if rec.UID == 2 {
					gone = *rec
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := box.Begin(); err != nil {
				t.Fatal(err)
			}
			gone.UID, gone.Flags = 7, []imap.Flag{`\Answered`}
			box.AddAgain(&gone)
			if err := box.Commit(); err != nil {
				t.Fatal(err)
			}
			finish(t, box, 3, true)
			want(t, box, map[string]string{`1 [\Flagged]`: texts[0], `7 [\Answered]`: texts[1], `3 [\Seen]`: texts[2], `4 [\Seen]`: texts[3]})
			if err := box.Close(); err != nil {
				t.Fatal(err)
			}
			box = open(t, a, format)
			want(t, box, map[string]string{`1 [\Flagged]`: texts[0], `7 [\Answered]`: texts[1], `3 [\Seen]`: texts[2], `4 [\Seen]`: texts[3]})
			if err := box.Check(); err != nil || box.Interrupted() {
				t.Errorf("%v, %v", err, box.Interrupted())
			}
		})
	}
}

// Records that are given the same flags have them in common, and nobody else's.
func TestSharedFlags(t *testing.T) {
	a := create(t, t.TempDir())
	box := open(t, a, "mbox")
	fill(t, a, box, 1, texts...)
	shared := []imap.Flag{`\Flagged`}
	err := box.Rewrite(func(rec *state.Record) error {
		if rec.UID%2 == 1 {
			rec.Kind, rec.Flags = state.Reflag, shared
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	finish(t, box, 1, false)
	want(t, box, map[string]string{`1 [\Flagged]`: texts[0], `2 [\Seen]`: texts[1], `3 [\Flagged]`: texts[2], `4 [\Seen]`: texts[3], `5 [\Flagged]`: texts[4]})
}

// What a run appended and did not name in the state file is cut off, wherever it ended.
func TestInterrupted(t *testing.T) {
	for _, format := range Formats {
		t.Run(format, func(t *testing.T) {
			dir := t.TempDir()
			a := create(t, dir)
			box := open(t, a, format)
			fill(t, a, box, 1, texts[:2]...)
			before := snapshot(t, dir)
			spool := a.NewSpool()
			for range 100 { // never committed
				spool.Write([]byte(texts[2]))
				if err := box.Add(&state.Record{UID: 3, Date: day}, spool); err != nil {
					t.Fatal(err)
				}
			}
			box.plain.sync()
			box.log.Write([]byte("message 3 12")) // and half a line
			if err := box.Close(); err != nil {
				t.Fatal(err)
			}
			box = open(t, a, format)
			if after := snapshot(t, dir); !maps.Equal(before, after) {
				t.Errorf("%v, want %v", after, before)
			}
			fill(t, a, box, 3, texts[2:]...)
			finish(t, box, 1, false)
			want(t, box, map[string]string{`1 [\Seen]`: texts[0], `2 [\Seen]`: texts[1], `3 [\Seen]`: texts[2], `4 [\Seen]`: texts[3], `5 [\Seen]`: texts[4]})
		})
	}
}

// A state file without a plain file says that it was begun, so that the next run makes one also where nothing is to be put in.
func TestInterruptedAtOnce(t *testing.T) {
	dir := t.TempDir()
	a := create(t, dir)
	box := open(t, a, "mbox")
	if err := os.Mkdir(filepath.Join(dir, "Some.Box.mbox"), 0o700); err != nil { // in the way
		t.Fatal(err)
	}
	if err := box.Begin(); err == nil {
		t.Fatal("begun")
	}
	if err := errors.Join(box.Close(), os.Remove(filepath.Join(dir, "Some.Box.mbox"))); err != nil {
		t.Fatal(err)
	}
	if box = open(t, a, "mbox"); !box.Interrupted() {
		t.Error("nothing says that it was begun")
	}
}

// A power cut can leave what was written later and not what was written before.
func TestTornState(t *testing.T) {
	dir := t.TempDir()
	a := create(t, dir)
	box := open(t, a, "mbox")
	fill(t, a, box, 1, texts[:2]...)
	fill(t, a, box, 3, texts[2:4]...)
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "Some.Box.state")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	third := bytes.Index(text, []byte("message 3 "))
	clear(text[third+5 : third+40])
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	box = open(t, a, "mbox")
	want(t, box, map[string]string{`1 [\Seen]`: texts[0], `2 [\Seen]`: texts[1]})
	fill(t, a, box, 3, texts[2:]...)
	finish(t, box, 1, false)
	want(t, box, map[string]string{`1 [\Seen]`: texts[0], `2 [\Seen]`: texts[1], `3 [\Seen]`: texts[2], `4 [\Seen]`: texts[3], `5 [\Seen]`: texts[4]})
}

// unsynced is a plain file that once could not be written to the disk. The system says so once.
type unsynced struct {
	plain
	err error
}

func (u *unsynced) sync() error {
	err := u.err
	u.err = nil
	return err
}

func TestFailedSync(t *testing.T) {
	dir := t.TempDir()
	a := create(t, dir)
	box := open(t, a, "mbox")
	fill(t, a, box, 1, texts[0])
	before := snapshot(t, dir)
	box.plain = &unsynced{box.plain, errors.New("input/output error")}
	spool := a.NewSpool()
	if err := box.Add(&state.Record{UID: 2, Date: day}, spool); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := box.Commit(); err == nil {
			t.Error("what is not on disk is committed")
		}
	}
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	if open(t, a, "mbox"); !maps.Equal(before, snapshot(t, dir)) {
		t.Error("the state file names what is not on disk")
	}
}

// Two mailboxes whose names differ in case alone, on a file system that does not tell them apart.
func TestCase(t *testing.T) {
	a := create(t, t.TempDir())
	a.folds = true
	open(t, a, "mbox")
	open(t, a, "mbox") // another try
	var foreign *ForeignError
	if _, err := a.Open("some/box", '/', "mbox"); !errors.As(err, &foreign) {
		t.Errorf("%v", err)
	}
}

// Where something else stands in a place of the state file, nothing is written there, also if the file is as long as it was.
func TestForeignInTheMiddle(t *testing.T) {
	for _, kind := range []state.Kind{state.Reflag, state.Drop} {
		dir := t.TempDir()
		a := create(t, dir)
		box := open(t, a, "mbox")
		fill(t, a, box, 1, texts[:4]...)
		finish(t, box, 1, false)
		path := filepath.Join(dir, "Some.Box.mbox")
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(bytes.Repeat([]byte("mine "), 30), 60); err != nil { // from the first message into the second
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		err = box.Rewrite(func(rec *state.Record) error {
			if rec.UID == 2 {
				rec.Kind, rec.Flags = kind, []imap.Flag{`\Flagged`}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var foreign *ForeignError
		if err := box.settle(); !errors.As(err, &foreign) {
			t.Errorf("%s: %v", kind, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the file was changed (%v)", kind, err)
		}
	}
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A file that is not ours, or that something changed, is named and left as it is.
func TestForeign(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(dir string) error
	}{
		{"no state file", func(dir string) error { return os.Remove(filepath.Join(dir, "Some.Box.state")) }},
		{"no mbox file", func(dir string) error { return os.Remove(filepath.Join(dir, "Some.Box.mbox")) }},
		{"longer", func(dir string) error { return appendTo(filepath.Join(dir, "Some.Box.mbox"), "From x\n\n") }},
		{"shorter", func(dir string) error { return os.Truncate(filepath.Join(dir, "Some.Box.mbox"), 100) }},
		{"same length", func(dir string) error {
			path := filepath.Join(dir, "Some.Box.mbox")
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Repeat([]byte("x"), int(info.Size())), 0o600)
		}},
		{"damaged state", func(dir string) error { return appendTo(filepath.Join(dir, "Some.Box.state"), "rubbish\n") }},
		{"half a line", func(dir string) error { return appendTo(filepath.Join(dir, "Some.Box.state"), "message 1") }},
		{"empty state", func(dir string) error { return os.Truncate(filepath.Join(dir, "Some.Box.state"), 0) }},
		{"link", func(dir string) error {
			path := filepath.Join(dir, "Some.Box.mbox")
			if err := os.Rename(path, filepath.Join(filepath.Dir(dir), "elsewhere")); err != nil {
				return err
			}
			return os.Symlink("../elsewhere", path)
		}},
		{"of another mailbox", func(dir string) error {
			path := filepath.Join(dir, "Some.Box.state")
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Replace(text, []byte("Some/Box"), []byte("Another"), 1), 0o600)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copies")
			a := create(t, dir)
			box := open(t, a, "mbox")
			fill(t, a, box, 1, texts[0], texts[1])
			finish(t, box, 1, false)
			if err := box.Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, filepath.Dir(dir))
			box, err := a.Open("Some/Box", '/', "mbox")
			if err == nil {
				box.Close()
				t.Fatal("opened")
			}
			var foreign *ForeignError
			if !errors.As(err, &foreign) {
				t.Errorf("%v", err)
			}
			if after := snapshot(t, filepath.Dir(dir)); !maps.Equal(before, after) {
				t.Errorf("something was changed: %v", after)
			}
		})
	}
}

func appendTo(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// A new plain file that was to take the old one's place does so at the next opening, if
// and only if the state file says so.
func TestSwapInterrupted(t *testing.T) {
	dir := t.TempDir()
	a := create(t, dir)
	box := open(t, a, "mbox")
	fill(t, a, box, 1, texts[:3]...)
	finish(t, box, 1, false)
	mark := func(kind state.Kind) func(*state.Record) error {
		return func(rec *state.Record) error {
			if rec.UID == 2 {
				rec.Kind = kind
			}
			return nil
		}
	}
	if err := box.Rewrite(mark(state.Drop)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "Some.Box.mbox")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.settle(); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	// As if the run had ended between the state file and the renaming.
	for name, text := range map[string][]byte{path: old, path + ".new": fresh} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	box = open(t, a, "mbox")
	finish(t, box, 1, false)
	want(t, box, map[string]string{`1 [\Seen]`: texts[0], `3 [\Seen]`: texts[2]})
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	// And as if it had ended before the state file.
	if err := os.WriteFile(path+".new", old, 0o600); err != nil {
		t.Fatal(err)
	}
	box = open(t, a, "mbox")
	want(t, box, map[string]string{`1 [\Seen]`: texts[0], `3 [\Seen]`: texts[2]})
	if _, err := os.Stat(path + ".new"); !os.IsNotExist(err) {
		t.Errorf("the new file is still there: %v", err)
	}
}

// A run that ended while it removed files, the last of them before the state file knew.
func TestDropInterrupted(t *testing.T) {
	for _, format := range []string{"maildir", "eml"} {
		a := create(t, t.TempDir())
		box := open(t, a, format)
		fill(t, a, box, 1, texts[:3]...)
		finish(t, box, 1, false)
		err := box.Rewrite(func(rec *state.Record) error {
			if rec.UID > 1 {
				rec.Kind = state.Drop
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := box.settle(); err != nil {
			t.Fatal(err)
		}
		if err := box.Close(); err != nil {
			t.Fatal(err)
		}
		box = open(t, a, format)
		finish(t, box, 1, false)
		want(t, box, map[string]string{`1 [\Seen]`: texts[0]})
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	if a, err := Hold(dir); err != nil || a.Close() != nil {
		t.Errorf("nobody was here: %v", err)
	}
	first := create(t, dir)
	if _, err := Create(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a second run: %v", err)
	}
	if _, err := Hold(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("held while a run is at work: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // at the same time
		a, err := Hold(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
	}
	if _, err := Create(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a run while it is held: %v", err)
	}
}

func TestMessageID(t *testing.T) {
	for text, want := range map[string]string{
		"Message-ID: <a@b>\r\n\r\n": "<a@b>", "message-id:<a@b>\n\n": "<a@b>", "X: y\r\nMessage-Id:\r\n\t<a@b> \r\n": "<a@b>",
		"X: y\r\n\r\nMessage-ID: <a@b>\r\n": "", "": "", "\r\n": "", "Message-ID: \r\n\r\n": "",
	} {
		if got := MessageID(strings.NewReader(text)); got != want {
			t.Errorf("MessageID(%q) = %q, want %q", text, got, want)
		}
	}
}
