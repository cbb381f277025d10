package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/store"
)

// accountView is an account as --json prints it.
type accountView struct {
	Login        string     `json:"login"`
	ID           int64      `json:"id"`
	State        string     `json:"state"` // active, disabled, deleting
	Role         store.Role `json:"role"`
	HasPassword  bool       `json:"has_password"`
	Messages     int64      `json:"messages"`
	Bytes        int64      `json:"bytes"`
	MessageLimit *int64     `json:"message_limit"`
	StorageLimit *int64     `json:"storage_limit"`
	Created      time.Time  `json:"created"`
	Password     string     `json:"password,omitempty"` // one that was just made
}

func viewAccount(a store.Account) accountView {
	return accountView{
		Login: a.Login, ID: int64(a.ID), State: state(a.Disabled, a.Deleting), Role: a.Role, HasPassword: a.HasPassword,
		Messages: a.Messages, Bytes: a.Bytes, MessageLimit: a.MessageLimit, StorageLimit: a.StorageLimit, Created: a.Created,
	}
}

func (a *app) accountCommand() *cobra.Command {
	return group("account", "Accounts: logins with mailboxes",
		a.accountCreate(), a.accountList(), a.accountShow(), a.accountPasswd(), a.accountAppPassword(), a.accountOTP(), a.accountLimits(), a.accountRole(),
		&cobra.Command{Use: "disable LOGIN", Short: "Refuse an account logins and mail", Args: exactArgs("LOGIN"), RunE: a.onStore(disableAccount(true))},
		&cobra.Command{Use: "enable LOGIN", Short: "Let an account in again", Args: exactArgs("LOGIN"), RunE: a.onStore(disableAccount(false))},
		a.accountDelete())
}

// limitOptions are quota limits as options; "" is not given, none is no limit.
type limitOptions struct{ messages, storage string }

func (o *limitOptions) register(c *cobra.Command) {
	c.Flags().StringVar(&o.messages, "messages", "", "the most messages, or none")
	c.Flags().StringVar(&o.storage, "storage", "", "the most bytes, such as 2GiB, or none")
}

// apply returns the limits after the options.
func (o limitOptions) apply(messages, storage *int64) (*int64, *int64, error) {
	switch o.messages {
	case "":
	case "none":
		messages = nil
	default:
		n, err := strconv.ParseInt(o.messages, 10, 64)
		if err != nil || n < 0 {
			return nil, nil, usageError{fmt.Errorf("--messages %s: want a number, or none", o.messages)}
		}
		messages = &n
	}
	switch o.storage {
	case "":
	case "none":
		storage = nil
	default:
		var size config.Size
		if err := size.UnmarshalText([]byte(o.storage)); err != nil {
			return nil, nil, usageError{fmt.Errorf("--storage %s: %w, or none", o.storage, err)}
		}
		n := int64(size)
		storage = &n
	}
	return messages, storage, nil
}

func (a *app) accountCreate() *cobra.Command {
	var password passwordOptions
	var limits limitOptions
	c := &cobra.Command{
		Use:   "create LOGIN",
		Short: "Make an account with its mailboxes",
		Long: `Make an account, of a domain that a tenant has, with its mailboxes.

The password is asked for; where there is no terminal, one is made and printed.`,
		Args: exactArgs("LOGIN"),
		RunE: a.onStore(func(j *job) error { return createAccount(j, password, limits) }),
	}
	password.register(c)
	limits.register(c)
	return c
}

func createAccount(j *job, password passwordOptions, limits limitOptions) error {
	n := store.NewAccount{Login: j.args[0], Mailboxes: newMailboxes(j.config)}
	var generated string
	var err error
	if n.MessageLimit, n.StorageLimit, err = limits.apply(nil, nil); err != nil {
		return err
	}
	if n.Password, generated, err = password.choose(j, store.Login{}); err != nil {
		return err
	}
	made, err := j.store.CreateAccount(j, n)
	if err != nil {
		return about("account "+j.args[0], err)
	}
	v := viewAccount(made)
	v.Password = generated
	if generated != "" {
		return j.say(v, "Account %s made, with the password %s", made.Login, generated)
	}
	return j.say(v, "Account %s made.", made.Login)
}

// newMailboxes are those that new accounts get beside INBOX.
func newMailboxes(c *config.Config) []store.DefaultMailbox {
	if c.Accounts.DefaultMailboxes {
		return store.DefaultMailboxes
	}
	return []store.DefaultMailbox{}
}

func (a *app) accountList() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "list", Short: "List accounts", Args: exactArgs(), RunE: a.onStore(func(j *job) error {
		return listAccounts(j, tenant)
	})}
	c.Flags().StringVarP(&tenant, "tenant", "t", "", "only those of this tenant")
	return c
}

func listAccounts(j *job, tenant string) error {
	tenants, err := j.tenants(tenant)
	if err != nil {
		return err
	}
	views, t := []accountView{}, table{header: []string{"login", "tenant", "state", "messages", "bytes", "limit"}}
	for _, tenant := range tenants {
		for account, err := range j.store.Accounts(j, tenant.ID) {
			if err != nil {
				return err
			}
			views = append(views, viewAccount(account))
			t.add(account.Login, tenant.Name, state(account.Disabled, account.Deleting), account.Messages, account.Bytes, storageLimit(account))
		}
	}
	return j.print(views, t)
}

