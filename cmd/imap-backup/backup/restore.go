package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/mbox"
	"mailstead.dev/cmd/imap-backup/remote"
	"mailstead.dev/cmd/imap-backup/state"
)

// Restore says where messages are put, and which.
type Restore struct {
	Prefix string // a mailbox; "" puts them where they were
	Gone   bool   // also those that were removed on the server
}

// RunRestore puts what is here onto a server. New in the result is what was put there, Again what was there.
func RunRestore(ctx context.Context, o Options, restore Restore) (Result, error) {
	r := &report{show: o.Show}
	a, err := archive.Hold(o.Dir)
	if err != nil {
		return r.total, err
	}
	err = runRestore(ctx, o, restore, a, r)
	return r.total, errors.Join(err, a.Close())
}

func runRestore(ctx context.Context, o Options, restore Restore, a *archive.Archive, r *report) error {
	names, _, err := a.Names()
	if err != nil {
		return err
	}
	session, mailboxes, err := survey(ctx, o, r)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	delimiter := '/'
	for _, m := range mailboxes {
		there[m.Name] = true
		if m.Delimiter != 0 {
			delimiter = m.Delimiter
		}
	}
	// A mailbox of the copies stands for its file from here on.
	var work []remote.Mailbox
	for _, name := range names {
		box, err := a.Load(name)
		if err != nil {
			r.problem("", "%v", err)
			continue
		}
		if o.Select.Match(box.Header.Mailbox, nil) {
			work = append(work, remote.Mailbox{Name: name, Status: remote.Status{Messages: uint32(box.Live)}})
		}
		if err := box.Close(); err != nil {
			session.Close()
			return err
		}
	}
	r.event(Event{Kind: Found, Messages: len(work)})
	return each(ctx, o, r, session, work, func(ctx context.Context, c *connection, m remote.Mailbox) error {
		put := &putter{o: o, a: a, r: r, restore: restore, name: m.Name, there: there, delimiter: delimiter,
			left: map[int64]bool{}, refused: map[int64]string{}}
		return put.run(ctx, c)
	})
}

// putter puts the messages of one mailbox onto the server.
type putter struct {
	o         Options
	a         *archive.Archive
	r         *report
	restore   Restore
	name      string // of the file
	there     map[string]bool
	delimiter rune
	result    Result
	planned   bool
	left      map[int64]bool   // messages that are given up, reported, by place
	refused   map[int64]string // messages that the server did not take with their keywords, and why
}

// progress grows with each message that is put there or left out.
func (p *putter) progress() int { return p.result.New + len(p.left) + len(p.refused) }

func (p *putter) run(ctx context.Context, c *connection) error {
	var target string
	for fruitless := 0; ; {
		before := p.progress()
		var err error
		target, err = p.try(ctx, c)
		if err == nil {
			break
		}
		if fatal(ctx, err) {
			return err
		}
		var lost *remote.LostError
		again := errors.As(err, &lost)
		if again {
			c.lose()
		}
		fruitless++
		if p.progress() > before {
			fruitless = 0
		}
		var unreachable *unreachableError
		if fruitless >= tries && errors.As(err, &unreachable) {
			return err
		}
		if !again || fruitless >= tries {
			p.r.problem(target, "%v", err)
			break
		}
		p.o.pause(ctx, fruitless, err)
	}
	p.r.done(target, p.result)
	return nil
}

func (p *putter) try(ctx context.Context, c *connection) (target string, err error) {
	box, err := p.a.Load(p.name)
	if err != nil {
		return p.name, err
	}
	target = p.target(&box.Header)
	return target, errors.Join(p.put(ctx, c, box, target), box.Close())
}

// target returns the mailbox on the server: with its delimiter, below the prefix.
func (p *putter) target(h *state.Header) string {
	name := h.Mailbox
	if h.Delimiter != 0 && h.Delimiter != p.delimiter {
		name = strings.NewReplacer(string(h.Delimiter), string(p.delimiter), string(p.delimiter), "_").Replace(name)
	}
	if p.restore.Prefix == "" {
		return name
	}
	return strings.TrimSuffix(p.restore.Prefix, string(p.delimiter)) + string(p.delimiter) + name
}

func (p *putter) put(ctx context.Context, c *connection, box *archive.Box, target string) error {
	session, err := c.get(ctx)
	if err != nil {
		return err
	}
	if !p.there[target] {
		if err := session.Create(target); err != nil {
			return fmt.Errorf("create the mailbox: %w", err)
		}
	}
	present, err := p.present(session, target)
	if err != nil {
		return err
	}
	if !p.planned {
		p.planned = true
		p.r.event(Event{Kind: Planned, Mailbox: target, Messages: box.Live, Bytes: box.Bytes})
	}
	p.result.Messages, p.result.Again = 0, -p.result.New // what an earlier try put there is found now
	return box.Records(func(rec *state.Record) error {
		if !rec.Live() && !p.restore.Gone || p.left[rec.Place] {
			return nil
		}
		found := present.takeExact(rec)
		if !found {
			if err := intact(box, rec); err != nil {
				p.leave(target, rec, "not put there: %v", err)
				return nil
			}
			if found, err = present.takeSame(session, box, rec); err != nil {
				return err
			}
		}
		if found {
			p.result.Again++
		} else if err := p.append(session, box, target, rec); err != nil {
			return err
		}
		p.result.Messages++
		p.r.event(Event{Kind: Moved, Mailbox: target, Messages: 1, Bytes: rec.Size})
		return ctx.Err()
	})
}

