package imapd

// GETACL, SETACL, DELETEACL, LISTRIGHTS and MYRIGHTS.
//
// RFC 4314 section 3; the letters "c" and "d" of RFC 2086: section 2.1.1. What a list means
// is decided in package acl, and who may read or change one in store: a mailbox that a user
// may not look up is answered as one that is not there (section 6).

import (
	"context"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// sharer is what these commands need of the store.
type sharer interface {
	ACL(ctx context.Context, u store.User, name string) ([]acl.Entry, error)
	SetACL(ctx context.Context, u store.User, name string, of acl.Identifier, change acl.Modification) error
	DeleteACL(ctx context.Context, u store.User, name string, of acl.Identifier) error
	OwnerLogin(ctx context.Context, u store.User, name string) (string, error)
	MyRights(ctx context.Context, u store.User, name string) (acl.Rights, error)
}

var _ sharer = (*store.Store)(nil)

// getacl = "GETACL" SP mailbox
func readGetACL(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	return do(func(ctx context.Context, s *session) error {
		list, err := s.store.ACL(ctx, s.user, name)
		if err != nil {
			return err
		}
		s.writeACL(name, list)
		return nil
	}), d.End()
}

// acl-data = "ACL" SP mailbox *(SP identifier SP rights)
func (s *session) writeACL(name string, entries []acl.Entry) {
	s.enc.Raw("* ACL ").Mailbox(name)
	for _, e := range entries {
		s.enc.SP().Bytes(wire.AppendAString(nil, string(e.Identifier))).SP().Bytes(wire.AppendAString(nil, e.Rights.Announced()))
	}
	s.enc.CRLF()
}

// setacl     = "SETACL" SP mailbox SP identifier SP mod-rights
// mod-rights = astring
func readSetACL(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	d.SP()
	identifier, _ := readIdentifier(d)
	d.SP()
	mod, err := acl.ParseModification(d.AString())
	if err != nil {
		d.Fail("%s", err)
	}
	return do(func(ctx context.Context, s *session) error {
		return s.store.SetACL(ctx, s.user, name, identifier, mod)
	}), d.End()
}

// deleteacl = "DELETEACL" SP mailbox SP identifier
//
// Without an entry an owner has all rights.
func readDeleteACL(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	d.SP()
	identifier, _ := readIdentifier(d)
	return do(func(ctx context.Context, s *session) error {
		return s.store.DeleteACL(ctx, s.user, name, identifier)
	}), d.End()
}

// identifier = astring
//
// as is how the client spells it.
func readIdentifier(d *wire.Decoder) (i acl.Identifier, as string) {
	as = d.AString()
	i, err := acl.ParseIdentifier(as)
	if err != nil {
		d.Fail("%.60q can name nobody", as)
	}
	return i, as
}

// listrights = "LISTRIGHTS" SP mailbox SP identifier
func readListRights(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	d.SP()
	identifier, as := readIdentifier(d)
	return do(func(ctx context.Context, s *session) error {
		owner, err := s.store.OwnerLogin(ctx, s.user, name)
		if err != nil {
			return err
		}
		s.writeListRights(name, as, acl.Required(owner, identifier), acl.Optional(owner, identifier))
		return nil
	}), d.End()
}

// listrights-data = "LISTRIGHTS" SP mailbox SP identifier SP rights *(SP rights)
//
// No rights are tied, so each that can be granted stands alone, "c" and "d" among them.
func (s *session) writeListRights(name, identifier string, required, optional acl.Rights) {
	s.enc.Raw("* LISTRIGHTS ").Mailbox(name).SP().Bytes(wire.AppendAString(nil, identifier)).SP().Bytes(wire.AppendAString(nil, required.Announced()))
	for _, letter := range optional.Announced() {
		s.enc.SP().Raw(string(letter))
	}
	s.enc.CRLF()
}

// myrights = "MYRIGHTS" SP mailbox
func readMyRights(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	return do(func(ctx context.Context, s *session) error {
		rights, err := s.store.MyRights(ctx, s.user, name)
		if err != nil {
			return err
		}
		s.writeMyRights(name, rights)
		return nil
	}), d.End()
}

// myrights-data = "MYRIGHTS" SP mailbox SP rights
func (s *session) writeMyRights(name string, r acl.Rights) {
	s.enc.Raw("* MYRIGHTS ").Mailbox(name).SP().Bytes(wire.AppendAString(nil, r.Announced())).CRLF()
}
