package main

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// openProofs serves HTTP to authorities that ask whether a name is ours.
func (p *process) openProofs() error {
	listeners, err := p.listeners("acme", "acme.listen", p.config.ACME.Listen)
	if err != nil || len(listeners) == 0 {
		return err
	}
	const patience, header, atOnce = 10 * time.Second, 8 << 10, 100
	server := &http.Server{
		Handler: p.kept, ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: header,
		ConnState: makeRoom(atOnce), ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	server.SetKeepAlivesEnabled(false) // who asks for one answer makes room for others
	untilClosed := func(l net.Listener) error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
	p.services = append(p.services, service{name: "acme", serve: on(listeners, untilClosed), shutdown: server.Shutdown})
	return nil
}

// makeRoom bounds how many connections a server has: where one is too many, the first is closed. Whoever asks does so at once, so that one has been silent for
// longest; if the others waited instead, a few silent ones would keep all certificates from being renewed.
func makeRoom(atOnce int) func(net.Conn, http.ConnState) {
	var mu sync.Mutex // guards what follows
	var open []net.Conn
	return func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew: // told before the next one is accepted
			if len(open) == atOnce {
				open[0].Close() // its StateClosed finds it gone from here
				open = open[1:]
			}
			open = append(open, c)
		case http.StateClosed:
			open = slices.DeleteFunc(open, func(o net.Conn) bool { return o == c })
		}
	}
}
