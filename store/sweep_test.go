package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
	"mailstead.dev/store/view"
)

const days = 24 * time.Hour

// elapse lets time go by, to all that the database dates: everything gets older.
func elapse(t testing.TB, c *testdb.Cluster, d time.Duration) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, column := range []string{
		"mailbox.deleted_at", "mailbox_log.at", "mailbox_expunged.at", "staged_0.staged_at", "staged_1.staged_at", "staged_2.staged_at",
		"staged_3.staged_at", "object.created_at", "object_intent.created_at", "swept.at", "tenant.created_at", "lease.expires_at",
	} {
		table, name, _ := strings.Cut(column, ".")
		query := fmt.Sprintf(`UPDATE %s SET %s = %[2]s - $1::interval WHERE %[2]s > '-infinity'`, table, name)
		if _, err := conn.Exec(t.Context(), query, d); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
}

func (p *packed) elapse(d time.Duration) {
	p.t.Helper()
	elapse(p.t, p.cluster, d)
}

func (p *packed) sweep() store.Swept {
	p.t.Helper()
	swept, err := p.Sweep(p.t.Context(), p.user.Tenant)
	if err != nil {
		p.t.Fatalf("sweep: %v", err)
	}
	return swept
}

func (p *packed) collect() {
	p.t.Helper()
	p.do(func() error { return store.CollectOrphans(p.Store, p.t.Context(), p.user.Tenant) })
}

// expunge removes messages for good.
func (p *packed) expunge(uids view.UIDSet) {
	p.t.Helper()
	flag(p.t, p.mailbox, uids, view.Add, view.Deleted)
	if _, _, err := p.mailbox.Expunge(p.t.Context(), &uids); err != nil {
		p.t.Fatal(err)
	}
}

// clean checks that nothing is there but what is needed.
func (p *packed) clean() {
	p.t.Helper()
	if findings := p.fsck(); len(findings) > 0 {
		p.t.Errorf("found: %v", findings)
	}
	for what, query := range map[string]string{
		"contents without an email": `SELECT count(*) FROM blob b WHERE NOT EXISTS (SELECT FROM email e WHERE e.tenant_id = b.tenant_id AND e.digest = b.digest)`,
		"dying contents":            `SELECT count(*) FROM blob WHERE dying`,
		"objects without content":   `SELECT count(*) FROM object o WHERE NOT EXISTS (SELECT FROM blob b WHERE b.tenant_id = o.tenant_id AND b.object_key = o.object_key)`,
		"intents":                   `SELECT count(*) FROM object_intent`,
		"staged rows without content": `
			SELECT count(*)
			FROM (SELECT 0 AS slot, * FROM staged_0 UNION ALL SELECT 1, * FROM staged_1 UNION ALL SELECT 2, * FROM staged_2 UNION ALL SELECT 3, * FROM staged_3) s
			WHERE NOT EXISTS (SELECT FROM blob b WHERE b.tenant_id = s.tenant_id AND b.digest = s.digest AND b.slot = s.slot)`,
		"mailboxes being purged": `SELECT count(*) FROM mailbox WHERE purging`,
		"rows of no mailbox": `
			SELECT count(*)
			FROM (SELECT mailbox_id FROM mailbox_log UNION ALL SELECT mailbox_id FROM mailbox_segment UNION ALL SELECT mailbox_id FROM mailbox_expunged) r
			WHERE NOT EXISTS (SELECT FROM mailbox m WHERE m.mailbox_id = r.mailbox_id)`,
	} {
		var n int
		p.do(func() error {
			return p.Transact(p.t.Context(), p.user.Tenant, func(tx pgx.Tx) error { return tx.QueryRow(p.t.Context(), query).Scan(&n) })
		})
		if n != 0 {
			p.t.Errorf("%d %s", n, what)
		}
	}
	if objects, rows := len(p.objects()), p.rows("object"); objects != rows {
		p.t.Errorf("%d objects in the bucket, %d that count", objects, rows)
	}
	if would, err := p.WouldSweep(p.t.Context(), p.user.Tenant); err != nil || would.Emails+would.Contents+would.Mailboxes+would.Records > 0 {
		p.t.Errorf("a sweep would still find %+v, %v", would, err)
	}
}

