package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/auth"
	"mailstead.dev/auth/directory/slapd"
	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/imapd"
	"mailstead.dev/store/storetest/testdb"
)

// written is a log that is read while it is written.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// farCell is another cell that answers every login with the same, and returns where it is.
func farCell(t *testing.T, answer string) imapd.Cell {
	t.Helper()
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(slapd.SelfSigned(t, cert, key)))
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.Write([]byte("* OK ready\r\n"))
			nc.Read(make([]byte, 4096))
			nc.Write([]byte("a " + answer + "\r\n"))
			nc.Close()
		}
	}()
	return imapd.Cell{Host: "127.0.0.1", Address: l.Addr().String(), TLS: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}}
}

// However a login fails, by a directory, a token, another cell or what it was bound to, the log has neither who it was nor what a server of
// theirs has said of them.
func TestLoginsInTheLog(t *testing.T) {
	ldap, people, dir := slapd.New(t), testdb.New(t), t.TempDir()
	owner, err := pgx.Connect(t.Context(), people.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	const sql, cells = planted + ".sql.test", planted + ".far.test"
	for _, statement := range []string{
		`CREATE TABLE person (address text PRIMARY KEY, password text, account text)`,
		`INSERT INTO person VALUES ('` + planted + `-odd@` + sql + `', '` + planted + `', NULL),
		                           ('` + planted + `-none@` + sql + `', '{SSHA}K3EQulENlbNDLTrc5uMOENR9tVlzYWx0eQ==', '` + planted + `'),
		                           ('` + planted + `-plus@` + sql + `', '{SSHA}K3EQulENlbNDLTrc5uMOENR9tVlzYWx0eQ==', '` + planted + `+a@` + sql + `')`,
		`GRANT SELECT ON person TO PUBLIC`,
	} {
		if _, err := owner.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, planted, http.StatusServiceUnavailable) }))
	defer issuer.Close()
	ca := filepath.Join(dir, "ca.pem")
	if err := errors.Join(os.WriteFile(ca, []byte(ldap.CA), 0o600), os.WriteFile(filepath.Join(dir, "right"), []byte(slapd.Secret), 0o600), os.WriteFile(filepath.Join(dir, "wrong"), []byte(planted), 0o600)); err != nil {
		t.Fatal(err)
	}
	const secret = planted + "-0123456789abcdef0123456789abcdef"
	s := newSite(t)
	s.environ = append(s.environ, "MAILSTEAD_CELLS_NAME=west", "MAILSTEAD_CELLS_OTHERS=east=127.0.0.1 north=127.0.0.1", "MAILSTEAD_CELLS_SECRET="+secret)
	for _, line := range []string{
		"tenant create ldap", "domain create acme.test --tenant ldap", "account create jane@acme.test --no-password",
		"tenant create sql", "domain create " + sql + " --tenant sql", "account create " + planted + "-odd@" + sql + " --no-password",
		"tenant issuer add sql " + issuer.URL + " --audience mail",
		"cell set " + cells + " east", "cell set north." + cells + " north",
		"guest create " + planted + "-guest@" + sql + " --home " + planted + "@" + cells,
	} {
		s.want(line, "")
	}
	known := auth.Cells{Name: "west", Secret: secret, Others: []string{"east", "north"}}
	var log written
	c := config.Default()
	c.Log.Level.UnmarshalText([]byte("debug"))
	logger := (&app{err: &log}).logger(c)
	a := auth.New(s.store, auth.Options{Secrets: dir, Mechanisms: []string{"PLAIN", "OAUTHBEARER", "SCRAM-SHA-256"}, Cells: known, Logger: logger})
	server := imapd.New(imapd.Options{
		Store: s.store, Authenticator: a, PlaintextLogin: true, LoginDelay: -1, Logger: logger,
		Cells: map[string]imapd.Cell{"east": farCell(t, "NO [CANNOT] "+planted), "north": farCell(t, "BAD "+planted)},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-served
	}()
	fails := func(command, logged string) {
		t.Helper()
		before := len(log.String())
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(nc, "a %s\r\n", command)
		for answer := ""; !strings.Contains(answer, "\na "); {
			part := make([]byte, 4096)
			n, err := nc.Read(part)
			if err != nil {
				t.Fatalf("%s: %q, %v", command, answer, err)
			}
			if part := string(part[:n]); strings.HasPrefix(part, "+ ") || strings.Contains(part, "\n+ ") {
				fmt.Fprint(nc, base64.StdEncoding.EncodeToString([]byte("\x01"))+"\r\n")
			}
			if answer += string(part[:n]); strings.Contains(answer, "\na OK") {
				t.Errorf("%s: %q", command, answer)
			}
		}
		if said := log.String()[before:]; !strings.Contains(said, logged) {
			t.Errorf("%s logs no %q:\n%s", command, logged, said)
		}
	}

	set := "directory set ldap " + ldap.URL + " --ca " + ca + " --base " + slapd.Base + " --account " + slapd.Account
	for _, test := range []struct{ more, login, logged string }{
		{" --filter (mail={login}) --secret wrong", "jane@acme.test", "Invalid Credentials"},
		{" --filter (|(uid=jane)(mail={login})) --secret right", "joe@acme.test", "more than one entry"},
		{" --filter (|(uid=jane)(mail={login})) --secret right", "nobody@acme.test", "to the letter"},
		{" --filter (mail={login}) --attribute cn --secret right", "jane@acme.test", "names an account that is none"},
	} {
		s.want(set+test.more, "")
		fails("LOGIN "+test.login+" right", test.logged)
	}
	set = "directory set sql " + people.ServingDSN + " --create --query SELECT/**/password,account/**/FROM/**/person/**/WHERE/**/address="
	for _, test := range []struct{ more, login, logged string }{
		{"$1", planted + "-odd@" + sql, "verifies nobody"},
		{"$1", planted + "-none@" + sql, "names an account that is none"},
		{"$1", planted + "-plus@" + sql, "separates the account from a folder"},
		{"$1::text::int::text", planted + "-odd@" + sql, "SQLSTATE 22P02"},
	} {
		s.want(set+test.more, "")
		fails("LOGIN "+test.login+" right", test.logged)
	}

	b64 := base64.RawURLEncoding.EncodeToString
	token := b64([]byte(`{"alg":"ES256","kid":"x"}`)) + "." + b64([]byte(`{"iss":"`+issuer.URL+`","aud":"mail","exp":9999999999,"email":"`+planted+`-odd@`+sql+`"}`)) + "." + b64(make([]byte, 64))
	initial := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	fails("AUTHENTICATE OAUTHBEARER "+initial("n,,\x01auth=Bearer "+token+"\x01\x01"), "does not answer")
	fails("AUTHENTICATE SCRAM-SHA-256 "+initial("p="+planted+",,n="+planted+",r=abc"), "")
	fails("AUTHENTICATE SCRAM-SHA-256 "+initial("n,,n="+planted+"-odd@"+sql+",r=abc"), "")

	fails("LOGIN "+planted+"@"+cells+" "+planted, "does not believe this one")
	fails("LOGIN "+planted+"@north."+cells+" "+planted, "does not take what is passed on")
	fails("LOGIN "+planted+"-guest@"+sql+" "+planted, "does not believe this one")
	known.Name, known.Others = "east", []string{"west"}
	east := auth.New(s.store, auth.Options{Cells: known})
	said := &auth.ElsewhereError{Cell: "west", Mechanism: "PLAIN", Response: []byte("\x00" + planted + "@elsewhere.test\x00" + planted)}
	fails("AUTHENTICATE "+auth.CellMechanism+" "+base64.StdEncoding.EncodeToString(east.Introduce(said, netip.MustParseAddr("192.0.2.1"))), "does not live here")

	_, err = owner.Exec(t.Context(), `INSERT INTO person VALUES ('`+planted+`-odd@`+sql+`')`)
	logger.Error("a constraint", "err", fmt.Errorf("insert: %w", err))
	if want := `err="insert: SQLSTATE 23505, constraint person_pkey"`; !strings.Contains(log.String(), want) {
		t.Errorf("no %s", want)
	}
	for _, secret := range []string{planted, "acme", "jane", "joe", "dc=", "duplicate key"} {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(strings.ToLower(line), secret) {
				t.Errorf("the log has %q: %s", secret, line)
			}
		}
	}
}
