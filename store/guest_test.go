package store_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// A guest is an account like others, without a password, that is looked up with its home; and a visit is one of an account, to a cell.
func TestGuests(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	ann := storetest.Account(t, s, "ann@one.test")
	var invalid *store.InvalidError
	for _, home := range []string{"user@far.test", ann.Login, "nobody", ""} {
		if _, err := s.CreateGuest(ctx, "guest@one.test", home); !errors.As(err, &invalid) {
			t.Errorf("a guest whose home is %q: %v", home, err)
		}
	}
	if err := s.SetRemoteDomain(ctx, "far.test", "west"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateGuest(ctx, ann.Login, "user@far.test"); !errors.Is(err, store.ErrAddressTaken) {
		t.Errorf("a guest that has an account's login: %v", err)
	}
	made, err := s.CreateGuest(ctx, "Guest@one.test", "User@FAR.test")
	if err != nil {
		t.Fatal(err)
	}
	guest := made.User()
	looked := func() store.Login { return looked(t, s, guest.Login) }
	if l := looked(); !l.User.Guest || l.Password != "" || l.Cell != "" || l.Home != (store.Home{Login: "user@far.test", Cell: "west"}) {
		t.Errorf("it is looked up as %+v", l)
	}
	if l, err := s.LookupLogin(ctx, ann.Login); err != nil || l.User.Guest || l.Home != (store.Home{}) {
		t.Errorf("who is no guest is looked up as %+v, %v", l, err)
	}
	if all, err := s.Guests(ctx, ann.Tenant); err != nil || !slices.Equal(all, []store.Guest{{Login: "guest@one.test", Home: "user@far.test", Cell: "west"}}) {
		t.Errorf("guests: %+v, %v", all, err)
	}
	for what, err := range map[string]error{
		"password":     s.SetPassword(ctx, guest, storetest.Secret),
		"app password": s.AddAppPassword(ctx, guest, store.AppPassword{Name: "phone", Secret: "x", Protocols: []string{"imap"}}),
		"OTP":          s.SetOTP(ctx, guest, store.OneTimePassword{Algorithm: "sha1", Sequence: 500, Seed: "seed1"}),
		"visit":        s.AddVisit(ctx, guest, store.Visit{Cell: "west", Login: "a@far.test"}),
	} {
		if !errors.Is(err, store.ErrGuest) {
			t.Errorf("a guest's %s: %v", what, err)
		}
	}

	ended := func(by func() error) {
		t.Helper()
		before, since := looked().Standing, "0"
		_, since, err := s.Revocations(ctx, since)
		if err != nil {
			t.Fatal(err)
		}
		if err := by(); err != nil {
			t.Fatal(err)
		}
		revoked, _, err := s.Revocations(ctx, since)
		if err != nil || !slices.ContainsFunc(revoked, func(r store.Revocation) bool { return r.Ends(before) }) {
			t.Errorf("revoked are %+v, %v; want the guest's sessions", revoked, err)
		}
		for _, r := range revoked {
			if r.Account == guest.Account && r.Ends(looked().Standing) {
				t.Errorf("%+v ends what begins after it", r)
			}
		}
	}
	ended(func() error { return s.SetGuestHome(ctx, guest, "other@far.test") })
	ended(func() error { return s.SetRemoteDomain(ctx, "far.test", "north") })
	if l := looked(); l.Home != (store.Home{Login: "other@far.test", Cell: "north"}) {
		t.Errorf("with a home that has moved: %+v", l)
	}
	standing := looked().Standing
	if err := s.SetRemoteDomain(ctx, "far.test", "north"); err != nil {
		t.Fatal(err)
	}
	if looked().Standing != standing {
		t.Error("sessions of guests end where their home's domain stays")
	}
	ended(func() error { return s.DeleteRemoteDomain(ctx, "far.test") })
	if l := looked(); l.Home.Cell != "" || !l.User.Guest {
		t.Errorf("with a home that is in no cell that is known: %+v", l)
	}
	if err := s.SetGuestHome(ctx, ann, "user@far.test"); !errors.As(err, &invalid) {
		t.Errorf("a home of a domain that is gone: %v", err)
	}
	if err := s.SetRemoteDomain(ctx, "far.test", "west"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetGuestHome(ctx, ann, "user@far.test"); !errors.Is(err, store.ErrNoGuest) {
		t.Errorf("a home of who is no guest: %v", err)
	}
	if err := s.DeleteAccount(ctx, guest); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Guests(ctx, ann.Tenant); err != nil || len(all) > 0 {
		t.Errorf("guests after it is deleted: %+v, %v", all, err)
	}
	again := storetest.Account(t, s, guest.Login)
	if l, err := s.LookupLogin(ctx, again.Login); err != nil || l.User.Guest {
		t.Errorf("an account of the same login is a guest: %+v, %v", l, err)
	}
}

func TestVisits(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	u := storetest.Account(t, s, "ann@one.test")
	visits := func(of store.User, want ...store.Visit) {
		t.Helper()
		if all, err := s.Visits(ctx, of); err != nil || !slices.Equal(all, want) {
			t.Errorf("visits of %+v: %+v, %v, want %+v", of, all, err, want)
		}
	}
	visits(u)
	west, east := store.Visit{Cell: "west", Login: "ann@two.test"}, store.Visit{Cell: "east", Login: "ann@three.test"}
	for _, v := range []store.Visit{west, {Cell: "east", Login: "Ann@THREE.test"}} {
		if err := s.AddVisit(ctx, u, v); err != nil {
			t.Fatal(err)
		}
	}
	visits(u, east, west)
	as := u
	as.Actor = "admin@one.test"
	visits(as)
	as = u
	as.Anonymous = true
	visits(as)
	var invalid *store.InvalidError
	for _, v := range []store.Visit{{Cell: "West", Login: "a@two.test"}, {Cell: "", Login: "a@two.test"}, {Cell: "south", Login: "a b@two.test"}, {Cell: "south"}} {
		if err := s.AddVisit(ctx, u, v); !errors.As(err, &invalid) {
			t.Errorf("the visit %+v: %v", v, err)
		}
	}
	if err := s.AddVisit(ctx, u, store.Visit{Cell: "west", Login: "other@two.test"}); !errors.Is(err, store.ErrVisitTaken) {
		t.Errorf("another visit to the same cell: %v", err)
	}
	for _, want := range []error{nil, store.ErrNoVisit} {
		if err := s.RemoveVisit(ctx, u, "west"); !errors.Is(err, want) {
			t.Errorf("remove: %v, want %v", err, want)
		}
	}
	visits(u, east)
	if err := s.DeleteAccount(ctx, u); err != nil {
		t.Fatal(err)
	}
	visits(u)
}

// What is shared with a guest is shared by its name or a group: "anyone" is who the tenant's own are.
func TestGuestIsNotAnyone(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	ann := storetest.Account(t, s, "ann@one.test")
	if err := s.SetAutoSubscribe(ctx, ann.Tenant, true); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRemoteDomain(ctx, "far.test", "west"); err != nil {
		t.Fatal(err)
	}
	made, err := s.CreateGuest(ctx, "guest@one.test", "user@far.test")
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.LookupLogin(ctx, made.Login)
	if err != nil {
		t.Fatal(err)
	}
	guest := found.User
	grant(t, s, ann, "Sent", acl.Anyone, "lrs")
	grant(t, s, ann, "Drafts", acl.Identifier(guest.Login), "lr")
	const sent, drafts = "Other Users/ann@one.test/Sent", "Other Users/ann@one.test/Drafts"
	if _, err := s.Open(ctx, guest, sent, acl.Read); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("what is anyone's: %v", err)
	}
	if _, err := s.Open(ctx, guest, drafts, acl.Read); err != nil {
		t.Errorf("what is the guest's: %v", err)
	}
	entries, err := s.List(ctx, guest)
	if err != nil {
		t.Fatal(err)
	}
	subscribed := make(map[string]bool)
	for _, e := range entries {
		subscribed[e.Name] = e.Subscribed
	}
	if _, ok := subscribed[sent]; ok || !subscribed[drafts] {
		t.Errorf("it sees, subscribed to or not, %v", subscribed)
	}
}

// Another account that gets a login is not who had it, and a guest is whoever came first, until it is said that it is another one.
func TestGuestIsOneAccount(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	was := looked(t, s, storetest.Account(t, s, "ann@one.test").Login)
	if again := looked(t, s, was.User.Login); was.User.Subject == "" || again.User.Subject != was.User.Subject {
		t.Errorf("it is %q, and then %q", was.User.Subject, again.User.Subject)
	}
	if err := s.DeleteAccount(ctx, was.User); err != nil {
		t.Fatal(err)
	}
	if is := looked(t, s, storetest.Account(t, s, "ann@one.test").Login); is.User.Subject == "" || is.User.Subject == was.User.Subject {
		t.Errorf("who has got the login of %q is %q", was.User.Subject, is.User.Subject)
	}

	if err := s.SetRemoteDomain(ctx, "far.test", "west"); err != nil {
		t.Fatal(err)
	}
	const home = "user@far.test"
	made, err := s.CreateGuest(ctx, "guest@one.test", home)
	if err != nil {
		t.Fatal(err)
	}
	guest := made.User()
	meets := func(login, subject string, want error) {
		t.Helper()
		if err := s.MeetGuest(ctx, guest, store.Home{Login: login, Subject: subject}); !errors.Is(err, want) {
			t.Errorf("%s of %s comes: %v, want %v", subject, login, err, want)
		}
	}
	listed := func(subject string, refused bool) time.Time {
		t.Helper()
		all, err := s.Guests(ctx, guest.Tenant)
		if err != nil || len(all) != 1 || all[0].Subject != subject || (all[0].Refused != nil) != refused {
			t.Fatalf("guests are %+v, %v, want %q, another one refused: %t", all, err, subject, refused)
		}
		if kept := looked(t, s, guest.Login).Home.Subject; kept != subject {
			t.Errorf("it is looked up as %q, want %q", kept, subject)
		}
		if refused {
			return *all[0].Refused
		}
		return time.Time{}
	}
	listed("", false)
	meets("other@far.test", "1.1", store.ErrOtherSubject) // the home is another since it was looked up
	listed("", false)
	var first [2]error
	var both sync.WaitGroup
	for i := range first { // the first of two at once is who it is, and the other one is told so
		both.Go(func() {
			first[i] = s.MeetGuest(ctx, guest, store.Home{Login: home, Subject: []string{"1.1", "2.2"}[i]})
		})
	}
	both.Wait()
	came, other := "1.1", "2.2"
	if first[0] != nil {
		came, other, first[0], first[1] = other, came, first[1], first[0]
	}
	if first[0] != nil || !errors.Is(first[1], store.ErrOtherSubject) || !errors.Is(first[1], store.ErrActAs) {
		t.Fatalf("two at once: %v", first)
	}
	at := listed(came, true)
	meets(home, came, nil)
	meets(home, other, store.ErrOtherSubject)
	if again := listed(came, true); !again.Equal(at) {
		t.Errorf("it is noted again within the hour: %v, and before %v", again, at)
	}
	if err := s.SetGuestHome(ctx, guest, home); err != nil {
		t.Fatal(err)
	}
	listed("", false)
	meets(home, other, nil)
	meets(home, came, store.ErrOtherSubject)
	listed(other, true)
}

func looked(t *testing.T, s *store.Store, login string) store.Login {
	t.Helper()
	found, err := s.LookupLogin(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A guest has their mail at home.
func TestGuestGetsNoMail(t *testing.T) {
	ctx := t.Context()
	s := storetest.New(t)
	for _, login := range []string{"ann@one.test", "rest@one.test"} {
		storetest.Account(t, s, login)
	}
	if err := s.SetRemoteDomain(ctx, "far.test", "west"); err != nil {
		t.Fatal(err)
	}
	made, err := s.CreateGuest(ctx, "guest@one.test", "user@far.test")
	if err != nil {
		t.Fatal(err)
	}
	for alias, targets := range map[string][]string{"only@one.test": {made.Login}, "both@one.test": {made.Login, "ann@one.test"}} {
		if _, err := s.CreateAlias(ctx, alias, targets...); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetCatchAll(ctx, "one.test", "rest@one.test"); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{made.Login, "guest+Other@one.test", "only@one.test"} {
		if to, err := resolve(t, s, address); !errors.Is(err, store.ErrNoAccount) {
			t.Errorf("mail to %s goes to %q, %v", address, to, err)
		}
	}
	if to, err := resolve(t, s, "both@one.test"); err != nil || !slices.Equal(to, []string{"ann@one.test INBOX"}) {
		t.Errorf("mail to a guest and another goes to %q, %v", to, err)
	}
	if err := s.SetCatchAll(ctx, "one.test", made.Login); err != nil {
		t.Fatal(err)
	}
	if to, err := resolve(t, s, "nobody@one.test"); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("what the guest would catch goes to %q, %v", to, err)
	}
}
