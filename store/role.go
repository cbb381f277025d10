package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Role is what an account may do beyond its own mail.
type Role uint8

// The roles. Support looks at mail and changes nothing; admins administer.
// Those of the platform reach into all tenants, the others into their own.
const (
	RoleNone Role = iota
	RoleSupport
	RoleDomainAdmin // the accounts of some domains of the tenant
	RoleTenantAdmin
	RolePlatformSupport
	RolePlatformAdmin
)

var roleNames = [...]string{"none", "support", "domain-admin", "tenant-admin", "platform-support", "platform-admin"}

func (r Role) String() string { return roleNames[r] }

// ParseRole reads what String writes.
func ParseRole(name string) (Role, error) {
	i := slices.Index(roleNames[:], name)
	if i < 0 {
		return RoleNone, &InvalidError{"role", name, "want one of " + strings.Join(roleNames[:], ", ")}
	}
	return Role(i), nil
}

// MarshalText writes the role by its name.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRole(string(text))
	return err
}

// Scan reads the role as the database has it, by its name.
func (r *Role) Scan(value any) (err error) {
	name, ok := value.(string)
	if !ok {
		return fmt.Errorf("role %v: want text", value)
	}
	*r, err = ParseRole(name)
	return err
}

// SetRole gives an account a role; domains, of its tenant, are those that a
// domain admin administers. It ends the account's sessions.
func (s *Store) SetRole(ctx context.Context, u User, role Role, domains ...string) error {
	const (
		set    = `UPDATE account SET role = $3 WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting`
		forget = `DELETE FROM domain_admin WHERE tenant_id = $1 AND account_id = $2`
		add    = `INSERT INTO domain_admin (tenant_id, domain_id, account_id)
			SELECT tenant_id, domain_id, $2 FROM domain WHERE tenant_id = $1 AND name = $3
			ON CONFLICT DO NOTHING`
	)
	if (role == RoleDomainAdmin) != (len(domains) > 0) {
		return &InvalidError{"role", role.String(), "domains are a domain admin's, who has one at least"}
	}
	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, set, u.Tenant, u.Account, role.String())
		if err := affected(tag, err, ErrNoAccount); err != nil {
			return err
		}
		if err := revokeAccount(ctx, tx, u); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, forget, u.Tenant, u.Account); err != nil {
			return err
		}
		for _, name := range domains {
			name, err := normalizeDomain(name)
			if err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, add, u.Tenant, u.Account, name)
			if err := affected(tag, err, ErrNoDomain); err != nil {
				return fmt.Errorf("domain %s: %w", name, err)
			}
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "account.role", Object: u.Login, Detail: map[string]any{"role": role, "domains": domains}})
	})
}

// Administers tells whether u may administer an account: set its limits, act as its user.
// Nobody administers who has a role themself, but for those who can take it from them.
func (s *Store) Administers(ctx context.Context, u User, account User) (bool, error) {
	if u.AdministersTenant(account.Tenant) {
		return account.Role < u.Role, nil
	}
	if u.ReadOnly || u.Role != RoleDomainAdmin || u.Tenant != account.Tenant || account.Role != RoleNone {
		return false, nil
	}
	domains, err := s.administered(ctx, u)
	return domains[domainOf(account.Login)], err
}

// AdministersDomain tells whether u may administer a domain: set its limits, say.
func (s *Store) AdministersDomain(ctx context.Context, u User, d Domain) (bool, error) {
	if u.AdministersTenant(d.Tenant) {
		return true, nil
	}
	if u.ReadOnly || u.Role != RoleDomainAdmin || u.Tenant != d.Tenant {
		return false, nil
	}
	domains, err := s.administered(ctx, u)
	return domains[d.Name], err
}

// AdministersAny tells whether the user is an admin of anything.
func (u User) AdministersAny() bool {
	return !u.ReadOnly && (u.Role == RoleDomainAdmin || u.Role == RoleTenantAdmin || u.Role == RolePlatformAdmin)
}

// AdministersTenant tells whether u may administer a tenant.
func (u User) AdministersTenant(t id.Tenant) bool {
	return !u.ReadOnly && (u.Role == RolePlatformAdmin || u.Role == RoleTenantAdmin && u.Tenant == t)
}

// administered returns the domains that a domain admin administers.
func (s *Store) administered(ctx context.Context, u User) (map[string]bool, error) {
	const query = `
		SELECT d.name
		FROM domain_admin a
		JOIN domain d ON d.tenant_id = a.tenant_id AND d.domain_id = a.domain_id
		WHERE a.tenant_id = $1 AND a.account_id = $2`

	domains := make(map[string]bool)
	err := s.read(ctx, u.Tenant, func(b *pgx.Batch) {
		b.Queue(query, u.Tenant, u.Account).Query(func(rows pgx.Rows) error {
			var name string
			_, err := pgx.ForEachRow(rows, []any{&name}, func() error { domains[name] = true; return nil })
			return err
		})
	})
	return domains, err
}
