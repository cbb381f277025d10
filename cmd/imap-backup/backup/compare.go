package backup

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/remote"
	"mailstead.dev/cmd/imap-backup/state"
)

// window is how many messages' changes are held at once.
const window = 20_000

// compare brings what is here in line with the server but for texts, and returns
// the messages whose texts are to be fetched.
func (j *job) compare(s *remote.Session, status remote.Status) (imap.UIDSet, error) {
	box := j.box
	since := box.Header.Synced.ModSeq
	if status.ModSeq < since {
		since = 0 // it has none any more, or it is what was restored from an older copy
	}
	if box.Header.UIDValidity != status.UIDValidity {
		since = 0
		if err := j.renumber(status.UIDValidity); err != nil {
			return nil, err
		}
	}
	here := box.UIDs
	changed := j.noChanges()
	// The server is asked for changes and for removals in one round trip.
	var flags *remote.InfosCommand
	if len(here) > 0 && since != 0 && since != status.ModSeq {
		flags = s.StartInfos(imap.UIDSet{{Start: 1, Stop: here[len(here)-1].Stop}}, remote.Want{Flags: true, ChangedSince: since})
	}
	search := s.StartUIDs(remote.Filter{})
	if flags != nil {
		if err := j.changedFlags(flags, here, changed); err != nil {
			search.Wait() // fails for the same reason
			return nil, err
		}
	}
	there, err := search.Wait()
	if err != nil {
		return nil, err
	}
	if !sane(there, status.Messages) {
		return nil, &remote.BadResponseError{Reason: "SEARCH finds more messages than there are"}
	}
	wanted := there
	if j.o.Filter != (remote.Filter{}) {
		if wanted, err = s.UIDs(j.o.Filter); err != nil {
			return nil, err
		}
	}
	j.there = there
	if changed.removed, err = j.notThere(s, minus(here, there), int(status.Messages)-count(there)); err != nil {
		return nil, err
	}
	fresh := minus(wanted, here)
	if since == 0 {
		if err := j.compareFlags(s, minus(here, changed.removed), changed); err != nil {
			return nil, err
		}
	}
	if err := changed.apply(); err != nil {
		return nil, err
	}
	if len(fresh) > 0 && box.Kept > 0 {
		return j.findAgain(s, fresh)
	}
	return fresh, nil
}

// notThere returns which of the messages that SEARCH did not find are removed. Where it found fewer than there are
// the server is asked for them by their UIDs as well: some were removed in between, or SEARCH does not find all.
func (j *job) notThere(s *remote.Session, removed imap.UIDSet, lacks int) (imap.UIDSet, error) {
	if len(removed) == 0 || lacks <= 0 {
		return removed, nil
	}
	var still imap.UIDSet
	err := s.Infos(removed, remote.Want{}, func(m remote.MessageInfo) error {
		still.AddNum(m.UID)
		return nil
	}, nil)
	if len(still) > 0 {
		j.report.problem(j.mailbox.Name, "SEARCH does not find %d messages that are there (UID %.60s)", count(still), still)
	}
	return minus(removed, still), err
}

// renumber is for a mailbox under another UIDVALIDITY: what is here is gone, until it is found again under its new UID.
func (j *job) renumber(validity uint32) error {
	box := j.box
	box.Header.UIDValidity, box.Header.Synced = validity, state.Synced{}
	if box.Live == 0 {
		return nil
	}
	j.report.event(Event{Kind: Notice, Mailbox: j.mailbox.Name, Text: "UIDVALIDITY is another: the messages here are looked for under their new UIDs"})
	j.renumbered, j.keptBefore = true, box.Kept
	return box.Rewrite(func(rec *state.Record) error {
		if rec.Live() {
			rec.Kind = state.Gone
		}
		return nil
	})
}

// changes is what a server says otherwise than the state file.
type changes struct {
	job     *job
	removed imap.UIDSet
	flags   map[imap.UID][]imap.Flag
	again   map[int64]remote.MessageInfo // by place: messages that were gone
	sets    interned
}

func (j *job) noChanges() *changes {
	return &changes{job: j, flags: map[imap.UID][]imap.Flag{}, again: map[int64]remote.MessageInfo{}, sets: interned{}}
}

// flag notes new flags. Where there are very many the state file is written in between.
func (c *changes) flag(uid imap.UID, flags []imap.Flag) error {
	c.flags[uid] = flags
	return c.bound()
}

func (c *changes) bound() error {
	if len(c.flags)+len(c.again) < window {
		return nil
	}
	return c.apply()
}

// changedFlags takes in the flags that a server with CONDSTORE says have changed.
func (j *job) changedFlags(command *remote.InfosCommand, here imap.UIDSet, c *changes) error {
	return command.Each(func(m remote.MessageInfo) error {
		if !here.Contains(m.UID) {
			return nil
		}
		return c.flag(m.UID, c.sets.of(m.Flags))
	}, nil)
}

// compareFlags asks a server without it for all flags, and keeps those that are other than here.
func (j *job) compareFlags(s *remote.Session, stay imap.UIDSet, c *changes) error {
	if len(stay) == 0 {
		return nil
	}
	here := map[imap.UID][]imap.Flag{}
	ask := func() error {
		var set imap.UIDSet
		for uid := range here {
			set.AddNum(uid)
		}
		err := s.Infos(set, remote.Want{Flags: true}, func(m remote.MessageInfo) error {
			now := c.sets.of(m.Flags)
			if was, ok := here[m.UID]; ok && !slices.Equal(was, now) {
				return c.flag(m.UID, now)
			}
			return nil
		}, nil)
		clear(here)
		return err
	}
	err := j.box.Records(func(rec *state.Record) error {
		if !rec.Live() || !stay.Contains(rec.UID) {
			return nil
		}
		here[rec.UID] = c.sets.of(rec.Flags)
		if len(here) < window {
			return nil
		}
		return ask()
	})
	if err != nil || len(here) == 0 {
		return err
	}
	return ask()
}

