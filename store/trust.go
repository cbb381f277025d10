package store

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Recalls come as notifications, in the order of the commits. So does the beat that a front end sends itself each second: once that has
// come back, every recall has that was committed before it was sent. A front end answers from memory for no longer than trustTime after
// that, by its own clock, and a process that waits for a mailbox to be given back waits for no longer either. Where the
// connection broke on which it listens, it does not know what it has missed, and gives all mailboxes back. Where it has not beaten for
// so long, others may have taken it for dead: it goes by another number. They do after 5 seconds (front_end_lives, migration 0028); that it was
// heard is written without waiting for the disk, and so a crash of the database takes up to 0.6 s of that with it, by default.

const (
	// recallChannel is what mailboxes are recalled on, by migration 0028, and what beats are sent on.
	recallChannel = "mailstead_recall"
	// stateLocked is the SQLSTATE of a lock that was not had in time.
	stateLocked  = "55P03"
	beatInterval = time.Second
	trustTime    = 3 * time.Second
	// upkeepTime bounds what this process does with the database for it.
	upkeepTime = 2 * time.Second
	// forgetAfter is after how long such front ends are forgotten.
	forgetAfter = time.Hour
)

// trust is for how long this process would have heard of a recall.
type trust struct {
	beat  int64     // the last that was sent
	sent  time.Time // when it was, zero: it was not since we listen
	until time.Time
}

// lasts asks both clocks: one can be set, the other stands still while the machine sleeps.
func (t *trust) lasts(now time.Time) bool {
	return now.Before(t.until) && now.Round(0).Before(t.until.Round(0))
}

// run begins the work in the background.
func (d *delegations) run() {
	w := d.store.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.start(&w.listening, w.listen)
	d.work.Go(func() { d.take(w.ctx) })
	d.work.Go(func() { d.giveAllBack(w.ctx) })
}

// take beats, and takes the mailboxes that are wanted.
func (d *delegations) take(ctx context.Context) {
	tick, tidy := time.NewTicker(beatInterval), time.NewTicker(delegateTidy)
	defer tick.Stop()
	defer tidy.Stop()
	last := time.Now() // when something was wanted
	d.sendBeat(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if d.counted().Held > 0 || time.Since(last) < delegateIdle {
				d.sendBeat(ctx)
			}
		case <-tidy.C:
			d.tidy(ctx)
		case key := <-d.wanted:
			last = time.Now()
			d.takeOne(ctx, key)
		}
	}
}

// sendBeat sends what need not survive a crash, and so waits for no disk. Where it fails there is no trust, which harms nobody.
func (d *delegations) sendBeat(ctx context.Context) {
	const query = `
		WITH heard AS (
			INSERT INTO front_end (front_end_id, heard_at) VALUES ($1, clock_timestamp())
			ON CONFLICT (front_end_id) DO UPDATE SET heard_at = excluded.heard_at)
		SELECT pg_notify('` + recallChannel + `', $2) WHERE set_config('synchronous_commit', 'off', true) = 'off'`

	ctx, cancel := context.WithTimeout(ctx, upkeepTime)
	defer cancel()
	now := time.Now()
	d.mu.Lock()
	if !d.trust.until.IsZero() && !d.trust.lasts(now) {
		d.mu.Unlock()
		d.renew()
		d.mu.Lock()
	}
	d.trust.beat++
	d.trust.sent = now
	frontEnd, beat := d.frontEnd, d.trust.beat
	d.mu.Unlock()
	b := &pgx.Batch{}
	b.Queue(query, frontEnd, "beat "+strconv.FormatInt(frontEnd, 10)+" "+strconv.FormatInt(beat, 10))
	if err := d.store.pool.SendBatch(ctx, b).Close(); err != nil && ctx.Err() == nil {
		d.store.log.Debug("beat was not sent", "error", err)
	}
}

// tidy gives back what nobody reads, and forgets front ends that have gone.
func (d *delegations) tidy(ctx context.Context) {
	d.mu.Lock()
	for key, of := range d.of {
		if of.held && time.Since(of.used) > delegateIdle {
			d.drop(key, of)
		}
	}
	d.mu.Unlock()
	d.hurry()
	ctx, cancel := context.WithTimeout(ctx, upkeepTime)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue(`DELETE FROM front_end WHERE heard_at < clock_timestamp() - $1::interval`, forgetAfter)
	if err := d.store.pool.SendBatch(ctx, b).Close(); err != nil && ctx.Err() == nil {
		d.store.log.Debug("front ends that have gone were not forgotten", "error", err)
	}
}

