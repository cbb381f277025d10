package main

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"mailstead.dev/store"
)

func TestBlocksCommands(t *testing.T) {
	s := newSite(t)
	s.want("tenant create acme", "Tenant acme made.")
	s.want("domain create acme.test --tenant acme", "Domain acme.test")
	s.want("account create a@acme.test --generate", "Account a@acme.test made")
	for _, from := range []string{"192.0.2.7", "192.0.2.8"} {
		_, err := s.store.NoteFailedLogin(t.Context(), store.FailedLogin{
			From: netip.MustParseAddr(from), Login: "a@acme.test", Limits: store.AttemptLimits{Address: 1, Account: 3, Tenant: 9, Block: time.Minute},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.want("blocks list", "address:192.0.2.7/32  0")
	for flag, want := range map[string]int{"": 2, " --all": 3} {
		var views []blockView
		if err := json.Unmarshal([]byte(s.want("blocks list --json"+flag, "address:")), &views); err != nil || len(views) != want {
			t.Errorf("blocks list%s: %+v, %v", flag, views, err)
		}
	}
	s.refuse("blocks clear", "want names such as")
	s.refuse("blocks clear --all tenant:acme", "want names such as")
	for _, name := range []string{"acme", "address:x", "account:x", "domain:acme.test"} {
		s.refuse("blocks clear "+name, "want a name such as")
	}
	s.want("blocks clear address:192.0.2.7/32 account:A@acme.test tenant:acme", "Forgotten: 2.")
	s.want("blocks clear --all", "Forgotten: 1.")
	s.want("blocks list --json", "[]")
}

func TestTenantNetworkCommands(t *testing.T) {
	s := newSite(t)
	s.want("tenant create acme", "Tenant acme made.")
	s.want("tenant network add acme 192.0.2.0/24", "Nobody of acme is kept out who comes from 192.0.2.0/24.")
	s.want("tenant network add acme 2001:db8::1", "2001:db8::1/128")
	s.refuse("tenant network add acme 192.0.2.0/24", "the tenant has named that network")
	s.refuse("tenant network add acme x", "want an address or a network")
	s.want("tenant network list acme", "192.0.2.0/24")
	s.want("tenant network remove acme 192.0.2.0/24", "Failures from 192.0.2.0/24 count again.")
	s.refuse("tenant network remove acme 192.0.2.0/24", "no such network")
	s.want("tenant network list acme --json", "2001:db8::1/128")
}

func TestIssuerCommands(t *testing.T) {
	s := newSite(t)
	s.want("tenant create acme", "Tenant acme made.")
	s.want("tenant issuer add acme https://login.acme.test --audience mail --roles", "Tokens of https://login.acme.test let users of acme in.")
	s.refuse("tenant issuer add acme https://login.acme.test --audience mail", "the tenant has named that issuer")
	s.refuse("tenant issuer add acme http://login.acme.test --audience mail", "want a URL of https")
	s.refuse("tenant issuer add acme https://other.acme.test --audience mail --claim name", "want one of email")
	var views []issuerView
	if err := json.Unmarshal([]byte(s.want("tenant issuer list acme --json", "audience")), &views); err != nil || len(views) != 1 || views[0] != (issuerView{
		Tenant: "acme", URL: "https://login.acme.test", Audience: "mail", Claim: "email", Roles: true,
	}) {
		t.Errorf("list: %+v, %v", views, err)
	}
	s.want("tenant issuer remove acme https://login.acme.test", "let nobody of acme in any more")
	s.refuse("tenant issuer remove acme https://login.acme.test", "no such issuer")
}
