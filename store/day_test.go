package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	commandline "flag" // flag is a helper here
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
	"mailstead.dev/store/view"
)

// A day in the life of a store: mail is delivered, read, moved, copied and
// expunged, trash is emptied, mailboxes are deleted, some of it comes back, while maintenance runs in processes of
// its own, each of which is killed at a moment that chance decides. The day takes no longer than the
// work in it: after each part of it all that the database dates is made older. In the end no more may
// be stored than a little more than what is needed, nothing be left over, and all mail be as it was told.

var (
	dayTicks      = commandline.Int("day.ticks", 8, "parts of the day of TestDay, in each of which maintenance is killed once")
	dayOperations = commandline.Int("day.operations", 25, "operations of each of three users in each part of TestDay")
	daySeed       = commandline.Uint64("day.seed", 0, "seed of TestDay; 0: a random one")
)

const dayVariable = "MAILSTEAD_DAY"

// ofTheDay are options with which mail dies, is packed and collected within a day.
func ofTheDay(o *store.Options) {
	o.Retention, o.ExpungeHorizon, o.OrphanGrace = 8*time.Hour, 16*time.Hour, time.Hour
	o.StagedMax, o.PackSize, o.PackAge = 4<<10, 64<<10, time.Hour
	o.FoldMin = 1 << 10
	o.SweepEvery, o.PackInterval, o.TidyInterval = 30*time.Minute, 20*time.Millisecond, 50*time.Millisecond
	o.RemoveUnknown = true
}

// TestDayMaintenance is the process that maintains, until it is killed.
func TestDayMaintenance(t *testing.T) {
	config := os.Getenv(dayVariable)
	if config == "" {
		return // it is TestDay that runs it
	}
	var c testdb.Cluster
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	s := storetest.Open(t, &c, ofTheDay)
	if _, err := fmt.Fprintln(os.Stdout, "maintaining"); err != nil {
		t.Fatal(err)
	}
	if err := s.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// laterBucket lists objects as being older than they are.
type laterBucket struct {
	blob.Bucket
	by time.Duration
}

func (b *laterBucket) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		for o, err := range b.Bucket.List(ctx, prefix) {
			o.Modified = o.Modified.Add(-b.by)
			if !yield(o, err) {
				return
			}
		}
	}
}

func TestDay(t *testing.T) {
	seed := *daySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: run again with -args -day.seed=%d", seed, seed)
	c := storetest.Config(t)
	later := &laterBucket{by: 48 * time.Hour}
	p := &packed{t: t, cluster: c, bucket: storetest.Bucket(t, c)}
	p.Store = storetest.Open(t, c, ofTheDay, func(o *store.Options) { later.Bucket, o.Bucket = o.Bucket, later })
	d := &day{packed: p, seed: seed}
	for i := range 3 {
		user := storetest.Account(t, p.Store, fmt.Sprintf("user%d@one.test", i))
		d.users = append(d.users, &dayUser{day: d, user: user, random: rand.New(rand.NewPCG(seed, uint64(i))), boxes: make(map[string]*dayBox)})
	}
	p.user = d.users[0].user
	p.mailbox = open(t, p.Store, p.user, "INBOX")

	random := rand.New(rand.NewPCG(seed, 1000))
	for range *dayTicks {
		ended := d.maintain(time.Duration(random.Int64N(int64(time.Second))))
		together(t, len(d.users), func(i int) error {
			for range *dayOperations {
				if err := d.users[i].act(); err != nil {
					return err
				}
			}
			return nil
		})
		ended()
		p.elapse(24 * time.Hour / time.Duration(*dayTicks))
		if t.Failed() {
			return
		}
	}

	// On a busy machine no life may have been long enough for all that there is to do.
	for after := time.Second; !d.maintained() && after < 2*time.Minute; after *= 2 {
		d.maintain(after)()
		p.elapse(time.Minute) // it was killed, and has leases still
	}
	if !d.maintained() {
		t.Errorf("in all of its lives maintenance has swept %d accounts, written %d objects and folded into %d segments", p.rows("swept"), p.rows("object"), p.rows("mailbox_segment"))
	}

	// In the evening what the day's deaths have left is put in order, and an hour passes for the collector.
	d.tidy()
	p.elapse(time.Hour)
	d.tidy()
	p.elapse(time.Hour)
	p.collect()
	p.do(func() error { return store.SweepBucket(p.Store, t.Context()) })
	evening := d.live(`SELECT coalesce(sum(stored_len), 0)::bigint FROM blob b WHERE EXISTS (SELECT FROM email e WHERE e.tenant_id = b.tenant_id AND e.digest = b.digest)`)
	d.check("at the end of the day", evening)
	if findings := p.fsck(); len(findings) > 0 {
		t.Errorf("found: %v", findings)
	}

	// When nothing can be brought back any more, what is live is what the users see.
	p.elapse(24 * time.Hour)
	d.tidy()
	p.elapse(2 * time.Hour)
	p.collect()
	p.do(func() error { return store.SweepBucket(p.Store, t.Context()) })
	seen := d.live(`SELECT coalesce(sum(stored_len), 0)::bigint FROM blob WHERE digest = ANY ($1)`, d.digests())
	d.check("after the window", seen)
	if evening <= seen {
		t.Errorf("%d octets were live while some could be brought back, and %d are after that", evening, seen)
	}
	for _, u := range d.users {
		u.check()
		checkAccount(t, p.Store, u.user)
	}
	p.clean()
}

