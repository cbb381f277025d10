package store_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
)

func (p *packed) repair() (repaired, left []store.Finding) {
	p.t.Helper()
	_, err := p.Repair(p.t.Context(), p.user.Tenant, func(f store.Finding) {
		if f.Repaired {
			repaired = append(repaired, f)
		} else {
			left = append(left, f)
		}
	})
	if err != nil {
		p.t.Fatalf("repair: %v", err)
	}
	return repaired, left
}

// What can be proven wrong is repaired, and nothing is left of it.
func TestRepair(t *testing.T) {
	p := newPacked(t)
	texts := p.live()
	db := saveTables(t, p.cluster.SuperDSN)
	digest := sha256.Sum256([]byte(texts[3]))
	for _, test := range []struct {
		name  string
		query string
		args  []any
		want  store.FindingKind
	}{
		{"counters of a mailbox", `UPDATE mailbox SET unseen = unseen + 1, messages = messages + 3, log_bytes = 7 WHERE tenant_id = $1 AND mailbox_id = $2`, []any{p.mailbox.ID}, store.FoundCounter},
		{"too low a counter", `UPDATE mailbox SET messages = 1, bytes = 1 WHERE tenant_id = $1 AND mailbox_id = $2`, []any{p.mailbox.ID}, store.FoundCounter},
		{"counters of an account", `UPDATE account_state SET bytes = bytes + 1, messages = 0 WHERE tenant_id = $1`, nil, store.FoundCounter},
		{"counters of a domain and the tenant", `UPDATE quota_slot SET bytes = 0, mailboxes = mailboxes + root + 1 WHERE tenant_id = $1`, nil, store.FoundCounter},
		{"grants", `UPDATE quota_slot SET message_grant = 1 WHERE tenant_id = $1`, nil, store.FoundCounter},
		{"dying content", `UPDATE blob SET dying = true WHERE tenant_id = $1 AND digest = $2`, []any{digest[:]}, store.FoundContent},
		{"object without a row", `DELETE FROM object WHERE tenant_id = $1`, nil, store.FoundObject},
		{"object with an intent", `INSERT INTO object_intent (tenant_id, object_key) SELECT tenant_id, object_key FROM object WHERE tenant_id = $1`, nil, store.FoundObject},
		{"object with an intent and no row", `
			WITH gone AS (DELETE FROM object WHERE tenant_id = $1 RETURNING tenant_id, object_key)
			INSERT INTO object_intent (tenant_id, object_key) SELECT tenant_id, object_key FROM gone`, nil, store.FoundObject},
		{"object with a condemned intent", `INSERT INTO object_intent (tenant_id, object_key, condemned) SELECT tenant_id, object_key, 2 FROM object WHERE tenant_id = $1`, nil, store.FoundObject},
		{"object with a condemned intent and no row", `
			WITH gone AS (DELETE FROM object WHERE tenant_id = $1 RETURNING tenant_id, object_key)
			INSERT INTO object_intent (tenant_id, object_key, condemned) SELECT tenant_id, object_key, 0 FROM gone`, nil, store.FoundObject},
		{"staged rows", `INSERT INTO staged_0 (tenant_id, digest, data) VALUES ($1, '\x00', '\x01'), ($1, '\x01', '\x01')`, nil, store.FoundStaged},
	} {
		t.Run(test.name, func(t *testing.T) {
			db.execute(test.query, append([]any{p.user.Tenant}, test.args...)...)
			repaired, left := p.repair()
			if len(left) > 0 || len(repaired) == 0 {
				t.Errorf("repaired %v, left %v", repaired, left)
			}
			for _, f := range repaired {
				if f.Kind != test.want || !strings.Contains(f.String(), "repaired") {
					t.Errorf("repaired %s, want kind %s", f, test.want)
				}
			}
			if findings := p.fsck(); len(findings) > 0 {
				t.Errorf("found after it: %v", findings)
			}
			if repaired, left := p.repair(); len(repaired)+len(left) > 0 {
				t.Errorf("a second time: %v, %v", repaired, left)
			}
			db.restore()
		})
	}
	p.pack(true)
	p.readable(texts[8:], true)
}

