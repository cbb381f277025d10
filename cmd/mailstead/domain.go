package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// domainView is a domain as --json prints it.
type domainView struct {
	Name     string    `json:"name"`
	CatchAll string    `json:"catch_all,omitempty"`
	Accounts int64     `json:"accounts"`
	Aliases  int64     `json:"aliases"`
	Created  time.Time `json:"created"`
	Tenant   string    `json:"tenant,omitempty"`
}

func viewDomain(d store.Domain, tenant string) domainView {
	return domainView{d.Name, d.CatchAll, d.Accounts, d.Aliases, d.Created, tenant}
}

func (a *app) domainCommand() *cobra.Command {
	var tenant, listed, address string
	var none, yes bool
	create := &cobra.Command{Use: "create DOMAIN --tenant NAME", Short: "Give a tenant a domain", Args: exactArgs("DOMAIN"), RunE: a.onStore(func(j *job) error {
		return createDomain(j, tenant)
	})}
	create.Flags().StringVarP(&tenant, "tenant", "t", "", "whose the domain is")
	list := &cobra.Command{Use: "list", Short: "List domains", Args: exactArgs(), RunE: a.onStore(func(j *job) error {
		return listDomains(j, listed)
	})}
	list.Flags().StringVarP(&listed, "tenant", "t", "", "only those of this tenant")
	show := &cobra.Command{Use: "show DOMAIN", Short: "Show a domain", Args: exactArgs("DOMAIN"), RunE: a.onStore(showDomain)}
	catchAll := &cobra.Command{Use: "catch-all DOMAIN --to ADDRESS | --none", Short: "Say who gets mail for addresses that are not there", Args: exactArgs("DOMAIN"), RunE: a.onStore(func(j *job) error {
		return setCatchAll(j, address, none)
	})}
	catchAll.Flags().StringVar(&address, "to", "", "an address of the same tenant")
	catchAll.Flags().BoolVar(&none, "none", false, "refuse such mail")
	remove := &cobra.Command{Use: "delete DOMAIN", Short: "Take away a domain without accounts and aliases", Args: exactArgs("DOMAIN"), RunE: a.onStore(func(j *job) error {
		return deleteDomain(j, yes)
	})}
	return group("domain", "Mail domains of tenants", create, list, show, catchAll, yesFlag(remove, &yes))
}

func createDomain(j *job, tenant string) error {
	if tenant == "" {
		return usageError{errors.New("whose domain? --tenant NAME is missing")}
	}
	t, err := j.tenant(tenant)
	if err != nil {
		return err
	}
	d, err := j.store.CreateDomain(j, t.ID, j.args[0])
	if err != nil {
		return about("domain "+j.args[0], err)
	}
	return j.say(viewDomain(d, t.Name), "Domain %s is now %s's.", store.DisplayDomain(d.Name), t.Name)
}

// tenants are those that a --tenant option names, all if it is not there.
func (j *job) tenants(name string) ([]store.Tenant, error) {
	if name == "" {
		return j.store.Tenants(j)
	}
	t, err := j.tenant(name)
	return []store.Tenant{t}, err
}

func listDomains(j *job, tenant string) error {
	tenants, err := j.tenants(tenant)
	if err != nil {
		return err
	}
	views, t := []domainView{}, table{header: []string{"domain", "tenant", "accounts", "aliases", "catch-all"}}
	for _, tenant := range tenants {
		domains, err := j.store.Domains(j, tenant.ID)
		if err != nil {
			return err
		}
		for _, d := range domains {
			views = append(views, viewDomain(d, tenant.Name))
			t.add(store.DisplayDomain(d.Name), tenant.Name, d.Accounts, d.Aliases, d.CatchAll)
		}
	}
	return j.print(views, t)
}

func showDomain(j *job) error {
	d, err := j.store.Domain(j, j.args[0])
	if err != nil {
		return about("domain "+j.args[0], err)
	}
	t := table{}
	t.add("domain", store.DisplayDomain(d.Name))
	t.add("accounts", d.Accounts)
	t.add("aliases", d.Aliases)
	t.add("catch-all", d.CatchAll)
	t.add("created", day(d.Created))
	return j.print(viewDomain(d, ""), t)
}

func setCatchAll(j *job, address string, none bool) error {
	if (address == "") != none {
		return usageError{errors.New("want either --to ADDRESS or --none")}
	}
	if err := j.store.SetCatchAll(j, j.args[0], address); err != nil {
		return about("domain "+j.args[0], err)
	}
	d, err := j.store.Domain(j, j.args[0])
	if err != nil {
		return about("domain "+j.args[0], err)
	}
	if none {
		return j.say(viewDomain(d, ""), "Mail for addresses of %s that are not there is refused.", d.Name)
	}
	return j.say(viewDomain(d, ""), "Mail for addresses of %s that are not there goes to %s.", d.Name, d.CatchAll)
}

func deleteDomain(j *job, yes bool) error {
	if err := confirm(yes, "domain "+j.args[0]); err != nil {
		return err
	}
	if err := j.store.DeleteDomain(j, j.args[0]); err != nil {
		return about("domain "+j.args[0], err)
	}
	return j.say(map[string]string{"deleted": j.args[0]}, "Domain %s is gone.", j.args[0])
}
