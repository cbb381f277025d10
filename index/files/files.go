// Package files has the text of attached files read by programs that the operator names: of PDF, say, or of an office's formats. A
// program gets the file on its standard input, and writes the text to its standard output, in UTF-8. Files come from anybody, so each is
// read by a process of its own, bounded in time, memory and output; what is beyond is not searched, and counted.
package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// Program reads files of some types.
type Program struct {
	Types   []string // media types as application/pdf, and ends of file names as .pdf; in lower case
	Command []string // a program and its arguments
}

// Limits bound what reading files may take. Zero fields mean the defaults.
type Limits struct {
	Time   time.Duration // of a processor, for one file, in whole seconds; three times as long otherwise; 10 s
	Memory int64         // octets of address space of a program; 512 MiB
	File   int64         // octets of a file, decoded; larger ones are not read; 32 MiB
	Text   int64         // octets of the text of a file; what is beyond it is not searched; 1 MiB
	AtOnce int           // how many files are read at a time, of tenants by turns; 2
	Cache  int64         // octets of texts that are kept; 32 MiB
}

func (l Limits) withDefaults() Limits {
	l.Time = orDefault(l.Time, 10*time.Second)
	l.Memory = orDefault(l.Memory, 512<<20)
	l.File = orDefault(l.File, 32<<20)
	l.Text = orDefault(l.Text, 1<<20)
	l.AtOnce = orDefault(l.AtOnce, 2)
	l.Cache = orDefault(l.Cache, 32<<20)
	return l
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// digest is of a program's command and a file.
type digest [sha256.Size]byte

// Reader has files read. It is safe for concurrent use.
type Reader struct {
	programs []Program
	limits   Limits
	log      *slog.Logger
	turns    *turns
	texts    *otter.Cache[digest, outcome] // of files that were read lately
	counted  counted
}

// outcome is what has become of a file.
type outcome struct {
	text  string
	again time.Time // when it is tried again, of one that was tried in vain; zero: never
}

func (o outcome) known() bool { return o.again.IsZero() || time.Now().Before(o.again) }

// againAfter is for how long a file has no text of which it may be the machine's fault, once it was tried twice.
const againAfter = time.Hour

// counted is how many files were read, and what became of the others.
type counted struct{ read, cut, failed, tooLarge, notNow atomic.Int64 }

// Counted is how many files were read, and what became of the others.
type Counted struct {
	Read     int64 // whole
	Cut      int64 // up to the most text that a file can have
	Failed   int64 // not: their program failed by them, or took too much time or memory
	TooLarge int64 // not
	NotNow   int64 // not this time: whoever has searched was told so
}

// New returns a Reader, whose first program of a type reads a file.
func New(programs []Program, limits Limits, log *slog.Logger) *Reader {
	r := &Reader{programs: programs, limits: limits.withDefaults(), log: log}
	r.turns = newTurns(r.limits.AtOnce)
	const entry = 128 // of a text that is empty
	r.texts = otter.Must(&otter.Options[digest, outcome]{
		MaximumWeight: uint64(r.limits.Cache),
		Weigher:       func(_ digest, o outcome) uint32 { return entry + uint32(len(o.text)) },
	})
	return r
}

// Counted returns what was read so far.
func (r *Reader) Counted() Counted {
	c := &r.counted
	return Counted{c.read.Load(), c.cut.Load(), c.failed.Load(), c.tooLarge.Load(), c.notNow.Load()}
}

// Version changes with what the texts depend on, as far as that is known here. An index of texts that
// were read in another way finds other emails, so it has to be made anew.
func (r *Reader) Version() string {
	sum := sha256.New()
	for _, p := range r.programs {
		fmt.Fprintf(sum, "%q %q\n", p.Types, p.Command)
	}
	fmt.Fprint(sum, r.limits.Text, r.limits.File)
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// For returns what reads the files of a tenant.
func (r *Reader) For(t id.Tenant) message.Files { return tenantFiles{r, t, false} }

// ForIndexes is For for what is kept: a file that has no text for now is an error, since an index would have none for good.
func (r *Reader) ForIndexes(t id.Tenant) message.Files { return tenantFiles{r, t, true} }

// tenantFiles are those of one tenant.
type tenantFiles struct {
	*Reader
	tenant id.Tenant
	kept   bool // texts are
}

// textOf returns the text of a file of which the outcome is known.
func (r tenantFiles) textOf(o outcome) (string, error) {
	if r.kept && !o.again.IsZero() {
		return "", errPassing
	}
	return o.text, nil
}

// Reads implements message.Files.
func (r *Reader) Reads(mediaType, name string) bool { return r.program(mediaType, name) != nil }

// program returns what reads files of a type; nil: nothing.
func (r *Reader) program(mediaType, name string) *Program {
	end := strings.ToLower(path.Ext(name))
	for i, p := range r.programs {
		if slices.Contains(p.Types, mediaType) || end != "" && slices.Contains(p.Types, end) {
			return &r.programs[i]
		}
	}
	return nil
}

// Text implements message.Files: the text of a file, "" of one that its program cannot read. What the file may be to blame for, that its program was killed, say, or
// was slow on a busy machine, is an error once: no file keeps a mailbox from being searched. The content is read twice, so that a file of which the text is known, or
// that is too large, waits for no turn and is written to no disk.
func (r tenantFiles) Text(ctx context.Context, mediaType, name string, content io.Reader, again func() (io.ReadCloser, error)) (string, error) {
	p := r.program(mediaType, name)
	if p == nil {
		return "", nil
	}
	sum, err := r.identify(p, content)
	if errors.Is(err, errTooLarge) {
		r.counted.tooLarge.Add(1)
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if o, there := r.texts.GetIfPresent(sum); there && o.known() {
		return r.textOf(o)
	}
	if err := r.turns.take(ctx, r.tenant); err != nil {
		return "", err
	}
	defer r.turns.give()
	before, tried := r.texts.GetIfPresent(sum)
	if tried && before.known() { // to somebody else, meanwhile
		return r.textOf(before)
	}
	var o outcome
	o.text, err = r.read(ctx, p, again)
	if err != nil {
		r.log.DebugContext(ctx, "an attached file is not read", "program", p.Command[0], "err", err)
	}
	switch {
	case err == nil:
		r.counted.read.Add(1)
	case errors.Is(err, errCut):
		r.counted.cut.Add(1)
	case errors.Is(err, errUnreadable):
		r.counted.failed.Add(1)
	case errors.Is(err, errPassing) && tried:
		r.counted.failed.Add(1)
		o.again = time.Now().Add(againAfter)
	default:
		if errors.Is(err, errPassing) {
			r.texts.Set(sum, outcome{again: time.Now()})
		}
		if errors.Is(err, message.ErrFile) {
			r.counted.notNow.Add(1)
		}
		return "", err
	}
	r.texts.Set(sum, o)
	return r.textOf(o)
}

var errTooLarge = errors.New("the file is too large")

// identify returns what a file is known by.
func (r *Reader) identify(p *Program, content io.Reader) (sum digest, err error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q\n", p.Command)
	n, err := io.Copy(hash, io.LimitReader(content, r.limits.File+1))
	if err == nil && n > r.limits.File {
		err = errTooLarge
	}
	return digest(hash.Sum(nil)), err
}

// read has a file read, from the disk, where a program can read it in any order.
func (r *Reader) read(ctx context.Context, p *Program, again func() (io.ReadCloser, error)) (string, error) {
	content, err := again()
	if err != nil {
		return "", err
	}
	defer content.Close()
	file, err := spool(content)
	if _, disk := errors.AsType[*fs.PathError](err); disk { // what content comes from is none
		return "", fmt.Errorf("%w: %w", message.ErrNoFiles, err)
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	return r.run(ctx, p, file)
}

// spool returns a file with a content, which is there for who has it open.
func spool(content io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "mailstead-file-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, content)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
