package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/remote"
	"mailstead.dev/cmd/imap-backup/state"
)

// Verify reads every message here and compares it with the state files; with o.Dial set, the state files
// also with the server, and with fetch the messages there as well. New in the result is what was checked.
func Verify(ctx context.Context, o Options, fetch bool) (Result, error) {
	r := &report{show: o.Show}
	a, err := archive.Hold(o.Dir)
	if err != nil {
		return r.total, err
	}
	err = verify(ctx, o, fetch, a, r)
	return r.total, errors.Join(err, a.Close())
}

func verify(ctx context.Context, o Options, fetch bool, a *archive.Archive, r *report) error {
	names, foreign, err := a.Names()
	if err != nil {
		return err
	}
	for _, name := range foreign {
		r.event(Event{Kind: Notice, Text: name + " is not ours; not looked at"})
	}
	r.event(Event{Kind: Found, Messages: len(names)})
	var mailboxes []remote.Mailbox
	if o.Dial != nil {
		session, found, err := survey(ctx, o, r)
		if err != nil {
			return err
		}
		session.Close() // all files may take longer to read than a server waits
		mailboxes = found
	}
	uses := usesOf(mailboxes)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := verifyBox(ctx, o, a, r, name, uses); err != nil {
			return err
		}
	}
	if o.Dial == nil {
		return nil
	}
	session, err := o.Dial(ctx, func(text string) { r.problem("", "%s", text) })
	if err != nil {
		return err
	}
	defer session.Close()
	for _, m := range mailboxes {
		if !o.Select.Match(m.Name, m.Uses) {
			continue
		}
		v := &verifier{a: a, r: r, s: session, m: m, fetch: fetch}
		err := v.against()
		var lost *remote.LostError
		if errors.As(err, &lost) {
			return err
		}
		if err != nil {
			r.problem(m.Name, "%v", err)
		}
	}
	return nil
}

// verifyBox checks the plain file of a mailbox.
func verifyBox(ctx context.Context, o Options, a *archive.Archive, r *report, name string, uses map[string][]string) error {
	box, err := a.Load(name)
	if err != nil {
		r.problem("", "%v", err)
		return nil
	}
	mailbox := box.Header.Mailbox
	if !o.Select.Match(mailbox, uses[mailbox]) {
		return box.Close()
	}
	if box.Interrupted() {
		r.event(Event{Kind: Notice, Mailbox: mailbox, Text: "the last run was interrupted here; the next one goes on"})
	}
	if err := box.Check(); err != nil {
		r.problem(mailbox, "%v", err)
	}
	result := Result{Messages: box.Live, Kept: box.Kept}
	r.event(Event{Kind: Planned, Mailbox: mailbox, Messages: box.Live + box.Kept, Bytes: box.Bytes})
	err = box.Records(func(rec *state.Record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := intact(box, rec); err != nil {
			r.problem(mailbox, "message UID %d, at %d: %v", rec.UID, rec.Place, err)
			return nil
		}
		if shown, err := box.FlagsShown(rec); err != nil || !shown && rec.Kind == state.Message {
			r.event(Event{Kind: Notice, Mailbox: mailbox, Text: fmt.Sprintf("message UID %d, at %d: a mail program changed its flags here", rec.UID, rec.Place)})
		}
		result.New++
		result.Bytes += rec.Size
		r.event(Event{Kind: Moved, Mailbox: mailbox, Messages: 1, Bytes: rec.Size})
		return nil
	})
	if err != nil && ctx.Err() == nil {
		r.problem(mailbox, "%v", err)
		err = nil
	}
	r.done(mailbox, result)
	return errors.Join(err, box.Close())
}

// intact returns an error for a message that is not here as it was fetched.
func intact(box *archive.Box, rec *state.Record) error {
	sum := &summer{hash: sha256.New()}
	if err := box.CopyTo(sum, rec); err != nil {
		return err
	}
	if sum.size != rec.Size || sum.sum() != rec.Sum {
		return errors.New("it is not the message that was fetched (SHA-256)")
	}
	return nil
}