// append puts a message there. A server that refuses it is a problem of this message alone. It may have ended the
// connection as well: then the turn of this message comes again.
func (p *putter) append(s *remote.Session, box *archive.Box, target string, rec *state.Record) error {
	system := slices.DeleteFunc(slices.Clone(rec.Flags), func(f imap.Flag) bool { return !strings.HasPrefix(string(f), `\`) })
	flags := rec.Flags
	why, refused := p.refused[rec.Place]
	if refused {
		flags = system // perhaps it knows no keywords
	}
	err := s.Append(target, flags, rec.Date, rec.Size, func(w io.Writer) error { return box.CopyTo(w, rec) })
	var status *imap.Error
	switch {
	case errors.As(err, &status) && len(flags) > len(system):
		p.refused[rec.Place] = status.Text
		return p.append(s, box, target, rec)
	case errors.As(err, &status):
		p.leave(target, rec, "the server refuses it: %s", status.Text)
		return nil
	case err != nil:
		return err
	case refused:
		p.r.problem(target, "message UID %d: the server takes it without its keywords only (%s)", rec.UID, why)
	}
	p.result.New++
	p.result.Bytes += rec.Size
	return nil
}

// leave gives a message up, and says so.
func (p *putter) leave(target string, rec *state.Record, format string, args ...any) {
	p.left[rec.Place] = true
	p.r.problem(target, "message UID %d: %s", rec.UID, fmt.Sprintf(format, args...))
}

// present is what is in a mailbox on the server; each message may be taken once.
type present struct {
	exact []known // UIDs by Message-ID, size and date, of those that have a Message-ID
	rough []known // UIDs by date, and by Message-ID: the server may find another one in a strange header, say another size, keep lines with other ends, or no dates
	taken imap.UIDSet
	sums  map[imap.UID][32]byte // of the texts that were fetched to compare
}

func (p *putter) present(s *remote.Session, target string) (*present, error) {
	status, err := s.Examine(target)
	if err != nil {
		return nil, err
	}
	there := &present{sums: map[imap.UID][32]byte{}}
	if status.Messages == 0 {
		return there, nil
	}
	all := imap.UIDSet{{Start: 1, Stop: 1<<32 - 1}}
	err = s.Infos(all, remote.Want{Size: true, Date: true, MessageID: true}, func(m remote.MessageInfo) error {
		if m.MessageID != "" {
			there.exact = append(there.exact, known{keyOf(m.MessageID, m.Size, m.Date.Unix()), int64(m.UID)})
			there.rough = append(there.rough, known{keyOf(m.MessageID, 0, 0), int64(m.UID)})
		}
		there.rough = append(there.rough, known{uint64(m.Date.Unix()), int64(m.UID)})
		return nil
	}, archive.MessageID)
	index(there.exact)
	index(there.rough)
	return there, err
}

// takeExact reports whether a message is there, as Message-ID, size and date tell, and takes it, so that its double does not find it as well.
func (t *present) takeExact(rec *state.Record) bool {
	if rec.MessageID == "" {
		return false
	}
	for _, k := range with(t.exact, keyOf(rec.MessageID, rec.Size, rec.Date.Unix())) {
		if uid := imap.UID(k.at); !t.taken.Contains(uid) {
			t.taken.AddNum(uid)
			return true
		}
	}
	return false
}

// takeSame does that for a message that its text alone can tell.
func (t *present) takeSame(s *remote.Session, box *archive.Box, rec *state.Record) (bool, error) {
	var sameID []known
	if rec.MessageID != "" {
		sameID = with(t.rough, keyOf(rec.MessageID, 0, 0))
	}
	rough := slices.DeleteFunc(slices.Concat(with(t.rough, uint64(rec.Date.Unix())), sameID), func(k known) bool { return t.taken.Contains(imap.UID(k.at)) })
	if len(rough) == 0 {
		return false, nil
	}
	mine, err := sumOf(func(w io.Writer) error { return box.CopyTo(w, rec) })
	if err != nil {
		return false, err
	}
	for _, k := range rough {
		uid := imap.UID(k.at)
		sum, known := t.sums[uid]
		if !known {
			if sum, err = sumOf(func(w io.Writer) error { return fetchOne(s, uid, w) }); err != nil {
				return false, err
			}
			t.sums[uid] = sum
		}
		if sum == mine {
			t.taken.AddNum(uid)
			return true, nil
		}
	}
	return false, nil
}

// sumOf returns the sum of a text whose lines end with LF: some servers change that.
func sumOf(text func(io.Writer) error) (sum [32]byte, err error) {
	hash := sha256.New()
	strip := mbox.WithoutCR(hash)
	if err := errors.Join(text(strip), strip.Close()); err != nil {
		return sum, err
	}
	hash.Sum(sum[:0])
	return sum, nil
}

// fetchOne copies a message to w, if it is still there.
func fetchOne(s *remote.Session, uid imap.UID, w io.Writer) error {
	fetch := s.StartFetch(imap.UIDSetNum(uid))
	for {
		info, _, err := fetch.Next(w, 1<<62)
		if err != nil {
			fetch.Abandon(err)
			return s.Lost(err)
		}
		if info.UID == 0 {
			return fetch.Close()
		}
	}
}
