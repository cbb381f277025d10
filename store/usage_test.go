package store_test

import (
	"context"
	"errors"
	commandline "flag" // flag is a helper here
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
	"mailstead.dev/store/view"
)

var (
	billingOperations = commandline.Int("billing.operations", 250, "operations in the month of TestBilling")
	billingSeed       = commandline.Uint64("billing.seed", 0, "seed of TestBilling; 0: a random one")
)

// meteringClock is the clock of a database's ledger.
type meteringClock struct {
	t    testing.TB
	conn *pgx.Conn
	now  int64
}

func newMeteringClock(t testing.TB, c *testdb.Cluster, now time.Time) *meteringClock {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil { // after the test
			t.Error(err)
		}
	})
	k := &meteringClock{t: t, conn: conn}
	k.execute(`CREATE TABLE test_clock (now bigint NOT NULL)`)
	k.execute(`GRANT SELECT ON test_clock TO mailstead_serving`)
	k.execute(`INSERT INTO test_clock VALUES (0)`)
	k.execute(`CREATE OR REPLACE FUNCTION metering_clock() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT now FROM test_clock $$`)
	k.set(now.Unix())
	return k
}

func (k *meteringClock) execute(query string, args ...any) {
	k.t.Helper()
	if _, err := k.conn.Exec(k.t.Context(), query, args...); err != nil {
		k.t.Fatalf("%s: %v", query, err)
	}
}

func (k *meteringClock) set(now int64) {
	k.t.Helper()
	k.now = now
	k.execute(`UPDATE test_clock SET now = $1`, now)
}

func (k *meteringClock) advance(d time.Duration) { k.t.Helper(); k.set(k.now + int64(d/time.Second)) }

func (k *meteringClock) time() time.Time { return time.Unix(k.now, 0).UTC() }

func hourOf(second int64) int64 { return second - second%3600 }

// A simulated month of accounts that come, use the store and go, while hours are closed and
// the maintenance is away for days, and the clock is set back. What each hour says is what the lives of all messages say:
// the integral is that of each copy's size over the seconds that it was there, added up, and never a running sum.
func TestBilling(t *testing.T) {
	seed := *billingSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: run again with -args -billing.seed=%d", seed, seed)
	c := storetest.Config(t)
	s := storetest.Open(t, c, func(o *store.Options) { o.UsageInterval = time.Hour })
	from, to := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)
	b := &billing{T: t, Store: s, clock: newMeteringClock(t, c, from), random: rand.New(rand.NewPCG(seed, 1))}
	b.tenant = storetest.Domain(t, s, "acme", "one.test").Tenant
	storetest.Domain(t, s, "acme", "two.test")
	other := storetest.Account(t, s, "quiet@other.test")
	add(t, open(t, s, other, "INBOX"), 1, 0)
	for range 3 {
		b.join()
	}
	step := to.Sub(from) / time.Duration(*billingOperations)
	for i := range *billingOperations {
		next := from.Add(step*time.Duration(i) + time.Duration(b.random.Int64N(int64(step))))
		back := int64(0)
		if b.random.IntN(12) == 0 {
			back = b.random.Int64N(9000)
		}
		b.clock.set(next.Unix() - back)
		b.act()
		if b.random.IntN(5) == 0 {
			b.clock.set(max(b.clock.now, next.Unix()))
			b.close()
		}
		if t.Failed() {
			return
		}
	}
	b.clock.set(to.Unix() + 30)
	b.tell()
	b.close()
	b.check(from, to)

	if n := s.Maintained().Drift; n != 0 {
		t.Errorf("the drift metric is %d", n)
	}
	for _, a := range b.accounts {
		if a.until == 0 {
			checkAccount(t, s, a.user)
		}
	}
	// The neighbour's month is one message, from the first second to the last.
	rows := b.usage(other.Tenant, store.UsageQuery{From: from, To: to, Scope: store.OfTenant, Unit: store.ByMonth})
	size := int64(len(text(1)))
	if want := big.NewInt(size * int64(to.Sub(from)/time.Second)); len(rows) != 1 || rows[0].ByteSeconds.Cmp(want) != 0 || rows[0].Bytes != size {
		t.Errorf("of the neighbour: %+v, want %v octets × seconds", rows, want)
	}
}

