package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"mailstead.dev/store"
)

// CellLogin is what becomes of a client whose account is in another cell.
type CellLogin string

// The ways.
const (
	LoginProxy CellLogin = "proxy"
	LoginHint  CellLogin = "hint"
	LoginRefer CellLogin = "refer"
)

func (p *CellLogin) UnmarshalText(text []byte) error {
	return oneOf((*string)(p), text, string(LoginProxy), string(LoginHint), string(LoginRefer))
}

// CellHost is another cell, and where clients reach it.
type CellHost struct {
	Name, Host string
	Port       uint16 // 0: IMAP's
}

func (h *CellHost) UnmarshalText(text []byte) error {
	name, at, ok := strings.Cut(string(text), "=")
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		host, port = strings.Trim(at, "[]"), "143"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || store.CheckCell(name) != nil || err != nil || n == 0 || !isHost(host) {
		return errors.New("want the name of a cell and a host such as east=imap.east.example.org")
	}
	*h = CellHost{name, host, uint16(n)}
	return nil
}

// isHost reports whether a text is the name or the address of a host.
func isHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

func (h CellHost) String() string {
	return h.Name + "=" + net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port)))
}

// CellAddress is where front ends reach another cell.
type CellAddress struct{ Name, Address string }

func (a *CellAddress) UnmarshalText(text []byte) error {
	name, address, ok := strings.Cut(string(text), "=")
	host, port, err := net.SplitHostPort(address)
	if !ok || store.CheckCell(name) != nil || err != nil || host == "" || !isPort(port) {
		return errors.New("want the name of a cell, a host and a port such as east=10.0.2.7:993")
	}
	*a = CellAddress{name, address}
	return nil
}

func (a CellAddress) String() string { return a.Name + "=" + a.Address }

// Names are those of the other cells.
func (c Cells) Names() (names []string) {
	for _, h := range c.Others {
		names = append(names, h.Name)
	}
	return names
}

// Address is where front ends reach another cell.
func (c Cells) Address(of CellHost) string {
	i := slices.IndexFunc(c.Addresses, func(a CellAddress) bool { return a.Name == of.Name })
	if i < 0 {
		return net.JoinHostPort(of.Host, "993")
	}
	return c.Addresses[i].Address
}

// TLS is how front ends know another cell.
func (c Cells) TLS(of CellHost) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: of.Host, ClientSessionCache: tls.NewLRUClientSessionCache(0)} // each login is a connection of its own
	if c.CAFile == "" {
		return config, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, &os.PathError{Op: "read", Path: c.CAFile, Err: errNoCertificate}
	}
	return config, nil
}

// leastSecret is how many characters the secret of cells has at the least.
const leastSecret = 32

// checkCells finds what is wrong between the settings of cells.
func (l *loader) checkCells(c Cells, at func(string) string) {
	names := c.Names()
	for i, name := range names {
		if name == c.Name || slices.Contains(names[:i], name) {
			l.problem(at("cells.others"), "%s is named twice: each cell has a name of its own", name)
		}
	}
	for _, a := range c.Addresses {
		if !slices.Contains(names, a.Name) {
			l.problem(at("cells.addresses"), "%s is none of cells.others", a.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	if err := store.CheckCell(c.Name); err != nil {
		l.problem(at("cells.name"), "where there are other cells, this one needs a name: want letters a to z, digits and -")
	}
	if len(c.Secret.Reveal()) < leastSecret {
		l.problem(at("cells.secret"), "want a secret of %d characters or more, the same in all cells", leastSecret)
	}
	if n := len(c.SecondSecret.Reveal()); n > 0 && n < leastSecret {
		l.problem(at("cells.second_secret"), "want %d characters or more, or nothing", leastSecret)
	}
	if _, err := c.TLS(c.Others[0]); err != nil {
		l.problem(at("cells.ca_file"), "%v", err)
	}
}
