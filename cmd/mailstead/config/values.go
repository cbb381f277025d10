package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"mailstead.dev/auth"
)

// Secret is a text that is never printed: not by fmt, not in a log, not by `config check`.
type Secret string

const redacted = "[redacted]"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString keeps %#v from telling.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText keeps encoders from telling.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue keeps slog from telling.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Reveal returns the text, for where it is used.
func (s Secret) Reveal() string { return string(s) }

// Role is a part of Mailstead that a process runs.
type Role string

// The roles.
const (
	RoleIMAP        Role = "imap"
	RoleLMTP        Role = "lmtp"
	RoleMaintenance Role = "maintenance"
	RoleIndex       Role = "index"
	RoleAdmin       Role = "admin"
)

func (r *Role) UnmarshalText(text []byte) error {
	return oneOf((*string)(r), text, "imap", "lmtp", "maintenance", "index", "admin")
}

// Mechanism is a mechanism of SASL.
type Mechanism string

func (m *Mechanism) UnmarshalText(text []byte) error {
	return oneOf((*string)(m), text, auth.MechanismNames()...)
}

// Realm is one of Kerberos, with the domain that its users are of.
type Realm struct{ auth.Realm }

func (r *Realm) UnmarshalText(text []byte) (err error) {
	r.Realm, err = auth.ParseRealm(string(text))
	return err
}

func defaultMechanisms() (all []Mechanism) {
	for _, name := range auth.DefaultMechanisms {
		all = append(all, Mechanism(name))
	}
	return all
}

// Level is a log level.
type Level string

func (l *Level) UnmarshalText(text []byte) error {
	return oneOf((*string)(l), text, "debug", "info", "warn", "error")
}

// Slog returns the level for slog.
func (l Level) Slog() slog.Level {
	return map[Level]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}[l]
}

// LogFormat is how log lines look.
type LogFormat string

func (f *LogFormat) UnmarshalText(text []byte) error {
	return oneOf((*string)(f), text, "text", "json")
}

func oneOf(to *string, text []byte, allowed ...string) error {
	if !slices.Contains(allowed, string(text)) {
		return fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
	}
	*to = string(text)
	return nil
}

// Size is a number of bytes, written with or without a unit: 4096, 64KiB, 25MiB, 4GiB.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

func (s *Size) UnmarshalText(text []byte) error {
	for _, unit := range units {
		number, found := strings.CutSuffix(string(text), unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/unit.bytes {
			break
		}
		*s = Size(n * unit.bytes)
		return nil
	}
	return errors.New("want a number of bytes such as 4096, 64KiB, 25MiB or 4GiB")
}

func (s Size) String() string {
	for _, unit := range units {
		if s != 0 && unit.bytes > 1 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Percent is a part, from 1 to 99.
type Percent int

func (p *Percent) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(strings.TrimSuffix(string(text), "%"))
	if err != nil || n < 1 || n > 99 {
		return errors.New("want a number from 1 to 99")
	}
	*p = Percent(n)
	return nil
}

// Listen is where a service listens: host:port, unix:/path, or nowhere when empty.
type Listen string

func (l *Listen) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "off" {
		*l = ""
		return nil
	}
	if path, unix := strings.CutPrefix(s, "unix:"); unix {
		if !strings.HasPrefix(path, "/") || len(path) > 107 {
			return errors.New("want unix: and then an absolute path of at most 107 characters")
		}
	} else if _, port, err := net.SplitHostPort(s); err != nil || !isPort(port) {
		return errors.New("want host:port, :port for all addresses, or off")
	}
	*l = Listen(s)
	return nil
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 0 && n <= 65535
}

func (l Listen) String() string {
	if l == "" {
		return "off"
	}
	return string(l)
}

// Network returns the network and the address as net.Listen takes them.
func (l Listen) Network() (network, address string) {
	if path, unix := strings.CutPrefix(string(l), "unix:"); unix {
		return "unix", path
	}
	return "tcp", string(l)
}

// Network is a range of addresses; a single address is one of its size.
type Network struct{ netip.Prefix }

func (n *Network) UnmarshalText(text []byte) error {
	if address, err := netip.ParseAddr(string(text)); err == nil {
		n.Prefix = netip.PrefixFrom(address, address.BitLen())
		return nil
	}
	prefix, err := netip.ParsePrefix(string(text))
	if err != nil {
		return errors.New("want an address or a network such as 192.0.2.7 or 192.0.2.0/24")
	}
	n.Prefix = prefix.Masked()
	return nil
}

func loopback() []Network {
	return []Network{{netip.MustParsePrefix("127.0.0.0/8")}, {netip.MustParsePrefix("::1/128")}}
}

// URL is an http or https URL, or empty.
type URL string

func (u *URL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if len(text) > 0 && (err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https") {
		return errors.New("want a URL such as https://s3.example.org")
	}
	*u = URL(text)
	return nil
}

// Mode is the permissions of a file, in octal.
type Mode os.FileMode

func (m *Mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0o"), 8, 9)
	if err != nil {
		return errors.New("want permissions in octal such as 0660")
	}
	*m = Mode(n)
	return nil
}

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }
