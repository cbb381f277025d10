package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// fsckView is the outcome as --json prints it.
type fsckView struct {
	Findings []store.Finding `json:"findings"`
	Checked  store.Checked   `json:"checked"`
}

func (a *app) fsckCommand() *cobra.Command {
	var tenant string
	c := &cobra.Command{
		Use:   "fsck",
		Short: "Prove that all mail is as it must be",
		Long: `Replay every mailbox, recount every counter, look for every email and read every content
again to digest it. It changes nothing, and may run while mail is served. The exit status is 1 where something was found.`,
		Args: exactArgs(),
		RunE: a.onStore(func(j *job) error { return fsck(j, tenant) }),
	}
	c.Flags().StringVarP(&tenant, "tenant", "t", "", "only this tenant")
	return c
}

func fsck(j *job, tenant string) error {
	tenants, err := j.tenants(tenant)
	if err != nil {
		return err
	}
	v := fsckView{Findings: []store.Finding{}}
	for _, t := range tenants {
		if t.Deleting {
			continue // half of it is gone
		}
		checked, err := j.store.Fsck(j, t.ID, func(f store.Finding) {
			v.Findings = append(v.Findings, f)
			if !j.json {
				fmt.Fprintln(j.out, f) // at once: the rest may take long
			}
		})
		if err != nil {
			return about("tenant "+t.Name, err)
		}
		v.Checked = v.Checked.Add(checked)
	}
	n := v.Checked
	err = j.say(v, "Checked %d accounts, %d mailboxes, %d messages, %d emails, %d contents of %d bytes. Findings: %d.",
		n.Accounts, n.Mailboxes, n.Messages, n.Emails, n.Contents, n.Bytes, len(v.Findings))
	if err == nil && len(v.Findings) > 0 {
		err = fmt.Errorf("fsck: findings: %d", len(v.Findings))
	}
	return err
}
