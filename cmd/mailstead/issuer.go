package main

import (
	"strings"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// issuerView is an issuer of tokens as --json prints it.
type issuerView struct {
	Tenant   string `json:"tenant"`
	URL      string `json:"url"`
	Audience string `json:"audience"`
	Scope    string `json:"scope"`
	Claim    string `json:"claim"`

	Unverified bool `json:"unverified_email"`
	Roles      bool `json:"roles"`
}

func viewIssuer(tenant store.Tenant, i store.Issuer) issuerView {
	return issuerView{tenant.Name, i.URL, i.Audience, i.Scope, i.Claim, i.Unverified, i.Roles}
}

func (a *app) tenantIssuer() *cobra.Command {
	var i store.Issuer
	add := &cobra.Command{
		Use:   "add TENANT URL",
		Short: "Let users in by tokens of an issuer (OpenID Connect)",
		Long: `Let users of a tenant in by tokens (OAUTHBEARER, XOAUTH2) of an issuer: JWTs that are signed by a key that it
shows at URL/.well-known/openid-configuration. It is believed of no other tenant's users.`,
		Args: exactArgs("TENANT", "URL"),
		RunE: a.onStore(func(j *job) error { return addIssuer(j, i) }),
	}
	add.Flags().StringVar(&i.Audience, "audience", "", "what its tokens have to be for")
	add.Flags().StringVar(&i.Scope, "scope", "", "the scope that they have to have; any by default")
	add.Flags().StringVar(&i.Claim, "claim", "email", "the claim that is the user's login: "+strings.Join(store.IssuerClaims, ", "))
	add.Flags().BoolVar(&i.Unverified, "unverified-email", false, "believe an address of the claim email also where the token does not say that it is verified")
	add.Flags().BoolVar(&i.Roles, "roles", false, "let users have their roles who come by its tokens, but for those of the platform")
	return group("issuer", "Issuers of tokens that let a tenant's users in", add,
		&cobra.Command{Use: "list TENANT", Short: "List a tenant's issuers", Args: exactArgs("TENANT"), RunE: a.onStore(listIssuers)},
		&cobra.Command{
			Use: "remove TENANT URL", Short: "Let nobody in by an issuer's tokens any more; ends all sessions of the tenant", Args: exactArgs("TENANT", "URL"),
			RunE: a.onStore(removeIssuer),
		})
}

func addIssuer(j *job, i store.Issuer) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	i.URL = j.args[1]
	if err := j.store.AddIssuer(j, tenant.ID, i); err != nil {
		return about("issuer "+i.URL, err)
	}
	return j.say(viewIssuer(tenant, i), "Tokens of %s let users of %s in.", i.URL, tenant.Name)
}

func listIssuers(j *job) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	all, err := j.store.Issuers(j, tenant.ID)
	if err != nil {
		return err
	}
	views, t := []issuerView{}, table{header: []string{"url", "audience", "scope", "claim"}}
	for _, i := range all {
		views = append(views, viewIssuer(tenant, i))
		t.add(i.URL, i.Audience, i.Scope, i.Claim)
	}
	return j.print(views, t)
}

func removeIssuer(j *job) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	if err := j.store.RemoveIssuer(j, tenant.ID, j.args[1]); err != nil {
		return about("issuer "+j.args[1], err)
	}
	return j.say(map[string]string{"tenant": tenant.Name, "removed": j.args[1]}, "Tokens of %s let nobody of %s in any more.", j.args[1], tenant.Name)
}
