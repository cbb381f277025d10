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
	var repair bool
	c := &cobra.Command{
		Use:   "fsck",
		Short: "Prove that all mail is as it must be",
		Long: `Replay every mailbox, recount every counter, look for every email and read every content
again to digest it. It changes nothing, and may run while mail is served. The exit status is 1 where something was found.

With --repair, counters that the mail itself refutes are written anew, content and objects that are needed and about
to be removed are kept, and staged rows that nothing refers to are removed. Nothing that might be mail is removed, and
what is missing or damaged stays a finding: the exit status is 1 where some are left.`,
		Args: exactArgs(),
		RunE: a.onStore(func(j *job) error { return fsck(j, tenant, repair) }),
	}
	c.Flags().StringVarP(&tenant, "tenant", "t", "", "only this tenant")
	c.Flags().BoolVar(&repair, "repair", false, "repair what can be")
	return c
}

func fsck(j *job, tenant string, repair bool) error {
	tenants, err := j.tenants(tenant)
	if err != nil {
		return err
	}
	v := fsckView{Findings: []store.Finding{}}
	check := j.store.Fsck
	if repair {
		check = j.store.Repair
	}
	left := 0
	for _, t := range tenants {
		if t.Deleting {
			continue // half of it is gone
		}
		checked, err := check(j, t.ID, func(f store.Finding) {
			if !f.Repaired {
				left++
			}
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
	if err == nil && left > 0 {
		err = fmt.Errorf("fsck: findings: %d", left)
	}
	return err
}
