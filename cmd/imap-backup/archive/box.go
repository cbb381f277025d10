package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/cmd/imap-backup/filename"
	"mailstead.dev/cmd/imap-backup/state"
)

// Box is the copy of one mailbox. It holds in memory where messages are missing and not the
// messages, so that its size does not depend on theirs.
type Box struct {
	Header state.Header
	Name   string      // of its files, without extension
	UIDs   imap.UIDSet // of the messages that the server has and that are here
	Live   int         // how many they are
	Bytes  int64       // as the server counts them
	Kept   int         // messages that are here and that the server has no more

	root   *os.Root
	plain  plain
	end    int64          // of the plain file; see state.Record.End
	marks  marks          // what the state file has that is to go
	stored bool           // there is a state file
	log    *os.File       // the state file, to append to it
	lines  []byte         // for it, of messages that are in the plain file and not yet on disk
	header state.Header   // as the state file has it
	last   *state.Record  // the one farthest behind
	again  map[int64]bool // places that a message line took over from a gone line
	failed error          // of Commit
}

type marks struct {
	append, swap, reflag, drop bool

	from int64 // of append
}

// Open returns the copy of a mailbox, and first ends what a run left half done.
func (a *Archive) Open(mailbox string, delimiter rune, format string) (*Box, error) {
	b := a.box(filename.Encode(mailbox, delimiter))
	wanted := state.Header{Mailbox: mailbox, Delimiter: delimiter, Format: format}
	if err := removeIfThere(a.root, b.stateFile()+newExt); err != nil {
		return nil, err
	}
	if err := b.load(true); errors.Is(err, fs.ErrNotExist) {
		b.Header = wanted
		b.plain = newPlain(a.root, b.Name, format)
		there, err := b.plain.exists()
		if err == nil && there {
			err = &ForeignError{b.Name + "." + format, "there is no state file beside it, so it is not ours"}
		}
		if err == nil {
			err = a.claim(b.Name)
		}
		return b, err
	} else if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	switch {
	case b.Header.Mailbox != mailbox:
		return nil, errors.Join(&ForeignError{b.stateFile(), fmt.Sprintf("it is of the mailbox %q", b.Header.Mailbox)}, b.Close())
	case b.Header.Format != format:
		return nil, errors.Join(&ForeignError{b.stateFile(), fmt.Sprintf("the mailbox is kept as %s here, not as %s", b.Header.Format, format)}, b.Close())
	}
	if err := b.plain.recover(b.marks.swap); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if err := b.plain.check(b.end, b.last, b.marks.append); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Load returns the copy whose files have this name, to read from it, and changes nothing.
func (a *Archive) Load(name string) (*Box, error) {
	b := a.box(name)
	if err := b.load(false); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (a *Archive) box(name string) *Box { return &Box{root: a.root, Name: name} }

func (b *Box) stateFile() string { return b.Name + stateExt }

// load reads the state file. With repair, a line that was cut off goes.
func (b *Box) load(repair bool) error {
	info, err := b.root.Lstat(b.stateFile())
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &ForeignError{b.stateFile(), "not a plain file"}
	}
	flags := os.O_RDONLY
	if repair {
		flags = os.O_RDWR
	}
	file, err := b.root.OpenFile(b.stateFile(), flags, 0)
	if err != nil {
		return err
	}
	b.log, b.stored = file, true
	r, err := state.NewReader(file)
	if err != nil {
		return b.damaged(err)
	}
	known := false
	for _, format := range Formats {
		known = known || r.Header.Format == format
	}
	if !known {
		return &ForeignError{b.stateFile(), fmt.Sprintf("what is the format %q?", r.Header.Format)}
	}
	if filename.Encode(r.Header.Mailbox, r.Header.Delimiter) != b.Name {
		return &ForeignError{b.stateFile(), fmt.Sprintf("it is of the mailbox %q, whose files have another name", r.Header.Mailbox)}
	}
	b.Header, b.header = r.Header, r.Header
	if b.plain == nil {
		b.plain = newPlain(b.root, b.Name, b.Header.Format)
	}
	b.forget()
	for {
		var rec state.Record
		err := r.Next(&rec)
		var syntax *state.SyntaxError
		if err == io.EOF || b.marks.append && errors.As(err, &syntax) {
			break // what was being appended as the run was ended
		}
		if err != nil {
			return b.damaged(err)
		}
		b.note(&rec)
	}
	if !repair {
		return nil
	}
	if info, err := file.Stat(); err != nil || info.Size() == r.Offset {
		return err
	}
	if !b.marks.append {
		return b.damaged(&state.SyntaxError{Reason: "the last line is cut off"})
	}
	return file.Truncate(r.Offset)
}

func (b *Box) damaged(err error) error {
	var syntax *state.SyntaxError
	if errors.As(err, &syntax) {
		return &ForeignError{b.stateFile(), "damaged: " + syntax.Error()}
	}
	return err
}

// forget empties what note collects.
func (b *Box) forget() {
	b.UIDs, b.Live, b.Kept, b.Bytes, b.end, b.last, b.marks = nil, 0, 0, 0, 0, nil, marks{}
	b.again = map[int64]bool{}
}

// note takes in a line.
func (b *Box) note(rec *state.Record) {
	switch rec.Kind {
	case state.Append:
		b.marks.append, b.marks.from = true, rec.Place
		b.end = max(b.end, rec.Place)
		return
	case state.Swap:
		b.marks.swap = true
		return
	case state.Drop:
		b.marks.drop = true
	case state.Gone:
		b.Kept++
	default:
		b.marks.reflag = b.marks.reflag || rec.Kind == state.Reflag
		if b.marks.append && rec.Place < b.marks.from {
			b.again[rec.Place] = true // what is new lies behind the mark
			b.Kept--
		}
		b.UIDs.AddNum(rec.UID)
		b.Live++
		b.Bytes += rec.Size
	}
	end := rec.End(b.Header.Format)
	if rec.Kind == state.Drop && b.Header.Format != "mbox" {
		b.end = max(b.end, end) // its file may be gone already
		return
	}
	if end >= b.end {
		b.end = end
		flags := []imap.Flag(nil)
		if b.last != nil {
			flags = b.last.Flags[:0]
		}
		b.last = &state.Record{Place: rec.Place, Length: rec.Length, Flags: append(flags, rec.Flags...)}
	}
}

// Records calls f with each message, also those that are gone. The record is f's until it returns.
func (b *Box) Records(f func(*state.Record) error) error {
	if !b.stored {
		return nil
	}
	file, err := b.root.Open(b.stateFile())
	if err != nil {
		return err
	}
	return errors.Join(b.read(file, func(rec *state.Record) error {
		if rec.Kind == state.Append || rec.Kind == state.Swap {
			return nil
		}
		return f(rec)
	}), file.Close())
}

// RecordAt reads the record that was read from there, by Records.
func (b *Box) RecordAt(at int64) (state.Record, error) {
	rec, err := state.ReadAt(b.log, at)
	return rec, b.damaged(err)
}

func (b *Box) read(file *os.File, f func(*state.Record) error) error {
	r, err := state.NewReader(file)
	if err != nil {
		return b.damaged(err)
	}
	var flags []imap.Flag // the next record's take the place of the last one's, but not of those that f put into it
	for {
		rec := state.Record{Flags: flags}
		err := r.Next(&rec)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return b.damaged(err)
		}
		flags = rec.Flags
		// A gone message that came again stands in two lines until the file is written anew.
		if rec.Kind == state.Gone && b.again[rec.Place] {
			continue
		}
		if err := f(&rec); err != nil {
			return err
		}
	}
}

