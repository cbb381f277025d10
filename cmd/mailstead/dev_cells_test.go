package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailstead.dev/imapd/imapurl"
)

// heard is what a client of go-imap has said and heard, which tells nobody of a referral.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

// referral returns where the client has been referred to.
func (h *heard) referral(t *testing.T) *imapurl.URL {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	_, rest, _ := strings.Cut(h.text.String(), " NO [REFERRAL ")
	text, _, _ := strings.Cut(rest, "]")
	u, err := imapurl.Parse(text)
	if err != nil {
		t.Fatalf("no referral: %v in\n%s", err, h.text.String())
	}
	return u
}

// Two cells of `mailstead dev` let in the users of both: as they are, without a client that knows of it; and where logins are referred, for a client that
// follows.
func TestDevCells(t *testing.T) {
	data, err := os.MkdirTemp("", "mailstead-cells-") // which PostgreSQL's own user can pass
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	base := freePorts(t, 2*cellPorts)
	user := devOptions{demo: secondDemo}.users()[0]
	stop := func(d *devProcess) {
		t.Helper()
		if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := d.wait(); err != nil {
			t.Errorf("dev ended with %v by SIGINT", err)
		}
	}

	d := startDev(t, data, base, "--cells", "2")
	second, err := loadDevState(filepath.Join(data, secondCell, "dev.json"), devOptions{demo: secondDemo}.users())
	if err != nil {
		t.Fatal(err)
	}
	if err := login(t, data, base+portIMAPS, true, user, second.Passwords[user]).Create("From the first cell", nil).Wait(); err != nil {
		t.Error(err)
	}
	first, err := loadDevState(filepath.Join(data, "dev.json"), devOptions{demo: firstDemo}.users())
	if err != nil {
		t.Fatal(err)
	}
	login(t, filepath.Join(data, secondCell), base+cellPorts+portIMAPS, true, "demo1@demo.test", first.Passwords["demo1@demo.test"])
	guest := login(t, filepath.Join(data, secondCell), base+cellPorts+portIMAPS, true, "guest@east.test", first.Passwords["demo1@demo.test"])
	atHome := login(t, data, base+portIMAPS, true, "demo1@demo.test", first.Passwords["demo1@demo.test"])
	for where, c := range map[string]*imapclient.Client{"there": guest, "at home": atHome} {
		if _, err := c.Select("Other Users/"+user+"/Projects", nil).Wait(); err != nil {
			t.Errorf("what is shared with the guest, %s: %v", where, err)
		}
	}
	stop(d)

	t.Setenv("MAILSTEAD_CELLS_LOGIN", "refer")
	d = startDev(t, data, base, "--cells", "2")
	var said heard
	c, err := imapclient.DialTLS(fmt.Sprintf("localhost:%d", base+portIMAPS), &imapclient.Options{TLSConfig: trusting(t, data), DebugWriter: &said})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(user, second.Passwords[user]).Wait(); err == nil {
		t.Fatal("who is referred is let in")
	}
	u := said.referral(t)
	if u.User != user || int(u.Port) != base+cellPorts+portIMAP {
		t.Fatalf("referred to %s", u)
	}
	there, err := imapclient.DialStartTLS(fmt.Sprintf("%s:%d", u.Host, u.Port), &imapclient.Options{TLSConfig: trusting(t, filepath.Join(data, secondCell))})
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if err := there.Login(u.User, second.Passwords[user]).Wait(); err != nil {
		t.Fatal(err)
	}
	if status, err := there.Status("From the first cell", &imap.StatusOptions{NumMessages: true}).Wait(); err != nil {
		t.Errorf("what was made before: %+v, %v", status, err)
	}
	stop(d)
}
