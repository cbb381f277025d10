package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/admin"
	"mailstead.dev/auth"
	"mailstead.dev/certificate"
	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/imapd"
	"mailstead.dev/index/files"
	"mailstead.dev/index/node"
	"mailstead.dev/lmtpd"
	"mailstead.dev/store"
	"mailstead.dev/store/blob"
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Serve the roles of the configuration until SIGTERM; SIGHUP reads it again",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.serving()
			if err != nil {
				return err
			}
			return a.serve(c.Context(), cfg, a.serving)
		},
	}
}

// process is what serves: the roles of one configuration.
type process struct {
	config       *config.Config                 // in force
	load         func() (*config.Config, error) // as it would be now
	log          *slog.Logger
	level        *slog.LevelVar
	tracing      tracing
	measured     *measured
	store        *store.Store
	certificates *certificate.Shown
	kept         *certificate.Kept                 // of them, those of the database; nil: none are shown
	seals        atomic.Pointer[certificate.Seals] // what opens and seals them; nil: nothing
	orders       *certificate.Orders               // nil: none are ordered
	manager      manager
	sockets      sockets
	rejected     atomic.Bool // the configuration, when it was read last

	imap  *imapd.Server // nil: not served
	index *node.Node    // search indexes; nil: not here
	files *files.Reader // of attached files, for searches; nil: they are not read
	lmtp  *lmtpd.Server

	authenticator *auth.Authenticator // with imap

	services []service
	clients  []io.Closer            // of other processes
	drain    func()                 // called before they are shut down
	change   []func(*config.Config) // take over what may change while they run
}

// service is listeners with what answers on them, or a job in the background.
type service struct {
	name     string
	serve    []func() error                  // each until shutdown, or an error
	shutdown func(ctx context.Context) error // returns when all of serve have, at the latest when ctx ends
	last     bool                            // shut down when all others are: it tells of them meanwhile
}

// serve runs the roles of c until ctx ends and all have drained, or one fails. At
// each SIGHUP it takes over of what load returns.
func (a *app) serve(ctx context.Context, c *config.Config, load func() (*config.Config, error)) (err error) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	p := &process{config: c, load: load, log: a.logger(c), level: &a.level, measured: newMeasured(), certificates: new(certificate.Shown), drain: func() {}}
	p.manager = manager{p.log}
	if p.sockets, err = inheritedSockets(); err != nil {
		return err
	}
	if p.tracing, err = openTracing(ctx, c, a.environ, p.log); err != nil {
		return err
	}
	defer p.tracing.close()
	if err := p.openStore(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.store.Close()) }()
	defer func() {
		for _, c := range p.clients {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := p.tryBucket(ctx); err != nil {
		return err
	}
	seals, err := readSeals(c)
	if err != nil {
		return err
	}
	p.seals.Store(seals)
	if err := p.certificates.Read(certificateFiles(c)); err != nil {
		return err
	}
	if err := p.open(); err != nil {
		return err
	}
	defer p.manager.keepAlive()()
	return p.run(ctx, hangups)
}

// openStore opens the store, with what it does measured and traced.
func (p *process) openStore(ctx context.Context) (err error) {
	options := storeOptions(p.config, p.log)
	options.TracerProvider = p.tracing.provider()
	if p.config.Has(config.RoleIMAP) { // all others, commands too, read mail once if at all: they leave the folder to it
		options.BlobCacheDir, options.BlobCacheDirBytes = p.config.Store.BlobCacheDir, int64(p.config.Store.BlobCacheDirSize)
	}
	p.store, err = openStore(ctx, p.config, options, func(next http.RoundTripper) http.RoundTripper {
		return p.tracing.requests(p.measured.bucket(next))
	})
	return err
}

// tryBucketFor is how long a bucket is waited for.
const tryBucketFor = 5 * time.Second

// tryBucket has a key that does not hold, or a bucket that is not there, told at once, and not by the first large message. Without
// an answer the process serves, as it does when the bucket goes away later.
func (p *process) tryBucket(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryBucketFor)
	defer cancel()
	err := p.store.TryBucket(ctx)
	if blob.Misconfigured(err) {
		return fmt.Errorf("the bucket %s at %s cannot be used as objects.* is set: %w", p.config.Objects.Bucket, p.config.Objects.Endpoint, err)
	}
	if err != nil {
		p.log.Error("the bucket takes nothing now: content waits in the database until it does", "error", err)
	}
	return nil
}

