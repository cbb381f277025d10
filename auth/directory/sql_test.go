package directory

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/storetest/testdb"
)

func TestSQL(t *testing.T) {
	c := testdb.New(t)
	owner, err := pgx.Connect(t.Context(), c.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	for _, statement := range []string{
		`CREATE TABLE person (address text, password text, account text)`,
		`INSERT INTO person VALUES ('jane@acme.test', 'hash of jane', NULL), ('jane.doe@acme.test', 'hash of jane', 'jane@acme.test'),
		                           ('none@acme.test', NULL, NULL), ('two@acme.test', 'one', NULL), ('two@acme.test', 'two', NULL)`,
		`GRANT SELECT ON person TO PUBLIC`,
	} {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	ask := Settings{URL: c.ServingDSN, Query: `SELECT password, account FROM person WHERE address = $1`}
	d := open(t, ask, Options{Rest: 50 * time.Millisecond})
	answers := func(d *Directory, all map[string]Answer) {
		t.Helper()
		for login, want := range all {
			if got, err := answerOf(t, d, login, "right"); err != nil || got != want {
				t.Errorf("%s: %+v, %v; want %+v", login, got, err, want)
			}
		}
	}
	answers(d, map[string]Answer{
		"jane@acme.test":         {Hash: "hash of jane"},
		"jane.doe@acme.test":     {Hash: "hash of jane", Login: "jane@acme.test"},
		"none@acme.test":         {},
		"two@acme.test":          {},
		"nobody@acme.test":       {},
		"' OR ''='":              {},
		"not\x00a text\xff":      {}, // an error of the database, about what it was asked
		"'; DROP TABLE person;-": {},
	})
	one := ask
	one.Query = `SELECT password FROM person WHERE address = $1`
	answers(open(t, one, Options{}), map[string]Answer{"jane@acme.test": {Hash: "hash of jane"}})
	odd := ask
	odd.Query = `SELECT password FROM person WHERE 1 / (length($1) - 4) = 0 AND address = $1`
	tried := open(t, odd, Options{})
	for range failuresInRow + 1 { // what somebody asks about is nothing against the database
		answers(tried, map[string]Answer{"four": {}})
	}

	for name, query := range map[string]string{"no such table": `SELECT password FROM people WHERE address = $1`, "too much": `SELECT address, password, account FROM person WHERE address = $1`} {
		wrong := ask
		wrong.Query = query
		if got, err := open(t, wrong, Options{}).Ask(t.Context(), "jane@acme.test", "right", asYouLike); !errors.Is(err, ErrAway) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	long := ask
	long.Query = `SELECT repeat('x', length($1))`
	answers(open(t, long, Options{}), map[string]Answer{strings.Repeat("x", maxValue): {Hash: strings.Repeat("x", maxValue)}, strings.Repeat("x", maxValue+1): {}})
	long.Query = `SELECT repeat('x', 2 * length($1))`
	if got, err := open(t, long, Options{}).Ask(t.Context(), strings.Repeat("x", maxMessage/2), "right", asYouLike); !errors.Is(err, ErrAway) {
		t.Errorf("a message of more than %d octets: %d of them, %v", maxMessage, len(got.Hash), err)
	}

	slow := ask
	slow.Query, slow.Timeout = `SELECT pg_sleep(60)::text || $1`, Duration(50*time.Millisecond)
	if got, err := open(t, slow, Options{}).Ask(t.Context(), "jane@acme.test", "right", asYouLike); !errors.Is(err, ErrAway) {
		t.Errorf("what takes a minute: %+v, %v", got, err)
	}

	c.SetAway(t, true)
	for range 2 * failuresInRow {
		if _, err := d.Ask(t.Context(), "jane@acme.test", "right", asYouLike); !errors.Is(err, ErrAway) {
			t.Errorf("while it is away: %v", err)
		}
	}
	c.SetAway(t, false)
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		got, err := d.Ask(t.Context(), "jane@acme.test", "right", asYouLike)
		if err == nil && got.Hash == "hash of jane" {
			break
		}
		if time.Since(began) > 5*time.Second {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

// What is said of this process's own database is not said of a tenant's.
func TestEnvironment(t *testing.T) {
	home := t.TempDir()
	ours := filepath.Join(home, ".postgresql")
	if err := errors.Join(os.Mkdir(ours, 0o700), os.WriteFile(filepath.Join(ours, "root.crt"), nil, 0o600),
		os.WriteFile(filepath.Join(home, ".pgpass"), []byte("*:*:*:*:ours"), 0o600)); err != nil {
		t.Fatal(err)
	}
	ask := Settings{URL: "postgres://reader@db.acme.test/people?sslmode=verify-full", Query: "SELECT $1"}
	config := func() *pgx.ConnConfig {
		t.Helper()
		c, err := ask.pool("")
		if err != nil {
			t.Fatal(err)
		}
		c.ConnConfig.BuildFrontend, c.ConnConfig.DialFunc, c.ConnConfig.LookupFunc, c.ConnConfig.BuildContextWatcherHandler, c.ConnConfig.OnPgError = nil, nil, nil, nil, nil
		return c.ConnConfig
	}
	want := config()
	for name, value := range map[string]string{
		"HOME": home, "PGHOST": "other", "PGPORT": "1", "PGDATABASE": "other", "PGUSER": "other", "PGPASSWORD": "other", "PGPASSFILE": filepath.Join(home, ".pgpass"),
		"PGAPPNAME": "ours", "PGOPTIONS": "-c ours=1", "PGTZ": "UTC", "PGCONNECT_TIMEOUT": "1", "PGTARGETSESSIONATTRS": "read-write", "PGREQUIREAUTH": "scram-sha-256",
		"PGSSLMODE": "verify-full", "PGSSLCERT": "ours.crt", "PGSSLKEY": "ours.key", "PGSSLCERTMODE": "require", "PGSSLPASSWORD": "ours", "PGSSLROOTCERT": "ours.crt", "PGSSLSNI": "0",
		"PGSSLNEGOTIATION": "direct", "PGMINPROTOCOLVERSION": "3.2", "PGMAXPROTOCOLVERSION": "3.2", "PGCHANNELBINDING": "require",
	} {
		t.Setenv(name, value)
	}
	if got := config(); !reflect.DeepEqual(got, want) {
		t.Errorf("with the environment: %+v\nwithout: %+v", got, want)
	}
	ask.URL = "postgres://reader@db.acme.test/people"
	if _, err := ask.Check(); err == nil || !strings.Contains(err.Error(), "want sslmode=verify-full in the URL") {
		t.Errorf("where it is the environment that says so: %v", err)
	}
	for _, parameter := range []string{"sslpassword=hidden", "sslcert=/etc/key", "sslrootcert=/etc/ca", "options=-cx", "service=ours", "pool_max_conns=99", "Password=hidden"} {
		ask.URL = "postgres://reader@db.acme.test/people?sslmode=verify-full&" + parameter
		if _, err := ask.Check(); err == nil || !strings.Contains(err.Error(), "in the URL: want only host, port") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", parameter, err)
		}
	}
}
