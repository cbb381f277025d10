package imapd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"

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
	if err != nil || len(ns.Personal) != 1 || ns.Personal[0] != (imap.NamespaceDescriptor{Delim: '/'}) ||
		len(ns.Other) != 1 || ns.Other[0].Prefix != "Other Users/" || len(ns.Shared) != 1 || ns.Shared[0].Prefix != "Shared/" {
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
	if uid := appendMail(t, c, "INBOX", []byte("Subject: x\r\n\r\nbody"), nil); uid != 1 {
		t.Errorf("APPEND: UID %d", uid)
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

// The commands on messages, as far as no other test sends them through go-imap's client.
func TestLibraryClientMessages(t *testing.T) {
	const login = "user@messages.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	connect := serveStore(t, s, nil)
	c := imapclient.New(connect(t).nc, nil)
	t.Cleanup(func() { c.Close() })
	if err := c.Authenticate(sasl.NewPlainClient("", login, "wrong")); err == nil {
		t.Error("a wrong password is taken")
	}
	if err := c.Authenticate(sasl.NewPlainClient("", login, storetest.Password)); err != nil {
		t.Fatal(err)
	}
	if caps, err := c.Capability().Wait(); err != nil || !caps.Has(imap.CapUnauthenticate) || caps.Has(imap.AuthCap("PLAIN")) {
		t.Errorf("CAPABILITY: %v, %v", caps, err)
	}
	for i := range 4 {
		appendMail(t, c, "INBOX", fmt.Appendf(nil, "Subject: %d\r\n\r\nbody", i), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagFlagged}})
	}
	if selected, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil || selected.NumMessages != 4 || len(selected.PermanentFlags) != 0 {
		t.Errorf("EXAMINE: %+v, %v", selected, err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	deleted := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}
	if _, err := c.Store(imap.UIDSetNum(2), deleted, nil).Collect(); err != nil {
		t.Fatal(err)
	}
	if err := c.Noop().Wait(); err != nil {
		t.Error(err)
	}
	// MODSEQs: those of four APPENDs are 2 to 5, and 6 is that of the STORE.
	messages, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{UID: true, ModSeq: true, ChangedSince: 4}).Collect()
	if err != nil || len(messages) != 2 || messages[0].UID != 2 || messages[0].ModSeq != 6 || messages[1].UID != 4 || messages[1].ModSeq != 5 {
		t.Errorf("FETCH of what has changed: %+v, %v", messages, err)
	}
	if _, err := c.Store(imap.UIDSetNum(1, 2), deleted, &imap.StoreOptions{UnchangedSince: 5}).Collect(); err != nil {
		t.Errorf("conditional STORE: %v", err)
	}
	got := fetchOne(t, c, 1, &imap.FetchOptions{Flags: true, ModSeq: true})
	if got.ModSeq != 7 || !slices.Contains(got.Flags, imap.FlagDeleted) {
		t.Errorf("after a conditional STORE there is %+v", got)
	}
	if gone, err := c.UIDExpunge(imap.UIDSetNum(2, 3)).Collect(); err != nil || !slices.Equal(gone, []uint32{2}) {
		t.Errorf("UID EXPUNGE: %v, %v", gone, err)
	}
	// The client can name what a search has saved, but cannot save: it is no message, which is no error.
	if copied, err := c.Copy(imap.SearchRes(), "Archive").Wait(); err != nil || len(copied.SourceUIDs) != 0 {
		t.Errorf("COPY of what no search has saved: %+v, %v", copied, err)
	}
	if err := c.UnselectAndExpunge().Wait(); err != nil {
		t.Errorf("CLOSE: %v", err)
	}
	if status, err := c.Status("INBOX", &imap.StatusOptions{NumMessages: true, NumDeleted: true}).Wait(); err != nil || *status.NumMessages != 2 || *status.NumDeleted != 0 {
		t.Errorf("STATUS: %+v, %v", status, err)
	}
	if err := c.Unsubscribe("Archive").Wait(); err != nil {
		t.Error(err)
	}
	list, err := c.List("", "A%", &imap.ListOptions{SelectSubscribed: true, ReturnChildren: true}).Collect()
	if err != nil || len(list) != 0 {
		t.Errorf("LIST of what is subscribed: %+v, %v", list, err)
	}
}

