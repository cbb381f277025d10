package certificate

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Shown are the certificates that a front end shows: those of files, and those of the database. Which they are may change at any time; a
// connection keeps what it was shown.
type Shown struct {
	files atomic.Pointer[fromFiles] // nil: there are none
	kept  *Kept                     // nil: there are none
}

// Read makes the files' certificates those of new connections. Where anything is not right, all stay as they are.
func (s *Shown) Read(f Files) error {
	if f.Cert == "" {
		return nil
	}
	all, err := f.read()
	if err != nil {
		return err
	}
	s.files.Store(all)
	return nil
}

// Add has certificates of the database shown beside those of the files, before any is.
func (s *Shown) Add(k *Kept) { s.kept = k }

// Ends is when the first certificate of the files ends, or the first name of the database is without one that holds; the zero time where there are none.
func (s *Shown) Ends() time.Time {
	files := s.files.Load()
	if files == nil {
		return time.Time{}
	}
	ends := files.ends
	if s.kept != nil {
		for name := range s.kept.names.Load().byName {
			if last := s.last(files, name); last.Before(ends) {
				ends = last
			}
		}
	}
	return ends
}

// last is when the last certificate for a name ends.
func (s *Shown) last(files *fromFiles, name string) (ends time.Time) {
	if rest := files.rest.Leaf; rest.VerifyHostname(name) == nil {
		ends = rest.NotAfter
	}
	for _, c := range s.candidates(files, name) {
		if c.ends.After(ends) {
			ends = c.ends
		}
	}
	return ends
}

// Config returns the TLS settings of servers, nil where there is no certificate. Clients are asked for one if it is of use: some
// programs bother their users with that.
func (s *Shown) Config(ask bool) *tls.Config {
	if s.files.Load() == nil {
		return nil
	}
	clients := tls.NoClientCert
	if ask {
		clients = tls.RequestClientCert // who may log in by it is package auth's to say
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: clients, GetCertificate: s.choose,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if s.kept == nil {
				return nil, nil
			}
			return s.kept.forProof(hello), nil
		},
	}
}

// candidate is a certificate that may have to be read first.
type candidate struct {
	begins, ends time.Time
	open         func(context.Context) (*tls.Certificate, error)
}

// choose returns the certificate that a client is shown: one for the name that it asks for (RFC 6066 section 3), or for all names beside it, that it can use.
// One that does not hold now is shown where no other holds. There is an error where it would be one that cannot be read or opened now, and no other is for the name:
// that would be taken for an attack by who looks at it, and who does not would send passwords.
func (s *Shown) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	files := s.files.Load()
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	var holding, others []candidate
	for _, c := range s.candidates(files, name) {
		if holds(c.begins, c.ends) {
			holding = append(holding, c)
		} else {
			others = append(others, c)
		}
	}
	shown, err := first(hello, holding)
	rest := files.rest
	if shown == nil && rest.Leaf.VerifyHostname(name) == nil && holds(rest.Leaf.NotBefore, rest.Leaf.NotAfter) {
		return rest, nil
	}
	if shown == nil && err == nil {
		shown, err = first(hello, others)
	}
	return cmp.Or(shown, rest), err
}

func holds(begins, ends time.Time) bool {
	now := time.Now()
	return !now.Before(begins) && !now.After(ends)
}

// first returns the first certificate that a client can use, nil where there is none.
func first(hello *tls.ClientHelloInfo, all []candidate) (*tls.Certificate, error) {
	var unread error
	for _, c := range all {
		shown, err := c.open(hello.Context())
		if err != nil {
			unread = err
		} else if shown != nil && hello.SupportsCertificate(shown) == nil {
			return shown, nil
		}
	}
	if unread != nil {
		return nil, errors.New("the certificate of that name cannot be read now")
	}
	return nil, nil
}

// candidates are the certificates for a name, and after them those for all names beside it.
func (s *Shown) candidates(files *fromFiles, name string) []candidate {
	_, above, _ := strings.Cut(name, ".")
	return append(s.named(files, name), s.named(files, "*."+above)...)
}

// named are the certificates in which a name is, the one that holds longest first.
func (s *Shown) named(files *fromFiles, name string) (all []candidate) {
	for _, c := range files.byName[name] {
		all = append(all, candidate{c.Leaf.NotBefore, c.Leaf.NotAfter, func(context.Context) (*tls.Certificate, error) { return c, nil }})
	}
	if s.kept != nil {
		names := s.kept.names.Load()
		for _, c := range names.byName[name] {
			all = append(all, candidate{c.Begins, c.Ends, func(ctx context.Context) (*tls.Certificate, error) { return s.kept.open(ctx, names, c) }})
		}
	}
	slices.SortStableFunc(all, func(x, y candidate) int { return cmp.Compare(y.ends.Unix(), x.ends.Unix()) })
	return all
}
