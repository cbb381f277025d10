package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/quota"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// Warnings by mail. They come into INBOX like all mail, and are charged like it: what does not fit is not sent, for
// no limit is exceeded by as much as an octet, and who is full has been warned before. Of each event a mail is sent at most once: it is noted
// as told before it is delivered, so one that a process was about to deliver when it died is lost.

const (
	mailsAtOnce   = 100              // events of a tenant that are told by mail before the next has its turn
	mostReaders   = 100              // admins who are told of one event
	mailAgainAt   = 5 * time.Minute  // after which a mail is tried again that could not be delivered to anybody
	mailFor       = 24 * time.Hour   // how long it is tried
	mailTimeLimit = 30 * time.Second // for one
)

// mailWarnings delivers what is due of a tenant.
func (s *Store) mailWarnings(ctx context.Context, l *lease, t id.Tenant) error {
	const due = selectWarnings + ` AND e.mail_at <= now() ORDER BY e.event_id LIMIT $2`

	var found []pendingWarning
	err := s.read(ctx, t, func(b *pgx.Batch) { queueWarnings(b, due, t, mailsAtOnce, &found) })
	if err != nil {
		return err
	}
	for _, p := range found {
		if err := s.mailWarning(ctx, l, t, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) mailWarning(ctx context.Context, l *lease, t id.Tenant, p pendingWarning) error {
	const (
		claim = `UPDATE quota_event SET mail_at = NULL WHERE tenant_id = $1 AND event_id = $2 AND mail_at IS NOT NULL`
		again = `UPDATE quota_event SET mail_at = now() + $3::interval WHERE tenant_id = $1 AND event_id = $2`
	)
	readers, err := s.readersOf(ctx, t, p.Warning)
	if err != nil {
		return err
	}
	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, claim, t, p.event); err != nil {
			return err
		}
		return l.check(ctx, tx)
	})
	if err != nil {
		return err
	}
	sent := false
	var failed error
	for _, r := range readers {
		err := s.mailTo(ctx, t, r, p.Warning)
		var over *quota.OverError
		switch {
		case err == nil:
			sent = true
			s.maintained.warningMails.Add(1)
			continue
		case errors.Is(err, ErrUnavailable):
			failed = err
		default:
			sent = sent || errors.Is(err, ErrOutcomeUnknown)
		}
		s.maintained.warningMailsDropped.Add(1)
		level := s.log.WarnContext
		if errors.As(err, &over) {
			level = s.log.InfoContext
		}
		level(ctx, "a warning was not delivered", "tenant", t, "account", r.account, "event", p.ID, "error", err)
	}
	if failed == nil || sent || time.Since(p.At) > mailFor {
		return nil
	}
	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, again, t, p.event, mailAgainAt)
		return err
	})
	return errors.Join(failed, err)
}

// reader is an account that is told by mail.
type reader struct {
	account     id.Account
	login       string
	mailbox     id.Mailbox
	uidValidity uint32
}

// readersOf returns who is told of a root: the account itself; a domain's admins; a tenant's, who also hear of a domain that has no admin, and
// of the tenant's shared mailboxes.
func (s *Store) readersOf(ctx context.Context, t id.Tenant, w Warning) (readers []reader, err error) {
	const query = `
		SELECT a.account_id, a.login, m.mailbox_id, m.uidvalidity
		FROM account a
		JOIN mailbox m ON m.tenant_id = a.tenant_id AND m.account_id = a.account_id AND m.name = 'INBOX' AND m.deleted_at IS NULL
		WHERE a.tenant_id = $1 AND NOT a.deleting AND NOT a.disabled
		  AND CASE $2::int
			WHEN 0 THEN a.account_id = $3
			WHEN 1 THEN EXISTS (SELECT FROM domain_admin d WHERE d.tenant_id = $1 AND d.account_id = a.account_id AND d.domain_id = $3)
			ELSE a.role = 'tenant-admin'
		  END
		ORDER BY a.login
		LIMIT $4`

	ask := func(level quotaLevel) error {
		return s.read(ctx, t, func(b *pgx.Batch) {
			b.Queue(query, t, int(level), w.root, mostReaders).Query(func(rows pgx.Rows) error {
				readers = nil
				var r reader
				_, err := pgx.ForEachRow(rows, []any{&r.account, &r.login, &r.mailbox, &r.uidValidity}, func() error {
					readers = append(readers, r)
					return nil
				})
				return err
			})
		})
	}
	level := w.level
	if level == levelAccount && isShared(strings.TrimPrefix(w.Root, "account:")) {
		level = levelTenant
	}
	if err = ask(level); err == nil && len(readers) == 0 && level == levelDomain {
		err = ask(levelTenant)
	}
	return readers, err
}

