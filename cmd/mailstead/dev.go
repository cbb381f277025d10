package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/deploy/local"
	"mailstead.dev/migrations"
	"mailstead.dev/store"
)

// devOptions are those of `mailstead dev`.
type devOptions struct {
	data           string
	portBase       int
	accounts       int
	frontEnds      int
	cells          int
	demo           string // the demo tenant; its domain is this with .test
	plaintextLogin bool
}

// Ports of `mailstead dev`, counted from the base. Further front ends have the
// first four of them again, frontEndPorts higher each.
const (
	portIMAP = iota
	portIMAPS
	portLMTP
	portHTTP
	portS3
	portS3Status
	frontEndPorts = 10
)

func (a *app) devCommand() *cobra.Command {
	var o devOptions
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: a private PostgreSQL and S3 server, all roles, a demo tenant",
		Long: `Run everything on this machine, until Ctrl-C: a private PostgreSQL and an S3 server as
child processes, all roles, and a tenant "demo" with users. All services listen on 127.0.0.1:
N IMAP with STARTTLS, N+1 IMAP over TLS, N+2 LMTP, N+3 HTTP, N+4 S3, N+5 counters of the S3 server.
Everything is kept in the data folder; a second start goes on with it. With --cells 2 all of it runs a second time, as another cell: at N+50, with the
tenant "east". Both let in the users of both.

Addresses, database, bucket, certificate and roles are dev's own; all other settings are taken from the
configuration file and the environment as usual.`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return usageError{err}
			}
			err := a.dev(c.Context(), o)
			if c.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return nil // asked to end while it was starting
			}
			return err
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.data, "data", "data", "folder for everything")
	flags.IntVar(&o.portBase, "port-base", 14300, "first port, N")
	flags.IntVar(&o.accounts, "accounts", 0, `make user0001@demo.test and so on, this many, with the password "pass"; the last tenth in a second tenant, from user0001@other.test`)
	flags.BoolVar(&o.plaintextLogin, "plaintext-login", false, "allow logging in without TLS from this machine")
	flags.IntVar(&o.frontEnds, "front-ends", 1, "front ends; more than one run as a process each, at N, N+10, N+20 and so on")
	flags.IntVar(&o.cells, "cells", 1, "2: run a second cell as well, with a database and a bucket of its own, at N+50")
	flags.StringVar(&o.demo, "demo", firstDemo, "name of the demo tenant, whose users are demo1@NAME.test and demo2@NAME.test")
	return c
}

func (o devOptions) check() error {
	if err := store.CheckCell(o.demo); err != nil { // the name of a tenant and of a domain as well
		return fmt.Errorf("--demo: %w", err)
	}
	switch {
	case o.cells < 1 || o.cells > 2:
		return fmt.Errorf("--cells %d: want 1 or 2", o.cells)
	case o.cells == 2 && (o.portBase+2*cellPorts > 65535 || o.frontEnds*frontEndPorts > cellPorts):
		return fmt.Errorf("--cells 2: the ports from %d to %d have to be free for them", o.portBase, o.portBase+2*cellPorts-1)
	case o.cells == 2 && o.demo == secondDemo:
		return fmt.Errorf("--demo %s: it is the other cell's", o.demo)
	case o.portBase < 1 || o.portBase+frontEndPorts*o.frontEnds > 65535:
		return fmt.Errorf("--port-base %d: want a port between 1 and %d", o.portBase, 65535-frontEndPorts*o.frontEnds)
	case o.frontEnds < 1 || o.frontEnds > 100:
		return fmt.Errorf("--front-ends %d: want 1 to 100", o.frontEnds)
	case o.accounts < 0 || o.accounts > 1000000:
		return fmt.Errorf("--accounts %d: want 0 to 1000000", o.accounts)
	}
	return nil
}

func (o devOptions) address(port int) string { return fmt.Sprintf("127.0.0.1:%d", o.portBase+port) }

func (o devOptions) path(elements ...string) string {
	return filepath.Join(append([]string{o.data}, elements...)...)
}