// Expunged mail stays for the window, and then goes with its content; what is also elsewhere stays.
func TestSweep(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace, o.PackSize = time.Nanosecond, 2000 })
	texts := p.deliver(40)
	p.pack(true)
	more := p.deliver(10) // staged
	archive := open(t, p.Store, p.user, "Archive")
	if _, err := p.mailbox.Copy(t.Context(), set(1), archive); err != nil {
		t.Fatal(err)
	}
	p.expunge(between(1, 30)) // 1 is in Archive too
	p.expunge(between(45, 46))
	if _, err := p.mailbox.Move(t.Context(), set(47), archive); err != nil {
		t.Fatal(err)
	}
	nothing := func(when string) {
		t.Helper()
		would, err := p.WouldSweep(t.Context(), p.user.Tenant)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.sweep(); got.Emails+got.Contents+would.Emails+would.Contents > 0 {
			t.Errorf("%s: swept %+v, would have %+v", when, got, would)
		}
	}
	nothing("at once")
	p.elapse(13 * days)
	nothing("within the window")
	p.readable(texts, true)

	p.elapse(2 * days)
	would, err := p.WouldSweep(t.Context(), p.user.Tenant)
	if err != nil || would.Emails != 31 || would.Contents != 31 || would.Records == 0 {
		t.Errorf("would sweep %+v, %v; want 31 emails and their contents", would, err)
	}
	got := p.sweep()
	if got.Emails != 31 || got.Contents != 31 || got.Bytes != would.Bytes || got.Packs+got.Objects == 0 || got.Drift != 0 {
		t.Errorf("swept %+v; want 31 emails and their contents, some packs", got)
	}
	if float64(got.Stored) > 1.15*float64(got.Live) || got.Live == 0 {
		t.Errorf("%d octets are stored, %d live", got.Stored, got.Live)
	}
	p.collect()
	p.readable(append(texts[:1:1], texts[30:]...), true)
	p.readable(append(more[:4:4], more[6:]...), false)
	p.clean()
	checkAccount(t, p.Store, p.user)
	gone := func() {
		t.Helper()
		want := between(1, 30).Union(between(45, 47))
		if uids, err := p.mailbox.Vanished(t.Context(), 1, nil); err != nil || !uids.Equal(want) {
			t.Errorf("vanished: %s, %v; want %s", uids, err, want)
		}
	}
	gone()
	if n := p.rows("mailbox_expunged"); n == 0 {
		t.Error("no record tells what vanished")
	}
	p.elapse(80 * days)
	p.sweep()
	gone() // from the gaps
	if n := p.rows("mailbox_expunged"); n != 0 {
		t.Errorf("%d expunge records beyond the horizon", n)
	}
	progress, err := p.SweepProgress(t.Context())
	if err != nil || progress.Live != got.Live || time.Since(progress.Oldest) > time.Minute {
		t.Errorf("progress %+v, %v; want that of the last sweep, %+v", progress, err, got)
	}
	p.clean()
}

// A deleted mailbox stays for the window, and then goes as a whole.
func TestSweepDeletedMailbox(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace = time.Nanosecond })
	if _, err := p.Create(t.Context(), p.user, "Work", nil); err != nil {
		t.Fatal(err)
	}
	inInbox := p.deliver(3)
	inbox := p.mailbox
	p.mailbox = open(t, p.Store, p.user, "Work")
	p.deliver(20)
	p.do(func() error { return p.mailbox.Fold(t.Context()) })
	p.expunge(set(3))
	p.deliver(2)
	p.pack(true)
	if err := p.Delete(t.Context(), p.user, "Work"); err != nil {
		t.Fatal(err)
	}
	p.mailbox = inbox
	p.elapse(13 * days)
	if got := p.sweep(); got.Mailboxes+got.Emails != 0 {
		t.Errorf("within the window: %+v", got)
	}
	p.elapse(2 * days)
	if would, err := p.WouldSweep(t.Context(), p.user.Tenant); err != nil || would.Mailboxes != 1 || would.Emails != 22 {
		t.Errorf("would sweep %+v, %v", would, err)
	}
	if got := p.sweep(); got.Mailboxes != 1 || got.Emails != 22 || got.Contents != 22 {
		t.Errorf("swept %+v; want the mailbox with its 22 emails", got)
	}
	p.collect()
	p.readable(inInbox, true)
	p.clean()
}

// What a deleted account leaves goes, but for what others have too.
func TestSweepDeletedAccount(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace = time.Nanosecond })
	texts := p.deliver(4)
	first := p.mailbox
	other := storetest.Account(t, p.Store, "b@one.test")
	p.mailbox = open(t, p.Store, other, "INBOX")
	p.next = 2
	p.deliver(6) // numbers 3 to 8
	p.pack(true)
	p.do(func() error { return p.DeleteAccount(t.Context(), other) })
	p.mailbox = first
	if got := p.sweep(); got.Emails != 0 || got.Contents != 4 || got.Packs != 1 {
		t.Errorf("swept %+v; want 4 contents", got)
	}
	p.collect()
	p.readable(texts, true)
	p.clean()
}