// billing is a tenant whose use is known in two ways.
type billing struct {
	*testing.T
	*store.Store
	clock    *meteringClock
	random   *rand.Rand
	tenant   id.Tenant
	accounts []*billed
	closed   int64 // hours before it are
	texts    int
}

// billed is an account as those who used it know it.
type billed struct {
	user         store.User
	metered      int64 // up to when it was counted
	since, until int64 // 0: it is there
	boxes        map[string]map[id.UID]*copyOf
	lives        []*copyOf
	events       []billedEvent
	hours        map[int64]*store.Usage // appended, delivered, fetched and searched, by hour
}

// copyOf is a message in a mailbox, from its coming to its going.
type copyOf struct{ size, born, died int64 }

// billedEvent is a change of all that is stored.
type billedEvent struct{ at, octets int64 }

// at says when a change counts that is made now: a clock that was set back stands still.
func (b *billing) at(a *billed) int64 {
	a.metered = max(a.metered, b.clock.now)
	return a.metered
}

func (a *billed) hour(at int64) *store.Usage {
	u := a.hours[hourOf(at)]
	if u == nil {
		u = new(store.Usage)
		a.hours[hourOf(at)] = u
	}
	return u
}

func (a *billed) bear(box string, uid id.UID, size, at int64) {
	m := &copyOf{size, at, 1 << 60}
	if a.boxes[box] == nil {
		a.boxes[box] = make(map[id.UID]*copyOf)
	}
	a.boxes[box][uid] = m
	a.lives = append(a.lives, m)
}

func (a *billed) kill(box string, uid id.UID, at int64) int64 {
	m := a.boxes[box][uid]
	m.died = at
	delete(a.boxes[box], uid)
	return m.size
}

func (b *billing) join() {
	b.Helper()
	user := storetest.Account(b.T, b.Store, fmt.Sprintf("user%d@%s.test", len(b.accounts), []string{"one", "two"}[b.random.IntN(2)]))
	since := max(b.clock.now, b.closed)
	b.accounts = append(b.accounts, &billed{
		user: user, since: since, metered: since, boxes: make(map[string]map[id.UID]*copyOf), hours: make(map[int64]*store.Usage),
	})
}

// some returns some UIDs of a mailbox, in an order that the seed decides.
func (b *billing) some(a *billed, box string) []id.UID {
	all := slices.Sorted(maps.Keys(a.boxes[box]))
	b.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:min(len(all), 1+b.random.IntN(4))]
	slices.Sort(all)
	return all
}

func (b *billing) act() {
	b.Helper()
	there := slices.DeleteFunc(slices.Clone(b.accounts), func(a *billed) bool { return a.until > 0 })
	a := there[b.random.IntN(len(there))]
	switch n := b.random.IntN(100); {
	case n < 25:
		b.add(a, false)
	case n < 50:
		b.add(a, true)
	case n < 60:
		b.copy(a)
	case n < 65:
		b.move(a)
	case n < 78:
		b.expunge(a)
	case n < 82:
		b.replace(a)
	case n < 86:
		b.deleteMailbox(a)
	case n < 94:
		b.read(a)
	case n < 97 || len(there) < 2:
		b.join()
	default:
		b.leave(a)
	}
}

// incoming is a message of some size.
func (b *billing) incoming(m *store.Mailbox, delivered bool) (store.Incoming, int64) {
	b.texts++
	text := text(b.texts) + strings.Repeat("x", b.random.IntN(5000)) + "\r\n"
	in := store.Incoming{Content: m.Receive(text), Delivered: delivered}
	if delivered {
		in.Prefix = []byte("Delivered-To: somebody\r\n")
	}
	return in, int64(len(text) + len(in.Prefix))
}

func (b *billing) add(a *billed, delivered bool) {
	m := open(b.T, b.Store, a.user, "INBOX")
	var all []store.Incoming
	var sizes []int64
	for range 1 + b.random.IntN(3) {
		in, size := b.incoming(m, delivered)
		all, sizes = append(all, in), append(sizes, size)
	}
	done, err := m.Append(b.Context(), all...)
	if err != nil {
		b.Fatal(err)
	}
	at := b.at(a)
	u, i, sum := a.hour(at), 0, int64(0)
	for uid := range done.UIDs.All() {
		a.bear("INBOX", uid, sizes[i], at)
		sum += sizes[i]
		i++
	}
	a.events = append(a.events, billedEvent{at, sum})
	if delivered {
		u.DeliveredMessages += int64(i)
		u.DeliveredBytes += sum
	} else {
		u.AppendedMessages += int64(i)
		u.AppendedBytes += sum
	}
}