func storageLimit(a store.Account) string { return unlimited((*config.Size)(a.StorageLimit)) }

// account finds the account that the first argument names.
func (j *job) account() (store.Account, error) {
	login := j.args[0]
	if tenant, ok := strings.CutPrefix(login, sharedOf); ok {
		u, err := j.shared(tenant)
		if err != nil {
			return store.Account{}, err
		}
		login = u.Login
	}
	account, err := j.store.Account(j, login)
	return account, about("account "+j.args[0], err)
}

func (a *app) accountShow() *cobra.Command {
	return &cobra.Command{Use: "show LOGIN", Short: "Show an account", Args: exactArgs("LOGIN"), RunE: a.onStore(func(j *job) error {
		account, err := j.account()
		if err != nil {
			return err
		}
		found, err := j.store.LookupLogin(j, account.Login)
		if err != nil && !errors.Is(err, store.ErrNoAccount) { // as of one that is being deleted, or is no address
			return err
		}
		password := map[bool]string{true: "set", false: "none: nobody can log in"}[account.HasPassword]
		if found.User.Guest {
			password = "that of " + found.Home.Login
		}
		t := table{}
		t.add("login", account.Login)
		t.add("state", state(account.Disabled, account.Deleting))
		t.add("role", account.Role)
		t.add("password", password)
		t.add("messages", account.Messages)
		t.add("bytes", account.Bytes)
		if account.MessageLimit == nil {
			t.add("message limit", "none")
		} else {
			t.add("message limit", *account.MessageLimit)
		}
		t.add("storage limit", storageLimit(account))
		t.add("created", day(account.Created))
		return j.print(viewAccount(account), t)
	})}
}

func (a *app) accountPasswd() *cobra.Command {
	var password passwordOptions
	var alone bool
	c := &cobra.Command{Use: "passwd LOGIN", Short: "Give an account another password", Args: exactArgs("LOGIN"), RunE: a.onStore(func(j *job) error {
		account, err := j.account()
		if err != nil {
			return err
		}
		as, err := j.store.LookupLogin(j, account.Login)
		if err != nil {
			return about("account "+account.Login, err)
		}
		secret, generated, err := password.choose(j, as)
		if err != nil {
			return err
		}
		if err := j.store.SetPassword(j, account.User(), secret); err != nil {
			return about("account "+account.Login, err)
		}
		if alone {
			if err := revokeAppPasswords(j, account); err != nil {
				return err
			}
		}
		account.HasPassword = secret != ""
		v := viewAccount(account)
		v.Password = generated
		if generated != "" {
			return j.say(v, "The password of %s is now %s", account.Login, generated)
		}
		if secret == "" {
			return j.say(v, "%s has no password any more.", account.Login)
		}
		return j.say(v, "The password of %s is set.", account.Login)
	})}
	password.register(c)
	c.Flags().BoolVar(&alone, "revoke-app-passwords", false, "take the account's app passwords and certificates away as well")
	return c
}

func (a *app) accountLimits() *cobra.Command {
	var limits limitOptions
	c := &cobra.Command{Use: "limits LOGIN", Short: "Set the quota of an account", Args: exactArgs("LOGIN"), RunE: a.onStore(func(j *job) error {
		if limits == (limitOptions{}) {
			return usageError{errors.New("which limit? want --messages or --storage")}
		}
		account, err := j.account()
		if err != nil {
			return err
		}
		account.MessageLimit, account.StorageLimit, err = limits.apply(account.MessageLimit, account.StorageLimit)
		if err != nil {
			return err
		}
		if err := j.store.SetLimits(j, account.User(), account.MessageLimit, account.StorageLimit); err != nil {
			return about("account "+account.Login, err)
		}
		return j.say(viewAccount(account), "The limits of %s are set.", account.Login)
	})}
	limits.register(c)
	return c
}

func disableAccount(disabled bool) func(*job) error {
	return func(j *job) error {
		account, err := j.account()
		if err != nil {
			return err
		}
		if err := j.store.DisableAccount(j, account.User(), disabled); err != nil {
			return about("account "+account.Login, err)
		}
		account.Disabled = disabled
		return j.say(viewAccount(account), "Account %s is %s.", account.Login, state(disabled, false))
	}
}

func (a *app) accountDelete() *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "delete LOGIN", Short: "Remove an account with all of its mail", Args: exactArgs("LOGIN"), RunE: a.onStore(func(j *job) error {
		account, err := j.account()
		if err != nil {
			return err
		}
		if err := confirm(yes, fmt.Sprintf("account %s with %d messages", account.Login, account.Messages)); err != nil {
			return err
		}
		if err := j.store.DeleteAccount(j, account.User()); err != nil {
			return about("account "+account.Login, err)
		}
		return j.say(map[string]string{"deleted": account.Login}, "Account %s is gone.", account.Login)
	})}
	return yesFlag(c, &yes)
}