// A sweep that dies at any step loses nothing, and the next one goes on.
func TestSweepDies(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace, o.PackSize, o.StoredRatio = time.Nanosecond, 500, 1.001 })
	died := errors.New("died")
	for _, at := range store.SweepSteps {
		if _, err := p.Create(t.Context(), p.user, "Work", nil); err != nil {
			t.Fatal(err)
		}
		texts := p.deliver(30)
		p.pack(true)
		first := viewOf(t, p.mailbox).UIDNext() - 30
		if _, err := p.mailbox.Move(t.Context(), between(first, first+4), open(t, p.Store, p.user, "Work")); err != nil {
			t.Fatal(err)
		}
		p.expunge(between(first+5, first+14))
		for n := first + 16; n < first+30; n += 3 { // holes in every pack
			p.expunge(set(n))
		}
		if err := p.Delete(t.Context(), p.user, "Work"); err != nil {
			t.Fatal(err)
		}
		p.elapse(15 * days)
		p.StopAt(at, died)
		if _, err := p.Sweep(t.Context(), p.user.Tenant); !errors.Is(err, died) {
			t.Errorf("step %d: %v, want %v", at, err, died)
		}
		p.ForgetSteps()
		var left []string
		for i, text := range texts {
			if i == 15 || i > 15 && (i-16)%3 != 0 {
				left = append(left, text)
			}
		}
		p.readable(left, true)
		p.sweep()
		p.collect()
		p.readable(left, true)
		p.clean()
		checkAccount(t, p.Store, p.user)
	}
}

// Content that is dying, and comes again before it is buried, lives.
func TestDyingContentComesAgain(t *testing.T) {
	p := newPacked(t, func(o *store.Options) { o.OrphanGrace = time.Nanosecond })
	texts := p.deliver(6)
	p.pack(true)
	p.expunge(between(1, 6))
	p.elapse(15 * days)
	dying := store.SweepSteps[4]
	p.AtStep(dying, func() {
		p.next = 2
		p.deliver(3) // numbers 3 to 5
	})
	if got := p.sweep(); got.Emails != 6 || got.Contents != 3 {
		t.Errorf("swept %+v; want 6 emails and 3 contents", got)
	}
	p.ForgetSteps()
	p.collect()
	p.readable(texts[2:5], false)
	p.clean()
}

// What cannot be proven dead stays: a mailbox that holds less than it counts may have lost rows.
func TestSweepLeavesDoubt(t *testing.T) {
	p := newPacked(t)
	texts := p.deliver(10)
	p.do(func() error { return p.mailbox.Fold(t.Context()) })
	p.execute(`DELETE FROM mailbox_segment WHERE tenant_id = $1`, p.user.Tenant)
	p.elapse(15 * days)
	p.ForgetViews()
	if would, err := p.WouldSweep(t.Context(), p.user.Tenant); err != nil || would.Emails+would.Contents != 0 || would.Drift == 0 {
		t.Errorf("would sweep %+v, %v; want that it would refuse", would, err)
	}
	if got, err := p.Sweep(t.Context(), p.user.Tenant); err == nil || got.Emails+got.Contents != 0 || got.Drift == 0 {
		t.Errorf("swept %+v, %v; want it to refuse", got, err)
	}
	p.readable(texts, false)
	if n := p.Maintained().Drift; n == 0 {
		t.Error("the drift is not counted")
	}
}

