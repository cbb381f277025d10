package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/certificate"
	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/store"
)

// certificateFiles are the files of certificates.
func certificateFiles(c *config.Config) certificate.Files {
	return certificate.Files{Cert: c.TLS.CertFile, Key: c.TLS.KeyFile, Folder: c.TLS.Folder}
}

// readSeals reads what opens the keys of certificates in the database; nil: there is nothing.
func readSeals(c *config.Config) (*certificate.Seals, error) {
	if c.TLS.SealFile == "" {
		return nil, nil
	}
	seals, err := certificate.ReadSeals(c.TLS.SealFile)
	if err != nil {
		return nil, fmt.Errorf("tls.seal_file: %w", err)
	}
	return seals, nil
}

// openCertificates has certificates of the database shown beside those of the files.
func (p *process) openCertificates() error {
	if p.certificates.Config(false) == nil {
		return nil
	}
	p.kept = certificate.NewKept(certificate.KeptOptions{Store: p.store, Bytes: int64(p.config.TLS.Cache), Logger: p.log})
	p.kept.Seal(p.seals.Load())
	if err := p.kept.Look(context.Background()); err != nil { // it takes seconds at the most
		return fmt.Errorf("certificates: %w", err)
	}
	p.certificates.Add(p.kept)
	ctx, stop := context.WithCancel(context.Background()) // until shutdown
	watch := func() error { return p.kept.Watch(ctx) }
	p.services = append(p.services, service{name: "certificates", serve: []func() error{watch}, shutdown: func(context.Context) error { stop(); return nil }})
	return p.openProofs()
}

// openOrders orders certificates.
func (p *process) openOrders() error {
	a := p.config.ACME
	roots, err := a.Roots()
	if err != nil {
		return fmt.Errorf("acme.ca_file: %w", err)
	}
	p.orders = certificate.NewOrders(certificate.OrderOptions{
		Store: p.store, Seals: p.seals.Load, Directory: string(a.Directory), Contact: a.Contact, Challenge: string(a.Challenge), Roots: roots,
		Version: version(), Logger: p.log,
	})
	ctx, stop := context.WithCancel(context.Background()) // until shutdown
	run := func() error { return p.orders.Run(ctx) }
	p.services = append(p.services, service{name: "orders", serve: []func() error{run}, shutdown: func(context.Context) error { stop(); return nil }})
	return nil
}

// certificateView is a certificate as --json prints it.
type certificateView struct {
	ID        int64     `json:"id"`
	Names     []string  `json:"names"`
	Algorithm string    `json:"algorithm"`
	Issuer    string    `json:"issuer"`
	Begins    time.Time `json:"begins"`
	Ends      time.Time `json:"ends"`
	Domain    string    `json:"domain,omitempty"`
	Source    string    `json:"source"`
	SealedBy  string    `json:"sealed_by"`
}

func (a *app) certificateCommand() *cobra.Command {
	var domain string
	add := &cobra.Command{
		Use: "add CHAIN KEY", Short: "Have all front ends show a certificate to clients that ask for its names",
		Long: `Have all front ends show a certificate to clients that ask for its names, within seconds. CHAIN is a PEM file of it and what it is
signed by, KEY one of its private key, which is sealed by the first key of tls.seal_file before it is sent to the database. It takes the place of one of the
same names whose key is of the same kind: so it is renewed.`,
		Args: exactArgs("CHAIN", "KEY"), RunE: a.onStore(func(j *job) error { return addCertificate(j, domain) }),
	}
	add.Flags().StringVar(&domain, "domain", "", "the `DOMAIN` of a tenant that it is for, with which it goes, and below which all its names have to be")
	var yes bool
	order := &cobra.Command{
		Use: "order NAME...", Short: "Have certificates of names ordered by ACME, one each, and anew before they end",
		Long: `Have certificates of names ordered by ACME, one each, and anew before they end (settings acme.*). Each name has to lead to front ends, which
show the authority that it is yours. Of names that nobody has ordered none are, whatever clients ask for. A name that is ordered again is tried at once.`,
		Args: cobra.MinimumNArgs(1), RunE: a.onStore(func(j *job) error { return orderCertificates(j, domain) }),
	}
	order.Flags().StringVar(&domain, "domain", "", "the `DOMAIN` of a tenant that they are for, with which they go, and which the names have to be or lie below")
	remove := &cobra.Command{Use: "delete ID", Short: "Take a certificate away, with its key", Args: exactArgs("ID"), RunE: a.onStore(func(j *job) error {
		return deleteCertificate(j, yes)
	})}
	var newAccount bool
	reseal := &cobra.Command{
		Use: "reseal", Short: "Seal anew what is not sealed by the first key of tls.seal_file, so that the others can be taken out of it", Args: exactArgs(),
		RunE: a.onStore(func(j *job) error { return resealCertificates(j, newAccount) }),
	}
	reseal.Flags().BoolVar(&newAccount, "new-account", false, "have accounts at ACME authorities made anew, if what their keys were sealed by is lost")
	return group("certificate", "Certificates of TLS in the database, by the names that clients ask for (setting tls.seal_file)",
		add,
		&cobra.Command{Use: "list", Short: "List the certificates in the database", Args: exactArgs(), RunE: a.onStore(listCertificates)},
		yesFlag(remove, &yes),
		order,
		&cobra.Command{Use: "orders", Short: "List the names that certificates are ordered for, and what the last problem was", Args: exactArgs(), RunE: a.onStore(listOrders)},
		&cobra.Command{Use: "cancel NAME", Short: "Order no more certificates of a name; what there is stays until it ends", Args: exactArgs("NAME"), RunE: a.onStore(cancelOrder)},
		reseal)
}