func (a *app) dev(ctx context.Context, o devOptions) (err error) {
	base, err := a.load()
	if err != nil {
		return err
	}
	if o.data, err = filepath.Abs(o.data); err != nil {
		return err
	}
	// Others may pass, for PostgreSQL's own user when root runs this; what is inside is closed to them.
	if err := os.MkdirAll(o.data, 0o711); err != nil {
		return err
	}
	if err := os.MkdirAll(o.path("log"), 0o700); err != nil {
		return err
	}
	unlock, err := local.Lock(o.data)
	if err != nil {
		return err
	}
	defer unlock()
	if err := o.awaitFreePorts(ctx); err != nil {
		return err
	}
	state, err := loadDevState(o.path("dev.json"), o.users())
	if err != nil {
		return err
	}
	if err := makeCertificates(o.path("tls"), time.Now()); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if o.cells == 2 {
		if err := o.second().prepare(); err != nil {
			return err
		}
		base.Cells = o.cellsOf(state, base.Cells.Login)
	}

	// Children are stopped in the reverse order, and outlive ctx for that.
	children := family{patience: base.DrainTime + 5*time.Second}
	defer func() { children.stop() }()
	out := &lines{w: a.out}
	postgres := &postgresChild{o: local.PostgresOptions{Dir: o.path("postgres"), Log: o.path("log", "postgres.log")}}
	if err := children.add(ctx, out, "postgres", postgres.start); err != nil {
		return err
	}
	if _, err := migrations.Up(ctx, postgres.dsn(local.OwnerRole)); err != nil {
		return err
	}
	s3 := local.S3Options{
		Dir: o.path("s3"), Log: o.path("log", "s3.log"), Listen: o.address(portS3), Status: o.address(portS3Status),
		Buckets: []string{devBucket}, Access: state.S3Access, Secret: state.S3Secret,
	}
	err = children.add(ctx, out, "s3", func(ctx context.Context) (child, error) {
		s, err := local.StartS3(ctx, s3)
		if err != nil {
			return nil, err
		}
		return s, nil
	})
	if err != nil {
		return err
	}
	state.psql = postgres.dsn(local.OwnerRole)
	first := frontEnd(base, o, state, postgres, 0)
	if err := writeWhole(o.path(operatorFile), config.Marshal(first)); err != nil {
		return err
	}
	if err := provision(ctx, first, o, state); err != nil {
		return err
	}
	if o.cells == 2 {
		if err := children.add(ctx, out, secondCell, o.startSecond(state, first.Cells)); err != nil {
			return err
		}
		if err := o.introduceCells(ctx, first); err != nil {
			return err
		}
	}

	failed := make(chan error, 1)
	for i := range o.frontEnds {
		c := frontEnd(base, o, state, postgres, i)
		if o.frontEnds == 1 {
			log, err := openLog(o.path("log", "mailstead.log"))
			if err != nil {
				return err
			}
			defer log.Close()
			serveCtx, stop := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				failed <- (&app{err: log}).serve(serveCtx, c, func() (*config.Config, error) { return c, nil })
			}()
			defer func() { stop(); <-done }()
			break
		}
		if err := children.add(ctx, out, fmt.Sprintf("front-%d", i+1), frontEndChild(o, i, c)); err != nil {
			return err
		}
	}
	if err := o.await(ctx, failed); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		if o.frontEnds == 1 {
			err = fmt.Errorf("%w\n%s", err, local.Tail(o.path("log", "mailstead.log")))
		}
		return err
	}
	if err := tour(out, o, state); err != nil {
		return err
	}

	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

const devBucket = "mail"

// operatorFile is the configuration for the operator's commands, in the folder of everything.
const operatorFile = "mailstead.yaml"

// frontEnd is the configuration of the front end i.
func frontEnd(base *config.Config, o devOptions, state *devState, postgres *postgresChild, i int) *config.Config {
	c := *base
	at := func(port int) config.Listen { return config.Listen(o.address(port + frontEndPorts*i)) }
	c.Roles = []config.Role{config.RoleIMAP, config.RoleLMTP, config.RoleMaintenance, config.RoleIndex, config.RoleAdmin}
	c.Search.Folder = o.path("index", fmt.Sprint(i+1))
	c.Database = config.Database{URL: config.Secret(postgres.dsn(local.ServingRole)), MaxConnections: base.Database.MaxConnections}
	c.Objects = config.Objects{
		Endpoint: config.URL("http://" + o.address(portS3)), Region: local.Region, Bucket: devBucket, PathStyle: true,
		AccessKey: state.S3Access, SecretKey: config.Secret(state.S3Secret),
	}
	c.TLS.CertFile, c.TLS.KeyFile = o.path("tls", certFile), o.path("tls", keyFile) // all else as by default
	c.IMAP.Listen, c.IMAP.ListenTLS, c.IMAP.PlaintextLogin = at(portIMAP), at(portIMAPS), o.plaintextLogin
	c.LMTP.Listen, c.LMTP.Allow = at(portLMTP), config.Default().LMTP.Allow
	c.HTTP.Listen = at(portHTTP)
	return &c
}

