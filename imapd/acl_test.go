package imapd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"mailstead.dev/auth"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// makeGroup makes a group of a tenant's users.
func makeGroup(t testing.TB, s *store.Store, name string, members ...store.User) {
	t.Helper()
	if _, err := s.CreateGroup(t.Context(), members[0].Tenant, name); err != nil {
		t.Fatal(err)
	}
	for _, u := range members {
		if err := s.AddToGroup(t.Context(), u, name); err != nil {
			t.Fatal(err)
		}
	}
}

// A list has a bound, which the store's tests reach.
func TestTooManyEntries(t *testing.T) {
	r, known := answer(fmt.Errorf("set access control list: %w", store.ErrACL))
	if want := (refusal{"NO", "LIMIT", "Too many entries in the access control list"}); r != want || !known {
		t.Errorf("answered %+v, want %+v", r, want)
	}
}

// promptly is how soon a session in IDLE hears that it has lost its mailbox.
const promptly = 2 * time.Second

// Who idles on another front end hears at once that they have lost the mailbox, by whatever it was lost.
func TestRevokedWhileIdle(t *testing.T) {
	cluster := storetest.Config(t)
	s := storetest.Open(t, cluster)
	fred, mary := storetest.Account(t, s, "fred@idle.test"), storetest.Account(t, s, "mary@idle.test")
	makeGroup(t, s, "staff", mary)
	makeGroup(t, s, "crew", mary)
	here, there := serveStore(t, s, nil), serveStore(t, storetest.Open(t, cluster), nil)
	owner := here(t)
	enter(owner, fred.Login)
	for what, test := range map[string]struct {
		grant  string
		revoke func(box string)
	}{
		"SETACL without r": {"SETACL %s mary@idle.test lr", func(box string) { owner.want("SETACL "+box+" mary@idle.test -r", "OK ") }},
		"SETACL without l": {"SETACL %s anyone lr", func(box string) { owner.want("SETACL "+box+" anyone -l", "OK ") }},
		"a negative right": {"SETACL %s mary@idle.test lr", func(box string) { owner.want("SETACL "+box+" -group:staff r", "OK ") }},
		"DELETEACL":        {"SETACL %s mary@idle.test lr", func(box string) { owner.want("DELETEACL "+box+" mary@idle.test", "OK ") }},
		"DELETE":           {"SETACL %s mary@idle.test lr", func(box string) { owner.want("DELETE "+box, "OK ") }},
		"out of the group": {"SETACL %s group:crew lr", func(string) {
			if err := s.RemoveFromGroup(t.Context(), mary, "crew"); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		box := strings.ReplaceAll(what, " ", "-")
		owner.want("CREATE "+box, "OK ")
		owner.want(fmt.Sprintf(test.grant, box), "OK ")
		c := there(t)
		enter(c, mary.Login)
		c.want(`SELECT "Other Users/fred@idle.test/`+box+`"`, "OK ")
		c.send("i IDLE")
		c.expect("+ Idling")
		began := time.Now()
		test.revoke(box)
		c.expect("* BYE The selected mailbox was deleted, or is not shared any more")
		c.expectClosed()
		if took := time.Since(began); took > promptly {
			t.Errorf("%s: told after %v", what, took)
		}
	}
}

// A right that is taken from a session which has the mailbox selected is gone at its next command, whatever that is.
func TestLostRights(t *testing.T) {
	cluster := storetest.Config(t)
	s := storetest.Open(t, cluster)
	fred, mary := storetest.Account(t, s, "fred@lost.test"), storetest.Account(t, s, "mary@lost.test")
	owner, c := serveStore(t, s, nil)(t), serveStore(t, storetest.Open(t, cluster), nil)(t)
	enter(owner, fred.Login)
	enter(c, mary.Login)
	const (
		box   = `"Other Users/fred@lost.test/Box"`
		hello = " {5+}\r\nhello"
	)
	owner.wantAll([]string{"CREATE Box", "APPEND Box" + hello + ` (\Deleted)` + hello, "SETACL Box mary@lost.test " + everyRight}, "OK ")
	c.want("SELECT "+box, "OK [READ-WRITE]")
	for _, test := range []struct{ lost, command string }{
		{"s", `STORE 1 +FLAGS (\Seen)`}, {"w", `STORE 1 +FLAGS (\Flagged)`}, {"t", `STORE 1 +FLAGS (\Deleted)`},
		{"e", "EXPUNGE"}, {"e", "UID EXPUNGE 2"},
		{"i", "COPY 1 " + box}, {"i", "APPEND " + box + hello}, {"i", "UID MOVE 1 " + box}, {"i", "UID REPLACE 1 " + box + hello},
		{"t", "UID MOVE 1 INBOX"}, {"e", "UID MOVE 1 INBOX"}, {"t", "UID MOVE 1 " + box}, {"e", "UID MOVE 1 " + box},
		{"t", "UID REPLACE 1 INBOX" + hello}, {"e", "UID REPLACE 1 INBOX" + hello}, {"t", "UID REPLACE 1 " + box + hello}, {"e", "UID REPLACE 1 " + box + hello},
		{"k", "CREATE " + strings.TrimSuffix(box, `"`) + `/x"`}, {"x", "DELETE " + box}, {"a", "SETACL " + box + " anyone lr"},
	} {
		owner.want("SETACL Box mary@lost.test "+everyRight, "OK ")
		c.want("NOOP", "OK ")
		owner.want("SETACL Box mary@lost.test -"+test.lost, "OK ")
		if _, answer := c.do(test.command); answer != "NO [NOPERM] Permission denied" {
			t.Errorf("%s without %s: %s", test.command, test.lost, answer)
		}
	}
	if got := owner.want("STATUS Box (MESSAGES UIDNEXT DELETED UNSEEN)", "OK "); !slices.Equal(got, []string{`* STATUS "Box" (MESSAGES 2 UIDNEXT 3 DELETED 1 UNSEEN 2)`}) {
		t.Errorf("STATUS: %q", got)
	}
}

// Who may put messages into a mailbox but not read it is not told where they are (RFC 4315 section 3).
func TestUIDsOfWhatMayNotBeRead(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "fred@uids.test")
	storetest.Account(t, s, "mary@uids.test")
	connect := serveStore(t, s, nil)
	owner, c := connect(t), connect(t)
	enter(owner, "fred@uids.test")
	enter(c, "mary@uids.test")
	const (
		box   = ` "Other Users/fred@uids.test/INBOX"`
		hello = " {5+}\r\nhello"
	)
	c.want("APPEND INBOX"+hello+hello+hello+hello, "OK ")
	c.want("SELECT INBOX", "OK ")
	for rights, want := range map[string]bool{"li": false, "lri": true} {
		owner.want("SETACL INBOX mary@uids.test "+rights, "OK ")
		for _, command := range []string{"APPEND" + box + hello, "COPY 1" + box, "MOVE 1" + box, "REPLACE 1" + box + hello} {
			untagged, answer := c.do(command)
			if told := strings.Contains(strings.Join(untagged, "")+answer, "UID "); !strings.HasPrefix(answer, "OK ") || told != want {
				t.Errorf("%s with %s: %q, %s", command, rights, untagged, answer)
			}
		}
	}
}

// Rights through go-imap's client, as far as it knows of them.
func TestLibraryRights(t *testing.T) {
	s := storetest.New(t)
	fred, mary, carl := storetest.Account(t, s, "fred@lib.test"), storetest.Account(t, s, "mary@lib.test"), storetest.Account(t, s, "carl@lib.test")
	makeGroup(t, s, "staff", carl)
	o := testOptions(t)
	o.Store, o.Authenticator = s, auth.New(s, auth.Options{})
	server := New(o)
	addr := listen(t, server, server.Serve)
	owner, reader, member := clientOf(t, addr, fred.Login), clientOf(t, addr, mary.Login), clientOf(t, addr, carl.Login)
	if caps := owner.Caps(); !caps.Has(imap.CapACL) || !caps.Has("RIGHTS=TEXK") || !caps.Has("LIST-MYRIGHTS") {
		t.Errorf("capabilities: %v", caps)
	}
	if err := owner.Create("Plans/2026", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for identifier, rights := range map[string]string{mary.Login: "lrs", "group:staff": "lrswite"} {
		if err := owner.SetACL("Plans/2026", imap.RightsIdentifier(identifier), imap.RightModificationReplace, imap.RightSet(rights)).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if err := owner.SetACL("Plans/2026", imap.RightsIdentifier(mary.Login), imap.RightModificationAdd, imap.RightSet("i")).Wait(); err != nil {
		t.Fatal(err)
	}
	list, err := owner.GetACL("Plans/2026").Wait()
	if err != nil || string(list.Rights[imap.RightsIdentifier(mary.Login)]) != "lrsi" || string(list.Rights["group:staff"]) != "lrswited" || len(list.Rights) != 3 {
		t.Errorf("GETACL: %v, %v", list, err)
	}
	const shared = "Other Users/fred@lib.test/Plans/2026"
	for who, want := range map[*imapclient.Client]string{reader: "lrsi", member: "lrswited"} {
		got, err := who.MyRights(shared).Wait()
		if err != nil || string(got.Rights) != want {
			t.Errorf("MYRIGHTS: %v, %v, want %s", got, err, want)
		}
	}
	text := []byte("Subject: plans\r\n\r\nmany\r\n")
	appendMail(t, reader, shared, text, &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, imap.FlagDeleted}})
	if selected, err := member.Select(shared, nil).Wait(); err != nil || selected.NumMessages != 1 || !slices.Contains(selected.PermanentFlags, imap.FlagDraft) {
		t.Errorf("SELECT: %+v, %v", selected, err)
	}
	found, err := member.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{Flags: true}).Collect()
	if err != nil || len(found) != 1 || slices.Contains(found[0].Flags, imap.FlagDeleted) {
		t.Errorf("FETCH: %v, %v", found, err)
	}
	// From there to one's own mailbox, and back.
	if _, err := member.Copy(imap.SeqSetNum(1), "INBOX").Wait(); err != nil {
		t.Error(err)
	}
	if _, err := member.Move(imap.SeqSetNum(1), "INBOX").Wait(); err != nil {
		t.Error(err)
	}
	if status, err := member.Status("INBOX", &imap.StatusOptions{NumMessages: true}).Wait(); err != nil || *status.NumMessages != 2 {
		t.Errorf("STATUS: %+v, %v", status, err)
	}
	if _, err := reader.Select(shared, nil).Wait(); err != nil {
		t.Fatal(err)
	}
	var refused *imap.Error
	if err := reader.Expunge().Close(); !asError(err, &refused) || refused.Code != imap.ResponseCodeNoPerm {
		t.Errorf("EXPUNGE: %v", err)
	}
}

