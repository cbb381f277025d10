package directory

import (
	"errors"
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
			if got, err := d.Ask(t.Context(), login, "right", asYouLike); err != nil || got != want {
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
