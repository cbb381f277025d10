package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// groupView is a group as --json prints it.
type groupView struct {
	Name    string    `json:"name"`
	Tenant  string    `json:"tenant"`
	Members []string  `json:"members"`
	Created time.Time `json:"created"`
}

func viewGroup(tenant store.Tenant, g store.Group) groupView {
	return groupView{Name: g.Name, Tenant: tenant.Name, Members: append([]string{}, g.Members...), Created: g.Created}
}

func (a *app) groupCommand() *cobra.Command {
	var tenant string
	var yes bool
	of := func(c *cobra.Command) *cobra.Command {
		c.Flags().StringVarP(&tenant, "tenant", "t", "", "the tenant (required)")
		_ = c.MarkFlagRequired("tenant") // it cannot fail: the flag is there
		return c
	}
	create := of(&cobra.Command{Use: "create NAME", Short: "Make a group of nobody", Args: exactArgs("NAME"), RunE: a.onStore(func(j *job) error {
		return createGroup(j, tenant)
	})})
	list := &cobra.Command{Use: "list", Short: "List groups with their members", Args: exactArgs(), RunE: a.onStore(func(j *job) error {
		return listGroups(j, tenant)
	})}
	list.Flags().StringVarP(&tenant, "tenant", "t", "", "only those of this tenant")
	add := &cobra.Command{Use: "add LOGIN GROUP", Short: "Make an account a member of a group of its tenant", Args: exactArgs("LOGIN", "GROUP"), RunE: a.onStore(addToGroup)}
	remove := &cobra.Command{Use: "remove LOGIN GROUP", Short: "Take an account out of a group", Args: exactArgs("LOGIN", "GROUP"), RunE: a.onStore(removeFromGroup)}
	drop := of(&cobra.Command{Use: "delete NAME", Short: "Remove a group, and what it was granted", Args: exactArgs("NAME"), RunE: a.onStore(func(j *job) error {
		return deleteGroup(j, tenant, yes)
	})})
	return group("group", "Groups of users, for access control lists", create, list, add, remove, yesFlag(drop, &yes))
}

func createGroup(j *job, name string) error {
	tenant, err := j.tenant(name)
	if err != nil {
		return err
	}
	made, err := j.store.CreateGroup(j, tenant.ID, j.args[0])
	if err != nil {
		return about("group "+j.args[0], err)
	}
	return j.say(viewGroup(tenant, made), "Group %s made; access control lists name it group:%s.", made.Name, made.Name)
}

func listGroups(j *job, tenant string) error {
	tenants, err := j.tenants(tenant)
	if err != nil {
		return err
	}
	views, t := []groupView{}, table{header: []string{"group", "tenant", "members"}}
	for _, tenant := range tenants {
		groups, err := j.store.Groups(j, tenant.ID)
		if err != nil {
			return err
		}
		for _, g := range groups {
			views = append(views, viewGroup(tenant, g))
			t.add(g.Name, tenant.Name, strings.Join(g.Members, ", "))
		}
	}
	return j.print(views, t)
}

func addToGroup(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	if err := j.store.AddToGroup(j, account.User(), j.args[1]); err != nil {
		return about("group "+j.args[1], err)
	}
	return j.say(map[string]string{"login": account.Login, "group": j.args[1]}, "%s is in %s.", account.Login, j.args[1])
}

func removeFromGroup(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	if err := j.store.RemoveFromGroup(j, account.User(), j.args[1]); err != nil {
		return about("group "+j.args[1], err)
	}
	return j.say(map[string]string{"login": account.Login, "group": j.args[1]}, "%s is not in %s.", account.Login, j.args[1])
}

func deleteGroup(j *job, name string, yes bool) error {
	tenant, err := j.tenant(name)
	if err != nil {
		return err
	}
	if err := confirm(yes, "group "+j.args[0]); err != nil {
		return err
	}
	if err := j.store.DeleteGroup(j, tenant.ID, j.args[0]); err != nil {
		return about("group "+j.args[0], err)
	}
	return j.say(map[string]string{"deleted": j.args[0]}, "Group %s is gone.", j.args[0])
}
