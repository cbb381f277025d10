package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/imap-backup/backup"
)

func isDirectory(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

func (a *app) verifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify [flags] {DIRECTORY | URL DIRECTORY | ACCOUNT...}",
		Short: "Check the plain files against their state files, and against the server",
		Long: `Verify reads every message in the plain files and compares size, SHA-256 sum and
flags with the state files. With a URL or an account it also compares UIDs,
sizes, dates and flags with the server, and with --fetch every octet.`,
	}
	a.choice.registerMailboxes(c.Flags())
	a.choice.registerUses(c.Flags())
	all := c.Flags().Bool("all", false, "all accounts of the configuration file")
	fetch := c.Flags().Bool("fetch", false, "fetch every message and compare it octet by octet")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.forDirectoryOrAccounts(c, args, *all, func(ctx context.Context, at target) error {
			o, err := a.options(at)
			if err != nil {
				return err
			}
			show := a.output.show(a, at.name, "checked")
			o.Show = show.event
			result, err := backup.Verify(ctx, o, *fetch)
			show.end(result, err)
			return problems(result, err)
		})
	}
	return c
}
