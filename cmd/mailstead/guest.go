package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// guestView is a guest as --json prints it.
type guestView struct {
	Login string `json:"login"`
	Home  string `json:"home"`
	Cell  string `json:"cell"` // of the home; "": nobody is let in

	Subject string     `json:"subject"` // the account that has come from there, as that cell names it; "": none yet
	Refused *time.Time `json:"refused"` // when another one was refused last, to within an hour; nil: none has been
}

func (a *app) guestCommand() *cobra.Command {
	var home, tenant string
	create := &cobra.Command{
		Use:   "create LOGIN --home LOGIN",
		Short: "Make an account for a user of another cell, with whom mailboxes are to be shared",
		Long: `Make an account, of a domain that a tenant has, for a user of another cell: the home. Mailboxes are shared with it as with any other.
It has no password: its user logs in with the one that they have at home. There, "mailstead visit add" has them see what is shared with the guest.`,
		Args: exactArgs("LOGIN"),
		RunE: a.onStore(func(j *job) error { return createGuest(j, home) }),
	}
	create.Flags().StringVar(&home, "home", "", "the user's login, of a domain that lives in another cell")
	create.MarkFlagRequired("home")
	list := &cobra.Command{Use: "list", Short: "List guests", Args: exactArgs(), RunE: a.onStore(func(j *job) error { return listGuests(j, tenant) })}
	list.Flags().StringVarP(&tenant, "tenant", "t", "", "only those of this tenant")
	return group("guest", "Accounts for users of other cells (settings cells.*)",
		create, list,
		&cobra.Command{
			Use: "home LOGIN HOME", Short: "Say that another user is the guest, or another account of the same login, and end its sessions",
			Long: `Say that another user is the guest. Its sessions end.

Of the home's login a guest takes the account that comes first, and no other: the login may be deleted there and given to somebody else. "mailstead guest list"
shows which account has come, and when another was refused. To let that one in, say the same home again.`,
			Args: exactArgs("LOGIN", "HOME"), RunE: a.onStore(setGuestHome),
		},
		a.guestDelete())
}

func createGuest(j *job, home string) error {
	made, err := j.store.CreateGuest(j, j.args[0], home)
	if err != nil {
		return about("guest "+j.args[0], err)
	}
	return j.sayGuest(made.Login, "Guest %s made, who is %s of cell %s.")
}

// sayGuest prints a guest.
func (j *job) sayGuest(login, format string) error {
	found, err := j.store.LookupLogin(j, login)
	if err != nil {
		return about("guest "+login, err)
	}
	v := guestView{Login: found.User.Login, Home: found.Home.Login, Cell: found.Home.Cell, Subject: found.Home.Subject}
	return j.say(v, format, v.Login, v.Home, v.Cell)
}

func listGuests(j *job, tenant string) error {
	tenants, err := j.tenants(tenant)
	if err != nil {
		return err
	}
	views, t := []guestView{}, table{header: []string{"login", "home", "cell", "account", "another refused"}}
	for _, tenant := range tenants {
		guests, err := j.store.Guests(j, tenant.ID)
		if err != nil {
			return err
		}
		for _, g := range guests {
			views = append(views, guestView(g))
			refused := ""
			if g.Refused != nil {
				refused = g.Refused.UTC().Format("2006-01-02 15:04")
			}
			t.add(g.Login, g.Home, g.Cell, g.Subject, refused)
		}
	}
	return j.print(views, t)
}

// guest finds the account of the guest that the first argument names.
func (j *job) guest() (store.Account, error) {
	account, err := j.account()
	if err != nil {
		return account, err
	}
	found, err := j.store.LookupLogin(j, account.Login)
	if err == nil && !found.User.Guest {
		err = store.ErrNoGuest
	}
	return account, about("guest "+account.Login, err)
}

func setGuestHome(j *job) error {
	account, err := j.guest()
	if err != nil {
		return err
	}
	if err := j.store.SetGuestHome(j, account.User(), j.args[1]); err != nil {
		return about("guest "+account.Login, err)
	}
	return j.sayGuest(account.Login, "Guest %s is %s of cell %s.")
}

func (a *app) guestDelete() *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "delete LOGIN", Short: "Remove a guest, with what it has been granted", Args: exactArgs("LOGIN"), RunE: a.onStore(func(j *job) error {
		account, err := j.guest()
		if err != nil {
			return err
		}
		if err := confirm(yes, fmt.Sprintf("guest %s with %d messages", account.Login, account.Messages)); err != nil {
			return err
		}
		if err := j.store.DeleteAccount(j, account.User()); err != nil {
			return about("guest "+account.Login, err)
		}
		return j.say(map[string]string{"deleted": account.Login}, "Guest %s is gone.", account.Login)
	})}
	return yesFlag(c, &yes)
}