// day is a day under way.
type day struct {
	*packed
	seed  uint64
	users []*dayUser
	texts atomic.Uint64 // how many there are
}

// maintain starts maintenance, which is killed some time after it has begun. ended waits for that.
func (d *day) maintain(after time.Duration) (ended func()) {
	d.t.Helper()
	config, err := json.Marshal(d.cluster)
	if err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.CommandContext(d.t.Context(), os.Args[0], "-test.run=^TestDayMaintenance$", "-test.timeout=1h")
	cmd.Env = append(os.Environ(), dayVariable+"="+string(config), "TMPDIR="+d.t.TempDir()) // which it does not remove when it is killed
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		var said bytes.Buffer
		started := false
		for line := make([]byte, 4096); ; {
			n, err := out.Read(line)
			said.Write(line[:n])
			if !started && strings.Contains(said.String(), "maintaining") {
				started = true
				time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may have ended
			}
			if err != nil {
				break
			}
		}
		if text := said.String(); !started || strings.Contains(text, "--- FAIL") {
			d.t.Errorf("maintenance ended before it was killed:\n%s", text)
		}
	})
	return func() {
		watching.Wait()
		_ = cmd.Wait() // that it was killed
	}
}

// maintained reports whether maintenance has done some of each of its works.
func (d *day) maintained() bool {
	return d.rows("swept") > 0 && d.rows("object") > 0 && d.rows("mailbox_segment") > 0
}

// tidy does all that maintenance does, once and undisturbed.
func (d *day) tidy() {
	d.t.Helper()
	d.pack(true)
	d.sweep()
	d.do(func() error { return store.MergeTenant(d.Store, d.t.Context(), d.user.Tenant) })
}

// live returns a number of octets that the database tells.
func (d *day) live(query string, args ...any) (n int64) {
	d.t.Helper()
	d.do(func() error {
		return d.Transact(d.t.Context(), d.user.Tenant, func(tx pgx.Tx) error { return tx.QueryRow(d.t.Context(), query, args...).Scan(&n) })
	})
	return n
}

