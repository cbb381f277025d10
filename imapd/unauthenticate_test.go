package imapd

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Who comes after UNAUTHENTICATE is counted, timed and watched as anybody else.
func TestUnauthenticate(t *testing.T) {
	o := testOptions(t)
	o.Account.Connections, o.MaxLoginFailures = 1, 3
	_, connect := start(t, o)
	a, b := connect(), connect()
	a.expect("* OK ...")
	b.expect("* OK ...")
	a.send("a LOGIN user wrong")
	a.expect("a NO [AUTHENTICATIONFAILED] ...")
	a.send("b LOGIN user pass")
	a.expect("b OK ...")
	b.send("a LOGIN user pass")
	b.expect("a NO [LIMIT] ...")
	a.send("c UNAUTHENTICATE\r\nd AUTHENTICATE PLAIN AHNlY29uZABwYXNz") // as second
	a.expect("c OK ...")
	a.expect("d OK ...")
	b.send("b LOGIN user pass")
	b.expect("b OK ...")
	b.send("c LOGOUT")
	b.expect("* BYE ...")
	b.expect("c OK ...")
	// Who has logged in may send more than a stranger.
	a.want(`ID ("a" {5000+}`+"\r\n"+strings.Repeat("x", 5000)+")", "BAD [CLIENTBUG] ID value longer than ")
	a.send("e UNAUTHENTICATE")
	a.expect("e OK ...")
	a.want(`ID ("a" {5000+}`+"\r\n"+strings.Repeat("x", 5000)+")", "BAD [TOOBIG] ")
	// Guesses count for the connection.
	a.send("f LOGIN user wrong")
	a.expect("f NO [AUTHENTICATIONFAILED] ...")
	a.send("g LOGIN second wrong")
	a.expect("g NO [AUTHENTICATIONFAILED] ...")
	a.expect("* BYE Too many failed logins")
	a.expectClosed()
}

func TestUnauthenticateTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testOptions(t))
		c := pipe(t, s)
		c.expect("* OK ...")
		c.send("a LOGIN user pass")
		c.expect("a OK ...")
		time.Sleep(10 * time.Minute)
		c.send("b UNAUTHENTICATE")
		c.expect("b OK ...")
		begin := time.Now()
		c.expect("* BYE Idle for too long")
		c.expectClosed()
		if took := time.Since(begin); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("ended after %v instead of a minute", took)
		}
		s.Close()
	})
}

// TLS is all that stays.
func TestUnauthenticateKeepsTLS(t *testing.T) {
	c := startOverTLS(t)()
	c.send("b LOGIN user pass")
	c.expect("b OK ...")
	const enable = "ENABLE IMAP4rev2 UTF8=ACCEPT UIDONLY QRESYNC"
	enabled := c.want(enable, "OK ")
	c.send("c UNAUTHENTICATE")
	c.expect("c OK [CAPABILITY IMAP4 IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR AUTH=PLAIN AUTH=LOGIN ID ...")
	c.send("d STARTTLS")
	c.expect("d BAD ...")
	c.send("e LOGIN user pass")
	c.expect("e OK ...")
	if again := c.want(enable, "OK "); !slices.Equal(enabled, again) || len(again) != 1 {
		t.Errorf("enabled: %q, and later %q", enabled, again)
	}
}
