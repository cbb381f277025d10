package backup

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/remote"
	"mailstead.dev/cmd/imap-backup/state"
)

// job brings the copy of one mailbox up to date.
type job struct {
	o       Options
	archive *archive.Archive
	report  *report
	mailbox remote.Mailbox

	box     *archive.Box
	result  Result
	failed  map[imap.UID]failure
	left    map[imap.UID]bool // messages that are given up, reported
	planned bool
	some    bool // octets of a message have come, if not all
	lies    int  // messages of another size than the server said
	lie     string
	gone    []known     // messages that are here and not on the server, by the beginning of their sum
	there   imap.UIDSet // messages that the server has

	renumbered bool // UIDVALIDITY is another than it was
	keptBefore int  // messages that were here and not on the server before that
}

// failure is that the connection ended at a message.
type failure struct {
	times int
	same  int   // of those in a row, how often behind the same octet
	octet int64 // and which that is
}

// enough reports whether a message is to be left out: it is what ends the connection, not a bad line.
func (f failure) enough() bool { return f.same >= 3 || f.times >= 10 }

func newJob(o Options, a *archive.Archive, r *report, m remote.Mailbox, planned bool) *job {
	return &job{o: o, archive: a, report: r, mailbox: m, planned: planned, failed: map[imap.UID]failure{}, left: map[imap.UID]bool{}}
}

// run tries until the mailbox is done or no try gets any further. The error is one that ends all.
func (j *job) run(ctx context.Context, c *connection) error {
	for fruitless := 0; ; {
		before := j.result.New + len(j.left)
		j.some = false
		err := j.try(ctx, c)
		if err == nil {
			break
		}
		if fatal(ctx, err) {
			return err
		}
		var lost *remote.LostError
		var validity *remote.ValidityError
		again := errors.As(err, &lost) || errors.As(err, &validity)
		if again {
			c.lose()
		}
		if errors.As(err, &validity) {
			j.report.problem(j.mailbox.Name, "%v; begun again", validity)
		}
		fruitless++
		if j.some || j.result.New+len(j.left) > before {
			fruitless = 0
		}
		var unreachable *unreachableError
		if fruitless >= tries && errors.As(err, &unreachable) {
			return err
		}
		if !again || fruitless >= tries {
			j.report.problem(j.mailbox.Name, "%v", err)
			break
		}
		j.o.pause(ctx, fruitless, err)
	}
	if j.lies > 0 {
		j.report.problem(j.mailbox.Name, "%d messages have another size than the server said (%s); kept as they were sent", j.lies, j.lie)
	}
	j.report.done(j.mailbox.Name, j.result)
	return nil
}

// try opens the copy, does all there is to do, and closes it.
func (j *job) try(ctx context.Context, c *connection) error {
	box, err := j.archive.Open(j.mailbox.Name, j.mailbox.Delimiter, j.o.Format)
	if err != nil {
		return err
	}
	j.box = box
	err = j.update(ctx, c)
	j.result.Messages, j.result.Kept = box.Live, box.Kept
	return errors.Join(err, box.Close())
}

func (j *job) update(ctx context.Context, c *connection) error {
	if j.unchanged() {
		return nil
	}
	session, err := c.get(ctx)
	if err != nil {
		return err
	}
	status, err := session.Examine(j.mailbox.Name)
	if err != nil {
		return err
	}
	fresh, err := j.compare(session, status)
	if err != nil {
		return err
	}
	if err := j.fetch(session, fresh); err != nil {
		return err
	}
	if j.renumbered {
		j.result.Removed = max(0, j.box.Kept-j.keptBefore)
	}
	synced := state.Synced{ModSeq: status.ModSeq, UIDNext: status.UIDNext, Messages: status.Messages}
	if len(j.left) > 0 || j.o.Filter != (remote.Filter{}) {
		synced = state.Synced{}
	}
	drop, err := j.removed(session)
	if err != nil {
		return err
	}
	return j.box.Finish(synced, drop)
}

// removed returns what tells which of the messages that are not on the server go here as well. What it has and did not
// send, for a filter or since it could not, may be one of them under another UID, if it has the same Message-ID or neither
// has one, and they are of one size: that stays.
func (j *job) removed(s *remote.Session) (func(*state.Record) bool, error) {
	if !j.o.Drop || j.box.Kept == 0 {
		return nil, nil
	}
	key := func(messageID string, size int64) uint64 {
		if messageID != "" {
			size = 0 // it may lie about that
		}
		return keyOf(messageID, size, 0)
	}
	var hidden []known
	err := s.Infos(minus(j.there, j.box.UIDs), remote.Want{Size: true, MessageID: true}, func(m remote.MessageInfo) error {
		hidden = append(hidden, known{key: key(m.MessageID, m.Size)})
		return nil
	}, archive.MessageID)
	index(hidden)
	return func(rec *state.Record) bool { return len(with(hidden, key(rec.MessageID, rec.Size))) == 0 }, err
}

// unchanged reports whether the server said, before the mailbox was opened, that nothing in it is
// other than it is here: with CONDSTORE the HIGHESTMODSEQ tells of every change.
func (j *job) unchanged() bool {
	s, h := j.mailbox.Status, j.box.Header
	return s.ModSeq != 0 && s.UIDNext != 0 && s.UIDValidity == h.UIDValidity &&
		h.Synced == (state.Synced{ModSeq: s.ModSeq, UIDNext: s.UIDNext, Messages: s.Messages}) &&
		!j.box.Interrupted() && !(j.o.Drop && j.box.Kept > 0)
}
