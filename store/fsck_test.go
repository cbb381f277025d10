package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/view"
)

// damagedBucket gives one object back with a flipped bit.
type damagedBucket struct {
	blob.Bucket
	key string
	at  int64
}

func (b *damagedBucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := b.Bucket.Get(ctx, key, off, n)
	if err != nil || key != b.key {
		return r, err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if i := b.at - off; i >= 0 && i < int64(len(content)) {
		content[i] ^= 0x10
	}
	return io.NopCloser(bytes.NewReader(content)), err
}

// saved is a database as its superuser sees it, with a copy of the tables in which tests plant damage.
type saved struct {
	t    *testing.T
	conn *pgx.Conn
}

var savedTables = []string{"mailbox", "mailbox_log", "mailbox_segment", "account_state", "quota_slot", "email", "blob", "object", "object_intent", "staged_0"}

func saveTables(t *testing.T, super string) *saved {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), super)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) }) // the test's context has ended by then
	db := &saved{t, conn}
	db.execute(`SET session_replication_role = replica`) // foreign keys do not keep damage out
	db.execute(`CREATE SCHEMA saved`)
	for _, table := range savedTables {
		db.execute(`CREATE TABLE saved.` + table + ` AS TABLE ` + table)
	}
	return db
}

func (db *saved) execute(query string, args ...any) {
	db.t.Helper()
	if tag, err := db.conn.Exec(db.t.Context(), query, args...); err != nil || len(args) > 0 && tag.RowsAffected() == 0 {
		db.t.Fatalf("%s: %v, %v", query, tag, err)
	}
}

func (db *saved) restore() {
	db.t.Helper()
	for _, table := range savedTables {
		db.execute(`DELETE FROM ` + table)
		db.execute(`INSERT INTO ` + table + ` OVERRIDING SYSTEM VALUE SELECT * FROM saved.` + table)
	}
}

func (p *packed) fsck() []store.Finding {
	p.t.Helper()
	var findings []store.Finding
	_, err := p.Fsck(p.t.Context(), p.user.Tenant, func(f store.Finding) { findings = append(findings, f) })
	if err != nil {
		p.t.Fatalf("fsck: %v", err)
	}
	return findings
}