// seals are those of the configuration, which a command needs.
func (j *job) seals() (*certificate.Seals, error) {
	seals, err := readSeals(j.config)
	if err == nil && seals == nil {
		err = errors.New("there is nothing to seal keys by: tls.seal_file is not set")
	}
	return seals, err
}

func addCertificate(j *job, domain string) error {
	seals, err := j.seals()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(j.args[0], j.args[1])
	if err != nil {
		return err
	}
	switch now := time.Now(); {
	case now.After(pair.Leaf.NotAfter):
		return fmt.Errorf("%s: it has ended on %s", j.args[0], day(pair.Leaf.NotAfter))
	case now.Before(pair.Leaf.NotBefore): // it would take the place of one that holds
		return fmt.Errorf("%s: it does not begin before %s", j.args[0], pair.Leaf.NotBefore.UTC().Format(time.DateTime))
	}
	c, sealed, err := seals.Seal(pair, domain, store.SourceAdded)
	if err != nil {
		return fmt.Errorf("%s: %w", j.args[0], err)
	}
	if c.ID, err = j.store.SetCertificate(j, c, sealed); err != nil {
		return about("certificate of "+strings.Join(c.Names, ", "), err)
	}
	return j.say(viewCertificate(c), "Certificate %d is shown for %s, until %s.", c.ID, strings.Join(c.Names, ", "), day(c.Ends))
}

func viewCertificate(c store.Certificate) certificateView {
	return certificateView{c.ID, c.Names, c.Algorithm, c.Issuer, c.Begins, c.Ends, c.Domain, c.Source, c.SealedBy}
}

func listCertificates(j *job) error {
	all, err := j.store.Certificates(j)
	if err != nil {
		return err
	}
	views, t := []certificateView{}, table{header: []string{"id", "names", "key", "issuer", "ends", "domain", "source", "sealed by"}}
	for _, c := range all {
		views = append(views, viewCertificate(c))
		t.add(c.ID, strings.Join(c.Names, ", "), c.Algorithm, c.Issuer, day(c.Ends), store.DisplayDomain(c.Domain), c.Source, c.SealedBy)
	}
	return j.print(views, t)
}

func deleteCertificate(j *job, yes bool) error {
	number, err := strconv.ParseInt(j.args[0], 10, 64)
	if err != nil {
		return usageError{fmt.Errorf("certificate %s: want its id, a number", j.args[0])}
	}
	if err := confirm(yes, "certificate "+j.args[0]); err != nil {
		return err
	}
	all, err := j.store.Certificates(j)
	if err != nil {
		return err
	}
	err = store.ErrNoCertificate
	for _, c := range all {
		if c.ID == number {
			err = j.store.DeleteCertificate(j, c)
		}
	}
	if err != nil {
		return about("certificate "+j.args[0], err)
	}
	return j.say(map[string]int64{"deleted": number}, "Certificate %d is gone.", number)
}

func resealCertificates(j *job, newAccount bool) error {
	seals, err := j.seals()
	if err != nil {
		return err
	}
	all, err := j.store.Certificates(j)
	if err != nil {
		return err
	}
	var failed []error
	done := 0
	for _, c := range all {
		if c.SealedBy == seals.By() {
			continue
		}
		kept, err := j.store.ReadCertificate(j, c.ID)
		if err == nil {
			kept, err = seals.Reseal(kept)
		}
		if err == nil {
			err = j.store.ResealCertificate(j, c.ID, kept)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("certificate %d: %w", c.ID, err))
			continue
		}
		done++
	}
	accounts, lost := resealAccounts(j, seals, newAccount)
	failed, done = append(failed, lost...), done+accounts
	return errors.Join(append(failed, j.say(map[string]int{"sealed": done}, "Sealed anew: %d.", done))...)
}