// takeOne has a mailbox delegated to this process, if it is to no other, and nobody is changing it. It counts from after the commit on.
func (d *delegations) takeOne(ctx context.Context, key viewKey) {
	const query = `
		UPDATE mailbox SET delegate = $3
		WHERE tenant_id = $1 AND mailbox_id IN (
			SELECT mailbox_id FROM mailbox
			WHERE tenant_id = $1 AND mailbox_id = $2 AND deleted_at IS NULL AND (delegate IS NULL OR NOT front_end_lives(abs(delegate)))
			FOR NO KEY UPDATE SKIP LOCKED)
		RETURNING true`

	d.mu.Lock()
	if d.of[key] != nil || d.giving[key] > 0 || len(d.of) >= maxDelegations || !d.trust.lasts(time.Now()) {
		d.mu.Unlock()
		return // it is wanted again as it is read again
	}
	of := &delegation{frontEnd: d.frontEnd, used: time.Now()}
	d.of[key] = of
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, upkeepTime)
	defer cancel()
	var taken bool
	err := d.store.batchOf(ctx, written{key.tenant, []id.Mailbox{}}, func(b *pgx.Batch) {
		taken = false
		b.Queue(query, key.tenant, key.mailbox, of.frontEnd).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				taken = true
			}
			return rows.Err()
		})
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.of[key] != of: // it has been recalled or given back already, perhaps before it was taken
		if taken {
			d.toGiveBack(key, of)
		}
	case err != nil || !taken:
		delete(d.of, key)
		d.candidates[key] = candidate{since: time.Now().Add(d.rest)}
	default:
		of.held = true
		delete(d.candidates, key)
	}
	d.hurry()
}

// hurry has given back what is to be.
func (d *delegations) hurry() {
	select {
	case d.hurried <- struct{}{}:
	default:
	}
}

// giveAllBack gives back whatever is to be, until ctx ends; and then all there is.
func (d *delegations) giveAllBack(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-d.hurried:
			d.giveEachBack(ctx)
		}
	}
	d.renew()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second) // nobody waits for the rest
	defer cancel()
	d.giveEachBack(ctx)
}

func (d *delegations) giveEachBack(ctx context.Context) {
	for ctx.Err() == nil {
		d.forgetGone(ctx)
		one, recalled, found := d.nextToGiveBack()
		if !found {
			return
		}
		err := d.store.giveBack(ctx, one)
		if err == nil {
			d.given(one.key)
			continue
		}
		if !isState(err, stateLocked) { // else others come first
			d.store.log.Debug("a mailbox is not given back yet, for which others may wait", "tenant", one.key.tenant, "mailbox", one.key.mailbox, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(beatInterval):
			}
		}
		d.mu.Lock()
		if recalled {
			d.recalls = append(d.recalls, one)
		} else {
			d.giveBack = append(d.giveBack, one)
		}
		d.mu.Unlock()
	}
}

// nextToGiveBack takes what others wait for first.
func (d *delegations) nextToGiveBack() (one delegated, recalled, found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from := &d.giveBack
	if recalled = len(d.recalls) > 0; recalled {
		from = &d.recalls
	}
	if len(*from) == 0 {
		*from = nil
		return delegated{}, false, false
	}
	one, *from = (*from)[0], (*from)[1:]
	return one, recalled, true
}

// forgetGone tells others not to wait for numbers by which nothing is answered from memory any more. Where it fails they wait for some seconds.
func (d *delegations) forgetGone(ctx context.Context) {
	d.mu.Lock()
	gone := d.gone
	d.gone = nil
	d.mu.Unlock()
	if len(gone) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, upkeepTime)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue(`DELETE FROM front_end WHERE front_end_id = ANY ($1)`, gone)
	if err := d.store.pool.SendBatch(ctx, b).Close(); err != nil {
		d.store.log.Debug("front ends that have gone were not forgotten", "error", err)
	}
}

func (d *delegations) given(key viewKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.giving[key]--; d.giving[key] == 0 {
		delete(d.giving, key)
	}
}

// giveBack ends a delegation in the database, whoever had it, one mailbox at a time, so that it waits for no two locks, and for none for long.
func (s *Store) giveBack(ctx context.Context, one delegated) error {
	const query = `
		UPDATE mailbox SET delegate = NULL
		WHERE tenant_id = $1 AND mailbox_id = $2 AND abs(delegate) = $3 AND set_config('synchronous_commit', 'off', true) = 'off'`

	ctx, cancel := context.WithTimeout(ctx, upkeepTime)
	defer cancel()
	return s.batchOf(ctx, written{one.key.tenant, []id.Mailbox{}}, func(b *pgx.Batch) {
		b.Queue(`SELECT set_config('lock_timeout', '100ms', true)`)
		b.Queue(query, one.key.tenant, one.key.mailbox, one.frontEnd)
	})
}

// receive hears a beat of our own, or a recall.
func (d *delegations) receive(payload string) {
	words := strings.Fields(payload)
	var numbers [3]int64
	for i := range numbers {
		if i+1 < len(words) {
			n, err := strconv.ParseInt(words[i+1], 10, 64)
			if err != nil {
				return // of another release
			}
			numbers[i] = n
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case len(words) == 3 && words[0] == "beat":
		// Trust that has lapsed does not come back: others may have taken this process for dead.
		fresh := d.trust.until.IsZero() || d.trust.lasts(time.Now())
		if numbers[0] == d.frontEnd && numbers[1] == d.trust.beat && !d.trust.sent.IsZero() && fresh {
			d.trust.until = d.trust.sent.Add(trustTime)
		}
	case len(words) == 4 && words[0] == "recall":
		key := viewKey{id.Tenant(numbers[1]), id.Mailbox(numbers[2])}
		if of := d.of[key]; of != nil && of.frontEnd == numbers[0] {
			d.recalled++
			d.candidates[key] = candidate{since: time.Now().Add(d.rest)}
			delete(d.of, key)
			d.recalls = append(d.recalls, delegated{key, of.frontEnd})
			d.giving[key]++
			d.hurry()
		}
	}
}
