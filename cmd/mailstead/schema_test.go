package main

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"mailstead.dev/migrations"
	"mailstead.dev/store/storetest/testdb"
)

func newestSchema(t *testing.T) int64 {
	t.Helper()
	newest, err := migrations.Newest()
	if err != nil {
		t.Fatal(err)
	}
	return newest
}

// Where the migration was forgotten nothing is served, and what to do is said; after it, all is well.
func TestServeOlderSchema(t *testing.T) {
	newest := newestSchema(t)
	cert, key, _ := certificateIn(t, t.TempDir())
	for have, want := range map[int64]string{
		0:          fmt.Sprintf("mailstead: the database has no schema yet, and this program needs %d: run `mailstead migrate` of this version first\n", newest),
		newest - 1: fmt.Sprintf("mailstead: the database has schema version %d, and this program needs %d: run `mailstead migrate` of this version first\n", newest-1, newest),
	} {
		c := testdb.Older(t, have)
		s := &site{t: t, environ: environOf(c)}
		var p *serving
		for _, roles := range []string{"[lmtp, maintenance, admin]", "[imap, lmtp, maintenance, index, admin]"} {
			p = s.newServing(map[string]string{"roles": roles, "imap.listen_tls": "127.0.0.1:0", "tls.cert_file": cert, "tls.key_file": key})
			p.start(nil)
			if err := p.ends(); err == nil || !strings.HasSuffix(p.log.String(), want) {
				t.Errorf("at version %d: it ends with %v\n%s\nwant %s", have, err, p.log, want)
			}
		}
		s.refuse("tenant create acme", "run `mailstead migrate`")
		s.environ = append(s.environ, "MAILSTEAD_DATABASE_OWNER_URL="+c.OwnerDSN)
		s.want("migrate", fmt.Sprintf("The database is at schema version %d.", newest))
		p.start(nil)
		p.hears("READY=1")
		p.get("/readyz", http.StatusOK)
	}
}

// A process of the previous version goes on, and starts again, when the database has the schema of the next one. One whose database is
// replaced by one that has an older schema is not ready.
func TestServeNewerSchema(t *testing.T) {
	newest := newestSchema(t)
	c := testdb.New(t)
	s := newSiteOn(t, c)
	p := s.newServing(nil)
	p.start(nil)
	p.hears("READY=1")
	c.Execute(t, fmt.Sprintf("INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, true)", newest+1))
	p.get("/readyz", http.StatusOK)
	p.signal(syscall.SIGTERM)
	if err := p.ends(); err != nil {
		t.Errorf("the process ends with %v\n%s", err, p.log)
	}
	p = s.newServing(nil)
	p.start(nil)
	p.hears("READY=1")
	c.Execute(t, fmt.Sprintf("DELETE FROM goose_db_version WHERE version_id >= %d", newest))
	if said := p.get("/readyz", http.StatusServiceUnavailable); !strings.Contains(said, fmt.Sprintf("schema version %d, and this program needs %d", newest-1, newest)) {
		t.Errorf("/readyz says %q", said)
	}
	c.Execute(t, "REVOKE SELECT ON goose_db_version FROM mailstead_serving")
	s.refuse("tenant list", "use a role that is a member of mailstead_serving")
}
