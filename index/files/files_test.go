package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mailstead.dev/store/message"
)

// shell reads files of a type by a script.
func shell(script string) []Program {
	return []Program{{Types: []string{"application/x-test", ".tst"}, Command: []string{"/bin/sh", "-c", script}}}
}

func reader(t *testing.T, programs []Program, l Limits) *Reader {
	t.Helper()
	return New(programs, l, slog.New(slog.DiscardHandler))
}

// text is message.Files.Text of content that is at hand.
func (r *Reader) text(ctx context.Context, mediaType, name, content string) (string, error) {
	again := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
	return r.For(1).Text(ctx, mediaType, name, strings.NewReader(content), again)
}

func (r *Reader) textOf(t *testing.T, content string) string {
	t.Helper()
	text, err := r.text(t.Context(), "application/x-test", "", content)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTypes(t *testing.T) {
	r := reader(t, shell("cat"), Limits{})
	for _, test := range []struct {
		media, name string
		want        bool
	}{
		{"application/x-test", "", true}, {"application/octet-stream", "A.TST", true}, {"application/octet-stream", "a.tst.gz", false},
		{"application/x-testing", "", false}, {"application/octet-stream", "tst", false}, {"application/octet-stream", "", false},
	} {
		if got := r.Reads(test.media, test.name); got != test.want {
			t.Errorf("%s %q: %t", test.media, test.name, got)
		}
	}
	if r.Version() == reader(t, shell("cat "), Limits{}).Version() || r.Version() == reader(t, shell("cat"), Limits{Text: 7}).Version() || r.Version() != reader(t, shell("cat"), Limits{AtOnce: 7}).Version() {
		t.Error("the version does not tell how files are read")
	}
}

// What a file says may be nothing that its program does to others, or to us.
func TestBounds(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	t.Setenv("MAILSTEAD_SECRET", secret)
	for _, test := range []struct {
		name, script, want string
		counted            Counted
		l                  Limits
	}{
		{"whole", "cat", "the file", Counted{Read: 1}, Limits{}},
		{"by name", "cat /dev/stdin /dev/stdin", "the filethe file", Counted{Read: 1}, Limits{}},
		{"not UTF-8", `printf 'a\377b'`, "a\uFFFDb", Counted{Read: 1}, Limits{}},
		{"too much text", "cat; yes", "the f", Counted{Cut: 1}, Limits{Text: 5}},
		{"failing", "echo half; exit 3", "", Counted{Failed: 1}, Limits{}},
		{"crashing", "echo half; kill -SEGV $$", "", Counted{Failed: 1}, Limits{}},
		{"crashing in a sandbox", "sh -c 'kill -SEGV $$'; exit $?", "", Counted{Failed: 1}, Limits{}},
		{"leaves a child that may write", "sleep 60 & echo text", "text\n", Counted{Read: 1}, Limits{}},
		{"large in memory", `head -c 200M /dev/zero | tail -n 1`, "", Counted{Failed: 1}, Limits{Memory: 32 << 20}},
		{"large on disk", `head -c 1M /dev/zero >big || exit 1; cat`, "", Counted{Failed: 1}, Limits{File: 64 << 10}},
		{"many on disk", `i=0; while [ $i -lt 2000 ]; do i=$((i+1)); : >$i; done; sleep 3; cat`, "", Counted{Failed: 1}, Limits{}},
		{"large on disk together", "for i in 1 2 3 4; do head -c 100K /dev/zero >$i || exit 1; done; sleep 3; cat", "", Counted{Failed: 1}, Limits{File: 64 << 10}},
		{"some on disk", "for i in 1 2; do head -c 100K /dev/zero >$i || exit 1; done; rm 1; sleep 0.3; cat", "the file", Counted{Read: 1}, Limits{File: 64 << 10}},
		{"too large", "cat", "", Counted{TooLarge: 1}, Limits{File: 7}},
		{"without our settings", `echo "$MAILSTEAD_SECRET"`, "\n", Counted{Read: 1}, Limits{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := reader(t, shell(test.script), test.l)
			began := time.Now()
			if got := r.textOf(t, "the file"); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if got := r.Counted(); got != test.counted {
				t.Errorf("%+v, want %+v", got, test.counted)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// What the machine is to blame for passes, so it is not taken for a file without text, and is tried again.
func TestPassingFailures(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	for name, script := range map[string]string{
		"no program": "exec /nowhere", "slow": "sleep 60", "killed": "kill -9 $$", "ended": "kill $$", "killed in a sandbox": "sh -c 'kill -9 $$'; exit $?",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			there := there + name
			r := reader(t, shell(fmt.Sprintf("[ -e %q ] && exec cat; %s", there, script)), Limits{Time: 500 * time.Millisecond})
			if text, err := r.text(t.Context(), "application/x-test", "", "x"); !errors.Is(err, message.ErrFile) || errors.Is(err, message.ErrNoFiles) {
				t.Errorf("%q, %v", text, err)
			}
			if err := os.WriteFile(there, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if text := r.textOf(t, "x"); text != "x" || r.Counted() != (Counted{Read: 1, NotNow: 1}) {
				t.Errorf("later: %q, %+v", text, r.Counted())
			}
		})
	}
}

// What the file may be to blame for is an error once, and then a file without text: for an hour, then it is tried once more.
func TestTriedTwice(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	r := reader(t, shell(fmt.Sprintf("echo x >>%q; kill -9 $$", log)), Limits{})
	for i, want := range []Counted{{NotNow: 1}, {NotNow: 1, Failed: 1}, {NotNow: 1, Failed: 1}, {NotNow: 1, Failed: 2}, {NotNow: 1, Failed: 2}} {
		if i == 3 {
			for sum := range r.texts.All() { // an hour later
				r.texts.Set(sum, outcome{again: time.Now()})
			}
		}
		text, err := r.text(t.Context(), "application/x-test", "", "x")
		if text != "" || errors.Is(err, message.ErrFile) != (i == 0) || err != nil && i > 0 || r.Counted() != want {
			t.Errorf("time %d: %q, %v, %+v, want %+v", i, text, err, r.Counted(), want)
		}
		if i%3 == 0 { // only tried once
			continue
		}
		// What is kept for good is not taken of an hour without.
		content := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }
		if text, err := r.ForIndexes(2).Text(t.Context(), "application/x-test", "", strings.NewReader("x"), content); !errors.Is(err, message.ErrFile) {
			t.Errorf("time %d: an index is told %q, %v", i, text, err)
		}
	}
	if runs, err := os.ReadFile(log); err != nil || len(runs) != 3*len("x\n") {
		t.Errorf("it ran as %q, %v", runs, err)
	}
}

// Two that try it at the same time have tried it once.
func TestTriedAtOnce(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	r := reader(t, shell(fmt.Sprintf("echo x >>%q; while [ $(wc -l <%[1]q) -lt 2 ]; do sleep 0.01; done; kill -9 $$", log)), Limits{AtOnce: 2})
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if text, err := r.text(t.Context(), "application/x-test", "", "x"); !errors.Is(err, message.ErrFile) {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
	both.Wait()
	if got := r.Counted(); got != (Counted{NotNow: 2}) {
		t.Errorf("%+v", got)
	}
}

// What no file can be to blame for is never taken for one without text.
func TestNoProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	r := reader(t, []Program{{Types: []string{"application/x-test"}, Command: []string{program}}}, Limits{})
	fails := func(why string) {
		t.Helper()
		if text, err := r.text(t.Context(), "application/x-test", "", "x"); !errors.Is(err, message.ErrNoFiles) {
			t.Errorf("%s: %q, %v", why, text, err)
		}
	}
	for range 3 {
		fails("no program")
	}
	if err := os.Symlink("/bin/cat", program); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", "/nowhere")
	fails("no folder")
	os.Unsetenv("TMPDIR") // which is set back in the end
	if text := r.textOf(t, "x"); text != "x" || r.Counted() != (Counted{Read: 1, NotNow: 4}) {
		t.Errorf("%q, %+v", text, r.Counted())
	}
}

// A program that does not end is ended: by what it takes of a processor, which is the file's fault, or where others
// take that, by the clock.
func TestBusy(t *testing.T) {
	r := reader(t, shell("while :; do :; done"), Limits{Time: time.Second})
	text, err := r.text(t.Context(), "application/x-test", "", "x")
	if text != "" || err == nil && r.Counted() != (Counted{Failed: 1}) || err != nil && !strings.Contains(err.Error(), "has not read it within") {
		t.Errorf("%q, %v, %+v", text, err, r.Counted())
	}
}

// What a program leaves behind it is ended with it.
func TestLeftBehind(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	r := reader(t, shell(fmt.Sprintf("sleep 60 >/dev/null 2>&1 & echo $! >%q; cat", pid)), Limits{})
	if got := r.textOf(t, "text"); got != "text" {
		t.Errorf("%q", got)
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	of := filepath.Join("/proc", strings.TrimSpace(string(text)), "cmdline")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if said, err := os.ReadFile(of); err != nil || len(said) == 0 { // gone, or waited for by nobody
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it lives on")
		}
	}
}

// Nothing is hidden below names that together are too long.
func TestDeep(t *testing.T) {
	dir := t.TempDir()
	in, err := os.OpenRoot(dir)
	for range 20 {
		name := strings.Repeat("x", 250)
		if err == nil {
			err = in.Mkdir(name, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		below, openErr := in.OpenRoot(name)
		err = errors.Join(openErr, in.Close())
		in = below
	}
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	if err := bound(dir, 1<<30); !errors.Is(err, errUnreadable) {
		t.Errorf("it fits: %v", err)
	}
	if err := remove(dir); err != nil {
		t.Error(err)
	}
}

// A folder goes whose program has taken the rights to it from us. Root has them still: so this is somebody else.
func TestRemoved(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // it is not used any more after this
		const nobody = 65534
		if os.Geteuid() == 0 {
			if _, err := unix.SetfsuidRetUid(nobody); err != nil {
				t.Error(err)
				return
			}
		}
		dir, err := os.MkdirTemp("", "mailstead-test-")
		if err != nil {
			t.Error(err)
			return
		}
		inner := filepath.Join(dir, "a", "b")
		err = errors.Join(os.MkdirAll(inner, 0o700), os.WriteFile(filepath.Join(inner, "c"), nil, 0o600), os.Chmod(inner, 0), os.Chmod(filepath.Dir(inner), 0))
		if err != nil {
			t.Error(err)
		}
		if err := bound(dir, 1<<20); !errors.Is(err, errUnreadable) {
			t.Errorf("what cannot be looked at fits: %v", err)
		}
		if err := remove(dir); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is there still: %v", err)
		}
	}()
	<-done
}

// Each file is read once while it is remembered, also one that cannot be read.
func TestRemembered(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	r := reader(t, shell(fmt.Sprintf("echo x >>%s; read line; echo \"$line\"; [ \"$line\" = good ]", log)), Limits{})
	for range 3 {
		if good, bad := r.textOf(t, "good\n"), r.textOf(t, "bad\n"); good != "good\n" || bad != "" {
			t.Errorf("%q, %q", good, bad)
		}
	}
	if runs, err := os.ReadFile(log); err != nil || len(runs) != 2*len("x\n") {
		t.Errorf("it ran as %q, %v", runs, err)
	}
}

// What is known waits for no turn, and is read once. Nor does what is too large.
func TestKnownWithoutTurn(t *testing.T) {
	r := reader(t, shell("cat"), Limits{AtOnce: 1, File: 10})
	r.textOf(t, "known")
	if err := r.turns.take(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for content, want := range map[string]string{"known": "known", "too large for it": ""} {
		text, err := r.For(1).Text(ctx, "application/x-test", "", strings.NewReader(content), func() (io.ReadCloser, error) {
			return nil, errors.New("it is read another time")
		})
		if text != want || err != nil {
			t.Errorf("%q: %q, %v", content, text, err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.text(short, "application/x-test", "", "unknown"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what is not known: %v", err)
	}
}

// Many that have the same file read have it read once.
func TestReadOnce(t *testing.T) {
	r := reader(t, shell("cat"), Limits{AtOnce: 1})
	if err := r.turns.take(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	for range 4 {
		reading.Go(func() {
			if text := r.textOf(t, "text"); text != "text" {
				t.Errorf("%q", text)
			}
		})
	}
	r.turns.await(t, 4)
	r.turns.give()
	reading.Wait()
	if got := r.Counted(); got != (Counted{Read: 1}) {
		t.Errorf("%+v", got)
	}
}

// What a program says of a file, which may quote it, is in no log that operators keep.
func TestLog(t *testing.T) {
	var log strings.Builder
	r := New(shell("cat >&2; exit 1"), Limits{}, slog.New(slog.NewTextHandler(&log, nil)))
	if text := r.textOf(t, "a secret"); text != "" || log.Len() > 0 {
		t.Errorf("%q, %s", text, log.String())
	}
}

// Nobody is held up by who gives up, and what could not be tried is no text.
func TestGivenUp(t *testing.T) {
	r := reader(t, shell("sleep 60"), Limits{AtOnce: 1, Time: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := r.text(ctx, "application/x-test", "", "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	broken := errors.New("broken")
	breaksOff := func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("x"), failing{broken})), nil
	}
	content, _ := breaksOff()
	if _, err := r.For(1).Text(t.Context(), "application/x-test", "", content, nil); !errors.Is(err, broken) {
		t.Errorf("a file that breaks off: %v", err)
	}
	if _, err := r.For(1).Text(t.Context(), "application/x-test", "", strings.NewReader("x"), breaksOff); !errors.Is(err, broken) {
		t.Errorf("a file that breaks off the second time: %v", err)
	}
	if got := r.Counted(); got != (Counted{}) {
		t.Errorf("%+v", got)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// pdf is a document of one page that says a text.
func pdf(text string) string {
	var b strings.Builder
	var at []int
	object := func(s string) {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", len(at), s)
	}
	b.WriteString("%PDF-1.4\n")
	object("<< /Type /Catalog /Pages 2 0 R >>")
	object("<< /Type /Pages /Kids [3 0 R] /Count 1 >>")
	object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 200] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>")
	page := "BT /F 24 Tf 20 100 Td (" + text + ") Tj ET"
	object(fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(page), page))
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
	table := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, off := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", off)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, table)
	return b.String()
}

// The command of the documentation reads PDF; what is none is no text.
func TestPDF(t *testing.T) {
	r := reader(t, []Program{{Types: []string{"application/pdf", ".pdf"}, Command: []string{"/usr/bin/pdftotext", "-q", "/dev/stdin", "-"}}}, Limits{})
	text, err := r.text(t.Context(), "application/octet-stream", "Invoice.PDF", pdf("Quarterly figures"))
	if err != nil || !strings.Contains(text, "Quarterly figures") || r.Counted().Read != 1 {
		t.Errorf("%q, %v, %+v", text, err, r.Counted())
	}
	if text, err = r.text(t.Context(), "application/pdf", "", "no PDF"); err != nil || text != "" || r.Counted().Failed != 1 {
		t.Errorf("what is none: %q, %v, %+v", text, err, r.Counted())
	}
}
