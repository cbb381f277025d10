package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/store"
)

// operator names who runs a command, for audit logs: the user of the system, also behind sudo.
func operator() string {
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if behind := os.Getenv("SUDO_USER"); behind != "" {
		name = behind + " as " + name
	}
	return "command line: " + name
}

func (a *app) auditCommand() *cobra.Command {
	var after int64
	list := &cobra.Command{
		Use:   "list TENANT",
		Short: "Show what admins have done to a tenant, also to one that is gone",
		Args:  exactArgs("TENANT"),
		RunE:  a.onStore(func(j *job) error { return listAudit(j, after) }),
	}
	list.Flags().Int64Var(&after, "after", 0, "only entries behind this number")
	var known string
	verify := &cobra.Command{
		Use:   "verify [TENANT]",
		Short: "Prove that audit logs are what was written",
		Long: `Prove that the audit log of a tenant, or of all, is what was written: each entry
holds a hash over itself and the one before. Printed is the last entry's number
with its hash. Who keeps that elsewhere can give it as --known the next time, which
also finds what somebody changed who can write all of the database.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && known != "" {
				return usageError{errors.New("--known is of one tenant: which?")}
			}
			return cobra.MaximumNArgs(1)(c, args)
		},
		RunE: a.onStore(func(j *job) error { return verifyAudit(j, known) }),
	}
	verify.Flags().StringVar(&known, "known", "", "what was printed for this tenant before, as NUMBER:HASH")
	return group("audit", "What admins have done", list, verify)
}

// auditView is an entry as --json prints it.
type auditView struct {
	Seq    int64           `json:"seq"`
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	Object string          `json:"object"`
	Detail json.RawMessage `json:"detail"`
	Hash   string          `json:"hash"`
}

func listAudit(j *job, after int64) error {
	chains, err := j.auditChains(j.args[0])
	if err != nil {
		return err
	}
	views, t := []auditView{}, table{header: []string{"entry", "at", "who", "did", "to", "more"}}
	for _, c := range chains {
		for e, err := range j.store.AuditLog(j, c.ID, after) {
			if err != nil {
				return err
			}
			views = append(views, auditView{e.Seq, e.At.UTC(), e.Actor, e.Action, e.Object, json.RawMessage(e.Detail), hex.EncodeToString(e.Hash)})
			t.add(e.Seq, e.At.UTC().Format(time.DateTime), e.Actor, e.Action, e.Object, strings.TrimPrefix(e.Detail, "{}"))
		}
	}
	return j.print(views, t)
}

// auditChains finds the audit logs of a name, "" for all. There are several where a
// tenant is gone and another has taken its name.
func (j *job) auditChains(tenant string) ([]store.AuditChain, error) {
	all, err := j.store.AuditChains(j)
	if err != nil || tenant == "" {
		return all, err
	}
	var found []store.AuditChain
	for _, c := range all {
		if c.Tenant == tenant {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return nil, about("tenant "+tenant, store.ErrNoTenant)
	}
	return found, nil
}

// chainView is the result for an audit log as --json prints it.
type chainView struct {
	Tenant  string `json:"tenant"`
	ID      int64  `json:"id"`
	Entries int64  `json:"entries"`
	Head    string `json:"head"` // for --known
	Problem string `json:"problem,omitempty"`
}

func verifyAudit(j *job, known string) error {
	tenant := ""
	if len(j.args) > 0 {
		tenant = j.args[0]
	}
	chains, err := j.auditChains(tenant)
	if err != nil {
		return err
	}
	end, err := parseHead(known)
	if err != nil {
		return usageError{err}
	}
	views, t := []chainView{}, table{header: []string{"tenant", "entries", "last entry", "result"}}
	broken := 0
	for i, c := range chains {
		v := chainView{Tenant: c.Tenant, ID: int64(c.ID), Entries: c.Seq, Head: c.Head()}
		result := "as written"
		known := end
		if i < len(chains)-1 {
			known = store.AuditChain{} // it is of the one that has the name now
		}
		switch err := j.store.VerifyAudit(j, c, known); {
		case errors.Is(err, store.ErrAudit):
			broken++
			v.Problem, result = err.Error(), err.Error()
		case err != nil:
			return err
		}
		views = append(views, v)
		t.add(v.Tenant, v.Entries, v.Head, result)
	}
	if err := j.print(views, t); err != nil {
		return err
	}
	if broken > 0 {
		return fmt.Errorf("%d of %d audit logs: %w", broken, len(chains), store.ErrAudit)
	}
	return nil
}

// parseHead reads what AuditChain.Head writes; "" is the beginning of every chain.
func parseHead(known string) (c store.AuditChain, err error) {
	if known == "" {
		return c, nil
	}
	seq, hash, ok := strings.Cut(known, ":")
	if c.Seq, err = strconv.ParseInt(seq, 10, 64); err == nil {
		c.Hash, err = hex.DecodeString(hash)
	}
	if !ok || err != nil || c.Seq < 1 {
		return c, fmt.Errorf("--known %s: want NUMBER:HASH, as it was printed", known)
	}
	return c, nil
}