// portsOf are those of a front end.
var portsOf = []int{portIMAP, portIMAPS, portLMTP, portHTTP}

// ports are all that dev listens at.
func (o devOptions) ports() []int {
	all := []int{portS3, portS3Status}
	for i := range o.frontEnds {
		for _, port := range portsOf {
			all = append(all, port+frontEndPorts*i)
		}
	}
	return all
}

// awaitFreePorts finds a port that is taken before anything is started: what
// answers there is not ours. A dev that was killed a moment ago may need another to be gone.
func (o devOptions) awaitFreePorts(ctx context.Context) error {
	deadline := time.Now().Add(portTime)
	for _, port := range o.ports() {
		for {
			l, err := net.Listen("tcp", o.address(port))
			if err == nil {
				if err := l.Close(); err != nil {
					return err
				}
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%w; end what listens there, or choose other ports with --port-base", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// portTime is how long ports may take to become free.
const portTime = 3 * time.Second

func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// startTime is how long everything may take to answer.
const startTime = time.Minute

// await returns when every port of every front end answers.
func (o devOptions) await(ctx context.Context, failed <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for i := range o.frontEnds {
		for _, probe := range []struct {
			port int
			ask  func(ctx context.Context, address string) error
		}{
			{portIMAP, greets("* OK")}, {portIMAPS, handshakes(o.path("tls", caFile))}, {portLMTP, greets("220 ")}, {portHTTP, isReady},
		} {
			address := o.address(probe.port + frontEndPorts*i)
			for {
				err := probe.ask(ctx, address)
				if err == nil {
					break
				}
				select {
				case err := <-failed:
					return err
				case <-ctx.Done():
					return fmt.Errorf("%s does not answer: %w", address, err)
				case <-time.After(50 * time.Millisecond):
				}
			}
		}
	}
	return nil
}

// tour prints where everything is and what to try, and last the line that begins with ready.
func tour(out io.Writer, o devOptions, state *devState) error {
	ca := o.path("tls", caFile)
	login, other := o.users()[0], o.users()[1]
	password := state.Passwords[login]
	fmt.Fprintf(out, `
Mailstead runs in %s; logs are in %s.

  IMAP, STARTTLS  %s    IMAP over TLS  %s    LMTP  %s
  health, metrics http://%s/metrics
  S3              http://%s    its counters  http://%s/metrics
  PostgreSQL      psql '%s'

  %s  password %s  (mail to demo1@%s comes here, too)
  %s  password %s  (mail to demo2@%s comes here, too)
  quotas: 10 GiB and 1,000,000 messages each, 500 GiB and 50,000,000 for their domain, 1 TiB and 100,000,000 for their tenant
`, o.data, o.path("log"), o.address(portIMAP), o.address(portIMAPS), o.address(portLMTP),
		o.address(portHTTP), o.address(portS3), o.address(portS3Status), state.psql,
		login, password, o.domains()[1], other, state.Passwords[other], o.domains()[1])
	if o.accounts > 0 {
		fmt.Fprintf(out, "  user0001@demo.test and so on, %d in all, the last tenth of them from user0001@other.test on, password pass\n", o.accounts)
	}
	if o.cells == 2 {
		if err := o.tourSecond(out); err != nil {
			return err
		}
	}
	imaps := fmt.Sprintf("imaps://localhost:%d", o.portBase+portIMAPS)
	fmt.Fprintf(out, `
Put a message in, read it back, open it in mutt:

  printf 'From: me@demo.test\r\nTo: %[1]s\r\nSubject: Hello\r\n\r\nIt works.\r\n' > hello.eml
  curl --cacert '%[2]s' --user '%[1]s:%[3]s' -T hello.eml %[4]s/INBOX
  curl --cacert '%[2]s' --user '%[1]s:%[3]s' '%[4]s/INBOX;MAILINDEX=1'
  mutt -e 'set ssl_ca_certificates_file="%[2]s" imap_user="%[1]s" imap_pass="%[3]s" folder="%[4]s"' -f %[4]s/INBOX

What an operator sees of it:

  %[6]s -c '%[5]s' quota show account:%[1]s

`, login, ca, password, imaps, o.path(operatorFile), os.Args[0])
	fmt.Fprintf(out, "ready imap=%s imaps=%s lmtp=%s http=%s s3=%s\n",
		o.address(portIMAP), o.address(portIMAPS), o.address(portLMTP), o.address(portHTTP), o.address(portS3))
	return nil
}
