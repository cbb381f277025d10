package main

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"

	"mailstead.dev/cmd/mailstead/config"
)

// certificate is the one of the mail services, which is read again when a new
// one has been put in its place.
type certificate struct {
	current atomic.Pointer[tls.Certificate] // nil: there is none
}

// read makes the files' certificate that of new connections. Files that are not right leave it as it is.
func (c *certificate) read(files config.TLS) error {
	if files.CertFile == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c.current.Store(&pair)
	return nil
}

// config returns the TLS settings of servers, nil where there is no certificate. Clients are asked for one if it is of use: some
// programs bother their users with that.
func (c *certificate) config(ask bool) *tls.Config {
	if c.current.Load() == nil {
		return nil
	}
	clients := tls.NoClientCert
	if ask {
		clients = tls.RequestClientCert // who may log in by it is package auth's to say
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     clients,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
