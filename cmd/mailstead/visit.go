package main

import (
	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// visitView is a visit as --json prints it.
type visitView struct {
	Login string `json:"login"`
	Cell  string `json:"cell"`
	Guest string `json:"guest"`
}

func (a *app) visitCommand() *cobra.Command {
	return group("visit", "As which guests of other cells users see what is shared with them there (settings cells.*)",
		&cobra.Command{
			Use:   "add LOGIN CELL GUEST",
			Short: "Have a user see what is shared with a guest of another cell",
			Long: `Have a user see, among their own mailboxes, what is shared with a guest of another cell. That cell lets them, where "mailstead guest create" has said
there that the guest is this user. A user has one guest in each cell.`,
			Args: exactArgs("LOGIN", "CELL", "GUEST"),
			RunE: a.onStore(addVisit),
		},
		&cobra.Command{Use: "list LOGIN", Short: "List the visits of a user", Args: exactArgs("LOGIN"), RunE: a.onStore(listVisits)},
		&cobra.Command{Use: "remove LOGIN CELL", Short: "Have a user see nothing of another cell any more", Args: exactArgs("LOGIN", "CELL"), RunE: a.onStore(removeVisit)})
}

func addVisit(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	if err := j.otherCell(j.args[1]); err != nil {
		return err
	}
	v := store.Visit{Cell: j.args[1], Login: j.args[2]}
	if normal, err := store.NormalLogin(v.Login); err == nil { // what is none is refused below
		v.Login = normal
	}
	if err := j.store.AddVisit(j, account.User(), v); err != nil {
		return about("visit of "+account.Login, err)
	}
	return j.say(visitView{account.Login, v.Cell, v.Login}, "In cell %s, %s is %s.", v.Cell, account.Login, v.Login)
}

func listVisits(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	all, err := j.store.Visits(j, account.User())
	if err != nil {
		return err
	}
	views, t := []visitView{}, table{header: []string{"cell", "guest"}}
	for _, v := range all {
		views = append(views, visitView{account.Login, v.Cell, v.Login})
		t.add(v.Cell, v.Login)
	}
	return j.print(views, t)
}

func removeVisit(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	cell := j.args[1]
	if err := j.store.RemoveVisit(j, account.User(), cell); err != nil {
		return about("visit of "+account.Login+" to "+cell, err)
	}
	return j.say(map[string]string{"login": account.Login, "removed": cell}, "%s sees nothing of cell %s any more.", account.Login, cell)
}
