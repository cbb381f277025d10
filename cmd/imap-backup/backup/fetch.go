package backup

import (
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/remote"
	"mailstead.dev/cmd/imap-backup/state"
)

// A command asks for so much at most. So much is written between two times that the disk is waited for.
const (
	batchBytes    = 32 << 20
	batchMessages = 2000
	batchRanges   = 300
	commitBytes   = 16 << 20
	commitTime    = 2 * time.Second
	planned       = 4000 // messages whose sizes are asked for at once
)

// batch is what one command asks for.
type batch struct {
	set   imap.UIDSet
	uids  []imap.UID
	fetch *remote.Fetch
}

// fetcher puts the new messages of a mailbox into its copy.
type fetcher struct {
	*job
	session   *remote.Session
	spool     *archive.Spool
	pending   int64 // octets that are not on disk for sure
	committed time.Time
	missing   imap.UIDSet // asked for and not sent
}

func (j *job) fetch(s *remote.Session, fresh imap.UIDSet) error {
	if !j.box.Stored() || j.box.Interrupted() || len(fresh) > 0 {
		if err := j.box.Begin(); err != nil {
			return err
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := j.indexGone(); err != nil {
		return err
	}
	f := &fetcher{job: j, session: s, spool: j.archive.NewSpool(), committed: time.Now()}
	err := f.all(fresh)
	if err != nil {
		// What has come whole is kept.
		if failed := j.box.Commit(); failed != nil {
			err = errors.Join(failed, err)
		}
	} else {
		err = j.box.Commit()
	}
	return errors.Join(err, f.spool.Close())
}

func (f *fetcher) all(fresh imap.UIDSet) error {
	if !f.planned {
		f.planned = true
		f.report.event(Event{Kind: Planned, Mailbox: f.mailbox.Name, Messages: count(fresh), Bytes: f.guess(fresh)})
	}
	for _, part := range chunk(fresh, planned) {
		batches, err := f.plan(part)
		if err != nil {
			return err
		}
		if err := f.run(batches); err != nil {
			return err
		}
	}
	return f.askAgain()
}

// guess says how large the new messages are, if the server said how large the mailbox is.
func (f *fetcher) guess(fresh imap.UIDSet) int64 {
	s := f.mailbox.Status
	if s.Messages == 0 {
		return 0
	}
	return int64(float64(s.Size) / float64(s.Messages) * float64(count(fresh)))
}

// chunk cuts a set into parts of so many UIDs.
func chunk(set imap.UIDSet, size int) []imap.UIDSet {
	var parts []imap.UIDSet
	var part imap.UIDSet
	room := size
	for _, r := range set {
		for start := r.Start; ; {
			n := min(int(r.Stop-start)+1, room)
			part = append(part, imap.UIDRange{Start: start, Stop: start + imap.UID(n-1)})
			room -= n
			if room == 0 {
				parts, part, room = append(parts, part), nil, size
			}
			if start += imap.UID(n - 1); start == r.Stop {
				break
			}
			start++
		}
	}
	if len(part) > 0 {
		parts = append(parts, part)
	}
	return parts
}

// plan makes batches of a set.
func (f *fetcher) plan(set imap.UIDSet) ([]*batch, error) {
	sizes := map[imap.UID]int64{}
	err := f.session.Infos(set, remote.Want{Size: true}, func(m remote.MessageInfo) error {
		sizes[m.UID] = m.Size
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	var batches []*batch
	var last *batch
	var bytes int64
	for uid := range uids(set) {
		size, there := sizes[uid]
		if f.left[uid] || !there { // removed since
			continue
		}
		if failed := f.failed[uid]; failed.enough() {
			f.leave(uid, "the connection ended here %d times; left out", failed.times)
			continue
		}
		if limit := f.limit(); size > limit {
			f.leave(uid, "%v; left out", &remote.TooLargeError{Size: size, Limit: limit})
			continue
		}
		alone := f.failed[uid].times > 0
		if last == nil || alone || bytes+size > batchBytes || len(last.uids) >= batchMessages || len(last.set) >= batchRanges {
			last, bytes = &batch{}, 0
			batches = append(batches, last)
		}
		last.set.AddNum(uid)
		last.uids = append(last.uids, uid)
		bytes += size
		if alone {
			last = nil
		}
	}
	return batches, nil
}

func (f *fetcher) limit() int64 {
	if f.o.MaxMessage > 0 {
		return f.o.MaxMessage
	}
	return 1 << 62
}

// leave gives a message up, and says so.
func (f *fetcher) leave(uid imap.UID, format string, args ...any) {
	f.left[uid] = true
	f.report.problem(f.mailbox.Name, "message UID %d: %s", uid, fmt.Sprintf(format, args...))
}

// run fetches the batches.
func (f *fetcher) run(batches []*batch) error {
	var before *batch
	for i, b := range batches {
		if b.fetch == nil {
			b.fetch = f.session.StartFetch(b.set)
		}
		open, err := f.receive(b, func() {
			if i+1 < len(batches) {
				batches[i+1].fetch = f.session.StartFetch(batches[i+1].set)
			}
		})
		if before != nil {
			if ended := f.end(before); err == nil {
				err = ended
			}
		}
		before = nil
		if open {
			before = b
		}
		if err != nil {
			return err
		}
	}
	if before != nil {
		return f.end(before)
	}
	return nil
}

// end waits for the end of a command all of whose messages have come. If it is NO, they have even so.
func (f *fetcher) end(b *batch) error {
	err := b.fetch.Close()
	var status *imap.Error
	if errors.As(err, &status) {
		return nil
	}
	return err
}

// receive takes the messages of a batch in. When all have come it calls next, which starts the next command, and does
// not wait for the command's end: open is then true. Commands overlap no further than this, since a server may
// answer two at the same time, message by message in turn (RFC 9051 section 5.5; Dovecot does where we read more slowly than it writes).
func (f *fetcher) receive(b *batch, next func()) (open bool, err error) {
	waiting := map[imap.UID]bool{}
	for _, uid := range b.uids {
		waiting[uid] = true
	}
	for {
		f.spool.Reset()
		info, text, err := f.fetchNext(b, waiting)
		if err != nil {
			return false, err
		}
		if info.UID == 0 && !text {
			break
		}
		if !text || !waiting[info.UID] {
			continue
		}
		delete(waiting, info.UID)
		if err := f.keep(info); err != nil {
			b.fetch.Abandon(err)
			return false, err
		}
		if len(waiting) == 0 {
			next()
			return true, nil
		}
	}
	err = b.fetch.Close()
	var status *imap.Error
	if err != nil && !errors.As(err, &status) {
		f.spool.Reset()
		f.blame(b, waiting)
		return false, err
	}
	for _, uid := range b.uids { // not sent; if the server said NO it may send the others when they are asked for alone
		if waiting[uid] {
			f.missing.AddNum(uid)
		}
	}
	return false, nil
}

func (f *fetcher) fetchNext(b *batch, waiting map[imap.UID]bool) (remote.MessageInfo, bool, error) {
	info, text, err := b.fetch.Next(f.spool, f.limit())
	if err == nil {
		return info, text, nil
	}
	var local *remote.WriteError
	if errors.As(err, &local) {
		b.fetch.Abandon(local)
		return info, false, local
	}
	var large *remote.TooLargeError
	if errors.As(err, &large) && info.UID != 0 {
		f.leave(info.UID, "%v; left out", large)
	} else {
		f.blame(b, waiting)
	}
	b.fetch.Abandon(err)
	return info, false, f.session.Lost(err)
}

// blame notes at which message the connection ended: the first that was awaited.
func (f *fetcher) blame(b *batch, waiting map[imap.UID]bool) {
	at := f.spool.Size()
	f.some = f.some || at > 0
	for _, uid := range b.uids {
		if waiting[uid] {
			failed := f.failed[uid]
			if failed.times == 0 || failed.octet != at {
				failed.same = 0
			}
			f.failed[uid] = failure{failed.times + 1, failed.same + 1, at}
			return
		}
	}
}

// keep puts the message in the spool into the copy.
func (f *fetcher) keep(info remote.MessageInfo) error {
	if size := f.spool.Size(); info.Size != size {
		if f.lies++; f.lies == 1 {
			f.lie = fmt.Sprintf("UID %d: %d octets said, %d sent", info.UID, info.Size, size)
		}
	}
	date := info.Date
	if date.IsZero() {
		date = time.Unix(0, 0).UTC()
	}
	rec := state.Record{UID: info.UID, Date: date, MessageID: f.spool.MessageID(), Flags: state.Flags(info.Flags)}
	old, again, err := f.takeGone(f.spool.Sum())
	if err != nil {
		return err
	}
	if again {
		rec.Place, rec.Length, rec.Size, rec.Sum = old.Place, old.Length, old.Size, old.Sum
		f.box.AddAgain(&rec)
		f.result.Again++
	} else if err := f.box.Add(&rec, f.spool); err != nil {
		return err
	}
	f.result.New++
	f.result.Bytes += f.spool.Size()
	f.report.event(Event{Kind: Moved, Mailbox: f.mailbox.Name, Messages: 1, Bytes: f.spool.Size()})
	f.pending += f.spool.Size()
	if f.pending < commitBytes && time.Since(f.committed) < commitTime {
		return nil
	}
	f.pending, f.committed = 0, time.Now()
	return f.box.Commit()
}

// askAgain asks once more, one by one, for messages that were not sent. Those that are gone are nobody's
// fault.
func (f *fetcher) askAgain() error {
	missing := f.missing
	f.missing = nil
	for uid := range uids(missing) {
		if err := f.run([]*batch{{set: imap.UIDSetNum(uid), uids: []imap.UID{uid}}}); err != nil {
			return err
		}
	}
	for _, part := range remote.Split(f.missing) {
		err := f.session.Infos(part, remote.Want{Size: true}, func(m remote.MessageInfo) error {
			f.leave(m.UID, "the server does not send it")
			return nil
		}, nil)
		var status *imap.Error
		if err != nil && !errors.As(err, &status) {
			return err
		}
	}
	f.missing = nil
	return nil
}