func (b *billing) copy(a *billed) {
	uids := b.some(a, "INBOX")
	if len(uids) == 0 {
		return
	}
	done, err := open(b.T, b.Store, a.user, "INBOX").Copy(b.Context(), view.NewUIDSet(uids...), open(b.T, b.Store, a.user, "Archive"))
	if err != nil {
		b.Fatal(err)
	}
	at, sum := b.at(a), int64(0)
	for i, uid := range done.From {
		size := a.boxes["INBOX"][uid].size
		a.bear("Archive", done.To[i], size, at)
		sum += size
	}
	a.events = append(a.events, billedEvent{at, sum})
}

// move changes nothing of what is stored, so nothing is counted either.
func (b *billing) move(a *billed) {
	uids := b.some(a, "INBOX")
	done, err := open(b.T, b.Store, a.user, "INBOX").Move(b.Context(), view.NewUIDSet(uids...), open(b.T, b.Store, a.user, "Trash"))
	if err != nil {
		b.Fatal(err)
	}
	for i, uid := range done.From {
		if a.boxes["Trash"] == nil {
			a.boxes["Trash"] = make(map[id.UID]*copyOf)
		}
		a.boxes["Trash"][done.To[i]] = a.boxes["INBOX"][uid]
		delete(a.boxes["INBOX"], uid)
	}
}

func (b *billing) expunge(a *billed) {
	box := []string{"INBOX", "Archive", "Trash"}[b.random.IntN(3)]
	uids := b.some(a, box)
	if len(uids) == 0 {
		return
	}
	m, set := open(b.T, b.Store, a.user, box), view.NewUIDSet(uids...)
	flag(b.T, m, set, view.Add, view.Deleted)
	if _, _, err := m.Expunge(b.Context(), &set); err != nil {
		b.Fatal(err)
	}
	at, sum := b.at(a), int64(0)
	for _, uid := range uids {
		sum += a.kill(box, uid, at)
	}
	a.events = append(a.events, billedEvent{at, -sum})
}

func (b *billing) replace(a *billed) {
	uids := b.some(a, "INBOX")
	if len(uids) == 0 {
		return
	}
	m := open(b.T, b.Store, a.user, "INBOX")
	in, size := b.incoming(m, false)
	done, err := m.Replace(b.Context(), uids[0], m, in)
	if err != nil {
		b.Fatal(err)
	}
	at := b.at(a)
	was := a.kill("INBOX", uids[0], at)
	a.bear("INBOX", done.UIDs.Max(), size, at)
	a.events = append(a.events, billedEvent{at, size - was})
	u := a.hour(at)
	u.AppendedMessages++
	u.AppendedBytes += size
}

func (b *billing) deleteMailbox(a *billed) {
	b.texts++
	name := fmt.Sprintf("Work %d", b.texts)
	box, err := b.Create(b.Context(), a.user, name, nil)
	if err != nil {
		b.Fatal(err)
	}
	in, size := b.incoming(box, false)
	if _, err := box.Append(b.Context(), in); err != nil {
		b.Fatal(err)
	}
	at := b.at(a)
	a.bear(name, 1, size, at)
	a.events = append(a.events, billedEvent{at, size})
	u := a.hour(at)
	u.AppendedMessages++
	u.AppendedBytes += size
	b.clock.set(max(b.clock.now, a.metered) + b.random.Int64N(600))
	if err := b.Delete(b.Context(), a.user, name); err != nil {
		b.Fatal(err)
	}
	at = b.at(a)
	a.events = append(a.events, billedEvent{at, -a.kill(name, 1, at)})
}

func (b *billing) read(a *billed) {
	octets := b.random.Int64N(1 << 20)
	b.CountFetched(a.user, octets)
	b.CountSearch(a.user)
	b.tell()
	u := a.hour(max(b.clock.now, a.metered))
	u.FetchedBytes += octets
	u.Searches++
}

