package backup

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/filename"
	"mailstead.dev/cmd/imap-backup/remote"
)

// Row is what List says of a mailbox.
type Row struct {
	Mailbox    string `json:"mailbox"`
	File       string `json:"file"`
	Here       int    `json:"here"`
	Bytes      int64  `json:"bytes"`
	Kept       int    `json:"kept"`
	OnServer   bool   `json:"on_server"`
	Server     int    `json:"server"`
	ToFetch    int    `json:"to_fetch"`
	FetchBytes int64  `json:"fetch_bytes"`
	ToRemove   int    `json:"to_remove"`
}

// List says what is here and, if o.Dial is set, what a run would do.
func List(ctx context.Context, o Options) ([]Row, Result, error) {
	r := &report{show: o.Show}
	a, err := archive.Read(o.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.Dial != nil:
		a = nil // nothing is here yet
	case err != nil:
		return nil, r.total, err
	}
	rows, err := list(ctx, a, o, r)
	if a != nil {
		err = errors.Join(err, a.Close())
	}
	slices.SortFunc(rows, func(x, y Row) int { return cmp.Compare(x.Mailbox, y.Mailbox) })
	return rows, r.total, err
}

func list(ctx context.Context, a *archive.Archive, o Options, r *report) ([]Row, error) {
	if o.Dial == nil {
		return rowsHere(a, o, r, nil)
	}
	session, mailboxes, err := survey(ctx, o, r)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	rows, err := rowsHere(a, o, r, usesOf(mailboxes))
	if err != nil {
		return nil, err
	}
	return rowsThere(session, mailboxes, a, o, r, rows)
}

func rowsHere(a *archive.Archive, o Options, r *report, uses map[string][]string) ([]Row, error) {
	if a == nil {
		return nil, nil
	}
	names, _, err := a.Names()
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, name := range names {
		box, err := a.Load(name)
		if err != nil {
			r.problem("", "%v", err)
			continue
		}
		if err := box.Check(); err != nil {
			r.problem(box.Header.Mailbox, "%v", err)
		}
		if name := box.Header.Mailbox; o.Select.Match(name, uses[name]) {
			rows = append(rows, Row{Mailbox: name, File: box.Name + "." + box.Header.Format, Here: box.Live, Bytes: box.Bytes, Kept: box.Kept})
		}
		if err := box.Close(); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func rowsThere(session *remote.Session, mailboxes []remote.Mailbox, a *archive.Archive, o Options, r *report, rows []Row) ([]Row, error) {
	for _, m := range mailboxes {
		if !o.Select.Match(m.Name, m.Uses) {
			continue
		}
		at := slices.IndexFunc(rows, func(r Row) bool { return r.Mailbox == m.Name })
		if at < 0 {
			at = len(rows)
			rows = append(rows, Row{Mailbox: m.Name, File: filename.Encode(m.Name, m.Delimiter) + "." + o.Format})
		}
		if err := look(session, a, o, m, &rows[at]); err != nil {
			var lost *remote.LostError
			if errors.As(err, &lost) {
				return nil, err
			}
			r.problem(m.Name, "%v", err)
		}
	}
	return rows, nil
}

// look compares a mailbox with its copy.
func look(s *remote.Session, a *archive.Archive, o Options, m remote.Mailbox, row *Row) error {
	row.OnServer = true
	status, err := s.Examine(m.Name)
	if err != nil {
		return err
	}
	row.Server = int(status.Messages)
	there, err := s.UIDs(o.Filter)
	if err != nil {
		return err
	}
	fresh := there
	if row.Here > 0 {
		box, err := a.Load(filename.Encode(m.Name, m.Delimiter))
		if err != nil {
			return err
		}
		if box.Header.UIDValidity == status.UIDValidity {
			fresh = minus(there, box.UIDs)
			all := there
			if o.Filter != (remote.Filter{}) {
				if all, err = s.UIDs(remote.Filter{}); err != nil {
					return errors.Join(err, box.Close())
				}
			}
			row.ToRemove = count(minus(box.UIDs, all))
		}
		if err := box.Close(); err != nil {
			return err
		}
	}
	return s.Infos(fresh, remote.Want{Size: true}, func(m remote.MessageInfo) error {
		row.ToFetch++
		row.FetchBytes += m.Size
		return nil
	}, nil)
}
