package main

import (
	"errors"
	"testing"

	"mailstead.dev/store"
)

func TestGuestsAndVisits(t *testing.T) {
	s := newSite(t)
	s.want("tenant create one", "")
	s.want("domain create one.test --tenant one", "")
	s.want("account create ann@one.test --no-password", "")
	s.refuse("visit add ann@one.test east guest@two.test", "there are no other cells: cells.others is empty")
	s.environ = append(s.environ, "MAILSTEAD_CELLS_NAME=west", "MAILSTEAD_CELLS_OTHERS=east=imap.east.test", "MAILSTEAD_CELLS_SECRET=0123456789abcdef0123456789abcdef")
	s.want("guest list --json", "[]")
	s.refuse("guest create guest@one.test", "home")
	s.refuse("guest create guest@one.test --home user@two.test", "home \"user@two.test\": its domain is not known to live in another cell")
	s.want("cell set two.test east", "")
	s.want("guest create guest@one.test --home User@two.test", "Guest guest@one.test made, who is user@two.test of cell east.")
	s.want("guest list --json", `"home": "user@two.test"`)
	s.want("guest list", "guest@one.test  user@two.test  east")
	guest, err := s.store.LookupLogin(t.Context(), "guest@one.test")
	if err != nil {
		t.Fatal(err)
	}
	meets := func(subject string, want error) {
		t.Helper()
		if err := s.store.MeetGuest(t.Context(), guest.User, store.Home{Login: "user@two.test", Subject: subject}); !errors.Is(err, want) {
			t.Fatalf("%s comes: %v, want %v", subject, err, want)
		}
	}
	s.want("guest list --json", `"refused": null`)
	meets("7.1", nil)
	s.want("guest list --json", `"subject": "7.1"`)
	meets("8.2", store.ErrOtherSubject)
	s.want("guest list", "east  7.1")
	s.want("guest list --json", `"refused": "2`)
	s.want("guest home guest@one.test user@two.test", "Guest guest@one.test is user@two.test of cell east.")
	s.want("guest list --json", `"refused": null`)
	meets("8.2", nil)
	s.want("guest home guest@one.test other@two.test", "Guest guest@one.test is other@two.test of cell east.")
	s.refuse("guest home ann@one.test other@two.test", "guest ann@one.test: no such guest")
	s.refuse("account passwd guest@one.test --no-password", "the account is a guest: its passwords are those of its home")
	s.refuse("account app-password add guest@one.test phone", "the account is a guest")
	s.want("audit list one", "guest.home")
	s.want("account show guest@one.test", "that of other@two.test")
	s.want("account show ann@one.test", "none: nobody can log in")

	s.want("visit list ann@one.test --json", "[]")
	s.refuse("visit add ann@one.test south guest@two.test", "cell south: want one of east")
	s.refuse("visit add guest@one.test east guest@two.test", "the account is a guest")
	s.want("visit add ann@one.test east Guest@two.test", "In cell east, ann@one.test is guest@two.test.")
	s.refuse("visit add ann@one.test east other@two.test", "the account visits that cell already")
	s.want("visit list ann@one.test", "east  guest@two.test")
	s.want("visit list ann@one.test --json", `"guest": "guest@two.test"`)
	s.want("visit remove ann@one.test east", "")
	s.refuse("visit remove ann@one.test east", "no such visit")

	s.refuse("guest delete ann@one.test --yes", "guest ann@one.test: no such guest")
	s.want("guest delete guest@one.test --yes", "Guest guest@one.test is gone.")
	s.want("guest list --json", "[]")
}
