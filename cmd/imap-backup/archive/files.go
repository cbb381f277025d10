package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/cmd/imap-backup/mbox"
	"mailstead.dev/cmd/imap-backup/state"
)

// files is a mailbox as a directory with a file for each message: a Maildir, where lines end with LF and the
// flags stand in the names, or plain .eml files, octet by octet as the server has them. The
// files are numbered; what has another name is not ours.
type files struct {
	root    *os.Root
	dir     string
	maildir bool
	next    int64
	added   []newFile        // not on disk for sure yet
	names   map[int64]string // of a Maildir, as they are now; nil if nobody has looked
}

// newFile is written under a name at which nobody looks, and gets its own when it is whole.
type newFile struct {
	file     *os.File
	tmp, own string
}

func (f *files) exists() (bool, error) {
	_, err := f.root.Lstat(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// where is the directory that has the files.
func (f *files) where() string {
	if f.maildir {
		return path.Join(f.dir, "cur")
	}
	return f.dir
}

const (
	emlExt     = ".eml"
	maildirEnd = ".imap-backup"
	hidden     = "." // before the name of an .eml file that is not whole
	digits     = 10
)

func (f *files) fileName(number int64, flags []imap.Flag) string {
	if !f.maildir {
		return fmt.Sprintf("%0*d%s", digits, number, emlExt)
	}
	return fmt.Sprintf("%0*d%s:2,%s", digits, number, maildirEnd, maildirFlags(flags))
}

// maildirFlags are in the order of the alphabet. \Deleted is not among them: a program that opens the
// Maildir would delete the message.
func maildirFlags(flags []imap.Flag) string {
	var letters string
	for _, known := range []struct {
		flag   imap.Flag
		letter string
	}{{imap.FlagDraft, "D"}, {imap.FlagFlagged, "F"}, {imap.FlagForwarded, "P"}, {imap.FlagAnswered, "R"}, {imap.FlagSeen, "S"}} {
		for _, flag := range flags {
			if flag == known.flag {
				letters += known.letter
				break
			}
		}
	}
	return letters
}

// numberOf returns the number in a name of ours.
func (f *files) numberOf(name string) (int64, bool) {
	head := ""
	var ours bool
	if f.maildir {
		head, _, ours = strings.Cut(name, maildirEnd)
	} else {
		head, ours = strings.CutSuffix(name, emlExt)
	}
	n, err := strconv.ParseInt(head, 10, 63)
	return n, ours && err == nil && len(head) >= digits
}

// look reads the directory. A mail program may have renamed files for flags of its own.
func (f *files) look() error {
	if f.names != nil {
		return nil
	}
	names := map[int64]string{}
	dirs := []string{f.where()}
	if f.maildir {
		dirs = append(dirs, path.Join(f.dir, "new"))
	}
	for _, dir := range dirs {
		d, err := f.root.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for {
			entries, err := d.ReadDir(1000)
			for _, entry := range entries {
				if n, ours := f.numberOf(entry.Name()); ours {
					names[n] = path.Join(dir, entry.Name())
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return errors.Join(err, d.Close())
			}
		}
		if err := d.Close(); err != nil {
			return err
		}
	}
	f.names = names
	return nil
}

// find returns the file of a record.
func (f *files) find(rec *state.Record) (string, error) {
	likely := path.Join(f.where(), f.fileName(rec.Place, rec.Flags))
	if _, err := f.root.Lstat(likely); err == nil || !f.maildir {
		return likely, err
	}
	if err := f.look(); err != nil {
		return "", err
	}
	name, ok := f.names[rec.Place]
	if !ok {
		return "", &fs.PathError{Op: "open", Path: likely, Err: fs.ErrNotExist}
	}
	return name, nil
}

func (f *files) check(end int64, last *state.Record, ours bool) error {
	info, err := f.root.Lstat(f.dir)
	if errors.Is(err, fs.ErrNotExist) && end == 0 {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &ForeignError{f.dir, "it is gone, and the state file says that messages are in it"}
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &ForeignError{f.dir, "not a directory"}
	}
	if last != nil {
		if _, err := f.find(last); errors.Is(err, fs.ErrNotExist) {
			return &ForeignError{f.dir, "its last message is gone: something changed it"}
		} else if err != nil {
			return err
		}
	}
	if ours {
		return f.cut(end)
	}
	return nil
}

func (f *files) begin(end int64) error {
	dirs := []string{f.dir}
	if f.maildir {
		dirs = append(dirs, path.Join(f.dir, "tmp"), path.Join(f.dir, "new"), path.Join(f.dir, "cur"))
	}
	for _, dir := range dirs {
		if err := f.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	f.next = end
	return syncDir(f.root, ".")
}

func (f *files) add(rec *state.Record, raw bool, text io.Reader) error {
	rec.Place = f.next
	name := f.fileName(rec.Place, rec.Flags)
	added := newFile{own: path.Join(f.where(), name), tmp: path.Join(f.dir, hidden+name)}
	if f.maildir {
		added.tmp = path.Join(f.dir, "tmp", name)
	}
	file, err := f.root.OpenFile(added.tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	added.file = file
	f.added = append(f.added, added)
	f.next++
	if f.names != nil {
		f.names[rec.Place] = added.own
	}
	if f.maildir && !raw {
		strip := mbox.WithoutCR(file)
		_, err = io.Copy(strip, text)
		err = errors.Join(err, strip.Close())
	} else {
		_, err = io.Copy(file, text)
	}
	if err == nil {
		rec.Length, err = file.Seek(0, io.SeekCurrent)
	}
	if err == nil && len(f.added) >= 64 {
		err = f.syncFiles()
	}
	return err
}

func (f *files) syncFiles() error {
	var err error
	for _, added := range f.added {
		err = errors.Join(err, added.file.Sync(), added.file.Close())
		if err == nil {
			err = f.root.Rename(added.tmp, added.own)
		}
	}
	f.added = f.added[:0]
	return err
}

func (f *files) sync() error {
	if err := f.syncFiles(); err != nil {
		return err
	}
	if err := syncDir(f.root, f.where()); err != nil {
		return err
	}
	return syncDir(f.root, f.dir)
}

func (f *files) cut(end int64) error {
	var failed error
	for _, added := range f.added {
		failed = errors.Join(failed, added.file.Close())
	}
	f.added, f.names, f.next = f.added[:0], nil, end
	if err := errors.Join(failed, f.removeTmp()); err != nil {
		return err
	}
	if err := f.look(); err != nil {
		return err
	}
	for number, name := range f.names {
		if number >= end {
			if err := f.root.Remove(name); err != nil {
				return err
			}
			delete(f.names, number)
		}
	}
	return nil
}

// removeTmp removes files of ours that did not become whole.
func (f *files) removeTmp() error {
	dir, prefix := f.dir, hidden
	if f.maildir {
		dir, prefix = path.Join(f.dir, "tmp"), ""
	}
	entries, err := fs.ReadDir(f.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		name, whole := strings.CutPrefix(entry.Name(), prefix)
		if _, ours := f.numberOf(name); whole && ours {
			err = errors.Join(err, f.root.Remove(path.Join(dir, entry.Name())))
		}
	}
	return err
}

func (f *files) reflag(rec *state.Record) error {
	if !f.maildir {
		return nil
	}
	if err := f.look(); err != nil {
		return err
	}
	want := path.Join(f.where(), f.fileName(rec.Place, rec.Flags))
	have, ok := f.names[rec.Place]
	if !ok {
		return &ForeignError{want, "it is gone"}
	}
	if have == want {
		return nil
	}
	f.names[rec.Place] = want
	return f.root.Rename(have, want)
}

func (f *files) flagsShown(rec *state.Record) (bool, error) {
	if !f.maildir {
		return true, nil
	}
	name, err := f.find(rec)
	return name == path.Join(f.where(), f.fileName(rec.Place, rec.Flags)), err
}

func (f *files) drop(records func(func(*state.Record) error) error, rewrite func(bool, func(*state.Record)) error) error {
	err := records(func(rec *state.Record) error {
		if rec.Kind != state.Drop {
			return nil
		}
		name, err := f.find(rec)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an earlier run removed it and was ended
		}
		if err != nil {
			return err
		}
		return f.root.Remove(name)
	})
	if err != nil {
		return err
	}
	f.names = nil
	return syncDir(f.root, f.where())
}

func (f *files) recover(bool) error { return nil }

func (f *files) copyTo(w io.Writer, rec *state.Record) error {
	name, err := f.find(rec)
	if err != nil {
		return err
	}
	file, err := f.root.Open(name)
	if err != nil {
		return err
	}
	if f.maildir && rec.Length != rec.Size { // with as many octets, no CR was left out
		err = mbox.WithCR(w, file)
	} else {
		_, err = io.Copy(w, file)
	}
	return errors.Join(err, file.Close())
}

// close leaves what was not committed to the next run, which removes it.
func (f *files) close() error {
	var err error
	for _, added := range f.added {
		err = errors.Join(err, added.file.Close())
	}
	f.added = nil
	return err
}
