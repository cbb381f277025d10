package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"mailstead.dev/certificate"
	"mailstead.dev/store"
)

// orderView is that certificates are ordered for a name, as --json prints it.
type orderView struct {
	Name     string    `json:"name"`
	Domain   string    `json:"domain,omitempty"`
	Failures int       `json:"failures"`
	TryAt    time.Time `json:"try_at"` // not before then
	Problem  string    `json:"problem,omitempty"`
}

func orderCertificates(j *job, domain string) error {
	if j.config.ACME.Directory == "" {
		return errors.New("certificates are not ordered: acme.directory is not set")
	}
	var names []string
	for _, name := range j.args {
		ascii, err := j.store.OrderCertificate(j, name, domain)
		if err != nil {
			return about("certificate of "+name, err)
		}
		names = append(names, ascii)
	}
	return j.say(map[string][]string{"ordered": names}, "Certificates are ordered for %s.", strings.Join(names, ", "))
}

func listOrders(j *job) error {
	all, err := j.store.CertificateOrders(j)
	if err != nil {
		return err
	}
	views, t := []orderView{}, table{header: []string{"name", "domain", "failures", "not before", "problem"}}
	for _, o := range all {
		views = append(views, orderView{o.Name, o.Domain, o.Failures, o.TryAt, o.Problem})
		again := ""
		if o.Failures > 0 {
			again = o.TryAt.UTC().Format(time.DateTime)
		}
		t.add(o.Name, store.DisplayDomain(o.Domain), o.Failures, again, o.Problem)
	}
	return j.print(views, t)
}

func cancelOrder(j *job) error {
	all, err := j.store.CertificateOrders(j)
	if err != nil {
		return err
	}
	name := strings.ToLower(strings.TrimSuffix(j.args[0], "."))
	err = store.ErrNoOrder
	for _, o := range all {
		if o.Name == name || store.DisplayDomain(o.Name) == name {
			err = j.store.CancelCertificate(j, o)
		}
	}
	if err != nil {
		return about("certificate of "+j.args[0], err)
	}
	return j.say(map[string]string{"cancelled": name}, "No more certificates are ordered for %s.", name)
}

// resealAccounts seals the keys of who orders anew, at whichever authority, or, of those that are lost, makes others; and tells how many it has sealed.
func resealAccounts(j *job, seals *certificate.Seals, lost bool) (sealed int, failed []error) {
	all, err := j.store.OrderAccounts(j)
	if err != nil {
		return 0, []error{err}
	}
	for _, account := range all {
		if account.SealedBy == seals.By() {
			continue
		}
		anew, err := seals.ResealAccount(account)
		if err != nil && lost {
			anew, err = seals.NewAccount(account.Authority)
		}
		if err == nil {
			err = j.store.SetOrderAccount(j, anew)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("account at %s: %w", account.Authority, err))
			continue
		}
		sealed++
	}
	return sealed, failed
}
