package main

import (
	"github.com/spf13/cobra"

	"mailstead.dev/acl"
)

// entryView is an entry of an access control list as --json prints it.
type entryView struct {
	Identifier string `json:"identifier"`
	Rights     string `json:"rights"`
}

const aclArguments = `
LOGIN is the owner of the mailbox, or shared:TENANT for a mailbox of the tenant as a whole. IDENTIFIER is the
login of a user of the same tenant, group:NAME, or anyone, which is each user of the tenant; behind a
dash it takes rights away from them, whoever granted them.`

func (a *app) aclCommand() *cobra.Command {
	return group("acl", "Access control lists of mailboxes",
		&cobra.Command{
			Use: "list LOGIN MAILBOX", Short: "Show who may do what with a mailbox", Args: exactArgs("LOGIN", "MAILBOX"),
			Long: "Show who may do what with a mailbox.\n" + aclArguments, RunE: a.onStore(listACL),
		},
		&cobra.Command{
			Use: "set LOGIN MAILBOX IDENTIFIER RIGHTS", Short: "Say what somebody may do with a mailbox", Args: exactArgs("LOGIN", "MAILBOX", "IDENTIFIER", "RIGHTS"),
			Long: `Say what somebody may do with a mailbox. RIGHTS are letters of RFC 4314: l see it, r read it,
s mark as seen, w set other flags, i insert, p post to its address, k make mailboxes below it, x delete it,
t mark as deleted, e expunge, a administer. A plus before them adds to what there is.
` + aclArguments, RunE: a.onStore(setACL),
		},
		&cobra.Command{
			Use: "delete LOGIN MAILBOX IDENTIFIER", Short: "Take somebody out of a list", Args: exactArgs("LOGIN", "MAILBOX", "IDENTIFIER"),
			Long: "Take somebody out of a list. Without an entry its owner has all rights.\n" + aclArguments, RunE: a.onStore(deleteACL),
		})
}

func listACL(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	list, err := j.store.ACL(j, account.User(), j.args[1])
	if err != nil {
		return about("mailbox "+j.args[1], err)
	}
	views, t := []entryView{}, table{header: []string{"identifier", "rights"}}
	for _, e := range list {
		views = append(views, entryView{string(e.Identifier), e.Rights.String()})
		t.add(e.Identifier, e.Rights)
	}
	return j.print(views, t)
}

func setACL(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	identifier, err := acl.ParseIdentifier(j.args[2])
	if err != nil {
		return about("identifier "+j.args[2], err)
	}
	change, err := acl.ParseModification(j.args[3])
	if err != nil {
		return about("rights "+j.args[3], err)
	}
	u := account.User()
	u.Actor = operator()
	if err := j.store.SetACL(j, u, j.args[1], identifier, change); err != nil {
		return about(j.args[1]+" for "+string(identifier), err)
	}
	return listACL(j)
}

func deleteACL(j *job) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	identifier, err := acl.ParseIdentifier(j.args[2])
	if err != nil {
		return about("identifier "+j.args[2], err)
	}
	u := account.User()
	u.Actor = operator()
	if err := j.store.DeleteACL(j, u, j.args[1], identifier); err != nil {
		return about("mailbox "+j.args[1], err)
	}
	return listACL(j)
}
