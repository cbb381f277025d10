package main

import "testing"

func TestSharingCommands(t *testing.T) {
	s := newSite(t)
	for _, line := range []string{
		"tenant create acme", "domain create acme.test --tenant acme",
		"account create ann@acme.test --generate", "account create bob@acme.test --generate",
	} {
		s.want(line, "")
	}
	s.want("group create Staff --tenant acme", "group:staff")
	s.refuse("group create staff --tenant acme", "a group of that name exists")
	s.want("group add bob@acme.test staff", "bob@acme.test is in staff.")
	s.refuse("group add bob@acme.test nobody", "no such group")
	s.want("group list", "bob@acme.test")

	s.want("acl set ann@acme.test INBOX group:staff lrs", "group:staff")
	s.want("acl set ann@acme.test INBOX anyone +l", "anyone")
	s.refuse("acl set ann@acme.test INBOX eve@acme.test lr", "no such user or group")
	s.refuse("acl set ann@acme.test INBOX anyone lq", "right")
	s.want("acl list ann@acme.test INBOX --json", `"lrswipkxtea"`)
	s.want("acl delete ann@acme.test INBOX anyone", "group:staff")

	s.want("shared auto-subscribe acme", "subscribed")
	s.want("shared create acme Support", "Shared/Support made.")
	s.want("acl set shared:acme Support group:staff lrp", "lrp")
	s.want("shared list acme", "Support")
	s.want("mailbox list shared:acme", "Support")
	s.want("mailbox dump shared:acme Support", "rights of the owner")
	s.want("account show shared:acme", "messages")
	s.want("shared delete acme Support", "gone")
	s.want("mailbox undelete shared:acme Support", "Support")

	s.want("group remove bob@acme.test staff", "not in staff")
	s.want("group delete staff --tenant acme --yes", "gone")
	s.want("fsck --tenant acme", "")
	s.want("tenant delete acme --yes", "")
}
