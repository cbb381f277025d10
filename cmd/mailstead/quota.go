package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

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
what would add to it, and nothing else. More than a soft limit is taken for as long as --grace says, counted from when it
was exceeded; then nothing more is taken until no more is used than that.`,
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
	Grace     string         `json:"grace,omitempty"` // of soft limits
	Resources []resourceView `json:"resources"`
}

type resourceView struct {
	Resource  quota.Resource `json:"resource"`
	Used      int64          `json:"used"`
	Limit     *int64         `json:"limit"`
	Soft      *int64         `json:"soft"`
	OverSince *time.Time     `json:"over_since,omitempty"` // the soft limit
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
	if r.Soft.Any() {
		v.Grace = r.Grace.String()
	}
	t := table{header: []string{"resource", "used", "limit", "soft limit", "over it"}}
	for i, resource := range quota.Resources {
		of := resourceView{resource, r.Used[i], r.Limits[i], r.Soft[i], r.Over[i]}
		v.Resources = append(v.Resources, of)
		t.add(resource, of.Used, limitText(of.Limit), limitText(of.Soft), graceText(of.OverSince, r.Grace))
	}
	return j.print(v, t)
}

// graceText says how long a soft limit may be exceeded.
func graceText(since *time.Time, grace time.Duration) string {
	if since == nil {
		return "no"
	}
	until := since.Add(grace)
	if !until.After(time.Now()) {
		return "nothing more is taken"
	}
	return "until " + until.UTC().Format("2006-01-02 15:04 UTC")
}

func limitText(limit *int64) string {
	if limit == nil {
		return "none"
	}
	return strconv.FormatInt(*limit, 10)
}

// quotaOptions are limits as options, each in the order of quota.Resources; "" is not given.
type quotaOptions struct {
	hard, soft [len(quota.Resources)]string
	grace      string
}

// resourceOptions are the names of the options, and what they limit.
var resourceOptions = [len(quota.Resources)][2]string{
	{"storage", "the most bytes, such as 2GiB"}, {"messages", "the most messages"}, {"mailboxes", "the most mailboxes"},
	{"annotations", "the most bytes of annotations, such as 1MiB"},
}

func (o *quotaOptions) register(c *cobra.Command) {
	for i, option := range resourceOptions {
		c.Flags().StringVar(&o.hard[i], option[0], "", option[1]+", or none")
		c.Flags().StringVar(&o.soft[i], "soft-"+option[0], "", option[1]+", once grace is over, or none")
	}
	c.Flags().StringVar(&o.grace, "grace", "", "how long soft limits may be exceeded, such as 7d or 36h (default 7d)")
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
func (o quotaOptions) apply(terms quota.Terms) (_ quota.Terms, err error) {
	for i, resource := range quota.Resources {
		name := resourceOptions[i][0]
		if terms.Limits, err = withLimit(terms.Limits, resource, name, o.hard[i]); err != nil {
			return terms, err
		}
		if terms.Soft, err = withLimit(terms.Soft, resource, "soft-"+name, o.soft[i]); err != nil {
			return terms, err
		}
		if hard, soft := terms.Limits[i], terms.Soft[i]; hard != nil && soft != nil && *soft >= *hard {
			return terms, usageError{fmt.Errorf("the soft limit of %s, %d, must be below its limit, %d", name, *soft, *hard)}
		}
	}
	if o.grace != "" {
		terms.Grace, err = graceTime(o.grace)
	}
	return terms, err
}

// graceTime reads a time in days, or as Go writes them.
func graceTime(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, found := strings.CutSuffix(text, "d"); found {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < time.Second || d > 10*365*24*time.Hour {
		return 0, usageError{fmt.Errorf("--grace %s: want a time such as 7d or 36h, of at most ten years", text)}
	}
	return d, nil
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
