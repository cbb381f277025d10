package main

import (
	"context"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/imap-backup/backup"
)

func (a *app) restoreCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "restore [flags] {DIRECTORY URL | ACCOUNT}",
		Short: "Put the messages of a directory into the mailboxes of a server",
		Long: `Restore puts what is in a directory into the mailboxes of the same or of another
server, with flags and dates. Mailboxes that are missing are made. A message that
is there already, by its Message-ID, date and size or else by its SHA-256 sum,
is not put there again, so that restore can be run again after it was interrupted.`,
	}
	a.choice.registerMailboxes(c.Flags())
	var r backup.Restore
	c.Flags().StringVar(&r.Prefix, "prefix", "", "put the mailboxes below this `mailbox`")
	c.Flags().BoolVar(&r.Gone, "with-removed", false, "also messages that were kept here when they were removed on the server")
	run := func(ctx context.Context, at target) error {
		at.mailbox = "" // of the URL; all that is in the directory is meant
		o, err := a.options(at)
		if err != nil {
			return err
		}
		show := a.output.show(a, at.name, "put there")
		o.Show = show.event
		result, err := backup.RunRestore(ctx, o, r)
		show.end(result, err)
		return problems(result, err)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 1 && !isDirectory(args[0]):
			return a.forAccounts(c, args, false, run)
		case len(args) == 2:
			u, err := parseURL(args[1])
			if err != nil {
				return err
			}
			return run(c.Context(), target{url: u, dir: args[0]})
		}
		return wrong("want a directory and a URL, or an account of the configuration file (see %s --help)", c.CommandPath())
	}
	return c
}