// What is missing or damaged is told, and nothing hides it.
func TestRepairHidesNothing(t *testing.T) {
	p := newPacked(t)
	texts := p.live()
	db := saveTables(t, p.cluster.SuperDSN)
	staged := sha256.Sum256([]byte(texts[35]))
	state := func() (s string) {
		t.Helper()
		p.do(func() error {
			return p.Transact(t.Context(), p.user.Tenant, func(tx pgx.Tx) error {
				return tx.QueryRow(t.Context(), `
					SELECT concat_ws(' ',
						(SELECT string_agg(concat_ws(' ', mailbox_id, messages, unseen, deleted, bytes, log_bytes), ',' ORDER BY mailbox_id) FROM mailbox),
						(SELECT string_agg(concat_ws(' ', account_id, messages, bytes), ',' ORDER BY account_id) FROM account_state),
						(SELECT concat_ws(' ', count(*), sum(size)) FROM email), (SELECT count(*) FROM blob), (SELECT count(*) FROM object))`).Scan(&s)
			})
		})
		return s
	}
	for _, test := range []struct {
		name  string
		query string
		args  []any
		want  store.FindingKind
	}{
		{"segment lost", `DELETE FROM mailbox_segment WHERE tenant_id = $1 AND mailbox_id = $2`, []any{p.mailbox.ID}, store.FoundSegment},
		{"log lost", `DELETE FROM mailbox_log WHERE tenant_id = $1 AND mailbox_id = $2`, []any{p.mailbox.ID}, store.FoundLog},
		{"mailbox lost", `DELETE FROM mailbox WHERE tenant_id = $1 AND name = 'Archive'`, nil, store.FoundMissing}, // whose emails are in INBOX, too
		{"email lost", `DELETE FROM email WHERE tenant_id = $1 AND email_id = 25`, nil, store.FoundEmail},
		{"staged row lost", `DELETE FROM staged_0 WHERE tenant_id = $1 AND digest = $2`, []any{staged[:]}, store.FoundContent},
		{"object lost", `UPDATE blob SET object_key = object_key || 'x' WHERE tenant_id = $1 AND object_key IS NOT NULL AND digest > $2`, []any{[]byte{0}}, store.FoundContent},
	} {
		t.Run(test.name, func(t *testing.T) {
			db.execute(test.query, append([]any{p.user.Tenant}, test.args...)...)
			was := state()
			_, left := p.repair()
			if now := state(); now != was {
				t.Errorf("repair made %s of %s", now, was)
			}
			found := false
			for _, f := range left {
				found = found || f.Kind == test.want
			}
			if !found {
				t.Errorf("left %v, want one of kind %s", left, test.want)
			}
			db.restore()
		})
	}
	if findings := p.fsck(); len(findings) > 0 {
		t.Errorf("found where nothing is planted: %v", findings)
	}
}

// An object that is needed is not collected, though an intent says so.
func TestCollectorLeavesDamage(t *testing.T) {
	for name, condemned := range map[string]*int{"waiting": nil, "condemned": ptr(0)} {
		t.Run(name, func(t *testing.T) {
			p := newPacked(t, func(o *store.Options) { o.PackSize = 500 })
			texts := p.deliver(20)
			p.pack(true)
			p.execute(`INSERT INTO object_intent (tenant_id, object_key, condemned) SELECT tenant_id, object_key, $2 FROM object WHERE tenant_id = $1`, p.user.Tenant, condemned)
			p.execute(`DELETE FROM object WHERE tenant_id = $1 AND object_key = (SELECT min(object_key) FROM object)`, p.user.Tenant)
			p.elapse(2 * days)
			p.collect()
			if _, left := p.repair(); len(left) > 0 {
				t.Errorf("left %v", left)
			}
			p.readable(texts, true)
		})
	}
}

// A counter that alone tells of messages that were lost stays, and keeps their emails from being swept: also
// where these are named still, for as long as their old place can give them back.
func TestRepairKeepsTheLastWitness(t *testing.T) {
	p := newPacked(t)
	texts := p.deliver(10)
	archive := open(t, p.Store, p.user, "Archive")
	if _, err := p.mailbox.Move(t.Context(), between(1, 10), archive); err != nil {
		t.Fatal(err)
	}
	p.do(func() error { return archive.Fold(t.Context()) })
	db := saveTables(t, p.cluster.SuperDSN)
	// What was expunged long ago is not known any more, so that a gap says nothing.
	db.execute(`UPDATE mailbox SET expunged_modseq = folded_modseq WHERE tenant_id = $1 AND mailbox_id = $2`, p.user.Tenant, archive.ID)
	db.execute(`DELETE FROM mailbox_segment WHERE tenant_id = $1 AND mailbox_id = $2`, p.user.Tenant, archive.ID)
	p.ForgetViews()
	repaired, left := p.repair()
	if len(repaired) > 0 || len(left) == 0 {
		t.Errorf("repaired %v, left %v", repaired, left)
	}
	p.elapse(15 * days)
	if got, err := p.Sweep(t.Context(), p.user.Tenant); err == nil || got.Emails > 0 {
		t.Errorf("swept %+v, %v; want it to refuse", got, err)
	}
	p.readable(texts, false)
}
