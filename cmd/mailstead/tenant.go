package main

import (
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// tenantView is a tenant as --json prints it.
type tenantView struct {
	Name     string    `json:"name"`
	ID       int64     `json:"id"`
	State    string    `json:"state"` // active, disabled, deleting
	Created  time.Time `json:"created"`
	Domains  []string  `json:"domains,omitempty"`
	Accounts *int64    `json:"accounts,omitempty"`
}

func viewTenant(t store.Tenant) tenantView {
	return tenantView{Name: t.Name, ID: int64(t.ID), State: state(t.Disabled, t.Deleting), Created: t.Created}
}

func state(disabled, deleting bool) string {
	switch {
	case deleting:
		return "deleting"
	case disabled:
		return "disabled"
	}
	return "active"
}

func (a *app) tenantCommand() *cobra.Command {
	create := &cobra.Command{Use: "create NAME", Short: "Make a tenant", Args: exactArgs("NAME"), RunE: a.onStore(createTenant)}
	list := &cobra.Command{Use: "list", Short: "List all tenants", Args: exactArgs(), RunE: a.onStore(listTenants)}
	show := &cobra.Command{Use: "show NAME", Short: "Show a tenant with its domains", Args: exactArgs("NAME"), RunE: a.onStore(showTenant)}
	disable := &cobra.Command{Use: "disable NAME", Short: "Lock all accounts of a tenant out", Args: exactArgs("NAME"), RunE: a.onStore(disableTenant(true))}
	enable := &cobra.Command{Use: "enable NAME", Short: "Let a tenant's accounts in again", Args: exactArgs("NAME"), RunE: a.onStore(disableTenant(false))}
	var yes bool
	remove := &cobra.Command{Use: "delete NAME", Short: "Remove a tenant with all accounts and mail", Args: exactArgs("NAME"), RunE: a.onStore(func(j *job) error {
		return deleteTenant(j, yes)
	})}
	return group("tenant", "Tenants: customers with domains and accounts", create, list, show, disable, enable, yesFlag(remove, &yes))
}

func createTenant(j *job) error {
	t, err := j.store.CreateTenant(j, j.args[0])
	if err != nil {
		return about("tenant "+j.args[0], err)
	}
	return j.say(viewTenant(t), "Tenant %s made.", t.Name)
}

func listTenants(j *job) error {
	tenants, err := j.store.Tenants(j)
	if err != nil {
		return err
	}
	views, t := []tenantView{}, table{header: []string{"name", "state", "created"}}
	for _, tenant := range tenants {
		v := viewTenant(tenant)
		views = append(views, v)
		t.add(v.Name, v.State, day(v.Created))
	}
	return j.print(views, t)
}

// tenant finds the tenant that an argument names.
func (j *job) tenant(name string) (store.Tenant, error) {
	t, err := j.store.Tenant(j, name)
	return t, about("tenant "+name, err)
}

func showTenant(j *job) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	domains, err := j.store.Domains(j, tenant.ID)
	if err != nil {
		return err
	}
	v := viewTenant(tenant)
	v.Domains, v.Accounts = []string{}, new(int64)
	for _, d := range domains {
		v.Domains = append(v.Domains, d.Name)
		*v.Accounts += d.Accounts
	}
	t := table{}
	t.add("name", v.Name)
	t.add("state", v.State)
	t.add("created", day(v.Created))
	t.add("accounts", *v.Accounts)
	for _, d := range v.Domains {
		t.add("domain", store.DisplayDomain(d))
	}
	return j.print(v, t)
}

func disableTenant(disabled bool) func(*job) error {
	return func(j *job) error {
		tenant, err := j.tenant(j.args[0])
		if err != nil {
			return err
		}
		if err := j.store.DisableTenant(j, tenant.ID, disabled); err != nil {
			return about("tenant "+tenant.Name, err)
		}
		tenant.Disabled = disabled
		return j.say(viewTenant(tenant), "Tenant %s is %s.", tenant.Name, state(tenant.Disabled, tenant.Deleting))
	}
}

func deleteTenant(j *job, yes bool) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	if err := confirm(yes, "tenant "+tenant.Name+" with all of its accounts and mail"); err != nil {
		return err
	}
	if err := j.store.DeleteTenant(j, tenant.ID); err != nil {
		return about("tenant "+tenant.Name, err)
	}
	return j.say(map[string]string{"deleted": tenant.Name}, "Tenant %s is gone.", tenant.Name)
}
