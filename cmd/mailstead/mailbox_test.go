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
	undeleteCommands(t, s, m)

	s.want("fsck", "3 messages, 3 emails, 3 contents")
	s.want("fsck --repair", "Findings: 0.")
	s.want("gc --dry-run", "Would remove 0 mailboxes, 0 emails")
	s.want("gc --tenant acme.test", "Removed 0 mailboxes, 0 emails, 0 contents of 0 bytes, in 1 accounts.")
	s.refuse("gc --tenant other", "no such tenant")
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
	s.want("fsck --repair", "(repaired)")
	s.want("fsck", "Findings: 0.")
}

// undeleteCommands expunges two of the three messages of m, deletes a mailbox, and brings all back.
func undeleteCommands(t *testing.T, s *site, m *store.Mailbox) {
	t.Helper()
	uids := view.NewUIDSet(1, 3)
	_, err := m.SetFlags(t.Context(), store.FlagChange{UIDs: uids, Mode: view.Add, Flags: view.Deleted, UnchangedSince: -1})
	if err == nil {
		_, _, err = m.Expunge(t.Context(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.want("mailbox undelete a@acme.test INBOX --uid 2:3", "1 messages are back in INBOX.")
	var back undeletedView
	out := s.want("mailbox undelete a@acme.test INBOX --since 1h --json", "from")
	if err := json.Unmarshal([]byte(out), &back); err != nil || len(back.From) != 1 || back.From[0] != 1 || back.To[0] != 5 {
		t.Errorf("undelete --json: %v, %v", out, err)
	}
	s.want("mailbox undelete a@acme.test INBOX --since 2020-01-31T08:00:00Z", "0 messages are back")
	u := store.User{Tenant: m.Tenant, Account: m.Owner, Login: "a@acme.test"}
	if err := s.store.Delete(t.Context(), u, "Archive"); err != nil {
		t.Fatal(err)
	}
	s.want("mailbox list a@acme.test --deleted", "Archive")
	s.want("mailbox undelete a@acme.test Archive --as Old", "Old is back, with 0 messages.")
	s.refuse("mailbox undelete a@acme.test Archive", "mailbox Archive: undelete mailbox: no such mailbox")
	s.refuse("mailbox undelete a@acme.test INBOX --uid 3:x", "want UIDs such as")
	s.refuse("mailbox undelete a@acme.test INBOX --since yesterday", "want a time such as")
	s.refuse("mailbox undelete a@acme.test INBOX --since 1h --as Other", "--as is for a whole mailbox")
}