func asError(err error, to **imap.Error) bool {
	e, ok := err.(*imap.Error)
	*to = e
	return ok
}

// manyShared makes n mailboxes of Fred's of which Mary sees all, and n of Mary's own, with a message in each.
func manyShared(t testing.TB, s *store.Store, n int) (mary store.User) {
	fred, mary := storetest.Account(t, s, "fred@many.test"), storetest.Account(t, s, "mary@many.test")
	connect := serveStore(t, s, nil)
	for _, u := range []store.User{fred, mary} {
		c := connect(t)
		enter(c, u.Login)
		c.want("CREATE Many", "OK ")
		c.want("SETACL Many anyone lr", "OK ")
		const levels = 10 // which one CREATE makes
		var all []string
		for i := 0; i < n; i += levels {
			all = append(all, fmt.Sprintf("CREATE Many/%d", i)+strings.Repeat("/x", levels-1))
		}
		for i := 0; i < n; i += levels {
			for level := range levels {
				all = append(all, fmt.Sprintf("APPEND Many/%d", i)+strings.Repeat("/x", level)+" {5+}\r\nhello")
			}
		}
		c.wantAll(all, "OK ")
	}
	return mary
}

const listRights = `LIST "" * RETURN (STATUS (MESSAGES UNSEEN) MYRIGHTS)`