// mailTo delivers a warning to the INBOX of one reader.
func (s *Store) mailTo(ctx context.Context, t id.Tenant, r reader, w Warning) error {
	ctx, cancel := context.WithTimeout(ctx, mailTimeLimit)
	defer cancel()
	from := s.options.MailFrom
	if from == "" {
		from = "postmaster@" + domainOf(r.login)
	}
	letter := message.Letter{
		FromName: "Mail quota", From: from, To: r.login, Subject: w.subject(), Text: w.text(),
		Date: w.At, MessageID: fmt.Sprintf("quota-%s-%d@%s", w.ID, r.account, domainOf(from)),
	}
	octets, err := letter.Bytes()
	if err != nil {
		return err
	}
	content, err := s.Receive(ctx, t, bytes.NewReader(octets))
	if err != nil {
		return err
	}
	m := &Mailbox{Tenant: t, Owner: r.account, ID: r.mailbox, Name: inbox, UIDValidity: r.uidValidity, Rights: acl.All, store: s}
	_, err = m.Append(ctx, Incoming{
		Content: content, Prefix: []byte("Return-Path: <>\r\nDelivered-To: " + r.login + "\r\n"), Delivered: true,
	})
	return errors.Join(err, content.Close())
}

// subject and text are what the reader of a mail is told.
func (w Warning) subject() string {
	switch w.Mark {
	case quota.MarkFull:
		return w.whose() + " is full"
	case quota.MarkGrace:
		return w.whose() + " takes nothing more"
	case quota.MarkSoft:
		return w.whose() + " is over its soft limit"
	}
	return fmt.Sprintf("%s is %s full", w.whose(), w.Mark)
}

// whose names what a root is of.
func (w Warning) whose() string {
	name := strings.TrimPrefix(w.Root, string(quota.Levels[w.level])+":")
	switch {
	case w.level == levelAccount && isShared(name):
		return "What is shared"
	case w.level == levelAccount:
		return "Your mail account"
	case w.level == levelDomain:
		return "Mail of the domain " + name
	}
	return "Mail of " + name
}

// resourceNames are what resources are called in mails.
var resourceNames = map[quota.Resource]string{
	quota.Storage: "storage", quota.Message: "messages", quota.Mailbox: "mailboxes", quota.AnnotationStorage: "storage of annotations",
}

func (w Warning) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\nOf %s %s used", w.subject(), resourceNames[w.Resource], amountText(w.Resource, w.Used))
	if w.Limit != nil {
		fmt.Fprintf(&b, ", the limit is %s", amountText(w.Resource, *w.Limit))
	}
	if w.Soft != nil {
		fmt.Fprintf(&b, ", the soft limit %s", amountText(w.Resource, *w.Soft))
	}
	b.WriteString(".\n")
	switch {
	case w.Mark == quota.MarkFull:
		b.WriteString("Nothing more fits: mail is turned away or waits at its sender until some is deleted.\n")
	case w.Mark == quota.MarkGrace:
		b.WriteString("Nothing more is taken until no more is used than the soft limit: mail is turned away or waits at its sender.\n")
	case w.GraceUntil != nil:
		fmt.Fprintf(&b, "From %s on nothing more is taken until no more is used than the soft limit.\n", w.GraceUntil.UTC().Format("2 January 2006 15:04 UTC"))
	}
	b.WriteString("\nMail counts until it is deleted for good; what is in Trash counts as well.\n")
	return b.String()
}

// amountText tells an amount as people read it.
func amountText(r quota.Resource, n int64) string {
	if r == quota.Message || r == quota.Mailbox {
		return fmt.Sprint(n)
	}
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
