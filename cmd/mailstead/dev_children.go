package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/deploy/local"
)

// child is a process of `mailstead dev`.
type child interface {
	PID() int
	Done() <-chan struct{}
	Err() error
	Stop(ctx context.Context)
}

// family is the children, in the order in which they were started.
type family struct {
	patience time.Duration // with a child that is asked to end
	members  []func()      // each stops a child and waits for it
}

// Waits before a child that keeps dying is started again.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	steadyAfter  = 10 * time.Second // a child that lived for so long begins anew with the first pause
)

// add starts a child and starts it again whenever it dies. start returns when the child answers.
func (f *family) add(ctx context.Context, out io.Writer, name string, start func(context.Context) (child, error)) error {
	first, err := start(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(out, "child %s %d\n", name, first.PID())
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it ends by stop, in its turn
	var watching sync.WaitGroup
	watching.Go(func() { f.keep(ctx, out, name, first, start) })
	f.members = append(f.members, func() { cancel(); watching.Wait() })
	return nil
}

// keep restarts a child until ctx ends, and then stops it.
func (f *family) keep(ctx context.Context, out io.Writer, name string, c child, start func(context.Context) (child, error)) {
	pause, since := firstPause, time.Now()
	for {
		select {
		case <-ctx.Done():
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.patience)
			defer cancel()
			c.Stop(stopCtx)
			return
		case <-c.Done():
		}
		fmt.Fprintf(out, "child %s ended: %v\n", name, c.Err())
		if time.Since(since) > steadyAfter {
			pause = firstPause
		}
		for {
			var err error
			if c, err = start(ctx); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			fmt.Fprintf(out, "child %s does not start, next try in %v: %v\n", name, pause, err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			pause = min(2*pause, longestPause)
		}
		since = time.Now()
		fmt.Fprintf(out, "child %s %d\n", name, c.PID())
	}
}

// stop ends the children, the last one first.
func (f *family) stop() {
	for len(f.members) > 0 {
		last := len(f.members) - 1
		f.members[last]()
		f.members = f.members[:last]
	}
}

// postgresChild keeps where the server listens, which is the same after each restart.
type postgresChild struct {
	o       local.PostgresOptions
	mu      sync.Mutex
	current *local.Postgres
}

func (p *postgresChild) start(ctx context.Context) (child, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		p.current.Release()
		p.current = nil
	}
	started, err := local.StartPostgres(ctx, p.o)
	if err != nil {
		return nil, err
	}
	p.current = started
	return started, nil
}

func (p *postgresChild) dsn(role string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current.DSN(role, local.Database)
}

// frontEndChild starts a front end as a process of its own, from a configuration file.
func frontEndChild(o devOptions, i int, c *config.Config) func(context.Context) (child, error) {
	name := fmt.Sprintf("front-%d", i+1)
	return func(ctx context.Context) (child, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		file := o.path(name + ".yaml")
		if err := os.WriteFile(file, config.Marshal(c), 0o600); err != nil {
			return nil, err
		}
		log, err := openLog(o.path("log", name+".log"))
		if err != nil {
			return nil, err
		}
		defer log.Close()
		cmd := exec.Command(self, "serve", "--config", file)
		cmd.Stdout, cmd.Stderr = log, log
		// The file has all settings; those of the environment have gone into it.
		for _, entry := range os.Environ() {
			if !strings.HasPrefix(entry, "MAILSTEAD_") {
				cmd.Env = append(cmd.Env, entry)
			}
		}
		p, err := local.Start(cmd)
		if err != nil {
			return nil, err
		}
		return awaitReady(ctx, frontEndProcess{p}, o.address(portHTTP+frontEndPorts*i), log.Name())
	}
}

// awaitReady returns a process when it says at an address that clients may come; one that does not is stopped.
func awaitReady(ctx context.Context, p frontEndProcess, address, log string) (child, error) {
	startCtx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		err := isReady(startCtx, address)
		if err == nil {
			return p, nil
		}
		select {
		case <-p.Done():
			return nil, fmt.Errorf("%w\n%s", p.Err(), local.Tail(log))
		case <-startCtx.Done():
			p.Stop(context.WithoutCancel(ctx))
			return nil, fmt.Errorf("does not answer: %w\n%s", err, local.Tail(log))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

type frontEndProcess struct{ *local.Process }

func (p frontEndProcess) Stop(ctx context.Context) { p.Process.Stop(ctx, syscall.SIGTERM) }

// lines lets several goroutines write whole lines.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(text)
}
