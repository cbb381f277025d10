package imapd

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/auth"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// secret is in all that Ann has, and in nothing that others may get to see.
const secret = "xyzzy"

// trespasses are names by which somebody else could try to get at Ann's mail:
// her mailboxes as she calls them, and as other servers, file systems,
// namespaces and databases would.
var trespasses = []string{
	"Secret", "Secret/Deep", "secret", "SECRET", "Secret ", " Secret", "Sécret",
	"ann@one.test", "ann@one.test/INBOX", "ann@one.test/Secret", "ann/Secret", "one.test/ann/Secret", "one.test", "one.test/Secret",
	"Other Users/ann/Secret", "Other Users/ann@one.test/Secret", "Other Users/ann@one.test", "Shared/Secret", "Shared/one.test/Secret", "Public/Secret",
	"user/ann", "user/ann@one.test/Secret", "user.ann.Secret", "users/ann@one.test", "#user/ann@one.test/Secret", "#shared/Secret", "#news.Secret", "~ann/Secret", "~ann@one.test/Secret", "~/Secret",
	"../Secret", "../ann@one.test/Secret", "INBOX/../Secret", "INBOX/../../ann@one.test/Secret", "../../1/1/Secret", "./Secret", "..", "../..", "Secret/..", "%2e%2e/Secret",
	"1/Secret", "1/1/Secret", "t1/Secret", "1", "2", "imap:/ann@one.test/Secret",
	"*", "%", "**", "*%", "S*", "S%", "Secret*", "*Secret", "%Secret%", "Secret/*", "Secret/%", "*/*", "Se%ret", "S_cret", "______", ".*", "^Secret$", "Secret|x",
	"' OR '1'='1", "Secret' OR tenant_id=1 --", "Secret'); --", "Secret\\", `"Secret"`, "Secret;x", "$1", "{6}Secret", "NULL", "nil",
}

// theft tries everything that a session can with names of mailboxes that are not its own.
func theft(c *client, own string) {
	c.want("SELECT INBOX", "OK ")
	for _, name := range trespasses {
		quoted := string(wire.AppendString(nil, wire.EncodeUTF7(name)))
		for _, command := range []string{
			"SELECT %s", "EXAMINE %s", "SELECT %s (CONDSTORE)", "STATUS %s (MESSAGES UNSEEN UIDNEXT)", "DELETE %s", "RENAME %s stolen", "RENAME %s INBOX/stolen",
			"GETACL %s", "SETACL %s anyone lrswipkxtea", "DELETEACL %s anyone", "LISTRIGHTS %s anyone", "MYRIGHTS %s",
			"GETMETADATA %s /private", `SETMETADATA %s (/shared/comment "x")`, "APPEND %s {3}", "APPEND %s (\\Seen) {3+}\r\nabc",
		} {
			c.want(fmt.Sprintf(command, quoted), "NO ")
		}
		c.want("SELECT INBOX", "OK ") // for a SELECT that failed left none
		for _, command := range []string{"COPY 1 %s", "UID COPY 1:* %s", "MOVE 1 %s", "UID MOVE 1:* %s", "REPLACE 1 %s {3}", "REPLACE 1 %s {3+}\r\nabc"} {
			c.want(fmt.Sprintf(command, quoted), "NO [TRYCREATE]")
		}
		for _, command := range []string{`LIST %s "*"`, `LIST %s "%%"`, `LIST "" %s`, `LIST "../" %s`, `LIST (SPECIAL-USE) %s "*"`, `LSUB %s "*"`, `LSUB "" %s`, "UNSUBSCRIBE %s"} {
			for _, line := range c.want(fmt.Sprintf(command, quoted), "OK ") {
				if strings.Contains(line, "ecret") || strings.Contains(line, "ann") {
					c.t.Errorf("%s as %s shows %s", command, name, line)
				}
			}
		}
	}
	for _, command := range []string{`LIST "" "*"`, `LIST "*" "*"`, `LSUB "" "*"`, `LIST "" "%/%"`, "NAMESPACE", "UID SEARCH TEXT " + secret, "SEARCH OR BODY " + secret + " SUBJECT " + secret,
		"SEARCH HEADER From ann", `GETMETADATA "" (DEPTH infinity) (/private /shared)`, `GETMETADATA INBOX (DEPTH infinity) (/private /shared)`,
		"FETCH 1:* (UID FLAGS ENVELOPE BODY.PEEK[])", "UID FETCH 1:4294967295 (FLAGS BODY.PEEK[]) (CHANGEDSINCE 1)"} {
		for _, line := range c.want(command, "OK ") {
			if strings.Contains(line, secret) || strings.Contains(line, "ecret") || strings.Contains(line, "ann@") || strings.HasPrefix(line, "* SEARCH ") {
				c.t.Errorf("%s shows %s", command, line)
			}
		}
	}
	if got := c.want("NAMESPACE", "OK "); !slices.Equal(got, []string{`* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))`}) {
		c.t.Errorf("NAMESPACE: %q", got)
	}
	// Who makes mailboxes of these names has mailboxes of their own, which are empty.
	for _, name := range trespasses {
		quoted := string(wire.AppendString(nil, wire.EncodeUTF7(name)))
		c.want("SUBSCRIBE "+quoted, "OK ")
		if elsewhere(name) {
			c.want("CREATE "+quoted, "NO ")
			c.want("UNSUBSCRIBE "+quoted, "OK ")
			continue
		}
		if _, answer := c.do("CREATE " + quoted); !strings.HasPrefix(answer, "OK ") && !strings.HasPrefix(answer, "NO [ALREADYEXISTS]") {
			c.t.Errorf("CREATE %s: %s", quoted, answer)
		}
		if got := c.want("SELECT "+quoted, "OK "); !slices.Contains(got, "* 0 EXISTS") {
			c.t.Errorf("a new %s has %q", quoted, got)
		}
		if got := c.want("UID FETCH 1:* (BODY.PEEK[])", "OK "); len(got) > 0 {
			c.t.Errorf("a new %s gives %q", quoted, got)
		}
		c.want(appendText(quoted, own), "OK [APPENDUID ")
		c.want("STORE 1 +FLAGS.SILENT (\\Deleted)", "OK ")
		c.want("EXPUNGE", "OK ")
		c.want("UNSELECT", "OK ")
		c.want("UNSUBSCRIBE "+quoted, "OK ")
	}
	for _, name := range slices.Backward(trespasses) {
		if !elsewhere(name) {
			c.want("DELETE "+string(wire.AppendString(nil, wire.EncodeUTF7(name))), "OK ")
		}
	}
}

