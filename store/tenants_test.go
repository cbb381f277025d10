package store_test

import (
	"context"
	commandline "flag" // flag is a helper here
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

var tenantAccounts = commandline.Int("tenants.accounts", 60, "accounts of the large tenant of TestTenantsLargeAndSmall")

// auditor sees the rows of all tenants.
type auditor struct {
	testing.TB
	conn *pgx.Conn
	rows string // a query for what tells whether rows of a tenant are as they were, by table
}

func newAuditor(t testing.TB, c *testdb.Cluster) *auditor {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil { // after the test
			t.Error(err)
		}
	})
	a := &auditor{TB: t, conn: conn}
	var parts []string
	for _, table := range a.tables() {
		parts = append(parts, fmt.Sprintf(
			`SELECT '%s', coalesce(md5(string_agg(r::text, ',' ORDER BY r::text COLLATE "C")), ''), count(*) FROM %[1]s r WHERE tenant_id = $1`, table))
	}
	a.rows = strings.Join(parts, " UNION ALL ")
	return a
}

// tables returns those that have a tenant.
func (a *auditor) tables() []string {
	a.Helper()
	rows, _ := a.conn.Query(a.Context(), `
		SELECT c.relname::text
		FROM pg_class c
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
		WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
		ORDER BY c.relname`) // CollectRows reports the error
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 20 {
		a.Fatalf("tables %v, %v", tables, err)
	}
	return tables
}

// of returns what there is of a tenant: a digest of the rows of each table that has any.
func (a *auditor) of(t id.Tenant) map[string]string {
	a.Helper()
	rows, _ := a.conn.Query(a.Context(), a.rows, t) // ForEachRow reports the error
	found := make(map[string]string)
	var table, digest string
	var n int64
	_, err := pgx.ForEachRow(rows, []any{&table, &digest, &n}, func() error {
		if n > 0 {
			found[table] = digest
		}
		return nil
	})
	if err != nil {
		a.Fatal(err)
	}
	return found
}

// differences names the tables in which two states of a tenant differ.
func differences(a, b map[string]string) []string {
	var tables []string
	for table := range maps.Keys(a) {
		if a[table] != b[table] {
			tables = append(tables, table)
		}
	}
	for table := range b {
		if _, ok := a[table]; !ok {
			tables = append(tables, table)
		}
	}
	slices.Sort(tables)
	return tables
}

// A tenant of very many accounts and tenants of one are listed, charged and
// erased; of each that is erased nothing is left, and the others are as they were.
func TestTenantsLargeAndSmall(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c, func(o *store.Options) { o.NoStaging = true }) // so that there are objects
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	k, a := newMeteringClock(t, c, start), newAuditor(t, c)

	small, other := storetest.Account(t, s, "only@small.test"), storetest.Account(t, s, "only@other.test")
	large := storetest.Domain(t, s, "large.test", "large.test").Tenant
	var accounts []store.NewAccount
	for i := range *tenantAccounts {
		accounts = append(accounts, store.NewAccount{Login: fmt.Sprintf("u%05d@large.test", i), Mailboxes: []store.DefaultMailbox{}})
	}
	began := time.Now()
	if err := s.CreateAccounts(t.Context(), accounts); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d accounts were made in %v", len(accounts), time.Since(began))

	// Listed: each tenant's are its own, all of them, in order.
	list := func(tenant id.Tenant) (logins []string) {
		t.Helper()
		for account, err := range s.Accounts(t.Context(), tenant) {
			if err != nil {
				t.Fatal(err)
			}
			logins = append(logins, account.Login)
		}
		return logins
	}
	if got := list(large); len(got) != len(accounts) || !slices.IsSorted(got) || got[len(got)-1] != accounts[len(accounts)-1].Login {
		t.Errorf("the large tenant has %d accounts", len(got))
	}
	if got := list(small.Tenant); !slices.Equal(got, []string{small.Login}) {
		t.Errorf("the small tenant has %v", got)
	}

	// Charged: every one hundredth of the large, and the small, for an hour.
	charged := int64(0)
	fillOne := func(u store.User) {
		t.Helper()
		add(t, open(t, s, u, "INBOX"), 1, 0)
	}
	for i := 0; i < len(accounts); i += max(1, len(accounts)/100) {
		u, err := s.Account(t.Context(), accounts[i].Login)
		if err != nil {
			t.Fatal(err)
		}
		fillOne(u.User())
		charged++
	}
	fillOne(small)
	fillOne(other)
	k.advance(time.Hour)
	began = time.Now()
	for _, tenant := range []id.Tenant{large, small.Tenant, other.Tenant} {
		if err := s.CloseHours(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("their hour was closed in %v", time.Since(began))
	size := int64(len(text(1)))
	for tenant, n := range map[id.Tenant]int64{large: charged, small.Tenant: 1, other.Tenant: 1} {
		var all []store.Usage
		for u, err := range s.Usage(t.Context(), tenant, store.UsageQuery{From: start, To: k.time(), Scope: store.OfTenant, Unit: store.ByHour}) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, u)
		}
		if len(all) != 1 || all[0].Messages != n || all[0].ByteSeconds.Int64() != n*size*3600 {
			t.Errorf("tenant %d is charged %+v, want %d messages of %d octets for an hour", tenant, all, n, size)
		}
	}

	// Erased: first one of one account, then the large one.
	bucket := storetest.Bucket(t, c)
	objects := func(tenant id.Tenant) (keys []string) {
		t.Helper()
		for o, err := range bucket.List(t.Context(), fmt.Sprintf("t%d/", tenant)) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, o.Key)
		}
		return keys
	}
	erase := func(tenant id.Tenant, others ...id.Tenant) {
		t.Helper()
		if there := a.of(tenant); len(there) < 8 || len(objects(tenant)) == 0 {
			t.Errorf("tenant %d has only %v and %v", tenant, there, objects(tenant))
		}
		before := make(map[id.Tenant]map[string]string)
		for _, o := range others {
			before[o] = a.of(o)
		}
		began := time.Now()
		if err := s.DeleteTenant(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		t.Logf("tenant %d was erased in %v", tenant, time.Since(began))
		left := a.of(tenant)
		for _, kept := range []string{"audit_log", "audit_head", "revocation"} { // what was done to it is known for longer, and that its sessions are to end for a day
			delete(left, kept)
		}
		if len(left) > 0 {
			t.Errorf("of tenant %d there is still something in %v", tenant, slices.Sorted(maps.Keys(left)))
		}
		if left := objects(tenant); len(left) > 0 {
			t.Errorf("of tenant %d there are the objects %v", tenant, left)
		}
		for _, o := range others {
			if tables := differences(before[o], a.of(o)); len(tables) > 0 || len(objects(o)) == 0 {
				t.Errorf("with tenant %d something of tenant %d went in %v", tenant, o, tables)
			}
		}
	}
	erase(small.Tenant, large, other.Tenant)
	erase(large, other.Tenant)
	checkAccount(t, s, other)
	if got := list(large); len(got) > 0 {
		t.Errorf("the large tenant still has %d accounts", len(got))
	}
	tenants, err := s.Tenants(t.Context())
	if err != nil || len(tenants) != 1 || tenants[0].ID != other.Tenant {
		t.Errorf("tenants are %+v, %v", tenants, err)
	}
}