// What LIST tells of a thousand mailboxes takes as many statements as of a few: one for each kind of data. To count what is
// unseen in others' it takes their states as well, once.
func TestListOfManyIsFewStatements(t *testing.T) {
	statements := func(n int) (first, again []string, told int) {
		recorder := tracetest.NewSpanRecorder()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
		s := storetest.New(t, func(o *store.Options) { o.TracerProvider = provider })
		mary := manyShared(t, s, n)
		connect := serveStore(t, s, func(o *Options) { o.TracerProvider = provider })
		c := connect(t)
		enter(c, mary.Login)
		for _, all := range []*[]string{&first, &again} {
			recorder.Reset()
			told = len(c.want(listRights, "OK "))
			for _, span := range recorder.Ended() {
				for _, a := range span.Attributes() {
					if a.Key == "db.query.text" && !strings.Contains(a.Value.AsString(), "set_config") && a.Value.AsString() != "COMMIT" {
						*all = append(*all, a.Value.AsString())
					}
				}
			}
		}
		return first, again, told
	}
	few, _, _ := statements(10)
	many, again, told := statements(500)
	t.Logf("%d lines are told by %d statements, and then by %d", told, len(many), len(again))
	// Of one's own and of others', names with rights, and figures; of others' then rows, logs, overlays and segments.
	if told < 3000 || len(many) != len(few) || len(many) > 9 || len(again) > 4 {
		t.Errorf("%d lines are told by %d statements:\n%s\nand then by %d:\n%s",
			told, len(many), strings.Join(many, "\n"), len(again), strings.Join(again, "\n"))
	}
}

// BenchmarkListRights lists 1,000 mailboxes, half of them others', with figures and rights.
func BenchmarkListRights(b *testing.B) {
	s := storetest.New(b)
	mary := manyShared(b, s, 500)
	c := serveStore(b, s, nil)(b)
	enter(c, mary.Login)
	for b.Loop() {
		c.want(listRights, "OK ")
	}
}
