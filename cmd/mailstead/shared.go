package main

import (
	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// sharedOf begins the login by which commands call the account that a tenant's shared mailboxes belong to.
const sharedOf = "shared:"

// shared finds the account that a tenant's shared mailboxes belong to, as which the operator acts.
func (j *job) shared(tenant string) (store.User, error) {
	t, err := j.tenant(tenant)
	if err != nil {
		return store.User{}, err
	}
	u, err := j.store.SharedAccount(j, t.ID)
	u.Actor = operator()
	return u, err
}

func (a *app) sharedCommand() *cobra.Command {
	var off bool
	remove := &cobra.Command{Use: "delete TENANT MAILBOX", Short: "Delete a shared mailbox", Args: exactArgs("TENANT", "MAILBOX"), RunE: a.onStore(deleteShared)}
	subscribe := &cobra.Command{
		Use: "auto-subscribe TENANT", Short: "Subscribe users to what they are granted, from now on", Args: exactArgs("TENANT"),
		RunE: a.onStore(func(j *job) error { return autoSubscribe(j, !off) }),
	}
	subscribe.Flags().BoolVar(&off, "off", false, "do not, any more")
	return group("shared", "Mailboxes of a tenant as a whole, below Shared/",
		&cobra.Command{Use: "create TENANT MAILBOX", Short: "Make a shared mailbox, which nobody may see yet", Args: exactArgs("TENANT", "MAILBOX"), RunE: a.onStore(createShared)},
		&cobra.Command{Use: "list TENANT", Short: "List a tenant's shared mailboxes", Args: exactArgs("TENANT"), RunE: a.onStore(listShared)},
		subscribe, remove)
}

func createShared(j *job) error {
	u, err := j.shared(j.args[0])
	if err != nil {
		return err
	}
	made, err := j.store.Create(j, u, j.args[1], nil)
	if err != nil {
		return about("mailbox "+j.args[1], err)
	}
	name := store.SharedFolders + "/" + made.Name
	return j.say(map[string]string{"name": name}, "%s made. mailstead acl set %s%s %q IDENTIFIER RIGHTS says who may see it.", name, sharedOf, j.args[0], made.Name)
}

func listShared(j *job) error {
	u, err := j.shared(j.args[0])
	if err != nil {
		return err
	}
	return listMailboxesOf(j, u)
}

func deleteShared(j *job) error {
	u, err := j.shared(j.args[0])
	if err != nil {
		return err
	}
	if err := j.store.Delete(j, u, j.args[1]); err != nil {
		return about("mailbox "+j.args[1], err)
	}
	return j.say(map[string]string{"deleted": j.args[1]}, "Mailbox %[1]s is gone; mailstead mailbox undelete %[2]s%[3]s %[1]s brings it back.", j.args[1], sharedOf, j.args[0])
}

func autoSubscribe(j *job, on bool) error {
	tenant, err := j.tenant(j.args[0])
	if err != nil {
		return err
	}
	if err := j.store.SetAutoSubscribe(j, tenant.ID, on); err != nil {
		return err
	}
	return j.say(map[string]any{"tenant": tenant.Name, "auto_subscribe": on}, "Users of %s are %s to what they are granted.", tenant.Name,
		map[bool]string{true: "subscribed", false: "not subscribed"}[on])
}
