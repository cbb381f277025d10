package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// Account is a mail account, with what it holds.
type Account struct {
	ID           id.Account `db:"account_id"`
	Tenant       id.Tenant  `db:"tenant_id"`
	Login        string     `db:"login"`
	Role         Role       `db:"role"`
	HasPassword  bool       `db:"has_password"` // without one nobody can log in
	Disabled     bool       `db:"disabled"`     // neither login nor mail
	Deleting     bool       `db:"deleting"`     // DeleteAccount has begun
	Created      time.Time  `db:"created_at"`
	Messages     int64      `db:"messages"`
	Bytes        int64      `db:"bytes"`         // the sum of RFC822.SIZE
	MessageLimit *int64     `db:"message_limit"` // nil: none
	StorageLimit *int64     `db:"storage_limit"` // octets; nil: none
}

// User returns the account as one who acts.
func (a Account) User() User {
	return User{Tenant: a.Tenant, Account: a.ID, Login: a.Login, Role: a.Role}
}

const selectAccount = `
	SELECT a.account_id, a.tenant_id, a.login, a.role, a.password <> '' AS has_password, a.disabled, a.deleting, a.created_at,
	       coalesce(s.messages, 0) AS messages, coalesce(s.bytes, 0) AS bytes, s.message_limit, s.storage_limit
	FROM account a
	LEFT JOIN account_state s ON s.tenant_id = a.tenant_id AND s.account_id = a.account_id`

// NewAccount is an account to be made.
type NewAccount struct {
	Login        string // local@domain, of a domain that exists
	Password     string // PHC string; "" lets nobody in
	MessageLimit *int64 // nil: none
	StorageLimit *int64 // octets; nil: none
	Home         string // of a guest (CreateGuest); "": it is none
	// Mailboxes beside INBOX; nil means DefaultMailboxes, an empty slice none.
	Mailboxes []DefaultMailbox
}

// CreateAccount makes an account with its mailboxes; ErrNoDomain, ErrAddressTaken.
func (s *Store) CreateAccount(ctx context.Context, n NewAccount) (Account, error) {
	made, err := s.createAccounts(ctx, []NewAccount{n})
	if err != nil {
		return Account{}, err
	}
	return s.accountByID(ctx, made[0].Tenant, made[0].Account)
}

// accountsPerTransaction bounds how long CreateAccounts holds a domain.
const accountsPerTransaction = 50

// CreateAccounts makes many accounts of one domain, some at a time: on an error
// those before it have been made.
func (s *Store) CreateAccounts(ctx context.Context, accounts []NewAccount) error {
	for len(accounts) > 0 {
		n := min(len(accounts), accountsPerTransaction)
		if _, err := s.createAccounts(ctx, accounts[:n]); err != nil {
			return err
		}
		accounts = accounts[n:]
	}
	return nil
}

// createAccounts makes accounts of one domain in one transaction.
func (s *Store) createAccounts(ctx context.Context, accounts []NewAccount) ([]User, error) {
	logins := make([]string, len(accounts))
	for i, n := range accounts {
		login, err := newLogin(n.Login)
		if err != nil {
			return nil, err
		}
		if domainOf(login) != domainOf(logins[0]) && i > 0 {
			return nil, &InvalidError{"account", n.Login, "it is of another domain than the first"}
		}
		logins[i] = login
	}
	t, domain, err := s.findDomain(ctx, domainOf(logins[0]))
	if err != nil {
		return nil, err
	}
	of := func(login string, err error) error {
		if len(accounts) == 1 { // which the caller knows, and may log an error that is nobody's to know
			return err
		}
		return fmt.Errorf("account %s: %w", login, err)
	}
	var made []User
	err = s.transactAllSlots(ctx, t, func(tx pgx.Tx) error { // for the first account of a slot makes it
		made = made[:0]
		if err := lockTenant(ctx, tx, t); err != nil {
			return err
		}
		if err := lockDomain(ctx, tx, t, domain); err != nil {
			return err
		}
		for i, n := range accounts {
			account, err := createAccount(ctx, tx, t, domain, logins[i], n)
			if err != nil {
				return of(logins[i], unique(err, ErrAddressTaken))
			}
			made = append(made, User{Tenant: t, Account: account, Login: logins[i]})
		}
		for i, u := range made { // at last, so that others wait for the slots no longer than they must
			if err := chargeNames(ctx, tx, u, 1+len(accounts[i].mailboxes()), 0); err != nil {
				return of(u.Login, changeError(err))
			}
		}
		for i, u := range made {
			act := Act{Action: "account.create", Object: u.Login}
			if home := accounts[i].Home; home != "" {
				act = Act{Action: "guest.create", Object: u.Login, Detail: map[string]string{"home": home}}
			}
			if err := audit(ctx, tx, t, act); err != nil {
				return err
			}
		}
		return nil
	})
	return made, err
}

func createAccount(ctx context.Context, tx pgx.Tx, t id.Tenant, domain id.Domain, login string, n NewAccount) (id.Account, error) {
	const query = `
		INSERT INTO account (tenant_id, domain_id, login, password)
		VALUES ($1, $2, $3, $4)
		RETURNING account_id`

	if err := addressIsFree(ctx, tx, t, login); err != nil {
		return 0, err
	}
	var account id.Account
	if err := tx.QueryRow(ctx, query, t, domain, login, n.Password).Scan(&account); err != nil {
		return 0, err
	}
	if err := createMailboxes(ctx, tx, t, domain, account, n.mailboxes()); err != nil {
		return 0, err
	}
	if n.Home != "" {
		if err := setHome(ctx, tx, t, account, n.Home); err != nil {
			return 0, err
		}
	}
	if n.MessageLimit == nil && n.StorageLimit == nil {
		return account, nil
	}
	return account, setLimits(ctx, tx, t, account, n.MessageLimit, n.StorageLimit)
}

