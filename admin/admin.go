// Package admin is the HTTP service for operators: health and metrics. It is for
// a network of the operators' own and asks nobody who they are.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mailstead.dev/store"
)

// Options sets up a Server.
type Options struct {
	// Metrics are what /metrics shows beside the process's and the store's own.
	Metrics []prometheus.Collector
	// ReadyTimeout is how long /readyz waits for the database; 3 s by default.
	ReadyTimeout time.Duration
	Logger       *slog.Logger // slog.Default() by default
}

// Server answers /livez, /readyz and /metrics.
type Server struct {
	store    *store.Store
	options  Options
	http     *http.Server
	draining atomic.Bool
}

// New returns a server for a process that serves from s.
func New(s *store.Store, o Options) *Server {
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = 3 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	a := &Server{store: s, options: o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", a.livez)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry(s, o.Logger, o.Metrics), promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelError),
	}))
	a.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	return a
}

// livez says that the process runs: whoever asks and gets no answer may restart it.
func (a *Server) livez(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") }

// readyz says whether to send clients here: not while the process drains, the
// database is away, or there is another one in its place with an older schema. Without the object store most of the work still goes on, so it is not asked.
func (a *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if a.draining.Load() {
		answer(w, http.StatusServiceUnavailable, "draining")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.options.ReadyTimeout)
	defer cancel()
	err := a.store.Ready(ctx)
	if err == nil {
		answer(w, http.StatusOK, "ok")
		return
	}
	a.options.Logger.Warn("not ready", "error", err)
	why := "the database is away"
	if !errors.Is(err, store.ErrUnavailable) {
		why = err.Error()
	}
	answer(w, http.StatusServiceUnavailable, why)
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	// A client that is gone needs no answer.
	_, _ = w.Write([]byte(text + "\n"))
}

// Serve answers requests until Shutdown, or until the listener fails.
func (a *Server) Serve(l net.Listener) error {
	if err := a.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Drain makes /readyz say that no more clients should be sent here.
func (a *Server) Drain() { a.draining.Store(true) }

// Shutdown ends Serve after the requests under way.
func (a *Server) Shutdown(ctx context.Context) error { return a.http.Shutdown(ctx) }
