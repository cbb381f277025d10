package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"mailstead.dev/store"
)

// usageRecord is a record of the ledger as it is exported: deploy/usage.md says
// what each field is. Fields are added at the end, and never change what they mean.
type usageRecord struct {
	ID                string    `json:"id"`
	Tenant            string    `json:"tenant"`
	TenantID          int64     `json:"tenant_id"`
	Domain            string    `json:"domain"`     // "" of a tenant, and of what its Shared mailboxes hold
	Account           string    `json:"account"`    // its login; "" of a domain or a tenant
	AccountID         int64     `json:"account_id"` // 0 of a domain or a tenant
	From              time.Time `json:"from"`
	To                time.Time `json:"to"`
	ByteSeconds       string    `json:"byte_seconds"` // a whole number that may be more than a double holds
	Bytes             int64     `json:"bytes"`
	PeakBytes         int64     `json:"peak_bytes"`
	Messages          int64     `json:"messages"`
	AppendedMessages  int64     `json:"appended_messages"`
	AppendedBytes     int64     `json:"appended_bytes"`
	DeliveredMessages int64     `json:"delivered_messages"`
	DeliveredBytes    int64     `json:"delivered_bytes"`
	FetchedBytes      int64     `json:"fetched_bytes"`
	Searches          int64     `json:"searches"`

	usage store.Usage
}

func newUsageRecord(t store.Tenant, q store.UsageQuery, u store.Usage) usageRecord {
	r := usageRecord{
		ID: u.ID, Tenant: t.Name, TenantID: int64(t.ID), Domain: u.Domain, AccountID: int64(u.Account), From: u.From, To: u.To,
		ByteSeconds: u.ByteSeconds.String(), Bytes: u.Bytes, PeakBytes: u.PeakBytes, Messages: u.Messages,
		AppendedMessages: u.AppendedMessages, AppendedBytes: u.AppendedBytes, DeliveredMessages: u.DeliveredMessages, DeliveredBytes: u.DeliveredBytes,
		FetchedBytes: u.FetchedBytes, Searches: u.Searches, usage: u,
	}
	if q.Scope == store.OfAccounts {
		r.Account = u.Name
	}
	return r
}

// average is how much was stored on the average, in octets.
func (r *usageRecord) average() float64 { return r.usage.ByteSeconds.Average(r.To.Sub(r.From)) }

var usageColumns = []string{
	"id", "tenant", "tenant_id", "domain", "account", "account_id", "from", "to", "byte_seconds", "bytes", "peak_bytes", "messages",
	"appended_messages", "appended_bytes", "delivered_messages", "delivered_bytes", "fetched_bytes", "searches",
}

func (r *usageRecord) columns() []string {
	row := []string{r.ID, r.Tenant, strconv.FormatInt(r.TenantID, 10), r.Domain, r.Account, strconv.FormatInt(r.AccountID, 10),
		r.From.Format(time.RFC3339), r.To.Format(time.RFC3339), r.ByteSeconds}
	for _, n := range []int64{r.Bytes, r.PeakBytes, r.Messages, r.AppendedMessages, r.AppendedBytes, r.DeliveredMessages, r.DeliveredBytes, r.FetchedBytes, r.Searches} {
		row = append(row, strconv.FormatInt(n, 10))
	}
	return row
}

// recordWriter writes records in a format.
type recordWriter struct {
	write func(r *usageRecord) error
	end   func() error
}

func newRecordWriter(format string, out io.Writer) (recordWriter, error) {
	buffered := bufio.NewWriter(out)
	switch format {
	case "csv":
		w := csv.NewWriter(buffered)
		return recordWriter{
			func(r *usageRecord) error { return w.Write(r.columns()) },
			func() error { w.Flush(); return errors.Join(w.Error(), buffered.Flush()) },
		}, w.Write(usageColumns)
	case "jsonl":
		w := json.NewEncoder(buffered)
		w.SetEscapeHTML(false)
		return recordWriter{func(r *usageRecord) error { return w.Encode(r) }, buffered.Flush}, nil
	}
	return recordWriter{}, usageError{fmt.Errorf("--format %s: want csv or jsonl", format)}
}

func exportUsage(j *job, o usageOptions) error {
	period, err := parsePeriod(o.period)
	if err != nil {
		return err
	}
	q := store.UsageQuery{From: period.from, To: period.to, Scope: store.Scope(o.of), Unit: store.Unit(o.by)}
	switch {
	case !slices.Contains([]store.Scope{store.OfAccounts, store.OfDomains, store.OfTenant}, q.Scope):
		return usageError{fmt.Errorf("--of %s: want account, domain or tenant", o.of)}
	case !slices.Contains([]store.Unit{store.ByHour, store.ByDay, store.ByMonth}, q.Unit):
		return usageError{fmt.Errorf("--by %s: want hour, day or month", o.by)}
	case q.Unit.Start(period.from) != period.from || q.Unit.Next(period.from).After(period.to):
		return usageError{fmt.Errorf("--by %s: %s is less than that", o.by, o.period)}
	}
	tenants, err := j.tenants(o.tenant)
	if err != nil {
		return err
	}
	for _, t := range tenants { // before anything is written
		if err := j.usageIsThere(t, q); err != nil {
			return err
		}
	}
	w, err := newRecordWriter(o.format, j.out)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		for u, err := range j.store.Usage(j, t.ID, q) {
			if err != nil {
				return errors.Join(about("tenant "+t.Name, err), w.end())
			}
			r := newUsageRecord(t, q, u)
			if err := w.write(&r); err != nil {
				return err
			}
		}
	}
	return w.end()
}

// usageIsThere closes the hours that are over, and fails where some are not closed, or not kept any more.
func (j *job) usageIsThere(t store.Tenant, q store.UsageQuery) error {
	if t.Created.After(q.To) {
		return nil // there was nothing of it
	}
	if err := j.store.CloseHours(j, t.ID); err != nil && !errors.Is(err, store.ErrBusy) && !t.Deleting {
		return about("tenant "+t.Name, err)
	}
	from, to, err := j.store.UsageClosed(j, t.ID)
	switch {
	case err != nil:
		return about("tenant "+t.Name, err)
	case to.IsZero():
		return fmt.Errorf("tenant %s: no hour is closed yet", t.Name)
	case to.Before(q.To):
		return fmt.Errorf("tenant %s: hours are closed up to %s", t.Name, to.Format(time.RFC3339))
	case q.From.Before(from):
		return fmt.Errorf("tenant %s: hours before %s are not kept any more", t.Name, from.Format(time.RFC3339))
	}
	return nil
}