// open makes what the roles ask for, with the listeners open, so that a port that is taken is
// told before anything is served; after an error the process ends, and the listeners with it.
func (p *process) open() error {
	c := p.config
	if c.Has(config.RoleMaintenance) {
		ctx, stop := context.WithCancel(context.Background()) // until shutdown
		maintain := func() error { return p.store.Maintain(ctx) }
		p.services = append(p.services, service{
			name: "maintenance", serve: []func() error{maintain}, shutdown: func(context.Context) error { stop(); return nil },
		})
	}
	if c.Has(config.RoleMaintenance) && c.ACME.Directory != "" {
		if err := p.openOrders(); err != nil {
			return err
		}
	}
	if c.Has(config.RoleIndex) {
		if err := p.openIndex(); err != nil {
			return err
		}
	}
	if c.Has(config.RoleLMTP) {
		if err := p.openLMTP(); err != nil {
			return err
		}
	}
	if c.Has(config.RoleIMAP) {
		if err := p.openIMAP(); err != nil {
			return err
		}
	}
	if c.Has(config.RoleAdmin) { // it tells of the others
		if err := p.openHTTP(); err != nil {
			return err
		}
	}
	return p.sockets.left()
}

func (p *process) openHTTP() error {
	listeners, err := p.listeners("http", "http.listen", p.config.HTTP.Listen)
	if err != nil || len(listeners) == 0 {
		return err
	}
	server := admin.New(p.store, admin.Options{Logger: p.log, Metrics: p.metrics()})
	p.drain = server.Drain
	p.services = append(p.services, service{name: "http", serve: on(listeners, server.Serve), shutdown: server.Shutdown, last: true})
	return nil
}

func (p *process) openLMTP() error {
	listeners, err := p.listeners("lmtp", "lmtp.listen", p.config.LMTP.Listen)
	if err != nil || len(listeners) == 0 {
		return err
	}
	server := lmtpd.New(p.store, p.lmtpOptions(p.config))
	p.lmtp = server
	p.change = append(p.change, func(c *config.Config) { server.Change(p.lmtpOptions(c)) })
	p.services = append(p.services, service{name: "lmtp", serve: on(listeners, server.Serve), shutdown: server.Shutdown})
	return nil
}