// interned keeps each set of flags once: messages have few different ones.
type interned map[string][]imap.Flag

func (in interned) of(flags []imap.Flag) []imap.Flag {
	sorted := state.Flags(flags)
	var b strings.Builder
	for _, flag := range sorted {
		b.WriteString(string(flag))
		b.WriteByte(' ')
	}
	if same, ok := in[b.String()]; ok {
		return same
	}
	if len(in) >= window {
		clear(in) // each message has flags of its own
	}
	in[b.String()] = sorted
	return sorted
}

// known is a message that is here, by a key of what it is to be found by.
type known struct {
	key uint64
	at  int64 // its place, or its line in the state file
}

// index sorts messages so that with can find them.
func index(messages []known) {
	slices.SortFunc(messages, func(a, b known) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.at, b.at)) })
}

// with returns the messages that have a key.
func with(messages []known, key uint64) []known {
	at, _ := slices.BinarySearchFunc(messages, key, func(k known, key uint64) int { return cmp.Compare(k.key, key) })
	end := at
	for end < len(messages) && messages[end].key == key {
		end++
	}
	return messages[at:end]
}

// takeOne returns one of the messages that have a key, each once.
func takeOne(messages []known, key uint64) (at int64, ok bool) {
	same := with(messages, key)
	for i, k := range same {
		if k.at >= 0 {
			same[i].at = -1
			return k.at, true
		}
	}
	return 0, false
}

func keyOf(messageID string, size int64, date int64) uint64 {
	h := fnv.New64a()
	var numbers [16]byte
	binary.LittleEndian.PutUint64(numbers[:], uint64(size))
	binary.LittleEndian.PutUint64(numbers[8:], uint64(date))
	h.Write(numbers[:])
	h.Write([]byte(messageID))
	return h.Sum64()
}

// findAgain finds among new messages those that are here already: moved away and back, or
// under the UIDs of another UIDVALIDITY. They have the same Message-ID, size and date. It returns the others.
func (j *job) findAgain(s *remote.Session, fresh imap.UIDSet) (imap.UIDSet, error) {
	var here []known
	err := j.box.Records(func(rec *state.Record) error {
		if rec.Kind == state.Gone && rec.MessageID != "" {
			here = append(here, known{keyOf(rec.MessageID, rec.Size, rec.Date.Unix()), rec.Place})
		}
		return nil
	})
	if err != nil || len(here) == 0 {
		return fresh, err
	}
	index(here)
	c := j.noChanges()
	var found imap.UIDSet
	err = s.Infos(fresh, remote.Want{Flags: true, Size: true, Date: true, MessageID: true}, func(m remote.MessageInfo) error {
		if m.MessageID == "" {
			return nil
		}
		place, ok := takeOne(here, keyOf(m.MessageID, m.Size, m.Date.Unix()))
		if !ok {
			return nil
		}
		c.again[place] = remote.MessageInfo{UID: m.UID, Flags: c.sets.of(m.Flags)}
		found.AddNum(m.UID)
		return c.bound()
	}, archive.MessageID)
	if err != nil {
		return nil, err
	}
	return minus(fresh, found), c.apply()
}

// apply writes the changes into the state file, and forgets them.
func (c *changes) apply() error {
	if len(c.removed) == 0 && len(c.flags) == 0 && len(c.again) == 0 {
		return nil
	}
	var r Result
	err := c.job.box.Rewrite(func(rec *state.Record) error {
		if !rec.Live() {
			if again, ok := c.again[rec.Place]; ok {
				rec.Kind, rec.UID, rec.Flags = state.Reflag, again.UID, again.Flags
				r.Again++
			}
			return nil
		}
		if c.removed.Contains(rec.UID) {
			rec.Kind = state.Gone
			r.Removed++
		} else if flags, ok := c.flags[rec.UID]; ok && !slices.Equal(flags, rec.Flags) {
			rec.Kind, rec.Flags = state.Reflag, flags
			r.Reflagged++
		}
		return nil
	})
	c.job.result.add(r)
	c.removed, c.sets = nil, interned{}
	clear(c.flags)
	clear(c.again)
	return err
}

// indexGone remembers the sums of what is here and not on the server, so that it is not kept twice when it
// comes again without a Message-ID to know it by. The state file is only appended to from here on.
func (j *job) indexGone() error {
	j.gone = nil
	if j.box.Kept == 0 {
		return nil
	}
	err := j.box.Records(func(rec *state.Record) error {
		if rec.Kind == state.Gone {
			j.gone = append(j.gone, known{sumKey(rec.Sum), rec.At})
		}
		return nil
	})
	index(j.gone)
	return err
}

func sumKey(sum [32]byte) uint64 { return binary.LittleEndian.Uint64(sum[:]) }

// takeGone finds a message that is here and not on the server by its sum, once.
func (j *job) takeGone(sum [32]byte) (old state.Record, found bool, err error) {
	same := with(j.gone, sumKey(sum))
	for i, k := range same {
		if k.at < 0 {
			continue // taken
		}
		old, err := j.box.RecordAt(k.at)
		if err != nil || old.Sum == sum {
			same[i].at = -1
			return old, err == nil, err
		}
	}
	return old, false, nil
}
