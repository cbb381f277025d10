package imapd

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailstead.dev/index/files"
	indexnode "mailstead.dev/index/node"
	"mailstead.dev/store/message"
	"mailstead.dev/store/storetest"
)

// withFile is a message with a file, whose text is what tr makes of it.
func withFile(mediaType, name, content string) string {
	return "From: ann@one.test\r\nSubject: A file\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\nsee the file\r\n" +
		"--b\r\nContent-Type: " + mediaType + "\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString([]byte(content)) + "\r\n--b--\r\n"
}

// Attached files are found by the text that a program reads from them, with an index and without; and an index that was made
// without the program is made anew.
func TestSearchFiles(t *testing.T) {
	s := storetest.New(t)
	user := storetest.Account(t, s, "ann@one.test")
	reads := files.New([]files.Program{{Types: []string{"application/x-rot", ".rot"}, Command: []string{"/usr/bin/tr", "a-z", "n-za-m"}}}, files.Limits{}, slog.New(slog.DiscardHandler))
	without := serveStore(t, s, nil)(t)
	enter(without, user.Login)
	nested := withFile("application/x-rot", "x", "avtugvatnyr") // nightingale
	for _, m := range []string{
		withFile("application/x-rot", "song", "oynpxoveq"),               // blackbird
		withFile("application/octet-stream", "Song.ROT", "avtugvatnyr"),  // nightingale
		withFile("application/x-other", "song", "avtugvatnyr oynpxoveq"), // read by nothing
		"Subject: nested\r\nContent-Type: message/rfc822\r\n\r\n" + nested,
		"Subject: blackbird\r\n\r\nblackbird\r\n",
	} {
		without.want(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(m), m), "OK ")
	}
	const more = fewOpen // so that the index is asked
	without.wantAll(slices.Repeat([]string{"APPEND INBOX {18+}\r\nSubject: more\r\n\r\nx"}, more), "OK ")
	keys := map[string]string{
		"BODY blackbird": "1 5", "TEXT BLACKBIRD": "1 5", `BODY "ackbir"`: "1 5", "BODY nightingale": "2 4", "UID 1:5 NOT BODY nightingale": "1 3 5",
		"SUBJECT blackbird": "5", "BODY avtugvatnyr": "", "OR BODY nightingale BODY blackbird": "1 2 4 5",
	}
	compare := func(when string, c *client, keys map[string]string) {
		t.Helper()
		c.want("SELECT INBOX", "OK ")
		for key, want := range keys {
			if lines := c.want("UID SEARCH "+key, "OK "); !slices.Contains(lines, strings.TrimSpace("* SEARCH "+want)) {
				t.Errorf("%s: %s: %q, want %s", when, key, lines, want)
			}
		}
	}
	compare("without a program", without, map[string]string{"BODY blackbird": "5", "BODY nightingale": ""})
	read := serveStore(t, s, func(o *Options) { o.Files = reads.For })(t)
	enter(read, user.Login)
	compare("with a program", read, keys)

	dir := t.TempDir()
	during := func(o indexnode.Options, do func(n *indexnode.Node)) {
		t.Helper()
		o.Source, o.Dir, o.Messages, o.Every = s, dir, 1, 20*time.Millisecond
		n, err := indexnode.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		var working sync.WaitGroup
		working.Go(func() {
			if err := n.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		do(n)
		stop()
		working.Wait()
	}
	reaches := func(n *indexnode.Node, emails int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); n.Counted().Emails < emails; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it has indexed %d emails", n.Counted().Emails)
			}
		}
	}
	during(indexnode.Options{}, func(n *indexnode.Node) { reaches(n, 5+more) })
	during(indexnode.Options{Files: reads.For, FilesBy: reads.Version()}, func(n *indexnode.Node) {
		with := serveStore(t, s, func(o *Options) { o.Files, o.Index = reads.For, n })(t)
		enter(with, user.Login)
		compare("with an index that was made without", with, keys)
		reaches(n, 5+more)
		before := n.Counted().Searches
		compare("with an index", with, keys)
		if asked := int(n.Counted().Searches - before); asked < len(keys)-1 {
			t.Errorf("the index was asked %d times for %d searches", asked, len(keys))
		}
		with.want("LOGOUT", "OK ")
	})
}

// A search whose answer depends on a file that cannot be read now is refused, not answered as if the file had no text.
func TestSearchFilesLater(t *testing.T) {
	s := storetest.New(t)
	user := storetest.Account(t, s, "ann@one.test")
	program := filepath.Join(t.TempDir(), "program")
	reads := files.New([]files.Program{{Types: []string{"application/x-test"}, Command: []string{program}}}, files.Limits{}, slog.New(slog.DiscardHandler))
	c := serveStore(t, s, func(o *Options) { o.Files = reads.For })(t)
	enter(c, user.Login)
	m := withFile("application/x-test", "song", "blackbird")
	c.want(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(m), m), "OK ")
	c.want("SELECT INBOX", "OK ")
	finds := func(key string) {
		t.Helper()
		if lines := c.want("SEARCH "+key, "OK "); !slices.Contains(lines, "* SEARCH 1") {
			t.Errorf("%s: %q", key, lines)
		}
	}
	for range 3 {
		c.want("SEARCH BODY blackbird", "NO [UNAVAILABLE] An attached file cannot be read now, try again later")
	}
	finds("BODY see")
	if _, known := answer(fmt.Errorf("%w: no program", message.ErrNoFiles)); known {
		t.Error("the administrator does not hear of it")
	}
	if err := os.Symlink("/bin/cat", program); err != nil {
		t.Fatal(err)
	}
	finds("BODY blackbird")
}
