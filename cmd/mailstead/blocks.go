package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// blockView is whoever has failed to log in lately as --json prints it.
type blockView struct {
	Name     string     `json:"name"`
	Failures int        `json:"failures"`
	Last     time.Time  `json:"last"`
	Until    *time.Time `json:"blocked_until"`
}

func (a *app) blocksCommand() *cobra.Command {
	var all, everything bool
	list := &cobra.Command{
		Use:   "list",
		Short: "List the addresses, accounts and tenants of which too many logins have failed",
		Long: `List the addresses, accounts and tenants of which too many logins have failed, until when they are blocked, and how many
have failed since. known:ADDRESS LOGIN is an account, from an address that it is known to be used from.`,
		Args: exactArgs(),
		RunE: a.onStore(func(j *job) error { return listBlocks(j, all) }),
	}
	list.Flags().BoolVar(&all, "all", false, "also those of which some have failed within the last hour")
	clear := &cobra.Command{
		Use:   "clear [NAME]...",
		Short: "End blocks, and forget what has failed",
		Long:  "End blocks, and forget what has failed, of names such as address:192.0.2.7, account:a@example.org and tenant:acme.",
		Args: func(_ *cobra.Command, args []string) error {
			if everything == (len(args) > 0) {
				return usageError{errors.New("want names such as address:192.0.2.7, account:a@example.org and tenant:acme, or --all")}
			}
			return nil
		},
		RunE: a.onStore(func(j *job) error { return clearBlocks(j, everything) }),
	}
	clear.Flags().BoolVar(&everything, "all", false, "of all")
	return group("blocks", "Who is kept from logging in, because too many logins have failed", list, clear)
}

func listBlocks(j *job, all bool) error {
	found, err := j.store.FailedNames(j)
	if err != nil {
		return err
	}
	views, t := []blockView{}, table{header: []string{"name", "failures", "last", "blocked until"}}
	for _, f := range found {
		if f.Blocked == nil && !all {
			continue
		}
		views = append(views, blockView{f.Name, f.Failures, f.Last, f.Blocked})
		until := "-"
		if f.Blocked != nil {
			until = moment(f.Blocked)
		}
		t.add(f.Name, f.Failures, moment(&f.Last), until)
	}
	return j.print(views, t)
}

func clearBlocks(j *job, everything bool) error {
	n := int64(0)
	if everything {
		var err error
		if n, err = j.store.ForgetAllFailures(j); err != nil {
			return err
		}
	}
	for _, name := range j.args {
		cleared, err := clearBlock(j, name)
		if err != nil {
			return err
		}
		n += cleared
	}
	return j.say(map[string]int64{"cleared": n}, "Forgotten: %d.", n)
}

func clearBlock(j *job, name string) (int64, error) {
	wrong := usageError{fmt.Errorf("%s: want a name such as address:192.0.2.7, account:a@example.org or tenant:acme", name)}
	kind, what, _ := strings.Cut(name, ":")
	switch kind {
	case "address":
		address, _, _ := strings.Cut(what, "/") // as the list has it
		from, err := netip.ParseAddr(address)
		if err != nil {
			return 0, wrong
		}
		return j.store.ForgetFailures(j, from, "", "")
	case "account":
		login, err := store.NormalLogin(what)
		if err != nil {
			return 0, wrong
		}
		return j.store.ForgetFailures(j, netip.Addr{}, login, "")
	case "tenant":
		return j.store.ForgetFailures(j, netip.Addr{}, "", what)
	}
	return 0, wrong
}
