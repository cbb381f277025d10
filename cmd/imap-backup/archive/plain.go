package archive

import (
	"io"
	"os"

	"mailstead.dev/cmd/imap-backup/state"
)

// plain is the part of a mailbox that people read: an mbox file, or a directory of
// files.
type plain interface {
	// exists reports whether there is something by our name.
	exists() (bool, error)
	// check looks, cheaply, whether the files reach to end and no further; ours is that what lies
	// behind may be what a run left that was ended, and is cut off.
	check(end int64, last *state.Record, ours bool) error
	// begin makes add possible.
	begin(end int64) error
	// add puts a message at the end and sets where it is in the record.
	add(rec *state.Record, raw bool, text io.Reader) error
	// sync returns once all that was added is on disk.
	sync() error
	// cut takes back what lies behind end.
	cut(end int64) error
	// reflag makes the flags in the plain file those of the record.
	reflag(rec *state.Record) error
	// flagsShown reports whether the plain file shows the flags of the record.
	flagsShown(rec *state.Record) (bool, error)
	// drop removes messages whose records are Drop from the plain files, and calls rewrite with what changes
	// the records that remain. See Box.settle.
	drop(records func(func(*state.Record) error) error, rewrite func(swap bool, edit func(*state.Record)) error) error
	// recover ends a drop that was interrupted.
	recover(swap bool) error
	// copyTo copies the message of a record.
	copyTo(w io.Writer, rec *state.Record) error
	close() error
}

func newPlain(root *os.Root, base, format string) plain {
	switch format {
	case "mbox":
		return &mboxFile{root: root, name: base + ".mbox"}
	case "maildir":
		return &files{root: root, dir: base + ".maildir", maildir: true}
	default:
		return &files{root: root, dir: base + ".eml"}
	}
}
