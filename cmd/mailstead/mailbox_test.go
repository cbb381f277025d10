package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

func TestMailboxCommands(t *testing.T) {
	c := storetest.Config(t)
	s := newSiteOn(t, c)
	u := storetest.Account(t, s.store, "a@acme.test")
	m, err := s.store.Open(t.Context(), u, "INBOX", acl.All)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		content, err := s.store.Receive(t.Context(), u.Tenant, strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\nHello\r\n", n)))
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		if _, err := m.Append(t.Context(), store.Incoming{Content: content, Flags: view.Seen, Keywords: []string{"$tag"}}); err != nil {
			t.Fatal(err)
		}
	}

	s.want("mailbox list a@acme.test", "INBOX")
	var boxes []mailboxView
	if err := json.Unmarshal([]byte(s.want("mailbox list a@acme.test --json", "uidvalidity")), &boxes); err != nil || len(boxes) != 6 {
		t.Errorf("mailbox list --json: %v, %v", boxes, err)
	}
	s.refuse("mailbox list b@acme.test", "no such account")
	dump := s.want("mailbox dump a@acme.test inbox", `"INBOX"`)
	for _, part := range []string{"UIDNEXT 4", "messages 3, unseen 0", `keyword 0 "$tag"`, `UID 3 email 3 MODSEQ 4 (\Seen $tag)`} {
		if !strings.Contains(dump, part) {
			t.Errorf("dump has no %q:\n%s", part, dump)
		}
	}
	s.refuse("mailbox dump a@acme.test Nowhere", "mailbox Nowhere: no such mailbox")

	s.want("fsck", "3 messages, 3 emails, 3 contents")
	s.want("fsck --tenant acme.test", "Findings: 0.")
	s.refuse("fsck --tenant other", "no such tenant")
	owner, err := pgx.Connect(t.Context(), c.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(t.Context())
	if _, err := owner.Exec(t.Context(), `UPDATE mailbox SET unseen = 1 WHERE name = 'INBOX'`); err != nil {
		t.Fatal(err)
	}
	out, err := s.run("", "fsck --json")
	var found fsckView
	if jsonErr := json.Unmarshal([]byte(out), &found); jsonErr != nil || err == nil || len(found.Findings) != 1 || found.Findings[0].Kind != store.FoundCounter {
		t.Errorf("fsck --json with a wrong counter: %v, %v\n%s", err, jsonErr, out)
	}
	s.refuse("fsck", "findings: 1")
}