// A mailbox with all that there is, in all the forms there are.
func (p *packed) live() []string {
	p.t.Helper()
	t := p.t
	texts := p.deliver(30)
	p.pack(true)
	flag(t, p.mailbox, between(1, 20), view.Add, view.Seen, "$one")
	flag(t, p.mailbox, between(5, 7), view.Replace, view.Deleted, "$two")
	expunge := func() {
		if _, _, err := p.mailbox.Expunge(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	expunge()
	p.do(func() error { return p.mailbox.Fold(t.Context()) })
	texts = append(texts, p.deliver(10)...)
	flag(t, p.mailbox, between(1, 40), view.Add, view.Flagged, "$three")
	flag(t, p.mailbox, set(31, 33), view.Add, view.Deleted)
	expunge()
	if _, err := p.mailbox.Copy(t.Context(), between(1, 10), open(t, p.Store, p.user, "Archive")); err != nil {
		t.Fatal(err)
	}
	return texts
}

func TestFsckFindsNothing(t *testing.T) {
	p := newPacked(t)
	p.live()
	if findings := p.fsck(); len(findings) > 0 {
		t.Errorf("found: %v", findings)
	}
	checked, err := p.Fsck(t.Context(), p.user.Tenant, func(store.Finding) {})
	if err != nil {
		t.Fatal(err)
	}
	want := store.Checked{Accounts: 1, Mailboxes: 6, Messages: 42, Emails: 40, Contents: 40, Bytes: checked.Bytes}
	if checked != want || checked.Bytes == 0 {
		t.Errorf("checked %+v, want %+v", checked, want)
	}
}

// What goes wrong is found, and nothing but that.
func TestFsckFinds(t *testing.T) {
	var bucket damagedBucket
	p := newPacked(t, func(o *store.Options) {
		bucket.Bucket = o.Bucket
		o.Bucket = &bucket
	})
	texts := p.live()
	db := saveTables(t, p.cluster.SuperDSN)
	packedText, stagedText := texts[3], texts[35]
	at := p.place(packedText)
	digestOf := func(text string) []byte { d := sha256.Sum256([]byte(text)); return d[:] }
	const inboxRow = ` WHERE tenant_id = $1 AND mailbox_id = $2`

	for _, test := range []struct {
		name  string
		query string
		args  []any
		want  []store.FindingKind
		says  string
	}{
		{name: "staged row lost", query: `DELETE FROM staged_0 WHERE tenant_id = $1 AND digest = $2`, args: []any{digestOf(stagedText)},
			want: []store.FindingKind{store.FoundContent}, says: "where it is not"},
		{name: "staged row damaged", query: `UPDATE staged_0 SET data = set_byte(data, 20, get_byte(data, 20) # 4) WHERE tenant_id = $1 AND digest = $2`, args: []any{digestOf(stagedText)},
			want: []store.FindingKind{store.FoundContent}, says: "staged in slot 0"},
		{name: "other content", query: `UPDATE blob SET object_off = (SELECT object_off FROM blob WHERE tenant_id = $1 AND digest = $3) WHERE tenant_id = $1 AND digest = $2`, args: []any{digestOf(packedText), digestOf(texts[4])},
			want: []store.FindingKind{store.FoundContent}, says: "/p/"},
		{name: "object without a row", query: `DELETE FROM object WHERE tenant_id = $1`,
			want: []store.FindingKind{store.FoundObject}, says: "has no row"},
		{name: "object that would be collected", query: `INSERT INTO object_intent (tenant_id, object_key) SELECT tenant_id, object_key FROM object WHERE tenant_id = $1`,
			want: []store.FindingKind{store.FoundObject}, says: "has an intent"},
		{name: "object lost", query: `UPDATE blob SET object_key = object_key || 'x' WHERE tenant_id = $1 AND digest = $2`, args: []any{digestOf(packedText)},
			want: []store.FindingKind{store.FoundContent, store.FoundObject}, says: "no such object"},
		{name: "wrong counter", query: `UPDATE mailbox SET unseen = unseen + 1` + inboxRow, args: []any{p.mailbox.ID},
			want: []store.FindingKind{store.FoundCounter}, says: "the row counts"},
		{name: "wrong sum", query: `UPDATE account_state SET bytes = bytes + 1 WHERE tenant_id = $1`,
			want: []store.FindingKind{store.FoundCounter}, says: "of STORAGE, it has"},
		{name: "wrong sum of a domain", query: `UPDATE quota_slot SET messages = messages + 1 WHERE tenant_id = $1 AND root <> 0`,
			want: []store.FindingKind{store.FoundCounter}, says: "of MESSAGE, its accounts"},
		{name: "limit that is not there", query: `UPDATE quota_slot SET storage_grant = bytes WHERE tenant_id = $1 AND root = 0`,
			want: []store.FindingKind{store.FoundCounter}, says: "the limit is -1"},
		{name: "email lost", query: `DELETE FROM email WHERE tenant_id = $1 AND email_id = 25`,
			want: []store.FindingKind{store.FoundEmail}, says: "which does not exist"},
		{name: "email of another size", query: `UPDATE email SET size = size + 1 WHERE tenant_id = $1 AND email_id = 25`,
			want: []store.FindingKind{store.FoundEmail}, says: "octets"},
		{name: "dying content", query: `UPDATE blob SET dying = true WHERE tenant_id = $1 AND digest = $2`, args: []any{digestOf(packedText)},
			want: []store.FindingKind{store.FoundContent}, says: "dying"},
		{name: "log record lost", query: `DELETE FROM mailbox_log WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq = (SELECT max(modseq) - 1 FROM mailbox_log WHERE tenant_id = $1 AND mailbox_id = $2)`, args: []any{p.mailbox.ID},
			want: []store.FindingKind{store.FoundLog}, says: "follows on"},
		{name: "end of the log lost", query: `DELETE FROM mailbox_log WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq = (SELECT max(modseq) FROM mailbox_log WHERE tenant_id = $1 AND mailbox_id = $2)`, args: []any{p.mailbox.ID},
			want: []store.FindingKind{store.FoundLog}, says: "the log ends at"},
		{name: "log record damaged", query: `UPDATE mailbox_log SET record = set_byte(record, 5, get_byte(record, 5) # 1) WHERE tenant_id = $1 AND mailbox_id = $2 AND modseq = (SELECT min(modseq) FROM mailbox_log WHERE tenant_id = $1 AND mailbox_id = $2)`, args: []any{p.mailbox.ID},
			want: []store.FindingKind{store.FoundLog}, says: "does not decode"},
		{name: "segment lost", query: `DELETE FROM mailbox_segment WHERE tenant_id = $1 AND mailbox_id = $2`, args: []any{p.mailbox.ID},
			want: []store.FindingKind{store.FoundCounter}, says: "recounted"},
		{name: "segment damaged", query: `UPDATE mailbox_segment SET data = set_byte(data, 30, get_byte(data, 30) # 1) WHERE tenant_id = $1 AND mailbox_id = $2`, args: []any{p.mailbox.ID},
			want: []store.FindingKind{store.FoundSegment}, says: "does not decode"},
		{name: "keyword lost", query: `UPDATE mailbox SET keywords = keywords[1:1]` + inboxRow, args: []any{p.mailbox.ID},
			want: []store.FindingKind{store.FoundKeyword}, says: "that are defined"},
		{name: "UIDNEXT", query: `UPDATE mailbox SET uidnext = uidnext + 5` + inboxRow, args: []any{p.mailbox.ID},
			want: []store.FindingKind{store.FoundNumber}, says: "the log leads to"},
	} {
		t.Run(test.name, func(t *testing.T) {
			db.execute(test.query, append([]any{p.user.Tenant}, test.args...)...)
			findings := p.fsck()
			db.restore()
			var kinds []store.FindingKind
			said := ""
			for _, f := range findings {
				kinds = append(kinds, f.Kind)
				said += f.String() + "\n"
			}
			for _, kind := range test.want {
				if !slices.Contains(kinds, kind) {
					t.Errorf("found %q, want one of kind %s", said, kind)
				}
			}
			if !strings.Contains(said, test.says) {
				t.Errorf("found %q, want %q", said, test.says)
			}
		})
	}

	t.Run("flipped bit", func(t *testing.T) {
		bucket.key, bucket.at = *at.ObjectKey, *at.ObjectOff+at.StoredLen/2
		defer func() { bucket.key = "" }()
		findings := p.fsck()
		if len(findings) != 1 || findings[0].Kind != store.FoundContent || findings[0].Digest == "" {
			t.Errorf("found %v, want the one content", findings)
		}
	})
	if findings := p.fsck(); len(findings) > 0 {
		t.Errorf("found where nothing is planted: %v", findings)
	}
}
