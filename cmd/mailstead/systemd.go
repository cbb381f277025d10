package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// sockets are the listeners that systemd has opened for this process, by their names.
type sockets map[string][]net.Listener

// socketNames are those that systemd may give them (FileDescriptorName=).
var socketNames = []string{"imap", "imaps", "lmtp", "http"}

func inheritedSockets() (sockets, error) {
	all := sockets{}
	for _, f := range activation.Files(true) {
		name := f.Name()
		if !slices.Contains(socketNames, name) {
			return nil, fmt.Errorf("systemd passes a socket of the name %q: want FileDescriptorName= to be one of %s", name, strings.Join(socketNames, ", "))
		}
		l, err := net.FileListener(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("systemd's socket %s: %w", name, err)
		}
		all[name] = append(all[name], l)
	}
	return all, nil
}

// take returns the sockets of a name, which are then somebody's.
func (s sockets) take(name string) []net.Listener {
	taken := s[name]
	delete(s, name)
	return taken
}

// left is the error that sockets are which nobody has taken.
func (s sockets) left() error {
	if len(s) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(s))
	return fmt.Errorf("systemd passes sockets of the names %s, and this process has not the roles for them", strings.Join(names, ", "))
}

// manager is systemd, where that has started the process and wants to hear of it; elsewhere nobody listens.
type manager struct{ log *slog.Logger }

func (m manager) tell(state ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		m.log.Warn("systemd does not hear", "state", state, "error", err)
	}
}

func (m manager) ready(status string) { m.tell(daemon.SdNotifyReady, "STATUS="+status) }

func (m manager) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		m.log.Warn("no monotonic clock", "error", err)
		return
	}
	m.tell(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

func (m manager) stopping() { m.tell(daemon.SdNotifyStopping, "STATUS=Draining") }

// keepAlive tells the watchdog, if there is one, that the process gets to run, until stop is
// called. That the database is away is no reason to be restarted, so nothing else is asked.
func (m manager) keepAlive() (stop func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		m.log.Warn("no watchdog", "error", err)
	}
	if interval == 0 {
		return func() {}
	}
	done := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(interval / 2)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.tell(daemon.SdNotifyWatchdog)
			case <-done:
				return
			}
		}
	})
	return func() { close(done); telling.Wait() }
}
