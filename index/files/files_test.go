package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shell reads files of a type by a script.
func shell(script string) []Program {
	return []Program{{Types: []string{"application/x-test", ".tst"}, Command: []string{"/bin/sh", "-c", script}}}
}

func reader(t *testing.T, programs []Program, l Limits) *Reader {
	t.Helper()
	return New(programs, l, slog.New(slog.DiscardHandler))
}

func (r *Reader) textOf(t *testing.T, content string) string {
	t.Helper()
	text, err := r.Text(t.Context(), "application/x-test", "", strings.NewReader(content))
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
	const limit = 300 * time.Millisecond

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
		{"killed", "echo half; kill -9 $$", "", Counted{Failed: 1}, Limits{}},
		{"endless", "echo half; sleep 60", "", Counted{Failed: 1}, Limits{Time: limit}},
		{"busy", "while :; do :; done", "", Counted{Failed: 1}, Limits{Time: limit}},
		{"leaves a child", "sleep 60 & echo half", "", Counted{Failed: 1}, Limits{}},
		{"large in memory", `head -c 200M /dev/zero | tail -n 1`, "", Counted{Failed: 1}, Limits{Memory: 32 << 20}},
		{"large on disk", `head -c 1M /dev/zero >big || exit 1; cat`, "", Counted{Failed: 1}, Limits{File: 64 << 10}},
		{"no program", "exec /nowhere", "", Counted{Failed: 1}, Limits{}},
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

// Nobody is held up by who gives up, and what could not be tried is no text.
func TestGivenUp(t *testing.T) {
	r := reader(t, shell("sleep 60"), Limits{AtOnce: 1, Time: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := r.Text(ctx, "application/x-test", "", strings.NewReader("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	broken := errors.New("broken")
	if _, err := r.Text(t.Context(), "application/x-test", "", io.MultiReader(strings.NewReader("x"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a file that breaks off: %v", err)
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
	text, err := r.Text(t.Context(), "application/octet-stream", "Invoice.PDF", strings.NewReader(pdf("Quarterly figures")))
	if err != nil || !strings.Contains(text, "Quarterly figures") || r.Counted().Read != 1 {
		t.Errorf("%q, %v, %+v", text, err, r.Counted())
	}
	if text, err = r.Text(t.Context(), "application/pdf", "", strings.NewReader("no PDF")); err != nil || text != "" || r.Counted().Failed != 1 {
		t.Errorf("what is none: %q, %v, %+v", text, err, r.Counted())
	}
}
