package main

import (
	"errors"
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

// resealAccount seals the key of who orders anew, or, if that is lost, another one; and tells how many it has sealed.
func resealAccount(j *job, seals *certificate.Seals, lost bool) (sealed int, err error) {
	directory := string(j.config.ACME.Directory)
	if directory == "" {
		return 0, nil
	}
	account, err := j.store.OrderAccount(j, directory)
	if errors.Is(err, store.ErrNotExist) || err == nil && account.SealedBy == seals.By() {
		return 0, nil
	}
	if err == nil {
		if account, err = seals.ResealAccount(directory, account); err != nil && lost {
			account, err = seals.NewAccount(directory)
		}
	}
	if err == nil {
		err = j.store.SetOrderAccount(j, directory, account)
	}
	if err != nil {
		return 0, err
	}
	return 1, nil
}
