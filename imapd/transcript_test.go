package imapd

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mailstead.dev/auth"
	"mailstead.dev/auth/otp"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// TestTranscripts plays testdata/*.imap, each with a fresh account on one server
// and store. In them,
//
//	# is a comment
//	C: is a line that the client sends
//	S: is a line that it gets, where "..." at the end stands for any rest
//	S: [closed] is the end of the connection
//	C2: and S2: are a second connection of the account, and so on
//	@raw says that the client gets the greeting and logs in itself
//	@deflate says that the client compresses from then on
//	@user 2 bob says that C2: and S2: are a connection of another user of the tenant, $BOB
//	@group staff bob makes a group
//	@otp md5 500 ke1234 a phrase gives the account one-time passwords; otp*.imap are played on a server with OTP
//
// $LOGIN stands for the account's login, of 23 octets, $DOMAIN for its domain, $PLAIN for what SASL PLAIN makes of it, $ASOTHER for that to act as other,
// base64(text) for that, $NUL, $CR and $FF for octets, and each name of remembered for what was told last; $=NAME stands for any word, and $NAME for it from then on. A connection begins where it is first named; at the end each that is open must have said no more than is written.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.imap")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	s := storetest.New(t)
	plain, oneTime := serveStore(t, s, nil), serveStore(t, s, withOTP(s))
	for i, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".imap")
		t.Run(name, func(t *testing.T) {
			login := fmt.Sprintf("user%03d@sharing%03d.test", i, i) // a tenant of its own
			storetest.Account(t, s, login)
			connect := plain
			if strings.HasPrefix(name, "otp") {
				connect = oneTime
			}
			play(t, s, file, login, func() *client { return connect(t) })
		})
	}
}

// serveStore serves a store and returns how to connect.
func serveStore(t testing.TB, s *store.Store, change func(*Options)) func(testing.TB) *client {
	o := testOptions(t)
	o.Store = s
	o.Authenticator = auth.New(s, auth.Options{})
	if change != nil {
		change(&o)
	}
	server := New(o)
	addr := listen(t, server, server.Serve)
	return func(t testing.TB) *client { return dial(t, addr) }
}

var transcriptLine = regexp.MustCompile(`^([CS])([0-9]*):(?: (.*))?$`)

var encoded = regexp.MustCompile(`base64\(([^)]*)\)`)

// remembered are the names of what a server chooses, which stand in
// transcripts for what it has told last: of the mailbox selected last, or of any object.
var remembered = map[string]*regexp.Regexp{
	"$UIDVALIDITY": regexp.MustCompile(`^\* OK \[UIDVALIDITY ([0-9]+)\]`),
	"$MAILBOXID":   regexp.MustCompile(`MAILBOXID \((F[a-z2-7]+)\)`),
	"$EMAILID":     regexp.MustCompile(`EMAILID \((M[a-z2-7]+)\)`),
	"$THREADID":    regexp.MustCompile(`THREADID \((T[a-z2-7]+)\)`),
}

func play(t *testing.T, s *store.Store, file, login string, connect func() *client) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, domain, _ := strings.Cut(login, "@")
	raw := false
	known := map[string]string{
		"$LOGIN": login, "$DOMAIN": domain, "$PLAIN": base64.StdEncoding.EncodeToString([]byte("\x00" + login + "\x00" + storetest.Password)),
		"$ASOTHER": base64.StdEncoding.EncodeToString([]byte("other\x00" + login + "\x00" + storetest.Password)),
		"$NUL":     "\x00", "$CR": "\r", "$FF": "\xff",
	}
	logins := make(map[string]string) // of connections that are others'
	users := make(map[string]store.User)
	open := make(map[string]*client)
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if line == "@raw" {
			raw = true
			continue
		}
		if line == "@deflate" {
			open[""] = open[""].deflate()
			continue
		}
		switch words := strings.Fields(line); words[0] {
		case "@user":
			other := words[2] + "@" + domain
			users[words[2]] = storetest.Account(t, s, other)
			logins[words[1]], known["$"+strings.ToUpper(words[2])] = other, other
			continue
		case "@group":
			makeGroup(t, s, words[1], users[words[2]])
			continue
		case "@otp":
			params, err := otp.ParseParams(strings.Join(words[1:4], " "))
			if err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
			giveOTP(t, s, login, params, strings.Join(words[4:], " "))
			continue
		}
		m := transcriptLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%s:%d: not a line of a transcript: %q", file, i+1, line)
		}
		who, content := m[2], m[3]
		for name, value := range known {
			content = strings.ReplaceAll(content, name, value)
		}
		content = encoded.ReplaceAllStringFunc(content, func(text string) string {
			return base64.StdEncoding.EncodeToString([]byte(encoded.FindStringSubmatch(text)[1]))
		})
		if open[who] == nil {
			open[who] = connect()
			if !raw {
				enter(open[who], cmp.Or(logins[who], login))
			}
		}
		c := open[who]
		switch {
		case m[1] == "C":
			c.send(content)
		case content == "[closed]":
			c.expectClosed()
			delete(open, who)
		default:
			got := c.line()
			content = capture(got, content, known)
			if !matches(got, content) {
				t.Fatalf("%s:%d:\n got %s\nwant %s", file, i+1, got, content)
			}
			for name, told := range remembered {
				if m := told.FindStringSubmatch(got); m != nil {
					known[name] = m[1]
				}
			}
		}
	}
	for who, c := range open {
		c.send("end LOGOUT")
		if got := c.line(); !strings.HasPrefix(got, "* BYE ") {
			t.Errorf("%s: connection %q is told more than is written: %q", file, who, got)
		}
	}
}

var captured = regexp.MustCompile(`\$=([A-Z]+)`)

// capture puts into a line that is expected the words of the one that was got for each "$=NAME", and remembers them.
func capture(got, content string, known map[string]string) string {
	for {
		at := captured.FindStringSubmatchIndex(content)
		if at == nil || at[0] > len(got) {
			return content
		}
		word := got[at[0]:]
		if end := strings.IndexAny(word, " )]"); end >= 0 {
			word = word[:end]
		}
		known["$"+content[at[2]:at[3]]] = word
		content = content[:at[0]] + word + content[at[1]:]
	}
}

// enter receives the greeting and logs in.
func enter(c *client, login string) {
	c.expect("* OK ...")
	c.send("enter LOGIN " + login + " " + storetest.Password)
	c.expect("enter OK ...")
}
