package imapd

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailstead.dev/store/storetest"
)

// A second opinion on the wire: go-imap's client with the commands on
// mailboxes, and with IDLE.
func TestLibraryClient(t *testing.T) {
	s := storetest.New(t)
	storetest.Account(t, s, "user@library.test")
	connect := serveStore(t, s, nil)
	told := make(chan uint32, 10)
	login := func(o *imapclient.Options) *imapclient.Client {
		t.Helper()
		c := imapclient.New(connect(t).nc, o)
		t.Cleanup(func() { c.Close() })
		if err := c.Login("user@library.test", storetest.Password).Wait(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := login(nil)
	if caps := c.Caps(); !caps.Has(imap.CapIdle) || !caps.Has(imap.CapMove) || !caps.Has(imap.CapUIDPlus) || !caps.Has(imap.CapQResync) {
		t.Errorf("capabilities: %v", caps)
	}
	if id, err := c.ID(&imap.IDData{Name: "test"}).Wait(); err != nil || id.Name != "Mailstead" {
		t.Errorf("ID: %+v, %v", id, err)
	}
	ns, err := c.Namespace().Wait()
	if err != nil || len(ns.Personal) != 1 || ns.Personal[0] != (imap.NamespaceDescriptor{Delim: '/'}) {
		t.Errorf("NAMESPACE: %+v, %v", ns, err)
	}

	for _, name := range []string{"Entwürfe/日本", "a&b"} {
		if err := c.Create(name, nil).Wait(); err != nil {
			t.Errorf("CREATE %s: %v", name, err)
		}
	}
	if err := c.Rename("a&b", "a&c", nil).Wait(); err != nil {
		t.Errorf("RENAME: %v", err)
	}
	list, err := c.List("", "*", nil).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range list {
		names = append(names, entry.Mailbox)
		if entry.Mailbox == "Sent" && !slices.Contains(entry.Attrs, imap.MailboxAttrSent) {
			t.Errorf("Sent has the attributes %v", entry.Attrs)
		}
	}
	if got, want := strings.Join(names, " "), "Archive Drafts Entwürfe Entwürfe/日本 INBOX Junk Sent Trash a&c"; got != want {
		t.Errorf("LIST:\n got %s\nwant %s", got, want)
	}
	if err := c.Delete("a&c").Wait(); err != nil {
		t.Errorf("DELETE: %v", err)
	}
	status, err := c.Status("Entwürfe/日本", &imap.StatusOptions{NumMessages: true, UIDNext: true, UIDValidity: true, NumUnseen: true, HighestModSeq: true}).Wait()
	if err != nil || *status.NumMessages != 0 || status.UIDNext != 1 || *status.NumUnseen != 0 || status.HighestModSeq != 1 {
		t.Errorf("STATUS: %+v, %v", status, err)
	}

	watcher := login(&imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				told <- *data.NumMessages
			}
		},
	}})
	selected, err := watcher.Select("INBOX", &imap.SelectOptions{CondStore: true}).Wait()
	if err != nil || selected.NumMessages != 0 || selected.UIDNext != 1 || selected.HighestModSeq != 1 || !slices.Contains(selected.PermanentFlags, imap.FlagWildcard) {
		t.Errorf("SELECT: %+v, %v", selected, err)
	}
	idle, err := watcher.Idle()
	if err != nil {
		t.Fatal(err)
	}
	message := "Subject: x\r\n\r\nbody"
	a := c.Append("INBOX", int64(len(message)), nil)
	if _, err := a.Write([]byte(message)); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err := a.Wait(); err != nil || data.UID != 1 || data.UIDValidity != selected.UIDValidity {
		t.Errorf("APPEND: %+v, %v", data, err)
	}
	select {
	case n := <-told:
		if n != 1 {
			t.Errorf("IDLE tells of %d messages", n)
		}
	case <-time.After(10 * time.Second):
		t.Error("IDLE tells nothing")
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err != nil {
		t.Error(err)
	}
	if err := watcher.Unselect().Wait(); err != nil {
		t.Errorf("UNSELECT: %v", err)
	}
	if err := watcher.Logout().Wait(); err != nil {
		t.Errorf("LOGOUT: %v", err)
	}
}
