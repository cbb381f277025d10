package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/view"
)

// Dump writes what the database holds of a mailbox as plain text: its row, its
// segments and its log, decoded. What does not decode is said, and the rest goes on.
func (m *Mailbox) Dump(ctx context.Context, w io.Writer) error {
	const query = selectMailboxRow + ` WHERE tenant_id = $1 AND mailbox_id = $2`

	var stored mailboxRows
	err := m.store.snapshot(ctx, m.Tenant, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, query, m.Tenant, m.ID) // CollectExactlyOneRow reports the error
		row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[mailboxRow])
		if err != nil {
			return err
		}
		stored = mailboxRows{row: row}
		return stored.read(ctx, tx, m.Tenant)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("read mailbox %d: %w", m.ID, err)
	}
	d := &dumper{w: bufio.NewWriter(w), keywords: stored.row.Keywords}
	d.row(&stored.row)
	for _, g := range stored.segments {
		d.segment(g)
	}
	for _, o := range stored.overlays {
		d.overlay(o)
	}
	for _, l := range stored.log {
		d.record("log", l)
	}
	for _, l := range stored.expunged {
		d.record("expunged", l)
	}
	return d.w.Flush() // which keeps the first error of the writer
}

type dumper struct {
	w        *bufio.Writer
	keywords []string
}

func (d *dumper) line(format string, args ...any) { fmt.Fprintf(d.w, format+"\n", args...) }

func (d *dumper) row(r *mailboxRow) {
	d.line("mailbox %d %q of account %d", r.MailboxID, r.Name, r.AccountID)
	d.line("  MAILBOXID %s, made %s", r.ObjectID, moment(r.CreatedAt))
	if r.DeletedAt != nil {
		d.line("  deleted %s", moment(*r.DeletedAt))
	}
	d.line("  UIDVALIDITY %d, UIDNEXT %d, HIGHESTMODSEQ %d, \\Recent from UID %d", r.UIDValidity, r.UIDNext, r.HighestModSeq, r.RecentUID)
	d.line("  folded at MODSEQ %d, UIDNEXT %d; log of %d octets; expunge records complete above MODSEQ %d",
		r.FoldedModSeq, r.FoldedUIDNext, r.LogBytes, r.ExpungedModSeq)
	d.line("  messages %d, unseen %d, deleted %d, octets %d, of deleted ones %d", r.Messages, r.Unseen, r.Deleted, r.Bytes, r.DeletedBytes)
	d.line("  rights of the owner %s, at epoch %d", r.OwnerRights, r.ACLEpoch)
	d.line("  special use %v, keywords %q", r.SpecialUse, r.Keywords)
	d.line("  shared with others %t, one \\Seen for all %t", r.Others, r.SharedSeen)
}

func (d *dumper) overlay(row overlayRow) {
	o, err := view.DecodeOverlay(row.Data)
	if err != nil {
		d.line("overlay of reader %d, %d octets: %v", row.Reader, len(row.Data), err)
		return
	}
	d.line("overlay of reader %d in %d octets", row.Reader, len(row.Data))
	for _, m := range o.Marks() {
		d.line("  UIDs %s MODSEQ %d seen %t", view.UIDSetOf(m.Range), m.At, m.Seen)
	}
}

func (d *dumper) segment(g segmentRow) {
	messages, err := view.DecodeSegment(g.data)
	if err != nil {
		d.line("segment UIDs %d to %d at MODSEQ %d, %d octets: %v", g.first, g.last, g.modSeq, len(g.data), err)
		return
	}
	d.line("segment UIDs %d to %d at MODSEQ %d: %d messages in %d octets", g.first, g.last, g.modSeq, len(messages), len(g.data))
	for _, m := range messages {
		d.message(m)
	}
}

func (d *dumper) record(kind string, l timedRow) {
	r, err := view.DecodeRecord(l.record, l.uidBase, l.emailBase)
	if err != nil {
		d.line("%s %d at %s, %d octets: %v", kind, l.modSeq, moment(l.at), len(l.record), err)
		return
	}
	d.line("%s %d at %s, %d octets", kind, l.modSeq, moment(l.at), len(l.record))
	for _, op := range r {
		switch op := op.(type) {
		case view.Append:
			d.line("  append")
			for _, m := range op.Messages {
				m.ModSeq = l.modSeq
				d.message(m)
			}
		case view.SetFlags:
			mode := map[view.Mode]string{view.Add: "+", view.Remove: "-", view.Replace: "="}[op.Mode]
			whose := ""
			if op.Own {
				whose = " to the owner alone"
			}
			d.line("  flags %s(%s) UIDs %s%s", mode, d.flags(op.Flags, op.Keywords), op.UIDs, whose)
		case view.SetSeen:
			d.line("  seen %t to reader %d UIDs %s", op.Seen, op.Reader, op.UIDs)
		case view.SeenMode:
			d.line("  one \\Seen for all %t, which is on UIDs %s", op.Shared, op.Seen)
		case view.Expunge:
			d.line("  expunge")
			for _, m := range op.Messages {
				d.message(m)
			}
		case view.Vanished:
			d.line("  vanished UIDs %s", op.UIDs)
		case view.DefineKeyword:
			d.line("  keyword %d %q", len(d.keywords), op.Name)
			d.keywords = append(d.keywords[:len(d.keywords):len(d.keywords)], op.Name)
		}
	}
}

func (d *dumper) message(m view.Message) {
	others := ""
	if m.SharedModSeq != 0 {
		others = fmt.Sprintf(" (to others %d)", m.SharedModSeq)
	}
	d.line("  UID %d email %d MODSEQ %d%s (%s) internal %s saved %s octets %d",
		m.UID, m.Email, m.ModSeq, others, d.flags(m.Flags, m.Keywords), m.InternalDate.Format(time.RFC3339), moment(m.SaveDate), m.Size)
}

// flags names flags as IMAP does; a keyword that is not defined is shown by its number.
func (d *dumper) flags(flags view.Flags, keywords view.Keywords) string {
	var names []string
	for _, f := range []struct {
		flag view.Flags
		name string
	}{
		{view.Seen, `\Seen`}, {view.Answered, `\Answered`}, {view.Flagged, `\Flagged`}, {view.Deleted, `\Deleted`}, {view.Draft, `\Draft`},
	} {
		if flags&f.flag != 0 {
			names = append(names, f.name)
		}
	}
	for i := range view.MaxKeywords {
		switch {
		case !keywords.Has(i):
		case i < len(d.keywords):
			names = append(names, d.keywords[i])
		default:
			names = append(names, fmt.Sprintf("?%d", i))
		}
	}
	return strings.Join(names, " ")
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