func (b *billing) tell() {
	b.Helper()
	if err := b.TellReads(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// leave removes an account, and all that it had counts no more.
func (b *billing) leave(a *billed) {
	if err := b.DeleteAccount(b.Context(), a.user); err != nil {
		b.Fatal(err)
	}
	at, sum := b.at(a), int64(0)
	for box, uids := range a.boxes {
		for uid := range uids {
			sum += a.kill(box, uid, at)
		}
	}
	a.events = append(a.events, billedEvent{at, -sum})
	a.until = at
}

// close closes hours as Maintain does.
func (b *billing) close() {
	b.Helper()
	if err := store.CloseAll(b.Store, b.Context()); err != nil {
		b.Fatal(err)
	}
	b.closed = max(b.closed, hourOf(b.clock.now))
	for _, a := range b.accounts {
		if a.until == 0 {
			a.metered = max(a.metered, hourOf(b.clock.now))
		}
	}
}

// want is what an account used of an hour, from the lives of its messages.
func (a *billed) want(hour int64) store.Usage {
	u := store.Usage{}
	if counted := a.hours[hour]; counted != nil {
		u = *counted
	}
	integral := new(big.Int)
	for _, m := range a.lives {
		if seconds := min(m.died, hour+3600) - max(m.born, hour); seconds > 0 {
			integral.Add(integral, new(big.Int).Mul(big.NewInt(m.size), big.NewInt(seconds)))
		}
		if m.born < hour+3600 && m.died >= hour+3600 {
			u.Bytes += m.size
			u.Messages++
		}
	}
	u.ByteSeconds.Set(integral)
	now := int64(0)
	for _, e := range a.events {
		if e.at < hour {
			now += e.octets
		}
	}
	u.PeakBytes = now
	for _, e := range a.events {
		if e.at >= hour && e.at < hour+3600 {
			now += e.octets
			u.PeakBytes = max(u.PeakBytes, now)
		}
	}
	return u
}

func (b *billing) usage(t id.Tenant, q store.UsageQuery) []store.Usage {
	b.Helper()
	var all []store.Usage
	for u, err := range b.Usage(b.Context(), t, q) {
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// check compares the ledger of a time with what those who used it know.
func (b *billing) check(from, to time.Time) {
	b.Helper()
	_, closed, err := b.UsageClosed(b.Context(), b.tenant)
	if err != nil || closed.Before(to) {
		b.Fatalf("hours are closed up to %v, %v", closed, err)
	}
	hourly := store.UsageQuery{From: from, To: to, Scope: store.OfAccounts, Unit: store.ByHour}
	rows := b.usage(b.tenant, hourly)
	byHour := make(map[string]store.Usage)
	for _, u := range rows {
		if _, twice := byHour[u.ID]; twice || u.ID == "" {
			b.Errorf("record %q is there twice", u.ID)
		}
		byHour[u.ID] = u
	}
	if again := b.usage(b.tenant, hourly); !reflect.DeepEqual(again, rows) {
		b.Error("the second export is not the first")
	}
	sums := make(map[string]*store.Usage)
	n := 0
	for _, a := range b.accounts {
		ended := to.Unix()
		if a.until > 0 {
			ended = hourOf(a.until) + 3600
		}
		for hour := hourOf(a.since); hour < ended; hour += 3600 {
			n++
			at := time.Unix(hour, 0).UTC()
			name := fmt.Sprintf("account/%d/%d/hour/%s", b.tenant, a.user.Account, at.Format("2006-01-02T15"))
			got, ok := byHour[name]
			want := a.want(hour)
			sumUp(sums, "tenant", want)
			sumUp(sums, fmt.Sprintf("account %d %d", a.user.Account, at.Day()), want)
			sumUp(sums, "domain "+a.user.Login[strings.Index(a.user.Login, "@")+1:], want)
			if !ok || !sameUsage(got, want) || got.Name != a.user.Login {
				b.Errorf("%s of %s is %+v, want %+v", name, a.user.Login, got, want)
			}
		}
	}
	if n != len(rows) {
		b.Errorf("the ledger has %d rows, want %d", len(rows), n)
	}
	b.Logf("%d accounts, %d hours", len(b.accounts), n)
	for _, u := range b.usage(b.tenant, store.UsageQuery{From: from, To: to, Scope: store.OfAccounts, Unit: store.ByDay}) {
		b.same(u, sums[fmt.Sprintf("account %d %d", u.Account, u.From.Day())])
	}
	for _, u := range b.usage(b.tenant, store.UsageQuery{From: from, To: to, Scope: store.OfDomains, Unit: store.ByMonth}) {
		b.same(u, sums["domain "+u.Name])
	}
	whole := b.usage(b.tenant, store.UsageQuery{From: from, To: to, Scope: store.OfTenant, Unit: store.ByMonth})
	if len(whole) != 1 || whole[0].ID != fmt.Sprintf("tenant/%d/month/2027-01", b.tenant) {
		b.Fatalf("the tenant's month is %+v", whole)
	}
	b.same(whole[0], sums["tenant"])
	if missing, wrong, err := b.AuditUsage(b.Context(), b.tenant, nil, closed); missing != 0 || wrong != 0 || err != nil {
		b.Errorf("the audit finds %d missing, %d wrong, %v", missing, wrong, err)
	}
}

// same compares what is summed up over a time.
func (b *billing) same(got store.Usage, want *store.Usage) {
	b.Helper()
	if want == nil || got.ByteSeconds.Cmp(&want.ByteSeconds.Int) != 0 || got.AppendedBytes != want.AppendedBytes || got.DeliveredBytes != want.DeliveredBytes ||
		got.AppendedMessages != want.AppendedMessages || got.DeliveredMessages != want.DeliveredMessages || got.FetchedBytes != want.FetchedBytes || got.Searches != want.Searches {
		b.Errorf("%s is %+v, want %+v", got.ID, got, want)
	}
}

func sumUp(sums map[string]*store.Usage, key string, u store.Usage) {
	sum := sums[key]
	if sum == nil {
		sum = new(store.Usage)
		sums[key] = sum
	}
	sum.ByteSeconds.Add(&sum.ByteSeconds.Int, &u.ByteSeconds.Int)
	sum.AppendedMessages += u.AppendedMessages
	sum.AppendedBytes += u.AppendedBytes
	sum.DeliveredMessages += u.DeliveredMessages
	sum.DeliveredBytes += u.DeliveredBytes
	sum.FetchedBytes += u.FetchedBytes
	sum.Searches += u.Searches
}

func sameUsage(a, b store.Usage) bool {
	return a.ByteSeconds.Cmp(&b.ByteSeconds.Int) == 0 && a.Bytes == b.Bytes && a.Messages == b.Messages && a.PeakBytes == b.PeakBytes &&
		a.AppendedMessages == b.AppendedMessages && a.AppendedBytes == b.AppendedBytes &&
		a.DeliveredMessages == b.DeliveredMessages && a.DeliveredBytes == b.DeliveredBytes &&
		a.FetchedBytes == b.FetchedBytes && a.Searches == b.Searches
}

// Hours that are closed never change, whoever tries, and what is too old goes; an audit finds what was done to them all the same.
func TestLedgerNeverChanges(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	k := newMeteringClock(t, c, start)
	u := storetest.Account(t, s, "a@one.test")
	add(t, open(t, s, u, "INBOX"), 1, 0)
	k.advance(3 * time.Hour)
	if err := store.CloseAll(s, t.Context()); err != nil {
		t.Fatal(err)
	}
	serving := func(query string, args ...any) string {
		err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), query, args...)
			return err
		})
		return state(err)
	}
	const insert = `
		INSERT INTO usage_hour SELECT tenant_id, $1::timestamptz, account_id, bytes, messages, byte_seconds, peak_bytes, 0, 0, 0, 0, 0, 0
		FROM usage_hour LIMIT 1`

	for query, want := range map[string]string{
		`UPDATE usage_hour SET bytes = 0`:              "42501",
		`DELETE FROM usage_hour`:                       "42501",
		`TRUNCATE usage_hour`:                          "42501",
		`SELECT forget_usage('2027-01-01T02:00Z', 10)`: "MS011",
		`UPDATE usage_tenant SET closed_to = 'epoch'`:  "MS011",
		`DELETE FROM usage_tenant`:                     "MS011",
	} {
		if got := serving(query); got != want {
			t.Errorf("%s: %q, want %s", query, got, want)
		}
	}
	if got := serving(insert, start.Add(-time.Hour)); got != "MS011" {
		t.Errorf("an hour of before comes: %q", got)
	}
	if _, err := k.conn.Exec(t.Context(), `UPDATE usage_hour SET bytes = 0`); state(err) != "MS011" {
		t.Errorf("the owner changes an hour: %v", err)
	}

	// Who comes while the clock is behind what is closed is metered from there on.
	k.set(start.Unix())
	late := open(t, s, storetest.Account(t, s, "late@one.test"), "INBOX")
	add(t, late, 1, 0)
	k.set(start.Add(3 * time.Hour).Unix())
	add(t, late, 2, 0)
	if err := s.DeleteAccount(t.Context(), store.User{Tenant: late.Tenant, Account: late.Owner, Login: "late@one.test"}); err != nil {
		t.Fatal(err)
	}

	audit := func(wantMissing, wantWrong int64) {
		t.Helper()
		missing, wrong, err := s.AuditUsage(t.Context(), u.Tenant, nil, k.time())
		if missing != wantMissing || wrong != wantWrong || err != nil {
			t.Errorf("the audit finds %d missing and %d wrong, want %d and %d: %v", missing, wrong, wantMissing, wantWrong, err)
		}
	}
	audit(0, 0)
	k.execute(`ALTER TABLE usage_hour DISABLE TRIGGER keep`)
	k.execute(`UPDATE usage_hour SET bytes = 0, peak_bytes = 0, byte_seconds = 0 WHERE hour = '2027-01-01T01:00Z'`)
	audit(0, 1)
	k.execute(`DELETE FROM usage_hour WHERE hour = '2027-01-01T01:00Z'`)
	audit(1, 0)
	k.execute(`ALTER TABLE usage_hour ENABLE TRIGGER keep`)

	// After the retention they go, and it is said so.
	if err := s.DeleteAccount(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	k.advance(401 * 24 * time.Hour)
	if err := store.CloseAll(s, t.Context()); err != nil {
		t.Fatal(err)
	}
	var hours, accounts int
	err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM usage_hour), (SELECT count(*) FROM usage_account)`).Scan(&hours, &accounts)
	})
	from, to, closedErr := s.UsageClosed(t.Context(), u.Tenant)
	for _, err := range s.Usage(t.Context(), u.Tenant, store.UsageQuery{From: start, To: k.time(), Scope: store.OfTenant, Unit: store.ByDay}) {
		if !errors.Is(err, store.ErrNotKept) {
			t.Errorf("what is gone is read: %v", err)
		}
	}
	if hours+accounts != 0 || err != nil || closedErr != nil || !from.After(start) || to != k.time() {
		t.Errorf("%d hours of %d accounts are left, %v; closed from %v to %v, %v", hours, accounts, err, from, to, closedErr)
	}
}

// What a front end tells twice counts once; what comes late counts in the hour in which it comes; what is for accounts that are gone counts nowhere.
func TestReadsCountOnce(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c, func(o *store.Options) { o.UsageInterval = time.Hour })
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	k := newMeteringClock(t, c, start)
	u, gone := storetest.Account(t, s, "a@one.test"), storetest.Account(t, s, "b@one.test")
	book := func(frontEnd string, sequence int64, accounts ...id.Account) (booked bool) {
		t.Helper()
		fetched, searches := make([]int64, len(accounts)), make([]int64, len(accounts))
		for i := range accounts {
			fetched[i], searches[i] = 100, 1
		}
		err := s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `SELECT book_reads($1, $2, $3, $4, $5, $6)`, u.Tenant, frontEnd, sequence, accounts, fetched, searches).Scan(&booked)
		})
		if err != nil {
			t.Fatal(err)
		}
		return booked
	}
	got := []bool{book("one", 1, u.Account, gone.Account), book("one", 1, u.Account), book("two", 1, u.Account), book("one", 3, u.Account), book("one", 2, u.Account)}
	if want := []bool{true, false, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("booked %v, want %v", got, want)
	}
	if err := s.DeleteAccount(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	book("one", 4, gone.Account)
	s.CountFetched(u, 1000)
	s.CountSearch(u)
	k.advance(time.Hour)
	if err := store.CloseAll(s, t.Context()); err != nil {
		t.Fatal(err)
	}
	// The clock of who tells it is behind: the hour is closed.
	k.advance(-10 * time.Minute)
	if err := s.TellReads(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.advance(2 * time.Hour)
	if err := store.CloseAll(s, t.Context()); err != nil {
		t.Fatal(err)
	}
	var read []string
	for r, err := range s.Usage(t.Context(), u.Tenant, store.UsageQuery{From: start, To: start.Add(2 * time.Hour), Scope: store.OfAccounts, Unit: store.ByHour}) {
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, fmt.Sprintf("%s %d: %d %d", r.Name, r.From.Hour(), r.FetchedBytes, r.Searches))
	}
	if want := []string{"a@one.test 0: 300 3", "b@one.test 0: 100 1", "a@one.test 1: 1000 1"}; !slices.Equal(read, want) {
		t.Errorf("read %q, want %q", read, want)
	}
}

// Hours are closed by who charges an account and by maintenance at the same time: each once, and nothing is lost in between.
func TestClosingHoursMeetsCharging(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	k := newMeteringClock(t, c, start)
	const users, rounds = 4, 6
	var boxes []*store.Mailbox
	for i := range users {
		boxes = append(boxes, open(t, s, storetest.Account(t, s, fmt.Sprintf("u%d@one.test", i)), "INBOX"))
	}
	for n := range rounds {
		k.advance(time.Hour)
		together(t, users+2, func(i int) error {
			if i >= users {
				if err := store.CloseAll(s, t.Context()); !errors.Is(err, store.ErrBusy) {
					return err
				}
				return nil
			}
			_, err := boxes[i].Append(t.Context(), incoming(boxes[i], n))
			return err
		})
	}
	k.advance(time.Hour)
	if err := store.CloseAll(s, t.Context()); err != nil {
		t.Fatal(err)
	}
	tenant := boxes[0].Tenant
	var appended, hours int64
	for u, err := range s.Usage(t.Context(), tenant, store.UsageQuery{From: start, To: k.time(), Scope: store.OfAccounts, Unit: store.ByHour}) {
		if err != nil {
			t.Fatal(err)
		}
		appended += u.AppendedMessages
		hours++
	}
	missing, wrong, err := s.AuditUsage(t.Context(), tenant, nil, k.time())
	if appended != users*rounds || hours != users*(rounds+1) || missing != 0 || wrong != 0 || err != nil {
		t.Errorf("%d messages in %d hours, %d missing, %d wrong, %v", appended, hours, missing, wrong, err)
	}
}

// What a tenant's Shared mailboxes hold is in its ledger like an account's, of no domain.
func TestUsageOfSharedMailboxes(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	start := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	k := newMeteringClock(t, c, start)
	u := storetest.Account(t, s, "a@one.test")
	shared, err := s.SharedAccount(t.Context(), u.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Create(t.Context(), shared, "Sales", nil)
	if err != nil {
		t.Fatal(err)
	}
	add(t, m, 1, 0)
	k.advance(time.Hour)
	if err := store.CloseAll(s, t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, scope := range []store.Scope{store.OfAccounts, store.OfDomains, store.OfTenant} {
		for r, err := range s.Usage(t.Context(), u.Tenant, store.UsageQuery{From: start, To: k.time(), Scope: scope, Unit: store.ByHour}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s %q of %q: %d", scope, r.Name, r.Domain, r.Messages))
		}
	}
	want := []string{
		`account "a@one.test" of "one.test": 0`, fmt.Sprintf(`account "shared:%d" of "": 1`, u.Tenant),
		`domain "" of "": 1`, `domain "one.test" of "one.test": 0`, `tenant "" of "": 1`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("used %q, want %q", got, want)
	}
	if n := s.Maintained().Drift; n != 0 {
		t.Errorf("the drift metric is %d", n)
	}
}

// What was read while a telling was under way that failed is told at the end, too.
func TestReadsAreToldAtTheEnd(t *testing.T) {
	c := storetest.Config(t)
	s := storetest.Open(t, c)
	u := storetest.Account(t, s, "a@one.test")
	ending, err := store.Open(t.Context(), store.Options{DSN: c.ServingDSN, Bucket: storetest.Bucket(t, c), SpoolDir: t.TempDir(), UsageInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ending.CountFetched(u, 100)
	away, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ending.TellReads(away); err == nil {
		t.Fatal("it was told")
	}
	ending.CountFetched(u, 10)
	if err := ending.Close(); err != nil {
		t.Fatal(err)
	}
	var fetched int64
	err = s.Transact(t.Context(), u.Tenant, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT sum(fetched_bytes) FROM usage_read`).Scan(&fetched)
	})
	if fetched != 110 || err != nil {
		t.Errorf("%d octets were told, want 110: %v", fetched, err)
	}
}
