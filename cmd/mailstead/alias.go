package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// aliasView is an alias as --json prints it.
type aliasView struct {
	Address string    `json:"address"`
	Targets []string  `json:"targets"`
	Created time.Time `json:"created"`
}

func (a *app) aliasCommand() *cobra.Command {
	var tenant string
	var yes bool
	create := &cobra.Command{Use: "create ADDRESS TARGET...", Short: "Let an address stand for others of the same tenant", Args: addressAndTargets, RunE: a.onStore(createAlias)}
	set := &cobra.Command{Use: "set ADDRESS TARGET...", Short: "Let an alias stand for others than before", Args: addressAndTargets, RunE: a.onStore(setAlias)}
	list := &cobra.Command{Use: "list", Short: "List aliases", Args: exactArgs(), RunE: a.onStore(func(j *job) error {
		return listAliases(j, tenant)
	})}
	list.Flags().StringVarP(&tenant, "tenant", "t", "", "only those of this tenant")
	remove := &cobra.Command{Use: "delete ADDRESS", Short: "Remove an alias", Args: exactArgs("ADDRESS"), RunE: a.onStore(func(j *job) error {
		return deleteAlias(j, yes)
	})}
	return group("alias", "Addresses that stand for others", create, set, list, yesFlag(remove, &yes))
}

func createAlias(j *job) error {
	made, err := j.store.CreateAlias(j, j.args[0], j.args[1:]...)
	if err != nil {
		return about("alias "+j.args[0], err)
	}
	return j.say(aliasView(made), "%s stands for %s.", made.Address, strings.Join(made.Targets, ", "))
}

func setAlias(j *job) error {
	if err := j.store.SetAlias(j, j.args[0], j.args[1:]...); err != nil {
		return about("alias "+j.args[0], err)
	}
	return j.say(map[string]any{"address": j.args[0], "targets": j.args[1:]}, "%s stands for %s.", j.args[0], strings.Join(j.args[1:], ", "))
}

func listAliases(j *job, tenant string) error {
	tenants, err := j.tenants(tenant)
	if err != nil {
		return err
	}
	views, t := []aliasView{}, table{header: []string{"address", "stands for"}}
	for _, tenant := range tenants {
		aliases, err := j.store.Aliases(j, tenant.ID)
		if err != nil {
			return err
		}
		for _, alias := range aliases {
			views = append(views, aliasView(alias))
			t.add(alias.Address, strings.Join(alias.Targets, ", "))
		}
	}
	return j.print(views, t)
}

func deleteAlias(j *job, yes bool) error {
	if err := confirm(yes, "alias "+j.args[0]); err != nil {
		return err
	}
	if err := j.store.DeleteAlias(j, j.args[0]); err != nil {
		return about("alias "+j.args[0], err)
	}
	return j.say(map[string]string{"deleted": j.args[0]}, "Alias %s is gone.", j.args[0])
}
