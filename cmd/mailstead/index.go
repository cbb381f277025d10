package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

func (a *app) indexCommand() *cobra.Command {
	return group("index", "Search indexes of accounts",
		&cobra.Command{
			Use: "status [LOGIN]", Short: "Show how far the search index of an account goes; without LOGIN, the nodes that have indexes",
			Args: cobra.MaximumNArgs(1), RunE: a.onStore(showIndex),
		},
		&cobra.Command{
			Use: "rebuild LOGIN", Short: "Make the search index of an account anew; the old one answers meanwhile",
			Long: `Ask the node that has the search index of an account to make it anew from the mail, and wait until it is done. The old one
answers meanwhile. It is never needed after a fault that the node has noticed: such an index it makes anew by itself.`,
			Args: exactArgs("LOGIN"), RunE: a.onStore(func(j *job) error { return askIndex(j, store.AskRebuild) }),
		},
		&cobra.Command{
			Use: "verify LOGIN", Short: "Compare all of the search index of an account with its texts",
			Long: `Ask the node that has the search index of an account to compare its words with the texts that it keeps, and those with their
checksums, and wait for the answer. The exit status is 1 where anything differs; the index is then made anew.`,
			Args: exactArgs("LOGIN"), RunE: a.onStore(func(j *job) error { return askIndex(j, store.AskVerify) }),
		})
}

// indexView is the index of an account as --json prints it.
type indexView struct {
	Login     string    `json:"login"`
	Node      string    `json:"node"` // "": none
	Alive     bool      `json:"alive"`
	LastEmail int64     `json:"last_email"`
	UpTo      int64     `json:"up_to"`
	Emails    int64     `json:"emails"`
	WordBytes int64     `json:"word_bytes"`
	TextBytes int64     `json:"text_bytes"`
	ChangedAt time.Time `json:"changed_at"`
	Asked     string    `json:"asked,omitempty"`
	Answer    string    `json:"answer,omitempty"`
}

func showIndex(j *job) error {
	if len(j.args) == 0 {
		return showNodes(j)
	}
	account, err := j.store.Account(j, j.args[0])
	if err != nil {
		return about(j.args[0], err)
	}
	st, err := j.store.IndexStatus(j, account.Tenant, account.ID)
	if err != nil {
		return about(j.args[0], err)
	}
	v := indexView{
		account.Login, st.Node, st.Alive, int64(st.LastEmail), int64(st.UpTo), st.Emails, st.WordBytes, st.TextBytes, st.ChangedAt, st.Asked, st.Answer,
	}
	t := table{header: []string{"account", "node", "emails", "behind", "words", "text", "asked", "answer"}}
	where := "none"
	if st.Node != "" {
		where = st.Node
		if !st.Alive {
			where += " (away)"
		}
	}
	t.add(v.Login, where, v.Emails, v.LastEmail-v.UpTo, v.WordBytes, v.TextBytes, v.Asked, v.Answer)
	return j.print(v, t)
}

// nodeView is an index node as --json prints it.
type nodeView struct {
	Node      string `json:"node"`
	Address   string `json:"address"`
	Alive     bool   `json:"alive"`
	Accounts  int64  `json:"accounts"`
	Emails    int64  `json:"emails"`
	WordBytes int64  `json:"word_bytes"`
	TextBytes int64  `json:"text_bytes"`
}

func showNodes(j *job) error {
	nodes, err := j.store.IndexNodes(j)
	if err != nil {
		return err
	}
	all := []nodeView{}
	t := table{header: []string{"node", "address", "alive", "accounts", "emails", "words", "text"}}
	for _, n := range nodes {
		all = append(all, nodeView(n))
		t.add(n.Node, n.Address, n.Alive, n.Accounts, n.Emails, n.WordBytes, n.TextBytes)
	}
	return j.print(all, t)
}

// askEvery is how often it is looked whether a node has answered.
const askEvery = 200 * time.Millisecond

// errIndexDiffers says that an index is not what it should be; it has been told.
var errIndexDiffers = errors.New("the search index is not well")

// askIndex asks the node that has the index of an account, and waits for its answer.
func askIndex(j *job, what string) error {
	login := j.args[0]
	account, err := j.store.Account(j, login)
	if err != nil {
		return about(login, err)
	}
	err = j.store.AskIndex(j, account.Tenant, account.ID, what)
	if errors.Is(err, store.ErrNotExist) {
		return fmt.Errorf("%s has no search index: it has too few messages, or no process with the role index has found it yet", login)
	}
	if err != nil {
		return about(login, err)
	}
	for {
		st, err := j.store.IndexStatus(j, account.Tenant, account.ID)
		switch {
		case err != nil:
			return about(login, err)
		case st.Asked == "":
			fmt.Fprintln(j.out, st.Answer)
			if !strings.HasPrefix(st.Answer, "well") && !strings.HasPrefix(st.Answer, "made anew") {
				return errIndexDiffers
			}
			return nil
		case !st.Alive:
			return fmt.Errorf("the node %s that has the index is away; it does so when it is back, or another takes the account", st.Node)
		}
		select {
		case <-j.Done():
			return j.Err()
		case <-time.After(askEvery):
		}
	}
}
