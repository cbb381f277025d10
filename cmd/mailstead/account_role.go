package main

import (
	"strings"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

func (a *app) accountRole() *cobra.Command {
	var domains []string
	c := &cobra.Command{
		Use:   "role LOGIN ROLE",
		Short: "Say what an account may do beyond its own mail",
		Long: `Say what an account may do beyond its own mail:

  none              nothing
  support           look at the mail of the tenant's accounts, changing nothing
  domain-admin      administer the accounts of some domains (--domain)
  tenant-admin      administer the tenant
  platform-support  look at the mail of all tenants' accounts, changing nothing
  platform-admin    administer all tenants

Who acts for somebody else logs in with their own password and the other's
login as the authorization identity (SASL PLAIN).`,
		Args: exactArgs("LOGIN", "ROLE"),
		RunE: a.onStore(func(j *job) error { return setRole(j, domains) }),
	}
	c.Flags().StringArrayVar(&domains, "domain", nil, "a domain that a domain admin administers; may be given several times")
	return c
}

func setRole(j *job, domains []string) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	role, err := store.ParseRole(j.args[1])
	if err != nil {
		return usageError{err}
	}
	if err := j.store.SetRole(j, account.User(), role, domains...); err != nil {
		return about("account "+account.Login, err)
	}
	account.Role = role
	if len(domains) > 0 {
		return j.say(viewAccount(account), "The role of %s is %s of %s.", account.Login, role, strings.Join(domains, ", "))
	}
	return j.say(viewAccount(account), "The role of %s is %s.", account.Login, role)
}
