package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// What is exported can be read again, twice the same, under the same ids; and people see it as a table with a chart.
func TestUsage(t *testing.T) {
	c := storetest.Config(t)
	s := newSiteOn(t, c)
	conn, err := pgx.Connect(t.Context(), c.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	at := func(now time.Time) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(`CREATE OR REPLACE FUNCTION metering_clock() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT %d::bigint'`, now.Unix())); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC)
	at(start)
	u := storetest.Account(t, s.store, "a@one.test")
	storetest.Account(t, s.store, "b@one.test")
	m, err := s.store.Open(t.Context(), u, "INBOX", acl.All)
	if err != nil {
		t.Fatal(err)
	}
	for day := range 2 {
		at(start.AddDate(0, 0, 15*day))
		content, err := s.store.Receive(t.Context(), u.Tenant, strings.NewReader("Subject: x\r\n\r\n"+strings.Repeat("x", 986)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Append(t.Context(), store.Incoming{Content: content, Delivered: day == 1}); err != nil {
			t.Fatal(err)
		}
		content.Close()
	}
	s.want("usage --period 2028-03", "No hour is closed yet.")
	s.refuse("usage export --period 2028-03", "tenant one.test: hours are closed up to 2028-03-16T00:00:00Z")
	at(start.AddDate(0, 1, 0).Add(time.Hour))

	const month = 31 * 24
	out := s.want("usage export --period 2028-03", "id,tenant,tenant_id,domain,account,account_id,from,to,byte_seconds,")
	if again := s.want("usage export --period 2028-03", ""); again != out {
		t.Error("the second export is another")
	}
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 1+2*month {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	ids := make(map[string]bool)
	for _, row := range rows[1:] {
		if ids[row[0]] || row[0] == "" {
			t.Errorf("%q is there twice", row[0])
		}
		ids[row[0]] = true
	}
	var r usageRecord
	line := s.want("usage export --of tenant --by month --format jsonl --period 2028-03", "")
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprint(1000 * (31 + 16) * 86400); r.ByteSeconds != want || r.ID != fmt.Sprintf("tenant/%d/month/2028-03", u.Tenant) || r.Bytes != 2000 || r.Messages != 2 ||
		r.AppendedBytes != 1000 || r.DeliveredBytes != 1000 || r.PeakBytes != 2000 {
		t.Errorf("%+v, want %s octets × seconds", r, want)
	}
	s.want("usage export --of domain --by day --period 2028-03-02", fmt.Sprintf("\ndomain/%d/one.test/day/2028-03-02,one.test,%[1]d,one.test,,0,2028-03-02T00:00:00Z,2028-03-03T00:00:00Z,86400000,1000,1000,1,0,0,0,0,0,0\n", u.Tenant))

	s.want("usage --period 2028-03", "STORED")
	table := s.want("usage --tenant one.test --period 2028-03", "2028-03  STORED")
	for _, line := range []string{`Wed 01 +1000 B +1000 B +1 +1000 B +0 B +0 B +0 +█{12}`, `Fri 31 +2.0 KiB +2.0 KiB +2 +0 B +0 B +0 B +0 +█{24}`} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(table) {
			t.Errorf("the table has no %s:\n%s", line, table)
		}
	}
	if chart := strings.Count(table, strings.Repeat("█", 24)); chart != 16 {
		t.Errorf("the chart has %d whole bars, want 16:\n%s", chart, table)
	}
	s.want("usage --tenant one.test --account b@one.test --period 2028-03-02", "23:00")
	s.want("usage --tenant one.test --domain one.test --period 2028-04", "Hours are closed up to 2028-04-01 01:00 UTC.")

	s.refuse("usage export --period 2028-04", "hours are closed up to 2028-04-01T01:00:00Z")
	s.want("usage export --period 2028-04-01T00", "account/")
	s.refuse("usage export --period 2028-03-02 --by month", "is less than that")
	s.refuse("usage export --period 2028-03 --of group", "want account, domain or tenant")
	s.refuse("usage export --period 2028-03 --by week", "want hour, day or month")
	s.refuse("usage export --period 2028-03 --format xml", "want csv or jsonl")
	s.refuse("usage --period March", "want a month, a day or an hour of UTC")
	s.refuse("usage --account b@one.test", "say --tenant")
	if _, err := conn.Exec(t.Context(), `UPDATE usage_tenant SET kept_from = '2028-03-02 00:00Z'`); err != nil {
		t.Fatal(err)
	}
	s.refuse("usage export --period 2028-03", "are not kept any more")
	s.want("usage --json --period 2028-03", `"id": "",`) // of a part of the month
}