// Rewrite writes the state file anew, with the header as it is in b now and with the records
// as edit leaves them, and is done when that is on disk.
func (b *Box) Rewrite(edit func(*state.Record) error) error {
	return b.rewrite(false, false, edit)
}

func (b *Box) rewrite(swap, settled bool, edit func(*state.Record) error) error {
	name := b.stateFile() + newExt
	if err := removeIfThere(b.root, name); err != nil {
		return err
	}
	fresh, err := b.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	next := Box{Header: b.Header, Name: b.Name, root: b.root, plain: b.plain, log: fresh, stored: true, header: b.Header}
	next.forget()
	if err := b.writeState(fresh, &next, swap, settled, edit); err != nil {
		return errors.Join(err, fresh.Close(), b.root.Remove(name))
	}
	if err := errors.Join(fresh.Sync(), b.root.Rename(name, b.stateFile()), syncDir(b.root, ".")); err != nil {
		return errors.Join(err, fresh.Close())
	}
	if b.log != nil {
		err = b.log.Close()
	}
	*b = next
	return err
}

func (b *Box) writeState(fresh *os.File, next *Box, swap, settled bool, edit func(*state.Record) error) error {
	w := bufio.NewWriterSize(fresh, 64<<10)
	var line []byte
	put := func(rec *state.Record) error {
		next.note(rec)
		line = rec.Append(line[:0])
		_, err := w.Write(line)
		return err
	}
	if _, err := w.Write(b.Header.Append(nil)); err != nil {
		return err
	}
	if swap {
		if err := put(&state.Record{Kind: state.Swap}); err != nil {
			return err
		}
	}
	if b.stored {
		file, err := b.root.Open(b.stateFile())
		if err != nil {
			return err
		}
		err = b.read(file, func(rec *state.Record) error {
			if rec.Kind == state.Swap || rec.Kind == state.Append {
				return nil
			}
			if edit != nil {
				if err := edit(rec); err != nil {
					return err
				}
			}
			if settled && rec.Kind == state.Reflag {
				rec.Kind = state.Message
			}
			if (settled || swap) && rec.Kind == state.Drop {
				return nil
			}
			return put(rec)
		})
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	if b.marks.append && !settled && !swap {
		// All that the file names is on disk, so the mark can move to the end of it.
		if err := put(&state.Record{Kind: state.Append, Place: next.end}); err != nil {
			return err
		}
	}
	return w.Flush()
}

// Begin makes ready for Add: the state file says from where on the plain file grows.
func (b *Box) Begin() error {
	marked := b.marks.append
	if !b.stored || b.Header != b.header {
		b.marks.append = true // in a new state file from the first, so that there is none without a plain file or a mark
		if err := b.Rewrite(nil); err != nil {
			return err
		}
		marked = true
	}
	if _, err := b.log.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if !marked {
		mark := state.Record{Kind: state.Append, Place: b.end}
		if _, err := b.log.Write(mark.Append(nil)); err != nil {
			return err
		}
		if err := b.log.Sync(); err != nil {
			return err
		}
		b.note(&mark)
	}
	return b.plain.begin(b.end)
}

// Add puts a message into the plain file. It counts as there once Commit has returned.
func (b *Box) Add(rec *state.Record, text *Spool) error {
	rec.Kind, rec.Size, rec.Sum = state.Message, text.Size(), text.Sum()
	if err := b.plain.add(rec, text.Raw(), text.Text()); err != nil {
		return err
	}
	b.pend(rec)
	return nil
}

// AddAgain notes that a message that was gone is in the mailbox again, as rec.UID, with rec.Flags. Its text is here.
func (b *Box) AddAgain(rec *state.Record) {
	rec.Kind = state.Reflag
	b.pend(rec)
}

func (b *Box) pend(rec *state.Record) {
	b.lines = rec.Append(b.lines)
	b.note(rec)
}

// Commit returns when all that was added is on disk and named in the state file. Once it failed it is not tried again: the system
// tells of what it could not write once, and the next time says that all is on disk.
func (b *Box) Commit() error {
	if b.failed == nil {
		b.failed = b.commit()
	}
	return b.failed
}

func (b *Box) commit() error {
	if len(b.lines) == 0 {
		return nil
	}
	if err := b.plain.sync(); err != nil {
		return err
	}
	if _, err := b.log.Write(b.lines); err != nil {
		return err
	}
	if err := b.log.Sync(); err != nil {
		return err
	}
	b.lines = b.lines[:0]
	return nil
}

// Finish brings the plain file up to date with the state file and takes the marks out of that. Of the messages that the server
// has no more, those go of which drop says so; nil keeps all.
func (b *Box) Finish(synced state.Synced, drop func(*state.Record) bool) error {
	if drop != nil && b.Kept > 0 {
		err := b.Rewrite(func(rec *state.Record) error {
			if rec.Kind == state.Gone && drop(rec) {
				rec.Kind = state.Drop
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := b.settle(); err != nil {
		return err
	}
	b.Header.Synced = synced
	if b.stored && b.Header == b.header && b.marks == (marks{}) && len(b.again) == 0 {
		return nil
	}
	return b.rewrite(false, true, nil)
}

func (b *Box) settle() error {
	if b.marks.reflag {
		err := b.Records(func(rec *state.Record) error {
			if rec.Kind != state.Reflag {
				return nil
			}
			return b.plain.reflag(rec)
		})
		if err != nil {
			return err
		}
		if err := b.plain.sync(); err != nil {
			return err
		}
	}
	if !b.marks.drop {
		return nil
	}
	return b.plain.drop(b.Records, func(swap bool, edit func(*state.Record)) error {
		return b.rewrite(swap, false, func(rec *state.Record) error {
			edit(rec)
			return nil
		})
	})
}

// CopyTo copies a message to w.
func (b *Box) CopyTo(w io.Writer, rec *state.Record) error { return b.plain.copyTo(w, rec) }

// FlagsShown reports whether the plain file shows the flags of the record.
func (b *Box) FlagsShown(rec *state.Record) (bool, error) { return b.plain.flagsShown(rec) }

// Check looks whether the plain file is as long as the state file says, and changes nothing.
func (b *Box) Check() error {
	if b.marks.append || b.marks.swap {
		return nil // a run was ended here; the next one puts it right
	}
	return b.plain.check(b.end, b.last, false)
}

// Interrupted reports whether the last run did not come to the end of this mailbox.
func (b *Box) Interrupted() bool { return b.marks != (marks{}) }

// Close closes the files. What was added and not committed will be cut off by the next Open.
func (b *Box) Close() error {
	var err error
	if b.plain != nil {
		err = b.plain.close()
	}
	if b.log != nil {
		err = errors.Join(err, b.log.Close())
	}
	b.log = nil
	return err
}

// Stored reports whether there is a state file.
func (b *Box) Stored() bool { return b.stored }

// LoadMailbox is Load for a mailbox, and returns nil where there is no copy of it.
func (a *Archive) LoadMailbox(mailbox string, delimiter rune) (*Box, error) {
	b, err := a.Load(filename.Encode(mailbox, delimiter))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
