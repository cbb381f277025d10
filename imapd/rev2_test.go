package imapd

import (
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/store/storetest"
)

// go-imap's client with IMAP4rev2 enabled.
func TestLibraryClientRev2(t *testing.T) {
	s := storetest.New(t)
	c := imapClient(t, s, "user@rev2.test")
	if !c.Caps().Has(imap.CapIMAP4rev2) {
		t.Error("IMAP4rev2 is not announced")
	}
	if data, err := c.Enable(imap.CapIMAP4rev2).Wait(); err != nil || !data.Caps.Has(imap.CapIMAP4rev2) {
		t.Fatalf("ENABLE: %+v, %v", data, err)
	}
	if err := c.Create("Entwürfe/日本", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		appendMail(t, c, "Entwürfe/日本", []byte("Subject: Straße\r\n\r\nTür\r\n"), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDeleted}})
	}
	status, err := c.Status("Entwürfe/日本", &imap.StatusOptions{NumMessages: true, NumDeleted: true, Size: true}).Wait()
	if err != nil || *status.NumMessages != 3 || *status.NumDeleted != 3 || *status.Size != 3*26 {
		t.Errorf("STATUS: %+v, %v", status, err)
	}
	selected, err := c.Select("Entwürfe/日本", nil).Wait()
	if err != nil || selected.NumMessages != 3 || selected.List == nil || selected.List.Mailbox != "Entwürfe/日本" || !slices.Contains(selected.List.Attrs, imap.MailboxAttrHasNoChildren) {
		t.Errorf("SELECT: %+v, %v", selected, err)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Text: []string{"tür"}, Flag: []imap.Flag{imap.FlagDeleted}}, nil).Wait()
	if err != nil || found.All.String() != "1:3" {
		t.Errorf("SEARCH: %+v, %v", found, err)
	}
	moved, err := c.Move(imap.UIDSetNum(2), "Archive").Wait()
	if err != nil || moved.DestUIDs.String() != "1" {
		t.Errorf("MOVE: %+v, %v", moved, err)
	}
	if gone, err := c.UIDExpunge(imap.UIDSetNum(3)).Collect(); err != nil || !slices.Equal(gone, []uint32{2}) {
		t.Errorf("UID EXPUNGE: %v, %v", gone, err)
	}
	list, err := c.List("", "Entw%", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumDeleted: true}}).Collect()
	if err != nil || len(list) != 1 || list[0].Mailbox != "Entwürfe" || *list[0].Status.NumDeleted != 0 {
		t.Errorf("LIST: %+v, %v", list, err)
	}
	if err := c.Unselect().Wait(); err != nil {
		t.Error(err)
	}
}