// mailboxes are those that the account gets beside INBOX.
func (n NewAccount) mailboxes() []DefaultMailbox {
	if n.Mailboxes == nil {
		return DefaultMailboxes
	}
	return n.Mailboxes
}

// newLogin checks the address of an account that is to be made.
func newLogin(login string) (string, error) {
	normal, _, err := newAddress(login)
	if err != nil {
		return "", err
	}
	if strings.Contains(normal, "+") {
		return "", &InvalidError{"account", login, "a + separates the account from a folder in addresses"}
	}
	return normal, nil
}

// Account finds an account by its login, whatever its tenant, also while it is being deleted; ErrNoAccount.
func (s *Store) Account(ctx context.Context, login string) (Account, error) {
	if !isShared(login) {
		local, domain, err := normalizeAddress(login)
		if err != nil {
			return Account{}, err
		}
		login = fold(local) + "@" + domain
	}
	type row struct {
		TenantID  id.Tenant
		AccountID id.Account
	}
	found, err := lookup[row](ctx, s, `SELECT tenant_id, account_id FROM lookup_account($1)`, login)
	if err != nil {
		return Account{}, err
	}
	if len(found) == 0 {
		return Account{}, ErrNoAccount
	}
	return s.accountByID(ctx, found[0].TenantID, found[0].AccountID)
}

func (s *Store) accountByID(ctx context.Context, t id.Tenant, account id.Account) (Account, error) {
	const query = selectAccount + ` WHERE a.tenant_id = $1 AND a.account_id = $2`

	var a Account
	err := s.snapshot(ctx, t, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, query, t, account) // CollectExactlyOneRow reports the error
		a, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Account])
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoAccount
	}
	return a, err
}

// Accounts goes through a tenant's accounts by login. It reads some at a time.
func (s *Store) Accounts(ctx context.Context, t id.Tenant) iter.Seq2[Account, error] {
	const page = 1000
	const query = selectAccount + ` WHERE a.tenant_id = $1 AND a.login > $2 ORDER BY a.login LIMIT $3`

	return func(yield func(Account, error) bool) {
		after := ""
		for {
			var accounts []Account
			err := s.snapshot(ctx, t, func(tx pgx.Tx) (err error) {
				rows, _ := tx.Query(ctx, query, t, after, page) // CollectRows reports the error
				accounts, err = pgx.CollectRows(rows, pgx.RowToStructByName[Account])
				return err
			})
			if err != nil {
				yield(Account{}, err)
				return
			}
			for _, a := range accounts {
				if !yield(a, nil) {
					return
				}
				after = a.Login
			}
			if len(accounts) < page {
				return
			}
		}
	}
}

// SetPassword gives an account another password, by what package auth verifies it by, or "" to let nobody in; ErrGuest.
func (s *Store) SetPassword(ctx context.Context, u User, phc string) error {
	const query = `UPDATE account SET password = $3 WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting`

	return s.updateAccount(ctx, u, "account.password", query, phc, notGuest)
}

// DisableAccount locks an account out of login and mail, or lets it in again.
func (s *Store) DisableAccount(ctx context.Context, u User, disabled bool) error {
	const query = `UPDATE account SET disabled = $3 WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting`

	return s.updateAccount(ctx, u, onOff("account", disabled), query, disabled)
}

// updateAccount changes who may come in as an account, which ends its sessions.
func (s *Store) updateAccount(ctx context.Context, u User, action, query string, value any, checks ...func(ctx context.Context, tx pgx.Tx, u User) error) error {
	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		for _, check := range checks {
			if err := check(ctx, tx, u); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, query, u.Tenant, u.Account, value)
		if err := affected(tag, err, ErrNoAccount); err != nil {
			return err
		}
		if err := revokeAccount(ctx, tx, u); err != nil {
			return err
		}
		return audit(ctx, tx, u.Tenant, Act{Action: action, Object: u.Login})
	})
}

// onOff names the act of locking something out, or letting it in again.
func onOff(what string, disabled bool) string {
	if disabled {
		return what + ".disable"
	}
	return what + ".enable"
}

// SetLimits sets the quota of an account, in messages and in octets; nil is no
// limit. A limit below what is there stops what would add to it.
func (s *Store) SetLimits(ctx context.Context, u User, messages, storage *int64) error {
	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		if err := setLimits(ctx, tx, u.Tenant, u.Account, messages, storage); err != nil {
			return err
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "account.limits", Object: u.Login, Detail: map[string]*int64{"messages": messages, "storage": storage}})
	})
}

func setLimits(ctx context.Context, tx pgx.Tx, t id.Tenant, account id.Account, messages, storage *int64) error {
	const (
		there = `SELECT FROM account_state WHERE tenant_id = $1 AND account_id = $2`

		query = `
			INSERT INTO quota_root AS r (tenant_id, level, root, hard)
			VALUES ($1, 0, $2, ARRAY[$3, $4, NULL, NULL]::bigint[])
			ON CONFLICT (tenant_id, level, root) DO UPDATE
			SET hard = excluded.hard[1:2] || r.hard[3:4]`
	)
	for _, limit := range []*int64{messages, storage} {
		if limit != nil && *limit < 0 {
			return &InvalidError{"limit", fmt.Sprint(*limit), "it cannot be below zero"}
		}
	}
	tag, err := tx.Exec(ctx, there, t, account)
	if err := affected(tag, err, ErrNoAccount); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, query, t, account, storage, messages); err != nil {
		return err
	}
	return applyLimits(ctx, tx, t, levelAccount, int64(account))
}
