package imapd

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"

	"mailstead.dev/store/storetest"
)

// A second opinion on the extensions, as far as go-imap's client knows them.
func TestLibraryClientExtensions(t *testing.T) {
	s := storetest.New(t)
	c := imapClient(t, s, "user@extensions.test")
	for _, name := range []imap.Cap{
		imap.CapESearch, imap.CapSearchRes, imap.CapListExtended, imap.CapListStatus, imap.CapStatusSize, imap.CapMultiAppend,
		imap.CapObjectID, imap.CapAppendLimit, imap.CapSaveDate, imap.CapWithin, imap.CapCreateSpecialUse, imap.CapPreview,
	} {
		if !c.Caps().Has(name) {
			t.Errorf("%s is not announced", name)
		}
	}
	if limit, _ := c.Caps().AppendLimit(); limit == nil || int64(*limit) != s.MaxMessage() {
		t.Errorf("APPENDLIMIT is %v", limit)
	}

	create := func(name string, use imap.MailboxAttr) error {
		return c.Create(name, &imap.CreateOptions{SpecialUse: []imap.MailboxAttr{use}}).Wait()
	}
	var refused *imap.Error
	if err := create("Old", imap.MailboxAttrArchive); !errors.As(err, &refused) || refused.Code != "USEATTR" {
		t.Errorf("a second archive: %v", err)
	}
	if err := c.Delete("Archive").Wait(); err != nil {
		t.Fatal(err)
	}
	if err := create("Old/Mail", imap.MailboxAttrArchive); err != nil {
		t.Errorf("CREATE with a special use: %v", err)
	}

	for i := range 5 {
		appendMail(t, c, "INBOX", fmt.Appendf(nil, "Subject: %d\r\n\r\nbody", i), nil)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.UIDSetNum(2), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	every := &imap.SearchOptions{ReturnMin: true, ReturnMax: true, ReturnAll: true, ReturnCount: true}
	found, err := c.UIDSearch(&imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}}, every).Wait()
	if err != nil || found.Min != 1 || found.Max != 5 || found.Count != 4 || found.All.String() != "1,3:5" {
		t.Errorf("UID SEARCH: %+v, %v", found, err)
	}
	found, err = c.Search(&imap.SearchCriteria{ModSeq: &imap.SearchCriteriaModSeq{ModSeq: 5}}, every).Wait()
	if err != nil || found.Min != 3 || found.Max != 4 || found.Count != 2 || found.All.String() != "3:4" || found.ModSeq != 6 {
		t.Errorf("SEARCH by MODSEQ: %+v, %v", found, err)
	}
	found, err = c.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{imap.FlagDraft}}, every).Wait()
	if err != nil || found.Min != 0 || found.Max != 0 || found.Count != 0 {
		t.Errorf("UID SEARCH of nothing: %+v, %v", found, err)
	}

	list, err := c.List("", "*", &imap.ListOptions{
		ReturnSubscribed: true, ReturnSpecialUse: true,
		ReturnStatus: &imap.StatusOptions{NumMessages: true, UIDNext: true, NumUnseen: true, Size: true, AppendLimit: true},
	}).Collect()
	if err != nil || len(list) != 7 {
		t.Fatalf("LIST of %d mailboxes with STATUS: %v", len(list), err)
	}
	for _, entry := range list {
		want, status := uint32(0), entry.Status
		if entry.Mailbox == "INBOX" {
			want = 4
		}
		if status == nil || *status.NumMessages != want || *status.NumUnseen != want || *status.Size != 18*int64(want) || int64(*status.AppendLimit) != s.MaxMessage() {
			t.Errorf("status of %s: %+v", entry.Mailbox, status)
		}
		if subscribed := slices.Contains(entry.Attrs, imap.MailboxAttrSubscribed); subscribed != (entry.Mailbox[0] != 'O') {
			t.Errorf("%s is subscribed: %t", entry.Mailbox, subscribed)
		}
	}
	if err := c.Subscribe("Old/Mail").Wait(); err != nil {
		t.Fatal(err)
	}
	list, err = c.List("", "O%", &imap.ListOptions{SelectSubscribed: true, SelectRecursiveMatch: true}).Collect()
	if err != nil || len(list) != 1 || list[0].Mailbox != "Old" || list[0].ChildInfo == nil || !list[0].ChildInfo.Subscribed {
		t.Errorf("LIST of what is above subscriptions: %+v, %v", list, err)
	}
	list, err = c.List("", "*", &imap.ListOptions{SelectSpecialUse: true}).Collect()
	if err != nil || len(list) != 5 {
		t.Errorf("LIST of %d special uses: %v", len(list), err)
	}
}