// STARTTLS, and what another session does told by NOOP.
func TestLibraryClientTLS(t *testing.T) {
	const login = "user@tls.test"
	s := storetest.New(t)
	storetest.Account(t, s, login)
	serverTLS, clientTLS := testTLS(t)
	connect := serveStore(t, s, func(o *Options) { o.TLS = serverTLS })
	var expunged []uint32
	flagged := make(chan uint32, 1) // handlers of FETCH have goroutines of their own
	c, err := imapclient.NewStartTLS(connect(t).nc, &imapclient.Options{TLSConfig: clientTLS, UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Expunge: func(n uint32) { expunged = append(expunged, n) },
		Fetch: func(data *imapclient.FetchMessageData) {
			if m, err := data.Collect(); err == nil && slices.Contains(m.Flags, imap.FlagFlagged) {
				flagged <- m.SeqNum
			}
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(login, storetest.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		appendMail(t, c, "INBOX", []byte("Subject: x\r\n\r\nbody"), nil)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	other := connect(t)
	enter(other, login)
	other.want("SELECT INBOX", "OK ")
	other.want(`STORE 3 +FLAGS (\Flagged)`, "OK ")
	other.want("UID MOVE 1 Archive", "OK ")
	if err := c.Noop().Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Fatal(err)
	}
	<-c.Closed()
	if got := <-flagged; !slices.Equal(expunged, []uint32{1}) || got != 2 {
		t.Errorf("told of expunged %d and flagged %d", expunged, got)
	}
}

// A second opinion on SORT, THREAD, quotas and UNAUTHENTICATE.
func TestLibraryClientOrders(t *testing.T) {
	const login = "user@orders.test"
	s := storetest.New(t)
	c := imapClient(t, s, login)
	for _, text := range []string{
		"Subject: b\r\nDate: 3 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\n",
		"Subject: a\r\nDate: 2 Jan 2026 00:00:00 +0000\r\nMessage-ID: <2@x>\r\n\r\n",
		"Subject: Re: b\r\nDate: 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <3@x>\r\nReferences: <1@x>\r\n\r\n",
	} {
		appendMail(t, c, "INBOX", []byte(text), nil)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	appendMail(t, c, "INBOX", []byte("Subject: b\r\nDate: 3 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\n"), nil)
	if _, err := c.Expunge().Collect(); err != nil { // from then on numbers are not UIDs
		t.Fatal(err)
	}

	all := &imap.SearchCriteria{}
	by := func(keys ...imapclient.SortCriterion) *imapclient.SortOptions {
		return &imapclient.SortOptions{SearchCriteria: all, SortCriteria: keys}
	}
	reverseDate := imapclient.SortCriterion{Key: imapclient.SortKeyDate, Reverse: true}
	bySubject := imapclient.SortCriterion{Key: imapclient.SortKeySubject}
	for _, test := range []struct {
		command *imapclient.SortCommand
		want    []uint32
	}{
		{c.Sort(by(reverseDate)), []uint32{3, 1, 2}},
		{c.UIDSort(by(reverseDate)), []uint32{4, 2, 3}},
		{c.UIDSort(by(bySubject, reverseDate)), []uint32{2, 4, 3}},
	} {
		if got, err := test.command.Wait(); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("SORT: %d, %v, want %d", got, err, test.want)
		}
	}
	for _, test := range []struct {
		command *imapclient.ThreadCommand
		want    [][]uint32
	}{
		{c.Thread(&imapclient.ThreadOptions{Algorithm: imap.ThreadReferences, SearchCriteria: all}), [][]uint32{{1}, {3, 2}}},
		{c.UIDThread(&imapclient.ThreadOptions{Algorithm: imap.ThreadReferences, SearchCriteria: all}), [][]uint32{{2}, {4, 3}}},
	} {
		got, err := test.command.Wait()
		var chains [][]uint32
		for _, thread := range got {
			chains = append(chains, thread.Chain)
		}
		if err != nil || !slices.EqualFunc(chains, test.want, slices.Equal[[]uint32]) {
			t.Errorf("THREAD: %+v, %v, want %d", got, err, test.want)
		}
	}

	roots, err := c.GetQuotaRoot("INBOX").Wait()
	if err != nil || len(roots) != 3 || roots[0].Root != "account:"+login {
		t.Errorf("GETQUOTAROOT: %+v, %v", roots, err)
	}
	if root, err := c.GetQuota("account:" + login).Wait(); err != nil || root.Root != "account:"+login {
		t.Errorf("GETQUOTA: %+v, %v", root, err)
	}
	var refused *imap.Error
	err = c.SetQuota("account:"+login, map[imap.QuotaResourceType]int64{imap.QuotaResourceStorage: 1}).Wait()
	if !errors.As(err, &refused) || refused.Code != imap.ResponseCodeNoPerm {
		t.Errorf("SETQUOTA: %v", err)
	}

	if err := c.Unauthenticate().Wait(); err != nil {
		t.Errorf("UNAUTHENTICATE: %v", err)
	}
	if err := c.Login(login, storetest.Password).Wait(); err != nil {
		t.Errorf("LOGIN after it: %v", err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Errorf("SELECT after it: %v", err)
	}
}
