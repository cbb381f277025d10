package main

import (
	"encoding/json"
	"testing"
	"time"
)

func TestAppPasswordCommands(t *testing.T) {
	s := newSite(t)
	s.want("tenant create acme", "Tenant acme made.")
	s.want("domain create acme.test --tenant acme", "Domain acme.test")
	if out, err := s.run("{SSHA}n0MgpE49UOlYSAptYLeZPpSboiVzYWx0eQ==\n", "account create a@acme.test --hash-stdin"); err != nil {
		t.Fatalf("account create: %v\n%s", err, out)
	}
	if err := s.login("a@acme.test", "correct horse"); err != nil {
		t.Errorf("login with what another system has kept: %v", err)
	}
	if _, err := s.run("secret\n", "account passwd a@acme.test --hash-stdin"); err == nil {
		t.Error("a password was taken for a hash")
	}
	var made appPasswordView
	out := s.want("account app-password add a@acme.test phone --read-only --expires 720h --json", "password")
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	if err := s.login("a@acme.test", made.Password); err != nil {
		t.Errorf("login with the app password: %v", err)
	}
	s.refuse("account app-password add a@acme.test phone", "app password phone of a@acme.test: the account has an app password of that name")
	s.refuse("account app-password add a@acme.test tv --protocol fax", "--protocol fax: want some of imap")
	s.refuse("account app-password add a@acme.test tv --expires soon", "--expires soon: want a day")
	s.refuse("account app-password add a@acme.test tv --expires 2020-01-01", "--expires 2020-01-01: that is over")
	s.want("account app-password list a@acme.test", "read-only")
	var all []appPasswordView
	if err := json.Unmarshal([]byte(s.want("account app-password list a@acme.test --json", "phone")), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].LastUsed == nil || all[0].Expires == nil || time.Until(*all[0].Expires) < 719*time.Hour || all[0].Password != "" {
		t.Errorf("list: %+v", all)
	}
	s.want("account app-password revoke a@acme.test phone", "App password phone of a@acme.test is gone.")
	s.refuse("account app-password revoke a@acme.test phone", "no such app password")
	if err := s.login("a@acme.test", made.Password); err == nil {
		t.Error("an app password that was revoked lets in")
	}
	s.want("account app-password add a@acme.test tv", "App password tv")
	s.want("account passwd a@acme.test --no-password --revoke-app-passwords", "a@acme.test has no password any more.")
	s.want("account app-password list a@acme.test --json", "[]")
}