// elsewhere tells whether a name is one of others' mailboxes, or of the tenant's.
func elsewhere(name string) bool {
	return strings.HasPrefix(name, store.OtherUsers+"/") || strings.HasPrefix(name, store.SharedFolders+"/")
}

// possessions is all that a session shows of what an account has.
func possessions(c *client) string {
	var all []string
	list := c.want(`LIST "" "*"`, "OK ")
	all = append(all, list...)
	all = append(all, c.want(`LSUB "" "*"`, "OK ")...)
	for _, line := range list {
		name := line[strings.LastIndex(line, ` "`)+1:]
		all = append(all, c.want("EXAMINE "+name, "OK ")...)
		all = append(all, c.want("GETMETADATA "+name+" (DEPTH infinity) (/private /shared)", "OK ")...)
		all = append(all, c.want("UID FETCH 1:* (UID FLAGS INTERNALDATE MODSEQ ENVELOPE BODY.PEEK[])", "OK ")...)
		all = append(all, c.want("STATUS "+name+" (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)", "OK ")...)
	}
	c.want("UNSELECT", "OK ")
	return strings.Join(all, "\n")
}

// Nobody gets to see or to change another's mail, be it a user of another
// tenant or another one of the same, by no command and under no name.
func TestTenantsAndAccountsNeverMeet(t *testing.T) {
	s := storetest.New(t)
	connect := serveStore(t, s, nil)
	storetest.Domain(t, s, "one.test", "one.test")
	storetest.Domain(t, s, "one.test", "also-one.test")
	storetest.Domain(t, s, "two.test", "two.test")
	logins := []string{"ann@one.test", "bob@one.test", "eve@two.test"}
	for _, login := range logins {
		storetest.Account(t, s, login)
	}
	ann := connect(t)
	enter(ann, logins[0])
	ann.want("ENABLE CONDSTORE", "OK ") // so that nothing is told of it later
	for _, name := range []string{"Secret/Deep", "Secret", "Sécret"} {
		if _, answer := ann.do("CREATE " + wire.EncodeUTF7(name)); !strings.HasPrefix(answer, "OK ") && name != "Secret" {
			t.Fatalf("CREATE %s: %s", name, answer)
		}
	}
	own := "From: ann@one.test\r\nSubject: " + secret + "\r\n\r\n" + secret + "\r\n"
	for _, name := range []string{"INBOX", "Secret", "Secret/Deep", "S&AOk-cret"} {
		ann.want(appendText(name, own), "OK ")
		ann.want("SUBSCRIBE "+name, "OK ")
		ann.want(fmt.Sprintf(`SETMETADATA %s (/private/comment "%s" /shared/comment "%[2]s")`, name, secret), "OK ")
	}
	ann.want(fmt.Sprintf(`SETMETADATA "" (/private/vendor/test/note "%s")`, secret), "OK ")
	before := possessions(ann)
	if strings.Count(before, secret) < 8 {
		t.Fatalf("Ann has only\n%s", before)
	}
	ann.want("EXAMINE INBOX", "OK ")
	ann.send("idle IDLE")
	ann.expect("+ Idling")

	for _, login := range logins[1:] {
		t.Run(login, func(t *testing.T) {
			c := connect(t)
			enter(c, login)
			c.want(appendText("INBOX", "Subject: mine\r\n\r\n"), "OK ")
			theft(c, own) // the same content, which is stored once in a tenant
		})
	}

	ann.send("DONE")
	ann.expect("idle OK IDLE completed") // and she has been told of nothing
	ann.want("UNSELECT", "OK ")
	if after := possessions(ann); after != before {
		t.Errorf("Ann has\n%s\nand had\n%s", after, before)
	}
	found := ann.want("SELECT Secret", "OK ")
	if !slices.Contains(found, "* 1 EXISTS") {
		t.Errorf("Ann's mailbox: %q", found)
	}
}

