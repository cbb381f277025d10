package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"

	"mailstead.dev/cmd/mailstead/config"
)

// certificate is the one of the mail services, which is read again when a new
// one has been put in its place.
type certificate struct {
	files   config.TLS
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]
}

func newCertificate(files config.TLS, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, log: log}
	if files.CertFile == "" {
		return c, nil
	}
	return c, c.read()
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.files.CertFile, c.files.KeyFile)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c.current.Store(&pair)
	return nil
}

// reloadOnHangup reads the files again at each SIGHUP, until stop is called. Files
// that are not right leave the certificate as it is.
func (c *certificate) reloadOnHangup() (stop func()) {
	return onHangup(func() {
		if c.files.CertFile == "" {
			return
		}
		if err := c.read(); err != nil {
			c.log.Error("the old certificate stays", "error", err)
			return
		}
		c.log.Info("certificate read again", "file", c.files.CertFile)
	})
}

// config returns the TLS settings of servers, nil where there is no certificate.
func (c *certificate) config() *tls.Config {
	if c.current.Load() == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
