package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/quota"
	"mailstead.dev/store"
)

func (a *app) quotaCommand() *cobra.Command {
	var set quotaOptions
	change := &cobra.Command{
		Use:   "set ROOT",
		Short: "Set limits of an account, a domain or a tenant",
		Long: `Set limits of a quota root: account:LOGIN, domain:NAME or tenant:NAME. A change must fit its account,
its domain and its tenant. What is not given stays as it is; "none" takes a limit away. A limit below what is used stops
what would add to it, and nothing else.`,
		Args: exactArgs("ROOT"),
		RunE: a.onStore(func(j *job) error { return setQuota(j, set) }),
	}
	set.register(change)
	var tenant string
	audit := &cobra.Command{
		Use:   "audit",
		Short: "Count everything that quotas are charged for anew",
		Long: `Count what accounts, domains and tenants are charged for anew, from their mailboxes, and tell what differs. It changes
nothing, and may run while mail is served. Maintenance does so by itself. The exit status is 1 where something differs; fsck --repair mends it.`,
		Args: exactArgs(),
		RunE: a.onStore(func(j *job) error { return auditQuotas(j, tenant) }),
	}
	audit.Flags().StringVarP(&tenant, "tenant", "t", "", "only this tenant")
	return group("quota", "Quotas of accounts, domains and tenants",
		&cobra.Command{
			Use: "show ROOT", Short: "Show what is used and what is set of account:LOGIN, domain:NAME or tenant:NAME",
			Args: exactArgs("ROOT"), RunE: a.onStore(showQuota),
		}, change, audit)
}

// quotaView is a quota root as --json prints it. Octets are not rounded.
type quotaView struct {
	Root      string         `json:"root"`
	Resources []resourceView `json:"resources"`
}

type resourceView struct {
	Resource quota.Resource `json:"resource"`
	Used     int64          `json:"used"`
	Limit    *int64         `json:"limit"`
}

// quotaRoot finds the quota root that the argument names.
func (j *job) quotaRoot() (store.QuotaRoot, error) {
	name := j.args[0]
	root, ok := quota.ParseRoot(name)
	if !ok {
		return store.QuotaRoot{}, usageError{fmt.Errorf("%s: want account:LOGIN, domain:NAME or tenant:NAME", name)}
	}
	r, err := j.store.AnyQuota(j, root)
	return r, about(name, err)
}

func showQuota(j *job) error {
	r, err := j.quotaRoot()
	if err != nil {
		return err
	}
	return printQuota(j, r)
}

func printQuota(j *job, r store.QuotaRoot) error {
	v := quotaView{Root: r.String()}
	t := table{header: []string{"resource", "used", "limit"}}
	for _, resource := range quota.Resources {
		of := resourceView{resource, r.Used.Of(resource), r.Limits.Of(resource)}
		v.Resources = append(v.Resources, of)
		t.add(resource, of.Used, limitText(of.Limit))
	}
	return j.print(v, t)
}

func limitText(limit *int64) string {
	if limit == nil {
		return "none"
	}
	return strconv.FormatInt(*limit, 10)
}

// quotaOptions are limits as options, in the order of quota.Resources; "" is not given.
type quotaOptions [len(quota.Resources)]string

// resourceOptions are the names of the options, and what they limit.
var resourceOptions = [len(quota.Resources)][2]string{
	{"storage", "the most bytes, such as 2GiB"}, {"messages", "the most messages"}, {"mailboxes", "the most mailboxes"},
	{"annotations", "the most bytes of annotations, such as 1MiB"},
}

func (o *quotaOptions) register(c *cobra.Command) {
	for i, option := range resourceOptions {
		c.Flags().StringVar(&o[i], option[0], "", option[1]+", or none")
	}
}

func setQuota(j *job, o quotaOptions) error {
	r, err := j.quotaRoot()
	if err != nil {
		return err
	}
	r, err = j.store.ChangeQuota(j, r, o.apply)
	if err != nil {
		return about(j.args[0], err)
	}
	return printQuota(j, r)
}

// apply changes what is given.
func (o quotaOptions) apply(limits quota.Limits) (_ quota.Limits, err error) {
	for i, resource := range quota.Resources {
		if limits, err = withLimit(limits, resource, resourceOptions[i][0], o[i]); err != nil {
			return limits, err
		}
	}
	return limits, nil
}

// withLimit returns limits with what an option says of a resource.
func withLimit(limits quota.Limits, resource quota.Resource, option, value string) (quota.Limits, error) {
	switch value {
	case "":
		return limits, nil
	case "none":
		return limits.With(resource, nil), nil
	}
	if resource == quota.Storage || resource == quota.AnnotationStorage {
		var size config.Size
		if err := size.UnmarshalText([]byte(value)); err != nil {
			return limits, usageError{fmt.Errorf("--%s %s: %w, or none", option, value, err)}
		}
		n := int64(size)
		return limits.With(resource, &n), nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return limits, usageError{fmt.Errorf("--%s %s: want a number, or none", option, value)}
	}
	return limits.With(resource, &n), nil
}

// quotaAuditView is the outcome of an audit as --json prints it.
type quotaAuditView struct {
	Accounts int64              `json:"accounts"`
	Drift    []store.QuotaDrift `json:"drift"`
}

func auditQuotas(j *job, tenant string) error {
	tenants, err := j.tenants(tenant)
	if err != nil {
		return err
	}
	v := quotaAuditView{Drift: []store.QuotaDrift{}}
	for _, t := range tenants {
		if t.Deleting {
			continue // half of it is gone
		}
		drift, accounts, err := j.store.AuditQuota(j, t.ID)
		if err != nil {
			return about("tenant "+t.Name, err)
		}
		for _, d := range drift {
			if !j.json {
				fmt.Fprintf(j.out, "tenant %s account %d: %s\n", t.Name, d.Account, d)
			}
		}
		v.Accounts += accounts
		v.Drift = append(v.Drift, drift...)
	}
	err = j.say(v, "Counted the mailboxes of %d accounts, their domains and tenants. Differences: %d.", v.Accounts, len(v.Drift))
	if err == nil && len(v.Drift) > 0 {
		err = fmt.Errorf("quota audit: differences: %d", len(v.Drift))
	}
	return err
}
