package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mailstead.dev/cmd/mailstead/config"
)

// certificates are those of the mail services, which are read again when new
// ones have been put in their place.
type certificates struct {
	current atomic.Pointer[certificateSet] // nil: there are none
}

// certificateSet are certificates that were read together.
type certificateSet struct {
	rest   *tls.Certificate              // for clients that ask for no name, or another
	byName map[string][]*tls.Certificate // those of the folder, by the names in them, the one that holds longest first
	ends   time.Time                     // when the first of them does
}

// read makes the files' certificates those of new connections. Where anything is not right, all stay as they are.
func (c *certificates) read(files config.TLS) error {
	if files.CertFile == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	set := &certificateSet{rest: &pair, byName: make(map[string][]*tls.Certificate), ends: pair.Leaf.NotAfter}
	if files.Folder != "" {
		if err := set.readFolder(files.Folder); err != nil {
			return fmt.Errorf("certificates: %w", err)
		}
	}
	c.current.Store(set)
	return nil
}

// pairs are the names that certificates and their keys have in the folders that others keep them in: certbot, and Kubernetes.
var pairs = [][2]string{{"fullchain.pem", "privkey.pem"}, {"tls.crt", "tls.key"}}

// readFolder reads the certificates of the folders in a folder.
func (s *certificateSet) readFolder(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, p := range pairs {
			cert, key := filepath.Join(folder, e.Name(), p[0]), filepath.Join(folder, e.Name(), p[1])
			if _, err := os.Stat(cert); err != nil {
				continue // such as the README of certbot
			}
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				return fmt.Errorf("%s: %w", cert, err)
			}
			if len(pair.Leaf.DNSNames) == 0 {
				return fmt.Errorf("%s: it has no name", cert)
			}
			s.add(&pair)
		}
	}
	return nil
}

func (s *certificateSet) add(c *tls.Certificate) {
	if c.Leaf.NotAfter.Before(s.ends) {
		s.ends = c.Leaf.NotAfter
	}
	for _, name := range c.Leaf.DNSNames {
		name = strings.ToLower(name)
		s.byName[name] = append(s.byName[name], c)
		slices.SortStableFunc(s.byName[name], func(x, y *tls.Certificate) int { return y.Leaf.NotAfter.Compare(x.Leaf.NotAfter) })
	}
}

// choose returns the certificate that a client is shown: one for the name that it asks for (RFC 6066 section 3), or for all names beside it, that it can use.
func (s *certificateSet) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	_, above, _ := strings.Cut(name, ".")
	for _, of := range []string{name, "*." + above} {
		for _, c := range s.byName[of] {
			if hello.SupportsCertificate(c) == nil {
				return c
			}
		}
	}
	return s.rest
}

// config returns the TLS settings of servers, nil where there is no certificate. Clients are asked for one if it is of use: some
// programs bother their users with that.
func (c *certificates) config(ask bool) *tls.Config {
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
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load().choose(hello), nil },
	}
}
