package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"mailstead.dev/cmd/imap-backup/mbox"
	"mailstead.dev/cmd/imap-backup/state"
)

// mboxFile is a mailbox as one file.
type mboxFile struct {
	root *os.Root
	name string
	file *os.File
	w    *bufio.Writer
	end  int64
}

func (m *mboxFile) exists() (bool, error) {
	_, err := m.root.Lstat(m.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// open makes file what it is to be: the file, opened once. The first open to write makes it.
func (m *mboxFile) open(create bool) error {
	if m.file != nil {
		return nil
	}
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	file, err := m.root.OpenFile(m.name, flags, 0o600)
	if err != nil && !create && !errors.Is(err, fs.ErrNotExist) {
		file, err = m.root.Open(m.name) // to read is all that one may
	}
	if err != nil {
		return err
	}
	m.file = file
	return nil
}

func (m *mboxFile) check(end int64, last *state.Record, ours bool) error {
	info, err := m.root.Lstat(m.name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && end == 0:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return &ForeignError{m.name, "it is gone, and the state file says that messages are in it"}
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &ForeignError{m.name, "not a plain file"}
	case info.Size() < end:
		return &ForeignError{m.name, fmt.Sprintf("it has %d octets less than the state file says: something changed it", end-info.Size())}
	case info.Size() > end && !ours:
		return &ForeignError{m.name, fmt.Sprintf("it has %d octets more than the state file says: something changed it", info.Size()-end)}
	}
	if err := m.open(false); err != nil {
		return err
	}
	if last != nil {
		head := make([]byte, len("From imap-backup "))
		tail := make([]byte, 1)
		if _, err := m.file.ReadAt(head, last.Place); err != nil {
			return err
		}
		if _, err := m.file.ReadAt(tail, end-1); err != nil {
			return err
		}
		if string(head) != "From imap-backup " || tail[0] != '\n' {
			return &ForeignError{m.name, "its last message is not where the state file says: something changed it"}
		}
	}
	if info.Size() > end {
		return m.cut(end)
	}
	return nil
}

func (m *mboxFile) begin(end int64) error {
	if m.file == nil {
		if err := errors.Join(m.open(true), syncDir(m.root, ".")); err != nil {
			return err
		}
	}
	if _, err := m.file.Seek(end, io.SeekStart); err != nil {
		return err
	}
	m.w, m.end = bufio.NewWriterSize(m.file, 128<<10), end
	return nil
}

func (m *mboxFile) add(rec *state.Record, raw bool, text io.Reader) error {
	n, err := mbox.Write(m.w, mbox.Message{Size: rec.Size, Raw: raw, Date: rec.Date, Flags: rec.Flags}, text)
	if err != nil {
		return err
	}
	rec.Place, rec.Length = m.end, n
	m.end += n
	return nil
}

func (m *mboxFile) sync() error {
	if m.w != nil {
		if err := m.w.Flush(); err != nil {
			return err
		}
	}
	if m.file == nil {
		return nil
	}
	return m.file.Sync()
}

func (m *mboxFile) cut(end int64) error {
	if m.file == nil {
		return nil
	}
	if err := m.file.Truncate(end); err != nil {
		return err
	}
	if m.w != nil {
		return m.begin(end)
	}
	return nil
}

func (m *mboxFile) reflag(rec *state.Record) error {
	if err := m.open(false); err != nil {
		return err
	}
	if err := m.hasEntry(rec); err != nil {
		return err
	}
	shown, err := m.flagsShown(rec)
	if err != nil || shown {
		return err
	}
	_, err = m.file.WriteAt(mbox.Status(rec.Flags), rec.Place+int64(mbox.StatusAt))
	return err
}

// hasEntry returns an error if no message begins where the record says: what is there instead is somebody else's.
func (m *mboxFile) hasEntry(rec *state.Record) error {
	head := make([]byte, mbox.HeadLength)
	if _, err := m.file.ReadAt(head, rec.Place); err != nil && err != io.EOF {
		return err
	}
	if !mbox.IsHead(head) {
		return &ForeignError{m.name, fmt.Sprintf("at %d no message begins, and the state file says so: something changed it", rec.Place)}
	}
	return nil
}

func (m *mboxFile) flagsShown(rec *state.Record) (bool, error) {
	if err := m.open(false); err != nil {
		return false, err
	}
	want := mbox.Status(rec.Flags)
	got := make([]byte, len(want))
	if _, err := m.file.ReadAt(got, rec.Place+int64(mbox.StatusAt)); err != nil {
		return false, err
	}
	return bytes.Equal(got, want), nil
}

// drop writes the file anew without the messages that go. The state file with the new
// places, which says that the new file takes the old one's place, is what makes it so.
func (m *mboxFile) drop(records func(func(*state.Record) error) error, rewrite func(bool, func(*state.Record)) error) error {
	if err := m.open(false); err != nil {
		return err
	}
	if err := removeIfThere(m.root, m.name+newExt); err != nil {
		return err
	}
	fresh, err := m.root.OpenFile(m.name+newExt, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(fresh, 128<<10)
	err = records(func(rec *state.Record) error {
		if err := m.hasEntry(rec); err != nil || rec.Kind == state.Drop {
			return err
		}
		_, err := io.Copy(w, io.NewSectionReader(m.file, rec.Place, rec.Length))
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = fresh.Sync()
	}
	if err := errors.Join(err, fresh.Close()); err != nil {
		return errors.Join(err, m.root.Remove(m.name+newExt))
	}
	var end int64
	err = rewrite(true, func(rec *state.Record) {
		if rec.Kind != state.Drop {
			rec.Place = end
			end += rec.Length
		}
	})
	if err != nil {
		return err
	}
	return m.recover(true)
}

func (m *mboxFile) recover(swap bool) error {
	if !swap {
		return removeIfThere(m.root, m.name+newExt)
	}
	err := m.root.Rename(m.name+newExt, m.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it took its place, and only the state file does not know yet
	}
	if err != nil {
		return err
	}
	if err := m.close(); err != nil {
		return err
	}
	return syncDir(m.root, ".")
}

func (m *mboxFile) copyTo(w io.Writer, rec *state.Record) error {
	if err := m.open(false); err != nil {
		return err
	}
	return mbox.Read(w, io.NewSectionReader(m.file, rec.Place, rec.Length))
}

func (m *mboxFile) close() error {
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	m.file, m.w = nil, nil
	return err
}
