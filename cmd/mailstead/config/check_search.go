package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
)

var errNoCertificate = errors.New("no certificate in it: want a PEM file")

// checkSearch finds what is wrong between the settings of search.
func (l *loader) checkSearch(s Search, at func(string) string) {
	files := 0
	for _, file := range []string{s.CertFile, s.KeyFile, s.CAFile} {
		if file != "" {
			files++
		}
	}
	switch {
	case files == 3:
		if _, err := MutualTLS(s.CertFile, s.KeyFile, s.CAFile); err != nil {
			l.problem(at("search.cert_file"), "%v", err)
		}
	case files > 0:
		l.problem(at("search.cert_file"), "search.cert_file, search.key_file and search.ca_file belong together: set all or none")
	case s.Listen != "" && !isLoopback(string(s.Listen)):
		l.problem(at("search.listen"), "%s can be reached from elsewhere: set search.cert_file, search.key_file and search.ca_file, by which processes know each other", s.Listen)
	}
	if s.Listen != "" && s.Address == "" {
		if host, _, err := net.SplitHostPort(string(s.Listen)); err != nil || host == "" {
			l.problem(at("search.address"), "search.listen, %s, names no host that others can connect to: set search.address", s.Listen)
		}
	}
	if s.Address != "" {
		if host, port, err := net.SplitHostPort(s.Address); err != nil || host == "" || port == "" {
			l.problem(at("search.address"), "%s: want host:port", s.Address)
		}
	}
}

// isLoopback reports whether an address can be reached from this machine alone.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// MutualTLS returns the settings of both ends of connections between processes that know each other by certificates: of
// PEM files with the own one, its key, and the authorities of all. Nil without files: there is no TLS.
func MutualTLS(certFile, keyFile, caFile string) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(text) {
		return nil, &os.PathError{Op: "read", Path: caFile, Err: errNoCertificate}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		RootCAs: authorities, ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}
