package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// usagePeriod is a time that the options name: a month, a day or an hour.
type usagePeriod struct {
	name     string
	unit     store.Unit
	from, to time.Time
}

func parsePeriod(name string) (usagePeriod, error) {
	for unit, layout := range map[store.Unit]string{store.ByMonth: "2006-01", store.ByDay: time.DateOnly, store.ByHour: "2006-01-02T15"} {
		if from, err := time.Parse(layout, name); err == nil {
			return usagePeriod{name, unit, from, unit.Next(from)}, nil
		}
	}
	return usagePeriod{}, usageError{fmt.Errorf("--period %s: want a month, a day or an hour of UTC, such as 2026-11, 2026-11-26 or 2026-11-26T09", name)}
}

// rows are what the chart of the period has its rows of.
func (p usagePeriod) rows() store.Unit {
	if p.unit == store.ByMonth {
		return store.ByDay
	}
	return store.ByHour
}

// usageOptions are what is asked for.
type usageOptions struct {
	period, tenant, domain, login string
	by, of                        string // of an export
	format                        string
}

func (o *usageOptions) register(c *cobra.Command, month time.Time) *cobra.Command {
	c.Flags().StringVarP(&o.period, "period", "p", month.UTC().Format("2006-01"), "a month, a day or an hour of UTC, such as 2026-11, 2026-11-26 or 2026-11-26T09")
	c.Flags().StringVarP(&o.tenant, "tenant", "t", "", "only this tenant")
	return c
}

func (a *app) usageCommand() *cobra.Command {
	var shown, exported usageOptions
	now := time.Now()
	c := &cobra.Command{
		Use:   "usage",
		Short: "What tenants used: stored over time, in and out",
		Long: `Show what tenants stored and moved in a period, from the ledger of closed hours; of one tenant, domain
or account also when, with a chart of what was stored. STORED is the average over the period.

For invoices there is mailstead usage export.`,
		Args: exactArgs(),
		RunE: a.onStore(func(j *job) error { return showUsage(j, shown) }),
	}
	shown.register(c, now)
	c.Flags().StringVarP(&shown.domain, "domain", "d", "", "only this domain of the tenant")
	c.Flags().StringVarP(&shown.login, "account", "a", "", "only this account of the tenant, also one that is gone")
	export := &cobra.Command{
		Use:   "export",
		Short: "Write the ledger of a period that is over, for invoices",
		Long: `Write what was used in a period, as CSV or JSON lines, one record for each account, domain or tenant and
each hour, day or month. It must be over. Closed hours never change, and a record
has the same id each time it is written: who bills each id once bills nothing twice. See deploy/usage.md.`,
		Args: exactArgs(),
		RunE: a.onStore(func(j *job) error { return exportUsage(j, exported) }),
	}
	exported.register(export, store.ByMonth.Start(now).AddDate(0, -1, 0))
	export.Flags().StringVar(&exported.of, "of", "account", "records of each account, domain or tenant")
	export.Flags().StringVar(&exported.by, "by", "hour", "records of each hour, day or month")
	export.Flags().StringVarP(&exported.format, "format", "f", "csv", "csv or jsonl")
	c.AddCommand(export)
	return c
}

func showUsage(j *job, o usageOptions) error {
	period, err := parsePeriod(o.period)
	if err != nil {
		return err
	}
	if o.tenant == "" && o.domain+o.login != "" {
		return usageError{fmt.Errorf("which tenant's? say --tenant")}
	}
	tenants, err := j.tenants(o.tenant)
	if err != nil {
		return err
	}
	records, t := []usageRecord{}, table{header: []string{"", "stored", "peak", "messages", "appended", "delivered", "fetched", "searches", ""}}
	unit := period.unit
	if o.tenant != "" {
		unit = period.rows()
	}
	closed := period.to
	for _, tenant := range tenants {
		from, to, err := j.store.UsageClosed(j, tenant.ID)
		if err != nil {
			return about("tenant "+tenant.Name, err)
		}
		if to.Before(closed) {
			closed = to
		}
		q := store.UsageQuery{From: later(period.from, from), To: earlier(period.to, to), Scope: store.OfTenant, Unit: unit, Domain: o.domain, Login: o.login}
		for u, err := range j.store.Usage(j, tenant.ID, q) {
			if err != nil {
				return about("tenant "+tenant.Name, err)
			}
			records = append(records, newUsageRecord(tenant, q, u))
		}
	}
	largest := 0.0
	for i := range records {
		largest = max(largest, records[i].average())
	}
	for i := range records {
		r := &records[i]
		name := r.Tenant
		if o.tenant != "" {
			name = r.From.Format(map[store.Unit]string{store.ByDay: "Mon 02", store.ByHour: "15:00"}[unit])
		}
		t.add(name, octets(r.average()), octets(float64(r.PeakBytes)), r.Messages, octets(float64(r.AppendedBytes)), octets(float64(r.DeliveredBytes)),
			octets(float64(r.FetchedBytes)), r.Searches, bar(r.average(), largest))
	}
	t.header[0] = "tenant"
	if o.tenant != "" {
		t.header[0] = o.period
	}
	if err := j.print(records, t); err != nil || j.json || !closed.Before(period.to) {
		return err
	}
	if closed.IsZero() {
		_, err = fmt.Fprintln(j.out, "No hour is closed yet.")
	} else {
		_, err = fmt.Fprintf(j.out, "Hours are closed up to %s.\n", closed.Format("2006-01-02 15:04 MST"))
	}
	return err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// octets prints a size for people.
func octets(n float64) string {
	if n < 1024 {
		return fmt.Sprintf("%.0f B", n)
	}
	unit := -1
	for ; n >= 1023.95 && unit < 4; unit++ {
		n /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", n, "KMGTP"[unit])
}

// bar draws a number, the largest of its chart being 24 wide.
func bar(n, largest float64) string {
	if largest == 0 {
		return ""
	}
	eighths := int(n/largest*24*8 + .5)
	line := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		line += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return line
}
