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

	Annotations map[string]string `json:"annotations,omitempty"`
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
	annotate := &cobra.Command{
		Use:   "annotate NAME ENTRY [VALUE]",
		Short: "Set what a tenant's users see as an annotation of the server, or remove it",
		Long: `Set what a tenant's users see, but cannot change, as an annotation of the server (IMAP METADATA,
RFC 5464): /shared/comment is a note, /shared/admin a URL by which to reach you, such as
mailto:postmaster@example.org. Without a value it is removed.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 3 {
				return nil
			}
			return exactArgs("NAME", "ENTRY")(c, args)
		},
		RunE: a.onStore(annotateTenant),
	}
	var yes bool
	remove := &cobra.Command{Use: "delete NAME", Short: "Remove a tenant with all accounts and mail", Args: exactArgs("NAME"), RunE: a.onStore(func(j *job) error {
		return deleteTenant(j, yes)
	})}
	return group("tenant", "Tenants: customers with domains and accounts", create, list, show, disable, enable, annotate, a.tenantIssuer(), a.tenantNetwork(), yesFlag(remove, &yes))
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
	annotations, err := j.store.TenantMetadata(j, tenant.ID)
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
	for _, a := range annotations {
		if v.Annotations == nil {
			v.Annotations = make(map[string]string)
		}
		v.Annotations[a.Entry] = string(a.Value)
		t.add(a.Entry, string(a.Value))
	}
	return j.print(v, t)
}

func annotateTenant(j *job) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	name := j.args[1]
	entry, err := store.MetadataEntry(name)
	if err != nil {
		return about("annotation "+name, err)
	}
	a := store.Annotation{Entry: entry}
	if len(j.args) == 3 {
		a.Value = []byte(j.args[2])
	}
	if err := j.store.SetTenantMetadata(j, tenant.ID, a); err != nil {
		return about("annotation "+name, err)
	}
	view := map[string]string{"tenant": tenant.Name, "entry": entry, "value": string(a.Value)}
	if a.Value == nil {
		delete(view, "value")
		return j.say(view, "Tenant %s has no %s.", tenant.Name, entry)
	}
	return j.say(view, "Tenant %s: %s is %q.", tenant.Name, entry, a.Value)
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
	if err := confirm(yes, "tenant "+tenant.Name+" with all of its accounts and mail, and its ledger of usage"); err != nil {
		return err
	}
	if err := j.store.DeleteTenant(j, tenant.ID); err != nil {
		return about("tenant "+tenant.Name, err)
	}
	return j.say(map[string]string{"deleted": tenant.Name}, "Tenant %s is gone.", tenant.Name)
}
