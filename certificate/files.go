package certificate

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Files are those with certificates.
type Files struct {
	Cert, Key string // of the one for clients that ask for no name, or another; "": there are none
	Folder    string // of those of further names; "": there is none
}

// fromFiles are certificates that were read together.
type fromFiles struct {
	rest   *tls.Certificate              // for clients that ask for no name, or another
	byName map[string][]*tls.Certificate // those of the folder, by the names in them, the one that holds longest first
	ends   time.Time                     // when the first of them does
}

func (f Files) read() (*fromFiles, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	all := &fromFiles{rest: &pair, byName: make(map[string][]*tls.Certificate), ends: pair.Leaf.NotAfter}
	if f.Folder != "" {
		if err := all.readFolder(f.Folder); err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
	}
	return all, nil
}

// pairs are the names that certificates and their keys have in the folders that others keep them in: certbot, and Kubernetes.
var pairs = [][2]string{{"fullchain.pem", "privkey.pem"}, {"tls.crt", "tls.key"}}

// readFolder reads the certificates of the folders in a folder.
func (a *fromFiles) readFolder(folder string) error {
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
			a.add(&pair)
		}
	}
	return nil
}

func (a *fromFiles) add(c *tls.Certificate) {
	if c.Leaf.NotAfter.Before(a.ends) {
		a.ends = c.Leaf.NotAfter
	}
	for _, name := range Names(c.Leaf) {
		a.byName[name] = append(a.byName[name], c)
		slices.SortStableFunc(a.byName[name], func(x, y *tls.Certificate) int { return cmp.Compare(y.Leaf.NotAfter.Unix(), x.Leaf.NotAfter.Unix()) })
	}
}