func (p *process) openIMAP() error {
	plain, err := p.listeners("imap", "imap.listen", p.config.IMAP.Listen)
	if err != nil {
		return err
	}
	overTLS, err := p.listeners("imaps", "imap.listen_tls", p.config.IMAP.ListenTLS)
	if err != nil {
		return err
	}
	if len(overTLS) > 0 && p.certificates.Config(false) == nil {
		return errors.New("IMAP over TLS needs tls.cert_file and tls.key_file")
	}
	c := p.config
	if err := p.openCertificates(); err != nil {
		return err
	}
	authenticator := auth.New(p.store, authOptions(c, p.log))
	options := imapd.Options{
		Store: p.store, Authenticator: authenticator, Logger: p.log,
		TLS: p.certificates.Config(slices.Contains(c.Auth.Mechanisms, "EXTERNAL")), PlaintextLogin: c.IMAP.PlaintextLogin,
		Version: version(), MaxConnections: c.IMAP.MaxConnections,
		MaxPerAddress: c.IMAP.MaxConnectionsPerAddress, Account: accountShare(c), Tenant: tenantShare(c), Balancers: prefixes(c.IMAP.Balancers),
		LoginTimeout: c.IMAP.LoginTime, IdleTimeout: c.IMAP.IdleTime, ReadTimeout: c.IMAP.ReadTime, WriteTimeout: c.IMAP.WriteTime,
		SearchTimeout: c.IMAP.SearchTime, MaxLine: int(c.IMAP.MaxLine), MaxLiteral: int64(c.IMAP.MaxLiteral), MaxNesting: c.IMAP.MaxNesting,
		MaxRanges: c.IMAP.MaxSetRanges, MaxContexts: c.IMAP.MaxContexts, MaxContextMemory: int64(c.IMAP.MaxContextMemory), MaxLevels: c.IMAP.MaxSectionDepth, MaxCommands: int64(c.IMAP.MaxCommandMemory),
		MaxAppend: int64(c.IMAP.MaxAppendMemory), MaxBad: c.IMAP.MaxWrongCommands, MaxLoginFailures: c.IMAP.MaxLoginFailures,
		MaxAtOnce: c.IMAP.MaxCommandsAtOnce, MaxBeside: c.IMAP.MaxCommandsBeside,
		ProgressInterval: c.IMAP.ProgressTime, NoCompress: !c.IMAP.Compress, MaxInflation: int64(c.IMAP.MaxInflation),
		LiteralMinus: c.IMAP.LiteralMinus, Refuse8Bit: c.IMAP.Refuse8Bit,
		TracerProvider: p.tracing.provider(), Observe: p.measured.command,
	}
	if options.Cells, err = otherCells(c); err != nil {
		return err
	}
	options.ReferLogins, options.HintLogins = c.Cells.Login == config.LoginRefer, c.Cells.Login == config.LoginHint
	if r := p.readFiles(); r != nil {
		options.Files = r.For
	}
	if options.Index, err = p.searcher(); err != nil {
		return err
	}
	server := imapd.New(options)
	p.imap, p.authenticator = server, authenticator
	p.change = append(p.change, func(c *config.Config) {
		authenticator.Limit(attemptLimits(c))
		server.Change(imapd.Options{
			MaxConnections: c.IMAP.MaxConnections, MaxPerAddress: c.IMAP.MaxConnectionsPerAddress, Account: accountShare(c), Tenant: tenantShare(c),
		})
	})
	untilClosed := func(serve func(net.Listener) error) func(net.Listener) error {
		return func(l net.Listener) error {
			if err := serve(l); !errors.Is(err, imapd.ErrServerClosed) {
				return err
			}
			return nil
		}
	}
	serve := append(on(plain, untilClosed(server.Serve)), on(overTLS, untilClosed(server.ServeTLS))...)
	watching, stop := context.WithCancel(context.Background()) // until shutdown
	watch := func() error { return authenticator.Watch(watching) }
	shutdown := func(ctx context.Context) error {
		defer stop()
		return server.Shutdown(ctx)
	}
	p.services = append(p.services, service{name: "imap", serve: append(serve, watch), shutdown: shutdown})
	return nil
}

func authOptions(c *config.Config, log *slog.Logger) auth.Options {
	o := auth.Options{
		Mechanisms: mechanisms(c), Anonymous: c.Auth.AnonymousAccount, Keytab: c.Auth.Keytab, Secrets: c.Auth.SecretsFolder,
		Attempts: attemptLimits(c), Cells: knownCells(c), Logger: log,
	}
	for _, r := range c.Auth.Realms {
		o.Realms = append(o.Realms, r.Realm)
	}
	return o
}

// attemptLimits say how many logins may fail.
func attemptLimits(c *config.Config) auth.AttemptLimits {
	return auth.AttemptLimits{
		Address: c.Auth.MaxFailuresPerAddress, Account: c.Auth.MaxFailuresPerAccount, Tenant: c.Auth.MaxFailuresPerTenant,
		Block: c.Auth.BlockTime, Trusted: prefixes(c.Auth.Trusted),
	}
}

// accountShare and tenantShare are what an account, and a tenant, may have of the IMAP service of a process.
func accountShare(c *config.Config) imapd.Share {
	return imapd.Share{
		Connections: c.IMAP.MaxConnectionsPerAccount, Commands: c.IMAP.CommandsPerSecondPerAccount,
		Octets: int(c.IMAP.BytesPerSecondPerAccount), Searches: c.IMAP.MaxSearchesPerAccount,
	}
}

