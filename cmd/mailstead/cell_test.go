package main

import "testing"

func TestCell(t *testing.T) {
	s := newSite(t)
	s.want("tenant create one", "")
	s.want("domain create one.test --tenant one", "")
	s.refuse("cell set two.test east", "there are no other cells: cells.others is empty")
	s.environ = append(s.environ, "MAILSTEAD_CELLS_NAME=west", "MAILSTEAD_CELLS_OTHERS=east=imap.east.test,north=imap.north.test", "MAILSTEAD_CELLS_SECRET=0123456789abcdef0123456789abcdef")
	s.want("cell list --json", "[]")
	s.refuse("cell set two.test south", "cell south: want one of east, north")
	s.refuse("cell set one.test east", "domain one.test: the domain exists")
	s.refuse("cell set not_a_domain east", "domain")
	s.want("cell set Two.test north", "Domain Two.test lives in cell north.")
	s.want("cell set two.test east", "Domain two.test lives in cell east.")
	s.want("cell list", "two.test  east")
	s.want("cell list --json", `"cell": "east"`)
	login, err := s.store.LookupLogin(t.Context(), "a@two.test")
	if err == nil || login.Cell != "east" {
		t.Errorf("a login of the domain: %+v, %v", login, err)
	}
	s.refuse("domain create two.test --tenant one", "domain two.test: the domain is noted to live in another cell, which has to be forgotten first")
	s.want("cell delete two.test", "")
	s.refuse("cell delete two.test", "domain two.test: no such domain")
	s.want("domain create two.test --tenant one", "")
	s.refuse("cell set two.test east", "domain two.test: the domain exists") // what is here is not there
	s.want("cell list --json", "[]")
}