// summer is a hash that counts.
type summer struct {
	hash hash.Hash
	size int64
}

func (s *summer) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	return s.hash.Write(p)
}

func (s *summer) sum() (sum [32]byte) {
	s.hash.Sum(sum[:0])
	return sum
}

// verifier compares a mailbox on the server with its state file.
type verifier struct {
	a     *archive.Archive
	r     *report
	s     *remote.Session
	m     remote.Mailbox
	fetch bool
}

func (v *verifier) problem(format string, args ...any) { v.r.problem(v.m.Name, format, args...) }

func (v *verifier) against() error {
	status, err := v.s.Examine(v.m.Name)
	if err != nil {
		return err
	}
	box, err := v.a.LoadMailbox(v.m.Name, v.m.Delimiter)
	if err != nil {
		return err
	}
	if box == nil {
		if status.Messages > 0 {
			v.problem("on the server with %d messages, and not here", status.Messages)
		}
		return nil
	}
	return errors.Join(v.compare(box, status), box.Close())
}

func (v *verifier) compare(box *archive.Box, status remote.Status) error {
	if box.Header.UIDValidity != status.UIDValidity {
		v.problem("UIDVALIDITY is %d on the server and %d here", status.UIDValidity, box.Header.UIDValidity)
		return nil
	}
	there, err := v.s.UIDs(remote.Filter{})
	if err != nil {
		return err
	}
	if missing := minus(there, box.UIDs); len(missing) > 0 {
		v.problem("%d messages on the server are not here (UID %.60s)", count(missing), missing)
	}
	if extra := minus(box.UIDs, there); len(extra) > 0 {
		v.problem("%d messages here are removed on the server (UID %.60s)", count(extra), extra)
	}
	here := map[imap.UID]state.Record{}
	err = box.Records(func(rec *state.Record) error {
		if !rec.Live() || !there.Contains(rec.UID) {
			return nil
		}
		kept := *rec
		kept.Flags = slices.Clone(rec.Flags)
		here[rec.UID] = kept
		if len(here) < window/10 {
			return nil
		}
		return v.some(here)
	})
	if err != nil {
		return err
	}
	return v.some(here)
}

// some compares so many messages, and empties the map.
func (v *verifier) some(here map[imap.UID]state.Record) error {
	defer clear(here)
	var set imap.UIDSet
	for uid := range here {
		set.AddNum(uid)
	}
	err := v.s.Infos(set, remote.Want{Flags: true, Size: true, Date: true}, func(m remote.MessageInfo) error {
		rec, ok := here[m.UID]
		if !ok {
			return nil
		}
		if flags := state.Flags(m.Flags); !slices.Equal(flags, rec.Flags) {
			v.problem("message UID %d: flags are %v on the server and %v here", m.UID, flags, rec.Flags)
		}
		if m.Size != rec.Size {
			v.problem("message UID %d: the server says %d octets, and it sent %d", m.UID, m.Size, rec.Size)
		}
		if !m.Date.Equal(rec.Date) {
			v.problem("message UID %d: the date is %v on the server and %v here", m.UID, m.Date, rec.Date)
		}
		return nil
	}, nil)
	if err != nil || !v.fetch {
		return err
	}
	for _, part := range remote.Split(set) {
		fetch := v.s.StartFetch(part)
		for {
			sum := &summer{hash: sha256.New()}
			info, text, err := fetch.Next(sum, 1<<62)
			if err != nil {
				fetch.Abandon(err)
				return v.s.Lost(err)
			}
			if info.UID == 0 {
				break
			}
			if rec, ok := here[info.UID]; ok && text && (sum.sum() != rec.Sum || sum.size != rec.Size) {
				v.problem("message UID %d: the server sends another message than before (SHA-256)", info.UID)
			}
		}
		if err := fetch.Close(); err != nil {
			return err
		}
	}
	return nil
}