// check compares what is stored with what is live.
func (d *day) check(when string, live int64) {
	d.t.Helper()
	stored := d.staged().Bytes
	for o, err := range d.bucket.List(d.t.Context(), "") {
		if err != nil {
			d.t.Fatal(err)
		}
		stored += o.Size
	}
	ratio := float64(stored) / float64(live)
	d.t.Logf("%s: %d octets are stored, %d live: %.3f", when, stored, live, ratio)
	if ratio > 1.15 || live == 0 {
		d.t.Errorf("%s: %d octets are stored for %d that are live, %.3f times as many", when, stored, live, ratio)
	}
}

// digests of all that the users see.
func (d *day) digests() [][]byte {
	var all [][]byte
	for _, u := range d.users {
		for _, b := range u.boxes {
			for _, n := range b.there {
				digest := sha256.Sum256([]byte(d.text(n)))
				all = append(all, digest[:])
			}
		}
	}
	return all
}

// text is message n: mostly small, some so large that it is an object of its own. It hardly compresses.
func (d *day) text(n uint64) string {
	random := rand.New(rand.NewPCG(d.seed, n<<8|0xff))
	size := 300 + random.IntN(5000)
	if random.IntN(8) == 0 {
		size = 10_000 + random.IntN(50_000)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Subject: message %d\r\n\r\n", n)
	for b.Len() < size {
		fmt.Fprintf(&b, "%x%x%x%x\r\n", random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64())
	}
	return b.String()
}

// dayUser changes mailboxes at random, and keeps what was told of them.
type dayUser struct {
	*day
	user   store.User
	random *rand.Rand
	boxes  map[string]*dayBox
	works  int
}

// dayBox is a mailbox as its user was told.
type dayBox struct {
	there map[id.UID]uint64 // numbers of messages
	gone  map[id.UID]uint64 // and of those that were expunged, or moved away
}

func (u *dayUser) open(name string) (*store.Mailbox, *dayBox, error) {
	b := u.boxes[name]
	if b == nil {
		b = &dayBox{make(map[id.UID]uint64), make(map[id.UID]uint64)}
		u.boxes[name] = b
	}
	m, err := u.Open(u.t.Context(), u.user, name, acl.All)
	return m, b, err
}

// some returns up to n of the UIDs.
func (u *dayUser) some(of map[id.UID]uint64, n int) view.UIDSet {
	all := slices.Sorted(maps.Keys(of)) // so that the seed decides
	u.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return view.NewUIDSet(all[:min(n, len(all))]...)
}

// act does one thing.
func (u *dayUser) act() error {
	switch n := u.random.IntN(100); {
	case n < 45:
		return u.deliver()
	case n < 55:
		return u.read()
	case n < 65:
		return u.transfer("INBOX", "Archive", 3, true)
	case n < 80:
		return u.transfer("INBOX", "Trash", 4, true)
	case n < 83:
		return u.transfer("INBOX", "Archive", 2, false)
	case n < 88:
		return u.remove("INBOX", 3)
	case n < 91:
		return u.remove("Archive", 3)
	case n < 95:
		return u.remove("Trash", 1000)
	case n < 98:
		return u.project()
	}
	return u.undelete()
}

// deliver appends messages, some of which others have too.
func (u *dayUser) deliver() error {
	m, b, err := u.open("INBOX")
	if err != nil {
		return err
	}
	var numbers []uint64
	var all []store.Incoming
	for range 1 + u.random.IntN(3) {
		n := u.texts.Load()
		if n == 0 || u.random.IntN(5) > 0 {
			n = u.texts.Add(1)
		} else {
			n -= u.random.Uint64N(min(n, 50))
		}
		numbers = append(numbers, n)
		c, err := u.Receive(u.t.Context(), u.user.Tenant, strings.NewReader(u.text(n)))
		if err != nil {
			return err
		}
		defer c.Close()
		all = append(all, store.Incoming{Content: c})
	}
	done, err := m.Append(u.t.Context(), all...)
	if err != nil {
		return err
	}
	i := 0
	for uid := range done.UIDs.All() {
		b.there[uid] = numbers[i]
		i++
	}
	return nil
}

func (u *dayUser) read() error {
	m, b, err := u.open("INBOX")
	if err != nil {
		return err
	}
	_, err = m.SetFlags(u.t.Context(), store.FlagChange{UIDs: u.some(b.there, 5), Mode: view.Add, Flags: view.Seen, UnchangedSince: -1})
	return err
}

func (u *dayUser) transfer(from, to string, n int, move bool) error {
	source, a, err := u.open(from)
	if err != nil {
		return err
	}
	dest, b, err := u.open(to)
	if err != nil {
		return err
	}
	f := source.Copy
	if move {
		f = source.Move
	}
	done, err := f(u.t.Context(), u.some(a.there, n), dest)
	if err != nil {
		return err
	}
	for i, uid := range done.From {
		b.there[done.To[i]] = a.there[uid]
		if move {
			a.lose(uid)
		}
	}
	return nil
}

func (b *dayBox) lose(uid id.UID) {
	b.gone[uid] = b.there[uid]
	delete(b.there, uid)
}

func (u *dayUser) remove(from string, n int) error {
	m, b, err := u.open(from)
	if err != nil {
		return err
	}
	uids := u.some(b.there, n)
	_, err = m.SetFlags(u.t.Context(), store.FlagChange{UIDs: uids, Mode: view.Add, Flags: view.Deleted, UnchangedSince: -1})
	if err != nil {
		return err
	}
	_, gone, err := m.Expunge(u.t.Context(), &uids)
	for uid := range gone.All() {
		b.lose(uid)
	}
	return err
}

// project makes a mailbox, moves mail to it, and deletes it; now and then by mistake.
func (u *dayUser) project() error {
	u.works++
	name := fmt.Sprintf("Work/%d", u.works)
	if _, err := u.Create(u.t.Context(), u.user, name, nil); err != nil {
		return err
	}
	if err := u.transfer("INBOX", name, 10, true); err != nil {
		return err
	}
	if err := u.Delete(u.t.Context(), u.user, name); err != nil {
		return err
	}
	if u.random.IntN(3) == 0 {
		_, _, err := u.UndeleteMailbox(u.t.Context(), u.user, name, "")
		return err
	}
	delete(u.boxes, name)
	return nil
}

// undelete brings back what can still be of some that are gone.
func (u *dayUser) undelete() error {
	m, b, err := u.open([]string{"INBOX", "Trash"}[u.random.IntN(2)])
	if err != nil {
		return err
	}
	uids := u.some(b.gone, 5)
	back, err := m.Undelete(u.t.Context(), store.Undelete{UIDs: &uids})
	for i, uid := range back.From {
		b.there[back.To[i]] = b.gone[uid]
		delete(b.gone, uid)
	}
	return err
}

// check compares all that the user sees with what was told.
func (u *dayUser) check() {
	u.t.Helper()
	for name, b := range u.boxes {
		m, _, err := u.open(name)
		if err != nil {
			u.t.Errorf("open %s: %v", name, err)
			continue
		}
		v := viewOf(u.t, m)
		if v.Len() != len(b.there) {
			u.t.Errorf("%s of %s has %d messages, want %d", name, u.user.Login, v.Len(), len(b.there))
		}
		for msg := range v.All() {
			n, ok := b.there[msg.UID]
			if !ok {
				u.t.Errorf("%s of %s has UID %d, which is gone", name, u.user.Login, msg.UID)
				continue
			}
			if got, err := u.content(m, msg); err != nil || got != u.text(n) {
				u.t.Errorf("%s of %s: UID %d does not read as message %d: %d octets, %v", name, u.user.Login, msg.UID, n, len(got), err)
			}
		}
	}
}

func (u *dayUser) content(m *store.Mailbox, msg view.Message) (string, error) {
	c, err := m.Content(u.t.Context(), msg.Email)
	if err != nil {
		return "", err
	}
	r, err := c.Open(u.t.Context(), 0, msg.Size)
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}
