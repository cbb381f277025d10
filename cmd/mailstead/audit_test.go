package main

import (
	"encoding/json"
	"strings"
	"testing"

	"mailstead.dev/store"
)

func TestRoleAndAuditCommands(t *testing.T) {
	s := newSite(t)
	s.want("tenant create acme", "made")
	s.want("domain create acme.test --tenant acme", "is now acme's")
	s.want("account create a@acme.test --no-password", "made")
	s.refuse("account role a@acme.test king", `role "king": want one of none, support, domain-admin, tenant-admin, platform-support, platform-admin`)
	s.refuse("account role a@acme.test domain-admin", "domains are a domain admin's")
	s.refuse("account role a@acme.test domain-admin --domain other.test", "no such domain")
	s.want("account role a@acme.test domain-admin --domain acme.test", "The role of a@acme.test is domain-admin of acme.test.")
	s.want("account role a@acme.test support", "is support.")
	s.want("account show a@acme.test --json", `"role": "support"`)

	s.refuse("audit list acne", "no such tenant")
	s.want("audit list acme", "account.role")
	s.want("audit list acme", "command line: ")
	s.want("audit list acme --after 99 --json", "[]")
	s.refuse("audit verify --known 1:00", "which?")
	s.refuse("audit verify acme --known 1", "as it was printed")
	s.refuse("audit verify acme --known 1:00", store.ErrAudit.Error())
	s.refuse("audit verify acme --known 999:00", store.ErrAudit.Error())
	var found []chainView
	if err := json.Unmarshal([]byte(s.want("audit verify --json", "head")), &found); err != nil || len(found) != 1 || found[0].Entries < 5 {
		t.Fatalf("%+v, %v", found, err)
	}
	s.want("tenant delete acme --yes", "gone")
	s.want("tenant create acme", "made") // of the same name, but another
	s.want("audit list acme", "tenant.deleted")
	if out := s.want("audit verify acme", "as written"); strings.Count(out, "as written") != 2 {
		t.Errorf("two tenants of a name:\n%s", out)
	}
}
