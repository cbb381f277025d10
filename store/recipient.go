package store

import (
	"context"
	"fmt"
	"strings"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
)

const (
	maxAliasDepth   = 10   // aliases of aliases
	maxAliasTargets = 1000 // addresses that one recipient may stand for
)

// Recipient is where an address delivers to.
type Recipient struct {
	User    User
	Detail  string   // of user+detail@domain
	Mailbox *Mailbox // the folder that Detail names, if there is one, else INBOX
}

// ResolveRecipient maps an address to accounts. What is there comes first: an
// account, an alias, then both without the +detail of the address, then the
// domain's catch-all. An alias hands its detail on to those it stands for.
// Targets that lead to nobody, to a guest, to another tenant or round in a circle are left out.
//
// What is delivered to user+detail is posted by that user: it goes to the folder of the name if they have
// the right to (RFC 4314 section 2.1), be it their own, another's or the tenant's, else to their INBOX, which takes it in any case.
//
// ErrNoAccount when there is nobody, or a guest, who gets no mail, also not by the catch-all; ErrDisabled when nobody who may get mail.
func (s *Store) ResolveRecipient(ctx context.Context, address string) ([]Recipient, error) {
	first, err := parseRecipient(address)
	if err != nil {
		return nil, ErrNoAccount
	}
	r := resolution{store: s, seen: map[string]bool{first.address(): true}}
	next := []wanted{first}
	for range maxAliasDepth {
		if next, err = r.round(ctx, next); err != nil {
			return nil, err
		}
		switch {
		case len(next) == 0:
			return r.result()
		case len(r.seen) > maxAliasTargets:
			return nil, fmt.Errorf("%w: an alias of tenant %d stands for more than %d addresses", ErrUnavailable, r.tenant, maxAliasTargets)
		}
	}
	return nil, fmt.Errorf("%w: aliases of aliases more than %d deep in tenant %d", ErrUnavailable, maxAliasDepth, r.tenant)
}

// wanted is an address that is being resolved.
type wanted struct {
	local, domain string // local as given, its case kept
	detail        string // handed on by an alias
}

func parseRecipient(address string) (wanted, error) {
	local, domain, err := normalizeAddress(address)
	return wanted{local: local, domain: domain}, err
}

func (w wanted) address() string { return fold(w.local) + "@" + w.domain }

// question is what is asked of the database for a wanted address, best first.
type question struct {
	address string
	detail  string
}

func (w wanted) questions() []question {
	questions := []question{{w.address(), w.detail}}
	if user, detail, ok := strings.Cut(w.local, "+"); ok && user != "" {
		questions = append(questions, question{fold(user) + "@" + w.domain, detail})
	}
	return append(questions, question{"@" + w.domain, w.detail})
}

// resolution is the state of resolving one address.
type resolution struct {
	store    *Store
	tenant   id.Tenant
	seen     map[string]bool
	found    []Recipient
	disabled bool // somebody was found who may get no mail
}

func (r *resolution) result() ([]Recipient, error) {
	switch {
	case len(r.found) > 0:
		return r.found, nil
	case r.disabled:
		return nil, ErrDisabled
	}
	return nil, ErrNoAccount
}

// resolved is a row of resolve_addresses.
type resolved struct {
	AskedAt           int
	TenantID          id.Tenant
	AccountID         *id.Account
	Login             *string
	Disabled          bool
	Guest             bool
	Targets           []string
	InboxID           *id.Mailbox
	InboxUIDValidity  *int64
	InboxObjectID     *id.Object
	FolderID          *id.Mailbox
	FolderName        *string
	FolderUIDValidity *int64
	FolderObjectID    *id.Object
}

// round resolves addresses, and returns those that aliases among them lead to.
func (r *resolution) round(ctx context.Context, addresses []wanted) ([]wanted, error) {
	const query = `
		SELECT asked_at, tenant_id, account_id, login, disabled, guest, targets,
		       inbox_id, inbox_uidvalidity, inbox_objectid,
		       folder_id, folder_name, folder_uidvalidity, folder_objectid
		FROM resolve_addresses($1, $2, $3)
		ORDER BY asked_at, account_id NULLS LAST`

	var names []string
	var folders []*string
	var details []string
	var of []int // which of addresses a question is for
	for i, w := range addresses {
		for _, q := range w.questions() {
			names, details, of = append(names, q.address), append(details, q.detail), append(of, i)
			folders = append(folders, folderOf(q.detail))
		}
	}
	rows, err := lookup[resolved](ctx, r.store, query, names, folders, len(addresses) == 1)
	if err != nil {
		return nil, err
	}
	var next []wanted
	answered := make([]bool, len(addresses))
	for _, row := range rows {
		at := row.AskedAt - 1
		if answered[of[at]] { // by something better
			continue
		}
		answered[of[at]] = true
		if r.tenant == 0 {
			r.tenant = row.TenantID
		}
		if row.TenantID != r.tenant {
			r.store.log.WarnContext(ctx, "alias leads to another tenant", "tenant", r.tenant)
			continue
		}
		if row.AccountID == nil {
			next = append(next, r.follow(row.Targets, details[at])...)
		} else if err := r.add(ctx, row, details[at]); err != nil {
			return nil, err
		}
	}
	return next, nil
}

func folderOf(detail string) *string {
	if detail == "" {
		return nil
	}
	name := canonicalName(detail)
	return &name
}

// follow returns the targets of an alias that have not been looked at.
func (r *resolution) follow(targets []string, detail string) []wanted {
	var next []wanted
	for _, target := range targets {
		w, err := parseRecipient(target)
		if err != nil {
			continue // it was checked when the alias was made
		}
		w.detail = detail
		if !r.seen[w.address()] {
			r.seen[w.address()] = true
			next = append(next, w)
		}
	}
	return next
}

// add adds an account, once for each mailbox.
func (r *resolution) add(ctx context.Context, row resolved, detail string) error {
	switch {
	case row.Guest: // whose user has their mail at home, and would not look for it here
		return nil
	case row.Disabled:
		r.disabled = true
		return nil
	case row.InboxID == nil:
		return fmt.Errorf("%w: account %d has no INBOX", ErrUnavailable, *row.AccountID)
	}
	m := &Mailbox{Tenant: row.TenantID, Owner: *row.AccountID, Rights: acl.All, store: r.store}
	if row.FolderID != nil {
		m.ID, m.Name, m.UIDValidity, m.ObjectID = *row.FolderID, *row.FolderName, uint32(*row.FolderUIDValidity), *row.FolderObjectID
	} else {
		m.ID, m.Name, m.UIDValidity, m.ObjectID = *row.InboxID, inbox, uint32(*row.InboxUIDValidity), *row.InboxObjectID
	}
	user := User{Tenant: row.TenantID, Account: *row.AccountID, Login: *row.Login}
	if p, err := user.path(detail); err == nil && p.space != personal && p.name != "" {
		found, err := r.store.foreign(ctx, user, []path{p})
		if err != nil {
			return err
		}
		if to, ok := found[0]; ok && to.Rights.Has(acl.Post) {
			m = to.Mailbox
		}
	}
	for _, have := range r.found {
		if have.Mailbox.ID == m.ID {
			return nil
		}
	}
	r.found = append(r.found, Recipient{User: user, Detail: detail, Mailbox: m})
	return nil
}
