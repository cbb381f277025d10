package imapd

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// enterAs receives the greeting and logs in as another.
func enterAs(c *client, identity, login string) {
	c.expect("* OK ...")
	c.want("AUTHENTICATE PLAIN "+base64.StdEncoding.EncodeToString([]byte(identity+"\x00"+login+"\x00"+storetest.Password)), "OK ")
}

// withRole makes an account with a role.
func withRole(t *testing.T, s *store.Store, login string, role store.Role) {
	if err := s.SetRole(t.Context(), storetest.Account(t, s, login), role); err != nil {
		t.Fatal(err)
	}
}

// harmless are the commands of the table that change nothing of anybody's mail, or only of the session. All others are tried by somebody who only looks.
var harmless = []string{
	"CAPABILITY", "NOOP", "CHECK", "LOGOUT", "ID", "ENABLE", "STARTTLS", "LOGIN", "AUTHENTICATE", "COMPRESS", "UNAUTHENTICATE", "NAMESPACE", "LIST", "LSUB", "RLIST", "RLSUB", "STATUS",
	"SELECT", "EXAMINE", "UNSELECT", "SEARCH", "UID SEARCH", "SORT", "UID SORT", "THREAD", "UID THREAD", "ESEARCH", "CANCELUPDATE", "COMPARATOR", "GETMETADATA", "GETQUOTA", "GETQUOTAROOT", "IDLE", "FIND", "MYRIGHTS",
}

// TestSupportOnlyLooks: support sees a user's mail, and whatever they do, all of it stays as it was.
func TestSupportOnlyLooks(t *testing.T) {
	s := storetest.New(t)
	connect := serveStore(t, s, nil)
	storetest.Account(t, s, "ann@one.test")
	withRole(t, s, "help@one.test", store.RoleSupport)
	ann := connect(t)
	enter(ann, "ann@one.test")
	ann.want("ENABLE CONDSTORE", "OK ") // so that nothing is told of it later
	ann.want("CREATE Box", "OK ")
	ann.want("CREATE Empty", "OK ")
	ann.want("SUBSCRIBE Box", "OK ")
	for range 3 {
		ann.want(appendText("INBOX", "Subject: x\r\n\r\ntext\r\n"), "OK ")
	}
	ann.want("SELECT INBOX", "OK ")
	ann.want(`STORE 3 +FLAGS.SILENT (\Deleted)`, "OK ")
	ann.want("UNSELECT", "OK ")
	before := possessions(ann)

	c := connect(t)
	enterAs(c, "ann@one.test", "help@one.test")
	if got := c.want("SELECT INBOX", "OK [READ-ONLY]"); !slices.Contains(got, "* 3 EXISTS") {
		t.Errorf("support sees %q", got)
	}
	if got := strings.Join(c.want("UID FETCH 1 BODY[]", "OK "), "\n"); !strings.Contains(got, "text") || strings.Contains(got, `\Seen`) {
		t.Errorf("support reads %q", got)
	}
	const refused = "NO "
	tried := map[string]string{ // command to how it is answered
		`CREATE New`: refused, `DELETE Empty`: refused, `RENAME Box Other`: refused, `SUBSCRIBE Empty`: refused, `UNSUBSCRIBE Box`: refused,
		"APPEND Box {1+}\r\nx": refused, "REPLACE 1 Box {1+}\r\nx": refused, "UID REPLACE 1 Box {1+}\r\nx": refused,
		`STORE 1 +FLAGS (\Seen)`: refused, `UID STORE 1 FLAGS ()`: refused, `COPY 1 Box`: refused, `UID COPY 1 Box`: refused, `MOVE 1 Box`: refused, `UID MOVE 1 Box`: refused,
		`EXPUNGE`: refused, `UID EXPUNGE 3`: refused, `SETMETADATA Box (/private/comment "x")`: refused, `SETMETADATA "" (/private/comment "x")`: refused,
		`SETQUOTA account:ann@one.test (MESSAGE 1)`: refused, `SETQUOTA tenant:one.test ()`: refused,
		`GETACL Box`: refused, `SETACL Box anyone lr`: refused, `DELETEACL Box anyone`: refused, `LISTRIGHTS Box anyone`: refused,
		`FETCH 1 BODY[]`: "OK ", `UID FETCH 1 RFC822.TEXT`: "OK ", `PARTIAL 1 BODY[] 1 10`: "OK ", `CLOSE`: "OK ",
	}
	for command, want := range tried {
		c.want("SELECT INBOX", "OK ")
		c.want(command, want)
	}
	for name := range commands {
		known := slices.Contains(harmless, name)
		for command := range tried {
			known = known || strings.HasPrefix(command+" ", name+" ")
		}
		if !known {
			t.Errorf("whether %s changes anything is not tried", name)
		}
	}
	if after := possessions(ann); after != before {
		t.Errorf("Ann has\n%s\nand had\n%s", after, before)
	}
}

// TestActAs: an admin acts as a user within their scope, with all of the user's rights; each time stands in the audit log.
func TestActAs(t *testing.T) {
	s := storetest.New(t)
	connect := serveStore(t, s, nil)
	user := storetest.Account(t, s, "ann@one.test")
	storetest.Account(t, s, "eve@two.test")
	withRole(t, s, "admin@one.test", store.RoleTenantAdmin)
	c := connect(t)
	enterAs(c, "ann@one.test", "admin@one.test")
	c.want(appendText("INBOX", "Subject: x\r\n\r\n"), "OK [APPENDUID ")
	c = connect(t)
	enter(c, "ann@one.test")
	if got := c.want("STATUS INBOX (MESSAGES)", "OK "); !slices.Equal(got, []string{`* STATUS "INBOX" (MESSAGES 1)`}) {
		t.Errorf("the user has %q", got)
	}
	c = connect(t)
	c.expect("* OK ...")
	for _, identity := range []string{"eve@two.test", "nobody@one.test", "x"} {
		c.want("AUTHENTICATE PLAIN "+base64.StdEncoding.EncodeToString([]byte(identity+"\x00admin@one.test\x00"+storetest.Password)), "NO [AUTHORIZATIONFAILED]")
	}
	var found []string
	for e, err := range s.AuditLog(t.Context(), user.Tenant, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Action == "act-as" {
			found = append(found, e.Actor+" as "+e.Object)
		}
	}
	if !slices.Equal(found, []string{"admin@one.test as ann@one.test"}) {
		t.Errorf("audit log: %q", found)
	}
}
