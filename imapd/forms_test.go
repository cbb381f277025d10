package imapd

import (
	"slices"
	"strings"
	"testing"

	"mailstead.dev/auth"
	"mailstead.dev/store/storetest"
)

// The same session in each form of the protocol makes the same mailbox.
func TestSessionsInAllForms(t *testing.T) {
	s := storetest.New(t)
	serverTLS, clientTLS := testTLS(t)
	o := testOptions(t)
	o.Store, o.Authenticator, o.TLS = s, auth.New(s, auth.Options{}), serverTLS
	server := New(o)
	addr := listen(t, server, server.Serve)
	overTLS := func(c *client, login string) *client {
		c = c.secure(clientTLS)
		c.want("LOGIN "+login+" "+storetest.Password, "OK ")
		return c
	}
	forms := map[string]func(c *client, login string) *client{
		"plain": func(c *client, login string) *client {
			enter(c, login)
			return c
		},
		"CONDSTORE and QRESYNC": func(c *client, login string) *client {
			enter(c, login)
			c.want("ENABLE QRESYNC", "OK ")
			return c
		},
		"IMAP4rev2": func(c *client, login string) *client {
			enter(c, login)
			c.want("ENABLE IMAP4rev2", "OK ")
			return c
		},
		"IMAP4rev2, UIDONLY": func(c *client, login string) *client {
			enter(c, login)
			c.want("ENABLE IMAP4rev2 UIDONLY", "OK ")
			return c
		},
		"UIDONLY": func(c *client, login string) *client {
			enter(c, login)
			c.want("ENABLE UIDONLY", "OK ")
			return c
		},
		"compressed": compressed,
		"compressed, flushed in part": func(c *client, login string) *client {
			enter(c, login)
			c.want("COMPRESS DEFLATE", "OK ")
			return c.deflateBy(&partWriter{to: c.nc})
		},
		"TLS": overTLS,
		"TLS, compressed, UIDONLY": func(c *client, login string) *client {
			c = overTLS(c, login)
			c.want("ENABLE UIDONLY", "OK ")
			c.want("COMPRESS DEFLATE", "OK ")
			return c.deflate()
		},
		"another's before": func(c *client, login string) *client {
			c = compressed(c, "other@forms.test")
			c.want("ENABLE UIDONLY QRESYNC", "OK ")
			c.want("SELECT INBOX", "OK ")
			c.send("u UNAUTHENTICATE")
			c.expect("u OK ...")
			plain := newClient(c.t, c.nc.(*deflatedConn).Conn)
			plain.want("LOGIN "+login+" "+storetest.Password, "OK ")
			return plain
		},
	}
	storetest.Account(t, s, "other@forms.test")
	have := make(map[string]string)
	for form, enterBy := range forms {
		login := strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(strings.ToLower(form)) + "@forms.test"
		storetest.Account(t, s, login)
		c := enterBy(dial(t, addr), login)
		playForm(c)
		c.want("LOGOUT", "OK ")

		look := dial(t, addr)
		enter(look, login)
		lines := strings.Split(possessions(look), "\n")
		lines = slices.DeleteFunc(lines, func(line string) bool { // which differ from account to account, or by who has been told of \Recent
			return strings.HasSuffix(line, " RECENT") || strings.Contains(line, "[UIDVALIDITY ") || strings.Contains(line, "[MAILBOXID ") || strings.HasPrefix(line, "* STATUS ")
		})
		have[form] = strings.NewReplacer(` \Recent`, "", `\Recent `, "", `\Recent`, "").Replace(strings.Join(lines, "\n"))
	}
	if n := strings.Count(have["plain"], " FETCH ("); n != 8 {
		t.Errorf("%d messages are left:\n%s", n, have["plain"])
	}
	for form, got := range have {
		if got != have["plain"] {
			t.Errorf("by %s there is\n%s\nand in plain\n%s", form, got, have["plain"])
		}
	}
}

// playForm does a bit of everything that changes a mailbox, by UID.
func playForm(c *client) {
	const date = `"01-Feb-2026 10:00:00 +0100"`
	for _, text := range []string{"one", "two", "three", "four", "five", "six", "seven"} {
		message := "Subject: " + text + "\r\n\r\n" + strings.Repeat(text+" and so on\r\n", 50)
		c.want(strings.Replace(appendText("INBOX", message), "INBOX ", `INBOX (\Flagged Work) `+date+" ", 1), "OK ")
	}
	c.want("CREATE Done", "OK ")
	c.want("SELECT INBOX", "OK ")
	c.want("UID FETCH 1:3 (FLAGS BODY[TEXT])", "OK ")
	c.want(`UID STORE 2:4 -FLAGS (\Flagged)`, "OK ")
	c.want(`UID STORE 5 FLAGS.SILENT (\Answered $Forwarded)`, "OK ")
	c.want("UID SEARCH RETURN (SAVE) SUBJECT t", "OK ") // two and three
	c.want("UID COPY $ Done", "OK ")
	c.want("UID MOVE 6 Done", "OK ")
	c.want(strings.Replace(appendText("Drafts", "Subject: new\r\n\r\n"), "APPEND Drafts", `UID REPLACE 7 INBOX (\Draft) `+date, 1), "OK ")
	c.want(`UID STORE 1 +FLAGS (\Deleted)`, "OK ")
	c.want("UID EXPUNGE 1", "OK ")
	c.want("RENAME Done Archive/Done", "OK ")
	c.want(`SETMETADATA Archive/Done (/private/comment "done")`, "OK ")
}
