package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/admin"
	"mailstead.dev/auth"
	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/imapd"
	"mailstead.dev/lmtpd"
	"mailstead.dev/store"
)

// drainTime is how long commands under way may take when the process is asked to end.
const drainTime = 25 * time.Second

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Serve the roles of the configuration until SIGTERM",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.serving()
			if err != nil {
				return err
			}
			return serve(c.Context(), cfg, a.logger(cfg))
		},
	}
}

// service is one listener with what answers on it, or a job in the background.
type service struct {
	name     string
	serve    func() error                    // until shutdown, or an error
	shutdown func(ctx context.Context) error // returns when serve has, at the latest when ctx ends
}

// serve runs the roles until ctx ends and all have drained, or one fails.
func serve(ctx context.Context, c *config.Config, log *slog.Logger) (err error) {
	s, err := openStore(ctx, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	certificate, err := newCertificate(c.TLS, log)
	if err != nil {
		return err
	}
	defer certificate.reloadOnHangup()()
	services, drain, err := services(c, s, certificate, log)
	if err != nil {
		return err
	}
	return run(ctx, services, drain, log)
}

// services makes what the roles ask for, with the listeners open, so that a port that
// is taken is told before anything is served; after an error the process ends, and the listeners with it. drain is called before they are shut down.
func services(c *config.Config, s *store.Store, certificate *certificate, log *slog.Logger) (all []service, drain func(), err error) {
	drain = func() {}
	if c.Has(config.RoleAdmin) && c.HTTP.Listen != "" {
		l, err := listen(c.HTTP.Listen)
		if err != nil {
			return all, nil, fmt.Errorf("http.listen: %w", err)
		}
		server := admin.New(s, admin.Options{Logger: log})
		drain = server.Drain
		all = append(all, service{"http " + c.HTTP.Listen.String(), func() error { return server.Serve(l) }, server.Shutdown})
	}
	if c.Has(config.RoleMaintenance) {
		ctx, stop := context.WithCancel(context.Background()) // until shutdown
		all = append(all, service{"maintenance", func() error { return s.Maintain(ctx) }, func(context.Context) error { stop(); return nil }})
	}
	if c.Has(config.RoleLMTP) && c.LMTP.Listen != "" {
		l, err := lmtpd.Listen(string(c.LMTP.Listen), os.FileMode(c.LMTP.SocketMode))
		if err != nil {
			return all, nil, fmt.Errorf("lmtp.listen: %w", err)
		}
		server := lmtpd.New(s, lmtpd.Options{
			Hostname: c.LMTP.Hostname, Networks: prefixes(c.LMTP.Allow), MaxMessage: int64(c.Store.MaxMessage), Logger: log,
			MaxConnections: c.LMTP.MaxConnections, MaxRecipients: c.LMTP.MaxRecipients, RejectOverQuota: c.LMTP.RejectOverQuota,
		})
		all = append(all, service{"lmtp " + c.LMTP.Listen.String(), func() error { return server.Serve(l) }, server.Shutdown})
	}
	if c.Has(config.RoleIMAP) {
		server := imapd.New(imapd.Options{
			Store: s, Authenticator: auth.New(s, auth.Options{}), Logger: log,
			TLS: certificate.config(), PlaintextLogin: c.IMAP.PlaintextLogin,
			Version: version(), MaxConnections: c.IMAP.MaxConnections, MaxPerAccount: c.IMAP.MaxConnectionsPerAccount,
		})
		for _, port := range []struct {
			name, key string
			listen    config.Listen
			serve     func(net.Listener) error
		}{{"imap", "imap.listen", c.IMAP.Listen, server.Serve}, {"imaps", "imap.listen_tls", c.IMAP.ListenTLS, server.ServeTLS}} {
			if port.listen == "" {
				continue
			}
			l, err := listen(port.listen)
			if err != nil {
				return all, nil, fmt.Errorf("%s: %w", port.key, err)
			}
			serve := func() error {
				if err := port.serve(l); !errors.Is(err, imapd.ErrServerClosed) {
					return err
				}
				return nil
			}
			// Both ports are one server: the second shutdown finds nothing left to do.
			all = append(all, service{port.name + " " + port.listen.String(), serve, server.Shutdown})
		}
	}
	return all, drain, nil
}

// run serves until ctx ends or a service fails, and then shuts all of them down.
func run(ctx context.Context, services []service, drain func(), log *slog.Logger) error {
	failed := make(chan error, len(services))
	var running sync.WaitGroup
	for _, s := range services {
		log.Info("serving", "service", s.name)
		running.Go(func() {
			if err := s.serve(); err != nil {
				failed <- fmt.Errorf("%s: %w", s.name, err)
			}
		})
	}
	var result error
	select {
	case <-ctx.Done():
		log.Info("draining")
	case result = <-failed:
	}
	drain()
	// ctx has ended; what is under way gets its time nevertheless.
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	errs := make([]error, len(services))
	var stopping sync.WaitGroup
	for i, s := range services {
		stopping.Go(func() {
			if err := s.shutdown(ctx); err != nil {
				errs[i] = fmt.Errorf("shut down %s: %w", s.name, err)
			}
		})
	}
	stopping.Wait()
	running.Wait()
	return errors.Join(append(errs, result)...)
}

func listen(on config.Listen) (net.Listener, error) {
	network, address := on.Network()
	return net.Listen(network, address)
}

func prefixes(networks []config.Network) []netip.Prefix {
	list := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		list[i] = n.Prefix
	}
	return list
}

// onHangup calls f at each SIGHUP until stop is called.
func onHangup(f func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-hangups:
				f()
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		close(done)
		watching.Wait()
	}
}
