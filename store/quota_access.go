package store

import (
	"context"
	"errors"

	"mailstead.dev/acl"
	"mailstead.dev/quota"
	"mailstead.dev/store/id"
)

// MailboxQuota returns the quota roots of a mailbox: those of its owner, or of the user where there is none of the name.
// What is used is told only to those who may read there, for whom counts is true (RFC 9208 section 6). ErrNotExist.
func (s *Store) MailboxQuota(ctx context.Context, u User, mailbox string) (roots []QuotaRoot, counts bool, err error) {
	owner, rights := u.Account, acl.All
	m, err := s.Open(ctx, u, mailbox, acl.Lookup)
	switch {
	case err == nil:
		owner, rights = m.Owner, m.Rights
	case !errors.Is(err, ErrNotExist) && !errors.Is(err, ErrNoSelect):
		return nil, false, err
	}
	roots, err = s.rootsFor(ctx, u, owner)
	return roots, rights.Has(acl.Read), err
}

// rootsFor are the quota roots of an account, of those that a user may know of: a guest is somebody of another tenant, whom it
// does not concern what this one and its domains use.
func (s *Store) rootsFor(ctx context.Context, u User, account id.Account) ([]QuotaRoot, error) {
	roots, err := s.QuotaRoots(ctx, u.Tenant, account)
	if err == nil && u.Guest {
		roots = roots[:1]
	}
	return roots, err
}

// FindQuota finds a quota root by its name: of the user's own, or of those that they administer; ErrNoQuotaRoot.
func (s *Store) FindQuota(ctx context.Context, u User, name string) (QuotaRoot, error) {
	own, err := s.rootsFor(ctx, u, u.Account)
	if err != nil {
		return QuotaRoot{}, err
	}
	for _, r := range own {
		if r.String() == name {
			return r, nil
		}
	}
	root, ok := quota.ParseRoot(name)
	if !ok || u.ReadOnly || u.Role == RoleNone {
		return QuotaRoot{}, ErrNoQuotaRoot
	}
	r, err := s.AnyQuota(ctx, root)
	if err != nil {
		return QuotaRoot{}, err
	}
	sees, _, err := s.overQuota(ctx, u, r)
	if err == nil && !sees {
		err = ErrNoQuotaRoot
	}
	return r, err
}

// LimitQuota sets all limits of a quota root but the soft ones, as SETQUOTA does: those that are nil are taken away. Limits are set by
// those who administer more than the root: a domain's by its tenant's admins, a tenant's by the platform's. ErrNoQuotaRoot, *acl.DeniedError.
func (s *Store) LimitQuota(ctx context.Context, u User, name string, limits quota.Limits) (QuotaRoot, error) {
	r, err := s.FindQuota(ctx, u, name)
	if err != nil {
		return QuotaRoot{}, err
	}
	_, sets, err := s.overQuota(ctx, u, r)
	if err != nil {
		return QuotaRoot{}, err
	}
	if !sets {
		return QuotaRoot{}, &acl.DeniedError{Missing: acl.Administer}
	}
	return s.ChangeQuota(WithActor(ctx, u.Who()), r, func(t quota.Terms) (quota.Terms, error) {
		t.Limits = limits
		return t, nil
	})
}

// overQuota tells whether the user administers what a quota root is of, and so sees it, and whether they may set its limits.
func (s *Store) overQuota(ctx context.Context, u User, r QuotaRoot) (sees, sets bool, err error) {
	switch r.Level {
	case quota.Account:
		var a Account
		if a, err = s.accountByID(ctx, r.tenant, id.Account(r.id)); err == nil {
			sees, err = s.Administers(ctx, u, a.User())
		}
		return sees, sees, err
	case quota.Domain:
		sees, err = s.AdministersDomain(ctx, u, Domain{Tenant: r.tenant, Name: r.Name})
		return sees, u.AdministersTenant(r.tenant), err
	}
	sees = u.AdministersTenant(r.tenant)
	return sees, sees && u.Role == RolePlatformAdmin, nil
}

// AnyQuota finds a quota root of whatever tenant by its name, for operators; ErrNoQuotaRoot.
func (s *Store) AnyQuota(ctx context.Context, root quota.Root) (QuotaRoot, error) {
	var t id.Tenant
	var err error
	switch root.Level {
	case quota.Account:
		var a Account
		a, err = s.Account(ctx, root.Name)
		t, root.Name = a.Tenant, a.Login
	case quota.Domain:
		var d Domain
		d, err = s.Domain(ctx, root.Name)
		t, root.Name = d.Tenant, d.Name
	default:
		var tenant Tenant
		tenant, err = s.Tenant(ctx, root.Name)
		t = tenant.ID
	}
	var invalid *InvalidError
	if errors.Is(err, ErrNoAccount) || errors.Is(err, ErrNoDomain) || errors.Is(err, ErrNoTenant) || errors.As(err, &invalid) {
		return QuotaRoot{}, ErrNoQuotaRoot
	}
	if err != nil {
		return QuotaRoot{}, err
	}
	return s.QuotaRoot(ctx, t, root)
}
