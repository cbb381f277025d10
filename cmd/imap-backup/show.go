package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"mailstead.dev/cmd/imap-backup/backup"
)

// outputOptions say how a run is shown.
type outputOptions struct {
	json    bool
	quiet   bool
	verbose bool
}

func (o *outputOptions) register(flags *pflag.FlagSet) {
	flags.BoolVar(&o.json, "json", false, "print events as JSON, one a line")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "print problems only")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "print a line also for mailboxes in which nothing is new")
}

// shower shows a run.
type shower interface {
	event(backup.Event)
	end(backup.Result, error)
}

// show returns what fits: JSON if it is asked for, a bar on a terminal, else lines. The verb says what was
// done with messages: fetched, restored.
func (o *outputOptions) show(a *app, account, verb string) shower {
	plain := o.plain(a, account, verb)
	if lines, ok := plain.(*lines); ok && !o.quiet && isTerminal(a.err) {
		return newBar(lines, a.err)
	}
	return plain
}

// plain is show without the bar.
func (o *outputOptions) plain(a *app, account, verb string) shower {
	if o.json {
		return &jsonLines{enc: json.NewEncoder(a.out), account: account}
	}
	plain := &lines{out: a.out, err: a.err, verb: verb, quiet: o.quiet, verbose: o.verbose}
	if account != "" {
		plain.account = account + ": "
	}
	return plain
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// jsonLines prints each event, and at last one of its own.
type jsonLines struct {
	enc     *json.Encoder
	account string
	failed  error // of writing, said once
}

func (j *jsonLines) event(e backup.Event) {
	j.print(struct {
		Time    time.Time `json:"time"`
		Account string    `json:"account,omitempty"`
		backup.Event
	}{time.Now().UTC(), j.account, e})
}

func (j *jsonLines) end(r backup.Result, err error) {
	e := backup.Event{Kind: "end", Result: &r}
	if err != nil {
		e.Text = err.Error()
	}
	j.event(e)
}

func (j *jsonLines) print(v any) {
	if err := j.enc.Encode(v); err != nil && j.failed == nil {
		j.failed = err
		fmt.Fprintln(os.Stderr, "imap-backup: standard output:", err)
	}
}

// lines prints a line for each mailbox in which something was done, and for each problem.
type lines struct {
	out, err       io.Writer
	account        string // to begin a line with
	verb           string
	quiet, verbose bool
	mailboxes      int
}

func (l *lines) event(e backup.Event) {
	if text := l.text(e); text != "" {
		to := l.out
		if e.Kind == backup.Problem {
			to = l.err
		}
		fmt.Fprintln(to, text)
	}
}

// text returns the line for an event, or "".
func (l *lines) text(e backup.Event) string {
	where := l.account
	if e.Mailbox != "" {
		where += printable(e.Mailbox) + ": "
	}
	switch e.Kind {
	case backup.Problem:
		return "problem: " + where + printable(e.Text)
	case backup.Notice:
		if !l.quiet {
			return where + printable(e.Text)
		}
	case backup.Done:
		l.mailboxes++
		r := *e.Result
		r.Messages, r.Kept, r.Problems = 0, 0, 0
		if !l.quiet && (l.verbose || r != (backup.Result{})) {
			return where + l.summary(*e.Result)
		}
	}
	return ""
}

func (l *lines) end(r backup.Result, err error) {
	if err == nil && !l.quiet {
		fmt.Fprintf(l.out, "%s%d mailboxes: %s\n", l.account, l.mailboxes, l.summary(r))
	}
}

func (l *lines) summary(r backup.Result) string {
	parts := []string{fmt.Sprintf("%d messages %s (%s)", r.New, l.verb, human(r.Bytes))}
	for _, p := range []struct {
		n    int
		what string
	}{{r.Again, "already here"}, {r.Reflagged, "with new flags"}, {r.Removed, "removed on the server"}, {r.Kept, "kept of those"}, {r.Problems, "problems"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

// printable keeps what a server says from moving the cursor about.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// bar is a progress bar under the lines: mailbox, messages, octets, rate and time left.
type bar struct {
	lines    *lines
	progress *mpb.Progress
	bar      *mpb.Bar

	mutex    sync.Mutex
	mailbox  string
	messages int
	planned  int
	bytes    int64
	started  time.Time
}

func newBar(l *lines, w io.Writer) *bar {
	b := &bar{lines: l, started: time.Now()}
	b.progress = mpb.New(mpb.WithOutput(w), mpb.WithWidth(30), mpb.WithRefreshRate(150*time.Millisecond))
	b.bar = b.progress.AddBar(0,
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return b.left() }, decor.WCSyncSpace)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.right() })),
	)
	return b
}

func (b *bar) left() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	const width = 24
	name := []rune(printable(b.mailbox))
	if len(name) > width {
		name = append(name[:width-1], '…')
	}
	return string(name)
}

func (b *bar) right() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	spent := time.Since(b.started).Seconds()
	text := fmt.Sprintf(" %d/%d messages, %s, %s/s", b.messages, b.planned, human(b.bytes), human(int64(float64(b.bytes)/max(spent, 0.1))))
	if b.messages > 0 && b.planned > b.messages {
		left := spent * float64(b.planned-b.messages) / float64(b.messages)
		text += ", " + (time.Duration(left) * time.Second).String() + " left"
	}
	return text
}

func (b *bar) event(e backup.Event) {
	b.mutex.Lock()
	switch e.Kind {
	case backup.Planned:
		b.planned += e.Messages
	case backup.Moved:
		b.mailbox = e.Mailbox
		b.messages += e.Messages
		b.bytes += e.Bytes
	}
	planned, messages := b.planned, b.messages
	b.mutex.Unlock()
	// Without the mutex: the bar may be waiting for it, in left or right.
	b.bar.SetTotal(int64(planned), false)
	b.bar.SetCurrent(int64(messages))
	if text := b.lines.text(e); text != "" {
		if _, err := fmt.Fprintln(b.progress, text); err != nil {
			b.lines.event(e)
		}
	}
}

func (b *bar) end(r backup.Result, err error) {
	b.bar.SetTotal(int64(max(b.messages, 1)), false)
	b.bar.Abort(true)
	b.progress.Wait()
	b.lines.end(r, err)
}