// An account whose deletion comes between is neither a finding nor noted.
func TestSweepMeetsDeletion(t *testing.T) {
	p := newPacked(t)
	p.deliver(1)
	other := storetest.Account(t, p.Store, "b@one.test")
	add(t, open(t, p.Store, other, "INBOX"), 1, 0)
	// What DeleteAccount does first, up to somewhere in the middle.
	begin := sync.OnceFunc(func() {
		p.execute(`UPDATE mailbox SET deleted_at = now() WHERE tenant_id = $1 AND account_id = $2`, other.Tenant, other.Account)
		p.execute(`UPDATE account SET deleting = true WHERE tenant_id = $1 AND account_id = $2`, other.Tenant, other.Account)
		p.execute(`DELETE FROM mailbox_log WHERE tenant_id = $1 AND mailbox_id IN (SELECT mailbox_id FROM mailbox WHERE account_id = $2)`, other.Tenant, other.Account)
	})
	p.AtStep(store.SweepSteps[0], begin)
	if got := p.sweep(); got.Drift != 0 {
		t.Errorf("swept %+v", got)
	}
	third := storetest.Account(t, p.Store, "c@one.test")
	marked := 0
	p.AtStep(store.SweepSteps[2], func() {
		if marked++; marked == 1 { // who waits longest
			p.do(func() error { return p.DeleteAccount(t.Context(), third) })
		}
	})
	p.sweep()
	p.ForgetSteps()
	if n := p.rows("swept"); n != 2 {
		t.Errorf("%d notes, want those of the account that is left and of the tenant", n)
	}
	if findings := p.fsck(); len(findings) > 0 {
		t.Errorf("found: %v", findings)
	}
}

// A clock that was wrong for a while ends no window before its time, and keeps no sweep from coming.
func TestSweepAfterAWrongClock(t *testing.T) {
	const year = 365 * days
	p := newPacked(t)
	texts := p.deliver(6)
	work, err := p.Create(t.Context(), p.user, "Work", nil)
	if err != nil {
		t.Fatal(err)
	}
	add(t, work, 100, 0)
	p.expunge(set(1))
	p.elapse(-year) // it is set back,
	p.expunge(set(2))
	p.do(func() error { return p.Delete(t.Context(), p.user, "Work") })
	p.elapse(year) // and forward again
	p.do(func() error { return p.mailbox.Fold(t.Context()) })
	p.sweep()
	if back := p.undelete(store.Undelete{}); len(back.To) != 2 {
		t.Errorf("back are %v, want 1 and 2", back.From)
	}
	if _, _, err := p.UndeleteMailbox(t.Context(), p.user, "Work", ""); err != nil {
		t.Errorf("the mailbox: %v", err)
	}
	p.readable(texts, false)

	p.execute(`UPDATE swept SET at = at + interval '1 year' WHERE tenant_id = $1`, p.user.Tenant)
	p.do(func() error { return store.SweepAll(p.Store, t.Context()) })
	if progress, err := p.SweepProgress(t.Context()); err != nil || time.Until(progress.Oldest) > 0 {
		t.Errorf("progress %+v, %v: no sweep has come", progress, err)
	}
}

// A record that is older than one before it does not take that along.
func TestForgetInOrder(t *testing.T) {
	p := newPacked(t)
	texts := p.deliver(3)
	p.expunge(set(1))
	p.expunge(set(2))
	p.do(func() error { return p.mailbox.Fold(t.Context()) })
	p.execute(`UPDATE mailbox_expunged SET at = at - interval '1 year' WHERE tenant_id = $1 AND modseq = (SELECT max(modseq) FROM mailbox_expunged)`, p.user.Tenant)
	p.sweep()
	if back := p.undelete(store.Undelete{}); len(back.From) != 1 || back.From[0] != 1 {
		t.Errorf("back are %v, want 1", back.From)
	}
	p.readable(texts[:1], false)
	checkAccount(t, p.Store, p.user)
}

// One sweep of a tenant at a time; those that are due come by themselves.
func TestSweepsTakeTurns(t *testing.T) {
	p := newPacked(t)
	other := storetest.Open(t, p.cluster)
	p.deliver(3)
	p.expunge(set(2))
	p.elapse(15 * days)
	p.AtStep(store.SweepSteps[2], func() {
		if _, err := other.Sweep(t.Context(), p.user.Tenant); !errors.Is(err, store.ErrBusy) {
			t.Errorf("a second sweep: %v, want %v", err, store.ErrBusy)
		}
	})
	p.do(func() error { return store.SweepAll(p.Store, t.Context()) })
	p.ForgetSteps()
	if n := p.Maintained().Emails; n != 1 {
		t.Errorf("%d emails were swept, want 1", n)
	}
	p.expunge(set(3))
	p.elapse(15 * days)
	p.execute(`UPDATE swept SET at = now() WHERE tenant_id = $1`, p.user.Tenant)
	p.do(func() error { return store.SweepAll(p.Store, t.Context()) })
	if n := p.Maintained().Emails; n != 1 {
		t.Errorf("%d emails were swept, though no sweep was due", n)
	}
}

