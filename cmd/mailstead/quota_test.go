package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/quota"
	"mailstead.dev/store/storetest"
)

func TestQuotaCommands(t *testing.T) {
	c := storetest.Config(t)
	s := newSiteOn(t, c)
	for _, line := range []string{
		"tenant create acme", "domain create acme.test --tenant acme", "account create ann@acme.test --generate",
	} {
		s.want(line, "")
	}
	for _, root := range []string{"ann@acme.test", "acme", "account:", "person:ann@acme.test"} {
		s.refuse("quota show "+root, "want account:LOGIN, domain:NAME or tenant:NAME")
	}
	for _, root := range []string{"account:eve@acme.test", "domain:other.test", "tenant:other"} {
		s.refuse("quota show "+root, "no such quota root")
	}
	show := func(line string) (v quotaView) {
		t.Helper()
		if err := json.Unmarshal([]byte(s.want(line+" --json", "")), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, root := range []string{"account:ann@acme.test", "domain:acme.test", "tenant:acme"} {
		v := show("quota show " + root)
		if v.Root != root || len(v.Resources) != len(quota.Resources) || v.Resources[2].Used != 6 || v.Resources[0].Limit != nil || v.Grace != "" {
			t.Errorf("%+v", v)
		}
		v = show("quota set " + root + " --storage 2GiB --messages 10000 --soft-storage 1GiB --soft-mailboxes 5 --grace 2d")
		if r := v.Resources; *r[0].Limit != 2<<30 || *r[1].Limit != 10000 || *r[0].Soft != 1<<30 || *r[2].Soft != 5 || r[1].Soft != nil || r[2].Limit != nil || v.Grace != "48h0m0s" {
			t.Errorf("%+v", v)
		}
		if r := v.Resources; r[2].OverSince == nil || r[0].OverSince != nil {
			t.Errorf("over soft limits: %+v", r)
		}
		s.want("quota show "+root, "until 20")
	}
	// What is not given stays, none takes away.
	v := show("quota set tenant:acme --messages none --soft-mailboxes none")
	if r := v.Resources; *r[0].Limit != 2<<30 || r[1].Limit != nil || r[2].Soft != nil || r[2].OverSince != nil || *r[0].Soft != 1<<30 {
		t.Errorf("%+v", r)
	}
	s.refuse("quota set tenant:acme --storage much", "--storage much: want a number of bytes")
	s.refuse("quota set tenant:acme --messages -3", "--messages -3: want a number, or none")
	s.refuse("quota set tenant:acme --soft-messages x", "--soft-messages x: want a number, or none")
	s.refuse("quota set tenant:acme --soft-storage 2GiB", "the soft limit of storage, 2147483648, must be below its limit")
	for _, grace := range []string{"0d", "-1h", "soon", "5000d", "d", "1ms"} {
		s.refuse("quota set tenant:acme --grace "+grace, "want a time such as 7d or 36h")
	}
	s.want("audit list acme --json", `"grace": "48h0m0s"`)

	// An audit says where something is wrong, and its exit status does.
	s.want("quota audit", "Counted the mailboxes of 1 accounts, their domains and tenants. Differences: 0.")
	s.want("quota audit --tenant acme --json", `"drift": []`)
	s.refuse("quota audit --tenant other", "no such tenant")
	owner, err := pgx.Connect(t.Context(), c.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	if _, err := owner.Exec(t.Context(), `UPDATE account_state SET messages = messages + 1`); err != nil {
		t.Fatal(err)
	}
	out, err := s.run("", "quota audit")
	if err == nil || !strings.Contains(out, "it counts 1 of MESSAGE, it has 0") {
		t.Errorf("audit of what is wrong: %v\n%s", err, out)
	}
	s.want("fsck --repair --tenant acme", "")
	s.want("quota audit", "Differences: 0.")
}
