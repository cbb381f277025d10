package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/imap-backup/backup"
)

func (a *app) listCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list [flags] {DIRECTORY | URL DIRECTORY | ACCOUNT...}",
		Short: "Show what is here, what is on the server, and what a run would fetch",
		Args:  cobra.ArbitraryArgs,
	}
	a.choice.register(c.Flags())
	all := c.Flags().Bool("all", false, "all accounts of the configuration file")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.forDirectoryOrAccounts(c, args, *all, a.list)
	}
	return c
}

// forDirectoryOrAccounts is forAccounts, but a directory alone will do.
func (a *app) forDirectoryOrAccounts(c *cobra.Command, args []string, all bool, f func(context.Context, target) error) error {
	if len(args) == 1 && !strings.Contains(args[0], "://") && (isDirectory(args[0]) || strings.Contains(args[0], "/")) {
		return f(c.Context(), target{dir: args[0]})
	}
	return a.forAccounts(c, args, all, f)
}

func (a *app) list(ctx context.Context, at target) error {
	o, err := a.options(at)
	if err != nil {
		return err
	}
	o.Show = a.output.plain(a, at.name, "to fetch").event // a bar would stand in the table
	rows, result, err := backup.List(ctx, o)
	if err != nil {
		return err
	}
	if a.output.json {
		enc := json.NewEncoder(a.out)
		for _, row := range rows {
			account := struct {
				Account string `json:"account,omitempty"`
				backup.Row
			}{at.name, row}
			if err := enc.Encode(account); err != nil {
				return err
			}
		}
		return problems(result, nil)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	if at.name != "" {
		fmt.Fprintf(a.out, "%s:\n", at.name)
	}
	if o.Dial == nil {
		fmt.Fprintln(w, "MAILBOX\tHERE\tSIZE\tKEPT\tFILE")
	} else {
		fmt.Fprintln(w, "MAILBOX\tHERE\tSIZE\tKEPT\tON SERVER\tTO FETCH\tTO REMOVE\tFILE")
	}
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t", printable(r.Mailbox), r.Here, human(r.Bytes), r.Kept)
		if o.Dial != nil {
			server, fetch, remove := "-", "-", "-"
			if r.OnServer {
				server, fetch, remove = strconv.Itoa(r.Server), fmt.Sprintf("%d (%s)", r.ToFetch, human(r.FetchBytes)), strconv.Itoa(r.ToRemove)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t", server, fetch, remove)
		}
		fmt.Fprintln(w, r.File)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return problems(result, nil)
}
