package main

import (
	"errors"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

func (a *app) gcCommand() *cobra.Command {
	var tenant string
	var dryRun bool
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove what nothing needs any more, now",
		Long: `Remove expunged messages and deleted mailboxes that were kept for store.retention, the content that
nothing else needs, and what is dead in packs. Maintenance does so by itself, several times a day; this does not wait for
it. Objects go from the bucket a day later. It may run while mail is served, and may be interrupted at any time.

With --dry-run nothing is changed, and what would be removed is counted, but for packs and objects.`,
		Args: exactArgs(),
		RunE: a.onStore(func(j *job) error { return gc(j, tenant, dryRun) }),
	}
	c.Flags().StringVarP(&tenant, "tenant", "t", "", "only this tenant")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only count what would be removed")
	return c
}

func gc(j *job, tenant string, dryRun bool) error {
	tenants, err := j.tenants(tenant)
	if err != nil {
		return err
	}
	sweep, removed := j.store.Sweep, "Removed"
	if dryRun {
		sweep, removed = j.store.WouldSweep, "Would remove"
	}
	var sum store.Swept
	var errs []error
	for _, t := range tenants {
		if t.Deleting {
			continue // half of it is gone
		}
		swept, err := sweep(j, t.ID)
		sum = sum.Add(swept)
		if err != nil {
			errs = append(errs, about("tenant "+t.Name, err)) // the others are no worse for it
		}
	}
	err = j.say(sum, "%s %d mailboxes, %d emails, %d contents of %d bytes, in %d accounts. Rewrote %d packs. Stored: %d bytes, needed: %d.",
		removed, sum.Mailboxes, sum.Emails, sum.Contents, sum.Bytes, sum.Accounts, sum.Packs, sum.Stored, sum.Live)
	return errors.Join(append(errs, err)...)
}