func tenantShare(c *config.Config) imapd.Share {
	return imapd.Share{
		Connections: c.IMAP.MaxConnectionsPerTenant, Commands: c.IMAP.CommandsPerSecondPerTenant,
		Octets: int(c.IMAP.BytesPerSecondPerTenant), Searches: c.IMAP.MaxSearchesPerTenant,
	}
}

func (p *process) lmtpOptions(c *config.Config) lmtpd.Options {
	return lmtpd.Options{
		Hostname: c.LMTP.Hostname, Networks: prefixes(c.LMTP.Allow), MaxMessage: int64(c.Store.MaxMessage), Logger: p.log,
		MaxConnections: c.LMTP.MaxConnections, MaxRecipients: c.LMTP.MaxRecipients, RejectOverQuota: c.LMTP.RejectOverQuota,
		TracerProvider: p.tracing.provider(), Observe: p.measured.delivery,
	}
}

// listeners returns those of systemd that have the name, else that of the setting,
// if it is not off.
func (p *process) listeners(name, key string, at config.Listen) ([]net.Listener, error) {
	all := p.sockets.take(name)
	if len(all) == 0 && at != "" {
		l, err := lmtpd.Listen(string(at), os.FileMode(p.config.LMTP.SocketMode)) // Unix sockets are LMTP's alone
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		all = []net.Listener{l}
	}
	for _, l := range all {
		p.log.Info("serving", "service", name, "address", l.Addr().String())
	}
	return all, nil
}

// on binds serve to each of the listeners.
func on(listeners []net.Listener, serve func(net.Listener) error) []func() error {
	var all []func() error
	for _, l := range listeners {
		all = append(all, func() error { return serve(l) })
	}
	return all
}

// run serves until ctx ends or a service fails, and then shuts all of them down.
func (p *process) run(ctx context.Context, hangups <-chan os.Signal) error {
	failed := make(chan error)
	var running sync.WaitGroup
	for _, s := range p.services {
		for _, serve := range s.serve {
			running.Go(func() {
				if err := serve(); err != nil {
					failed <- fmt.Errorf("%s: %w", s.name, err)
				}
			})
		}
	}
	p.manager.ready("Serving")
	err := p.await(ctx, hangups, failed)
	p.manager.stopping()
	p.drain()
	errs := append(p.shutdown(), err)
	go func() { running.Wait(); close(failed) }()
	for late := range failed {
		errs = append(errs, late)
	}
	return errors.Join(errs...)
}

// await returns when the process has been asked to end, or the error of what has failed.
func (p *process) await(ctx context.Context, hangups <-chan os.Signal, failed <-chan error) error {
	for {
		select {
		case <-hangups:
			p.reload()
		case <-ctx.Done():
			p.log.Info("draining", "at_most", p.config.DrainTime)
			return nil
		case err := <-failed:
			return err
		}
	}
}

// shutdown ends all services, after what is under way or drain_time.
func (p *process) shutdown() []error {
	// What asked the process to end has ended itself; what is under way gets its time nevertheless.
	ctx, cancel := context.WithTimeout(context.Background(), p.config.DrainTime)
	defer cancel()
	errs := make([]error, len(p.services))
	for _, last := range []bool{false, true} {
		var stopping sync.WaitGroup
		for i, s := range p.services {
			if s.last == last {
				stopping.Go(func() { errs[i] = p.stop(ctx, s) })
			}
		}
		stopping.Wait()
	}
	return errs
}

// stop ends a service. That clients take longer than they have is nothing that has gone wrong.
func (p *process) stop(ctx context.Context, s service) error {
	err := s.shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		p.log.Warn("connections were broken: something was under way when drain_time was over", "service", s.name)
		return nil
	}
	if err != nil {
		return fmt.Errorf("shut down %s: %w", s.name, err)
	}
	return nil
}

func prefixes(networks []config.Network) []netip.Prefix {
	list := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		list[i] = n.Prefix
	}
	return list
}
