package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// deletedView is a deleted mailbox as --json prints it.
type deletedView struct {
	Name     string    `json:"name"`
	ID       int64     `json:"id"`
	Messages int64     `json:"messages"`
	Bytes    int64     `json:"bytes"`
	Deleted  time.Time `json:"deleted"`
	Until    time.Time `json:"until"` // it can be brought back
}

// undeletedView is what came back.
type undeletedView struct {
	Mailbox   string  `json:"mailbox"`
	Messages  int     `json:"messages"`
	From      []int64 `json:"from"` // UIDs that messages had; of a whole mailbox they stay
	To        []int64 `json:"to"`   // and have now
	Elsewhere int     `json:"elsewhere"`

	SpecialUseTaken []string `json:"special_use_taken,omitempty"` // by other mailboxes since: it has them no more
}

func (a *app) undeleteCommand() *cobra.Command {
	var uids, since, as string
	c := &cobra.Command{
		Use:   "undelete LOGIN MAILBOX",
		Short: "Bring expunged messages, or a deleted mailbox, back",
		Long: `Bring back what was expunged or deleted no longer ago than store.retention says.

With --uid or --since, messages that were expunged from a mailbox: with the flags and dates that they had, without
\Deleted, and with new UIDs. With --uid, those that had these UIDs (mailstead mailbox dump shows them); with --since
alone, those expunged since then, but for messages that are in some mailbox of the account: they were only moved.

Without both, a mailbox that was deleted (mailstead mailbox list --deleted), with all its messages and their UIDs. A
special use that another mailbox has taken since stays with that.

All or nothing comes back, and counts for the account's quota again.`,
		Example: `  mailstead mailbox undelete a@example.org INBOX --since 2h
  mailstead mailbox undelete a@example.org INBOX --uid 17,20:25
  mailstead mailbox undelete a@example.org Projects --as "Projects (old)"`,
		Args: exactArgs("LOGIN", "MAILBOX"),
		RunE: a.onStore(func(j *job) error {
			if uids == "" && since == "" {
				return undeleteMailbox(j, as)
			}
			if as != "" {
				return usageError{fmt.Errorf("--as is for a whole mailbox, without --uid and --since")}
			}
			return undeleteMessages(j, uids, since)
		}),
	}
	c.Flags().StringVar(&uids, "uid", "", "messages that had these UIDs, such as 17,20:25")
	c.Flags().StringVar(&since, "since", "", "messages expunged since then: a time such as 2026-01-31T08:00:00Z, or how long ago, such as 2h")
	c.Flags().StringVar(&as, "as", "", "another name for a deleted mailbox")
	return c
}

func listDeleted(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	deleted, err := j.store.DeletedMailboxes(j, account.User())
	if err != nil {
		return err
	}
	views, t := []deletedView{}, table{header: []string{"name", "messages", "bytes", "deleted", "until"}}
	for _, m := range deleted {
		v := deletedView{
			Name: m.Name, ID: int64(m.MailboxID), Messages: m.Messages, Bytes: m.Bytes,
			Deleted: m.DeletedAt.UTC(), Until: m.DeletedAt.UTC().Add(j.config.Store.Retention),
		}
		views = append(views, v)
		t.add(v.Name, v.Messages, v.Bytes, v.Deleted.Format(time.RFC3339), v.Until.Format(time.RFC3339))
	}
	return j.print(views, t)
}

func undeleteMailbox(j *job, as string) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	m, taken, err := j.store.UndeleteMailbox(j, account.User(), j.args[1], as)
	if err != nil {
		return about("mailbox "+j.args[1], err)
	}
	v, err := m.View(j)
	if err != nil {
		return about("mailbox "+m.Name, err)
	}
	text := fmt.Sprintf("%s is back, with %d messages.", m.Name, v.Len())
	if len(taken) > 0 {
		text += fmt.Sprintf(" It is without %s, which another mailbox has by now.", strings.Join(taken, ", "))
	}
	return j.say(undeletedView{Mailbox: m.Name, Messages: v.Len(), From: []int64{}, To: []int64{}, SpecialUseTaken: taken}, "%s", text)
}

func undeleteMessages(j *job, uids, since string) error {
	var which store.Undelete
	if uids != "" {
		set, err := parseUIDs(uids)
		if err != nil {
			return usageError{fmt.Errorf("--uid %s: %w", uids, err)}
		}
		which.UIDs = &set
	}
	if since != "" {
		var err error
		if which.Since, err = parseSince(since, time.Now()); err != nil {
			return usageError{fmt.Errorf("--since %s: %w", since, err)}
		}
	}
	account, err := j.account()
	if err != nil {
		return err
	}
	m, err := j.store.Open(j, account.User(), j.args[1], acl.Insert)
	if err != nil {
		return about("mailbox "+j.args[1], err)
	}
	back, err := m.Undelete(j, which)
	if err != nil {
		return about("mailbox "+m.Name, err)
	}
	v := undeletedView{Mailbox: m.Name, Messages: len(back.To), From: []int64{}, To: []int64{}, Elsewhere: back.Elsewhere}
	for i := range back.To {
		v.From, v.To = append(v.From, int64(back.From[i])), append(v.To, int64(back.To[i]))
	}
	text := fmt.Sprintf("%d messages are back in %s.", v.Messages, v.Mailbox)
	if v.Elsewhere > 0 {
		text += fmt.Sprintf(" %d were left out: they are in another mailbox.", v.Elsewhere)
	}
	return j.say(v, "%s", text)
}

// parseUIDs reads a set of UIDs as IMAP writes it, without *.
func parseUIDs(text string) (view.UIDSet, error) {
	var ranges []view.Range
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, ":")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 32)
		last, err2 := strconv.ParseUint(to, 10, 32)
		if err1 != nil || err2 != nil || first == 0 || last == 0 {
			return view.UIDSet{}, fmt.Errorf("want UIDs such as 17,20:25")
		}
		ranges = append(ranges, view.Range{First: id.UID(min(first, last)), Last: id.UID(max(first, last))})
	}
	return view.UIDSetOf(ranges...), nil
}

// parseSince reads a time, or how long before now it was.
func parseSince(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("want a time such as 2026-01-31T08:00:00Z, or how long ago, such as 2h")
	}
	return at, nil
}
