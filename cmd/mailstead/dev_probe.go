package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// greets returns a probe for a service that begins by saying greeting.
func greets(greeting string) func(ctx context.Context, address string) error {
	return func(ctx context.Context, address string) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		return expect(conn, greeting)
	}
}

// handshakes returns a probe for IMAP over TLS with a certificate of the authority ca.
func handshakes(ca string) func(ctx context.Context, address string) error {
	return func(ctx context.Context, address string) error {
		text, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return fmt.Errorf("no certificate in %s", ca)
		}
		conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: pool}}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		return expect(conn, "* OK")
	}
}

func expect(conn net.Conn, greeting string) error {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	got := make([]byte, len(greeting))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != greeting {
		return fmt.Errorf("greets with %q", got)
	}
	return nil
}

// isReady asks a front end whether clients may come.
func isReady(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}
