package store

import (
	"context"
	"errors"

	"mailstead.dev/acl"
	"mailstead.dev/quota"
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
	roots, err = s.QuotaRoots(ctx, u.Tenant, owner)
	return roots, rights.Has(acl.Read), err
}

// FindQuota finds a quota root by its name: of the user's own three, or of those that they administer; ErrNoQuotaRoot.
func (s *Store) FindQuota(ctx context.Context, u User, name string) (QuotaRoot, error) {
	own, err := s.QuotaRoots(ctx, u.Tenant, u.Account)
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
	r, sees, _, err := s.administeredQuota(ctx, u, root)
	if err == nil && !sees {
		err = ErrNoQuotaRoot
	}
	return r, err
}

// LimitQuota sets all limits of a quota root, as SETQUOTA does: those that are nil are taken away. Soft ones stay. Limits are set by
// those who administer more than the root: a domain's by its tenant's admins, a tenant's by the platform's. ErrNoQuotaRoot, *acl.DeniedError.
func (s *Store) LimitQuota(ctx context.Context, u User, name string, limits quota.Limits) (QuotaRoot, error) {
	r, err := s.FindQuota(ctx, u, name)
	if err != nil {
		return QuotaRoot{}, err
	}
	_, _, sets, err := s.administeredQuota(ctx, u, r.Root)
	if err != nil {
		return QuotaRoot{}, err
	}
	if !sets {
		return QuotaRoot{}, &acl.DeniedError{Missing: acl.Administer}
	}
	return s.ChangeQuota(ctx, r, func(set *QuotaSettings) error {
		set.Hard = limits
		return nil
	})
}

// administeredQuota finds a quota root of any tenant, and tells whether the user may see it, and may set its limits.
func (s *Store) administeredQuota(ctx context.Context, u User, root quota.Root) (r QuotaRoot, sees, sets bool, err error) {
	t := u.Tenant
	switch root.Level {
	case quota.Account:
		var a Account
		if a, err = s.Account(ctx, root.Name); err == nil {
			t = a.Tenant
			sees, err = s.Administers(ctx, u, a.User())
			sets = sees
		}
	case quota.Domain:
		var d Domain
		if d, err = s.Domain(ctx, root.Name); err == nil {
			t = d.Tenant
			sees, err = s.AdministersDomain(ctx, u, d)
			sets = u.AdministersTenant(t)
		}
	default:
		var tenant Tenant
		if tenant, err = s.Tenant(ctx, root.Name); err == nil {
			t = tenant.ID
			sees = u.AdministersTenant(t)
			sets = sees && u.Role == RolePlatformAdmin
		}
	}
	var invalid *InvalidError
	if errors.Is(err, ErrNoAccount) || errors.Is(err, ErrNoDomain) || errors.Is(err, ErrNoTenant) || errors.As(err, &invalid) {
		err = ErrNoQuotaRoot
	}
	if err != nil || !sees {
		return r, sees, sets, err
	}
	r, err = s.QuotaRoot(ctx, t, root)
	return r, sees, sets, err
}
