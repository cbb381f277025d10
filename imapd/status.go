package imapd

// STATUS.
//
// RFC 3501 section 6.3.10; DELETED: RFC 9051 section 6.3.11; DELETED-STORAGE: RFC 9208 section 4.1.4; HIGHESTMODSEQ: RFC 7162 section 3.1.7; SIZE: RFC 8438;
// MAILBOXID: RFC 8474 section 4.3; APPENDLIMIT: RFC 7889 section 3.1.
// LIST has it too, of all mailboxes that it names (RFC 5819).

import (
	"context"
	"slices"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// statusReader is what STATUS needs of the store.
type statusReader interface {
	Status(ctx context.Context, u store.User, names []string) (map[string]store.Status, error)
	CountRecent(ctx context.Context, u store.User, of map[string]store.Status) error
	CountUnseen(ctx context.Context, u store.User, of map[string]store.Status) error
}

var _ statusReader = (*store.Store)(nil)

// statusItems are the items of STATUS, and what they are of a mailbox.
var statusItems = map[string]func(store.Status) string{
	"MESSAGES":    func(s store.Status) string { return numeral(s.Counts.Messages) },
	"RECENT":      func(s store.Status) string { return numeral(s.Recent) },
	"UIDNEXT":     func(s store.Status) string { return numeral(s.UIDNext) },
	"UIDVALIDITY": func(s store.Status) string { return numeral(s.UIDValidity) },
	"DELETED":     func(s store.Status) string { return numeral(s.Counts.Deleted) },
	// In octets, as RFC822.SIZE is, of which it is the sum (RFC 9208 section 4.1.4).
	"DELETED-STORAGE": func(s store.Status) string { return numeral(s.Counts.DeletedBytes) },
	"UNSEEN":          func(s store.Status) string { return numeral(s.Counts.Unseen) },
	"SIZE":            func(s store.Status) string { return numeral(s.Counts.Bytes) },
	"HIGHESTMODSEQ":   func(s store.Status) string { return numeral(max(s.HighestModSeq, 1)) },
	"APPENDLIMIT":     func(s store.Status) string { return numeral(s.AppendLimit) },
	"MAILBOXID":       func(s store.Status) string { return "(" + string(s.MailboxID) + ")" },
}

func numeral[N ~uint32 | ~int64](n N) string { return string(appendNumber(nil, n)) }

// status = "STATUS" SP mailbox SP status-atts
func readStatus(d *wire.Decoder) (run, error) {
	c, err := readStatusCmd(d)
	return c, err
}

func readStatusCmd(d *wire.Decoder) (c statusCmd, err error) {
	d.SP()
	c.name = d.Mailbox()
	d.SP()
	c.items = readStatusItems(d)
	return c, d.End()
}

// status-atts = "(" status-att *(SP status-att) ")"
func readStatusItems(d *wire.Decoder) (items []string) {
	d.List(func() {
		item := d.Keyword()
		if statusItems[item] == nil {
			d.Fail("Unknown STATUS item %.40s", item)
		}
		if !slices.Contains(items, item) { // which LIST would tell of each mailbox
			items = append(items, item)
		}
	})
	if len(items) == 0 {
		d.Fail("STATUS needs an item")
	}
	return items
}

type statusCmd struct {
	name  string
	items []string
}

// mayRunBeside implements chooser.
func (c statusCmd) mayRunBeside(s *session) bool { return s.condstore || !c.knowsModSeqs() }

// knowsModSeqs implements modSeqKnower.
func (c statusCmd) knowsModSeqs() bool { return slices.Contains(c.items, "HIGHESTMODSEQ") }

func (c statusCmd) run(ctx context.Context, s *session) error {
	status, err := s.nextStatus(ctx, c.name)
	if err != nil {
		return err
	}
	found := map[string]store.Status{c.name: status}
	if err := s.completeStatus(ctx, found, c.items); err != nil {
		return err
	}
	s.writeStatus(c.name, c.items, found[c.name])
	return nil
}

// statusAhead are STATUS commands that are answered together, with one query. None of
// them can tell in which order they were answered (RFC 9051 section 5.5), and each answer is newer than its command.
type statusAhead struct {
	names []string                // that they ask for; nil: there is but one command
	found map[string]store.Status // nil: not asked yet
}

// nextStatus returns the figures of a mailbox.
func (s *session) nextStatus(ctx context.Context, name string) (store.Status, error) {
	found := s.ahead.found
	if found == nil {
		names := s.ahead.names
		if names == nil {
			names = []string{name}
		}
		var err error
		if found, err = s.store.Status(ctx, s.user, names); err != nil {
			return store.Status{}, err
		}
		if s.ahead.names != nil {
			s.ahead.found = found
		}
	}
	status, ok := found[name]
	switch {
	case !ok:
		return store.Status{}, store.ErrNotExist
	case !status.Rights.Has(acl.Read):
		return store.Status{}, &acl.DeniedError{Missing: acl.Read}
	}
	return status, nil
}

// completeStatus adds what takes more than the query for all: what has to be counted.
func (s *session) completeStatus(ctx context.Context, found map[string]store.Status, items []string) error {
	if slices.Contains(items, "RECENT") {
		if err := s.store.CountRecent(ctx, s.user, found); err != nil {
			return err
		}
	}
	if slices.Contains(items, "UNSEEN") {
		if err := s.store.CountUnseen(ctx, s.user, found); err != nil {
			return err
		}
	}
	if slices.Contains(items, "HIGHESTMODSEQ") {
		s.enableCondstore()
	}
	return nil
}

// mailbox-data =/ "STATUS" SP mailbox SP "(" [status-att-list] ")"
func (s *session) writeStatus(name string, items []string, status store.Status) {
	s.enc.Raw("* STATUS ").Mailbox(name)
	sep := " ("
	for _, item := range items {
		s.enc.Raw(sep).Raw(item).SP().Raw(statusItems[item](status))
		sep = " "
	}
	s.enc.Raw(")").CRLF()
}