// A pack that cannot be read stays as it is, and keeps nobody from rewriting the others.
func TestRewriteLeavesDamage(t *testing.T) {
	bucket := &damagedBucket{}
	p := newPacked(t, func(o *store.Options) {
		bucket.Bucket, o.Bucket = o.Bucket, bucket
		o.PackSize = 1000
	})
	texts := p.deliver(60)
	p.pack(true)
	for n := id.UID(1); n < 60; n += 2 {
		p.expunge(set(n))
	}
	at := p.place(texts[1])
	bucket.key, bucket.at = *at.ObjectKey, *at.ObjectOff+at.StoredLen/2
	p.elapse(15 * days)
	got, err := p.Sweep(t.Context(), p.user.Tenant)
	if !errors.Is(err, blob.ErrDamaged) || got.Packs == 0 {
		t.Errorf("sweep with a damaged pack: %+v, %v", got, err)
	}
	bucket.key = ""
	for n := 1; n < 60; n += 2 {
		p.readable(texts[n:n+1], true)
	}
	if now := p.place(texts[1]); *now.ObjectKey != *at.ObjectKey {
		t.Error("damaged content was moved")
	}
}

// Appends, copies, moves, expunges and undeletes of the same contents, on several front ends, while sweeps,
// packs and the collector leave nothing alone for a moment: what was acknowledged is there.
func TestSweepWhileEverythingChanges(t *testing.T) {
	c := storetest.Config(t)
	quick := func(o *store.Options) {
		o.Retention, o.ExpungeHorizon, o.OrphanGrace = time.Nanosecond, time.Nanosecond, 10*time.Second
		o.PackSize, o.FoldMin, o.FoldRatio = 1000, 200, 0.01
	}
	p := &packed{t: t, cluster: c, Store: storetest.Open(t, c, quick), bucket: storetest.Bucket(t, c)}
	p.user = storetest.Account(t, p.Store, "a@one.test")
	p.mailbox = open(t, p.Store, p.user, "INBOX")
	other, sweeper := storetest.Open(t, c, quick), storetest.Open(t, c, quick)
	second := storetest.Account(t, p.Store, "b@one.test") // has the same contents

	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	job := func(f func() error) {
		background.Go(func() {
			for ctx.Err() == nil {
				if err := f(); err != nil {
					t.Errorf("background: %v", err)
				}
			}
		})
	}
	var swept store.Swept
	job(func() error {
		some, err := sweeper.Sweep(t.Context(), p.user.Tenant)
		swept = swept.Add(some)
		return err
	})
	job(func() error { return store.PackTenant(sweeper, t.Context(), p.user.Tenant, true) })
	job(func() error {
		time.Sleep(50 * time.Millisecond)
		return store.CollectOrphans(sweeper, t.Context(), p.user.Tenant)
	})

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	names := []string{"INBOX", "Archive", "Trash"}
	together(t, 6, func(i int) error {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		s, u := []*store.Store{p.Store, other}[i%2], []store.User{p.user, p.user, second}[i%3]
		for range 60 {
			m, to := open(t, s, u, names[random.IntN(3)]), open(t, s, u, names[random.IntN(3)])
			v, err := m.View(t.Context())
			if err != nil {
				return err
			}
			first := 1 + id.UID(random.IntN(int(v.UIDNext())))
			uids := between(first, first+5)
			switch random.IntN(8) {
			case 0, 1, 2:
				_, err = m.Append(t.Context(), incoming(m, random.IntN(12)), incoming(m, 100+random.IntN(200)))
			case 3:
				_, err = m.Copy(t.Context(), uids, to)
			case 4:
				_, err = m.Move(t.Context(), uids, to)
			case 5, 6:
				if _, err = m.SetFlags(t.Context(), store.FlagChange{UIDs: uids, Mode: view.Add, Flags: view.Deleted, UnchangedSince: -1}); err == nil {
					_, _, err = m.Expunge(t.Context(), &uids)
				}
			case 7:
				_, err = m.Undelete(t.Context(), store.Undelete{UIDs: &uids})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	stop()
	background.Wait()
	t.Logf("swept %+v", swept)
	if swept.Emails == 0 || swept.Contents == 0 {
		t.Error("nothing was swept meanwhile")
	}
	checkAccount(t, p.Store, p.user)
	checkAccount(t, p.Store, second)
	if findings := p.fsck(); len(findings) > 0 {
		t.Errorf("found: %v", findings)
	}
	p.elapse(time.Hour)
	p.pack(true)
	p.sweep()
	p.elapse(time.Hour)
	p.collect()
	p.clean()
}
