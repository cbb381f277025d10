package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mailstead.dev/auth"
	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/imapd"
	"mailstead.dev/store"
)

// remoteDomainView is a domain that lives in another cell as --json prints it.
type remoteDomainView struct {
	Domain string `json:"domain"`
	Cell   string `json:"cell"`
}

func (a *app) cellCommand() *cobra.Command {
	return group("cell", "Which domains live in other cells (settings cells.*)",
		&cobra.Command{
			Use: "set DOMAIN CELL", Short: "Say in which other cell a domain lives: its users are let in there", Args: exactArgs("DOMAIN", "CELL"),
			RunE: a.onStore(setRemoteDomain),
		},
		&cobra.Command{Use: "list", Short: "List the domains that live in other cells", Args: exactArgs(), RunE: a.onStore(listRemoteDomains)},
		&cobra.Command{
			Use: "delete DOMAIN", Short: "Forget in which cell a domain lives, so that its users are not let in here", Args: exactArgs("DOMAIN"),
			RunE: a.onStore(deleteRemoteDomain),
		})
}

func setRemoteDomain(j *job) error {
	domain, cell := j.args[0], j.args[1]
	if err := j.otherCell(cell); err != nil {
		return err
	}
	if err := j.store.SetRemoteDomain(j, domain, cell); err != nil {
		return about("domain "+domain, err)
	}
	return j.say(remoteDomainView{domain, cell}, "Domain %s lives in cell %s.", domain, cell)
}

// otherCell checks the name of another cell.
func (j *job) otherCell(cell string) error {
	names := j.config.Cells.Names()
	switch {
	case len(names) == 0:
		return errors.New("there are no other cells: cells.others is empty")
	case !slices.Contains(names, cell):
		return usageError{fmt.Errorf("cell %s: want one of %s", cell, strings.Join(names, ", "))}
	}
	return nil
}

func listRemoteDomains(j *job) error {
	all, err := j.store.RemoteDomains(j)
	if err != nil {
		return err
	}
	views, t := []remoteDomainView{}, table{header: []string{"domain", "cell"}}
	for _, d := range all {
		views = append(views, remoteDomainView{d.Name, d.Cell})
		t.add(store.DisplayDomain(d.Name), d.Cell)
	}
	return j.print(views, t)
}

func deleteRemoteDomain(j *job) error {
	if err := j.store.DeleteRemoteDomain(j, j.args[0]); err != nil {
		return about("domain "+j.args[0], err)
	}
	return j.say(map[string]string{"deleted": j.args[0]}, "Domain %s lives in no other cell.", j.args[0])
}

// knownCells are the cells as auth knows them.
func knownCells(c *config.Config) auth.Cells {
	return auth.Cells{Name: c.Cells.Name, Secret: c.Cells.Secret.Reveal(), Second: c.Cells.SecondSecret.Reveal(), Others: c.Cells.Names()}
}

// otherCells are the other cells as front ends reach them.
func otherCells(c *config.Config) (map[string]imapd.Cell, error) {
	cells := make(map[string]imapd.Cell)
	for _, h := range c.Cells.Others {
		tls, err := c.Cells.TLS(h)
		if err != nil {
			return nil, fmt.Errorf("cells.ca_file: %w", err)
		}
		cells[h.Name] = imapd.Cell{Host: h.Host, Port: h.Port, Address: c.Cells.Address(h), TLS: tls}
	}
	return cells, nil
}
