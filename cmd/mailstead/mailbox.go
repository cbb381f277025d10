package main

import (
	"strings"

	"github.com/spf13/cobra"

	"mailstead.dev/acl"
	"mailstead.dev/store"
)

// mailboxView is a mailbox as --json prints it.
type mailboxView struct {
	Name          string   `json:"name"`
	ID            int64    `json:"id"`
	MailboxID     string   `json:"mailbox_id"`
	SpecialUse    []string `json:"special_use"`
	Subscribed    bool     `json:"subscribed"`
	Messages      int64    `json:"messages"`
	Unseen        int64    `json:"unseen"`
	Bytes         int64    `json:"bytes"`
	UIDValidity   uint32   `json:"uidvalidity"`
	UIDNext       uint32   `json:"uidnext"`
	HighestModSeq int64    `json:"highestmodseq"`
}

func (a *app) mailboxCommand() *cobra.Command {
	return group("mailbox", "Mailboxes of an account",
		a.listMailboxesCommand(),
		a.undeleteCommand(),
		&cobra.Command{
			Use:   "dump LOGIN MAILBOX",
			Short: "Print all that the database holds of a mailbox as plain text",
			Long: `Print all that the database holds of a mailbox as plain text: its row, its segments and
its log of changes, decoded. Content is not printed. The name is written in UTF-8.`,
			Args: exactArgs("LOGIN", "MAILBOX"),
			RunE: a.onStore(dumpMailbox),
		})
}

func (a *app) listMailboxesCommand() *cobra.Command {
	var deleted bool
	c := &cobra.Command{
		Use: "list LOGIN", Short: "List an account's mailboxes", Args: exactArgs("LOGIN"),
		RunE: a.onStore(func(j *job) error {
			if deleted {
				return listDeleted(j)
			}
			return listMailboxes(j)
		}),
	}
	c.Flags().BoolVar(&deleted, "deleted", false, "those that were deleted and can be brought back")
	return c
}

func listMailboxes(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	return listMailboxesOf(j, account.User())
}

// listMailboxesOf lists the mailboxes that belong to an account.
func listMailboxesOf(j *job, u store.User) error {
	entries, err := j.store.List(j, u)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if e.Mailbox != 0 && e.Owner == u.Account {
			names = append(names, e.Name)
		}
	}
	status, err := j.store.Status(j, u, names)
	if err != nil {
		return err
	}
	views, t := []mailboxView{}, table{header: []string{"name", "messages", "unseen", "bytes", "uidnext", "modseq", "special use"}}
	for _, e := range entries {
		st, ok := status[e.Name]
		if !ok {
			continue // only a name above others, or deleted meanwhile
		}
		v := mailboxView{
			Name: e.Name, ID: int64(e.Mailbox), MailboxID: string(st.MailboxID), SpecialUse: append([]string{}, e.SpecialUse...), Subscribed: e.Subscribed,
			Messages: st.Counts.Messages, Unseen: st.Counts.Unseen, Bytes: st.Counts.Bytes,
			UIDValidity: st.UIDValidity, UIDNext: uint32(st.UIDNext), HighestModSeq: int64(st.HighestModSeq),
		}
		views = append(views, v)
		t.add(v.Name, v.Messages, v.Unseen, v.Bytes, v.UIDNext, v.HighestModSeq, strings.Join(v.SpecialUse, " "))
	}
	return j.print(views, t)
}

func dumpMailbox(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	m, err := j.store.Open(j, account.User(), j.args[1], acl.Read)
	if err != nil {
		return about("mailbox "+j.args[1], err)
	}
	return m.Dump(j, j.out)
}