// A login is one of one tenant, whatever it is dressed up as.
func TestLoginsOfOtherTenants(t *testing.T) {
	s := storetest.New(t)
	connect := serveStore(t, s, func(o *Options) {
		o.MaxLoginFailures = 1000
		// What fails here is not to be kept out for its number.
		o.Authenticator = auth.New(s, auth.Options{Attempts: auth.AttemptLimits{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	})
	storetest.Domain(t, s, "one.test", "one.test")
	storetest.Domain(t, s, "one.test", "also-one.test")
	storetest.Domain(t, s, "two.test", "two.test")
	for _, login := range []string{"ann@one.test", "eve@two.test"} {
		storetest.Account(t, s, login)
	}
	c := connect(t)
	c.expect("* OK ...")
	plain := func(identity, login string) string {
		return "AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte(identity+"\x00"+login+"\x00"+storetest.Password))
	}
	for _, login := range []string{
		"ann", "ann@", "@one.test", "ann@two.test", "eve@one.test", "ann@also-one.test", "ann@one", "ann@one.test@two.test", "ann@two.test@one.test", "eve@two.test@one.test",
		"ann@one.test/eve@two.test", "ann%one.test", "ann@one.test eve@two.test", " ann@one.test", "ann@one.test ", "ann+x@one.test", "one.test/ann", "1/ann@one.test",
		"ann@sub.one.test", "ann@one.test.two.test", "%@one.test", "*", "a%", "' OR '1'='1", "ann@one.test' --", "ann@one.test..", "",
	} {
		c.want(fmt.Sprintf("LOGIN %s %s", wire.AppendString(nil, login), storetest.Password), "NO [AUTHENTICATIONFAILED] ")
		if login != "" {
			c.want(plain("", login), "NO [AUTHENTICATIONFAILED] ")
		}
		c.want(plain(login, "eve@two.test"), map[bool]string{true: "OK ", false: "NO [AUTHORIZATIONFAILED] "}[login == ""])
	}
	// The last of them was Eve as herself.
	if got := c.want("STATUS INBOX (MESSAGES)", "OK "); len(got) != 1 {
		t.Errorf("STATUS: %q", got)
	}
	c.want("LOGIN ann@one.test pass", "BAD ") // once is enough
	for _, login := range []string{"ann@one.test", "Ann@ONE.test", "ann@one.test."} {
		c := connect(t)
		c.expect("* OK ...")
		c.want("LOGIN "+login+" pass", "OK ")
	}
}
