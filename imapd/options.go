package imapd

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/trace"

	"mailstead.dev/auth"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// Options sets up a Server. Zero fields mean the defaults.
type Options struct {
	Store         *store.Store
	Authenticator *auth.Authenticator
	Logger        *slog.Logger // by default nothing is logged

	// Index answers which emails hold a text; without it they are read.
	Index searchIndex
	// Files reads the text of a tenant's attached files for searches; nil: they are not read.
	Files func(id.Tenant) message.Files

	// TracerProvider takes the spans of commands; by default there are none.
	TracerProvider trace.TracerProvider
	// Observe is told of each command that was answered, from many goroutines: its name ("unknown" for what is none), its
	// outcome (OK, NO, BAD; BYE where the connection ended instead), and how long it took since it had been read.
	Observe func(command, outcome string, took time.Duration)

	// TLS is used by ServeTLS, and for STARTTLS by Serve; without it there is none.
	TLS *tls.Config
	// PlaintextLogin allows passwords without TLS from a loopback address.
	PlaintextLogin bool
	// LiteralMinus announces LITERAL- instead of LITERAL+: clients have to wait
	// before they send a literal of more than 4,096 octets (RFC 7888 section 5).
	LiteralMinus bool

	// Refuse8Bit refuses messages with 8-bit characters in their header from clients that
	// have not enabled UTF-8, as RFC 6855 section 4 has it. Old mail is full of them, and so by default it is taken as it is.
	Refuse8Bit bool

	Name, Version string // what ID tells; "Mailstead" and none by default

	LoginTimeout time.Duration // from the greeting to a login; 1 minute by default
	IdleTimeout  time.Duration // without a command, or in IDLE; 30 minutes by default, which is the least (RFC 9051 section 5.4)
	ReadTimeout  time.Duration // for a client to send 16 KiB of a command, or what is left of it; 2 minutes by default
	WriteTimeout time.Duration // for a client to take up to 16 KiB; 2 minutes by default

	SearchTimeout time.Duration // for one SEARCH; 5 minutes by default
	TurnTimeout   time.Duration // for a command to wait until the shares of its account and tenant let it run; 30 seconds by default
	// ProgressInterval is how often a client is told that what it waits for is under way; 10 seconds by default.
	ProgressInterval time.Duration

	// Cells are the other cells, by name: those that the Authenticator has as well.
	Cells map[string]Cell
	// ReferLogins refers clients whose account is in another cell to that (RFC 2221), in the place of passing through what both say.
	ReferLogins bool
	// HintLogins tells clients that are passed through where the server of their account is (RFC 2221), for the next time.
	HintLogins bool

	Balancers []netip.Prefix // whose connections begin with whose they are (PROXY protocol)

	MaxConnections   int           // 20,000 by default
	MaxPerAddress    int           // connections of one address, of IPv6 one /64, that have not logged in; 2,000 by default
	Account, Tenant  Share         // what each may have of this process; 1,000 connections of an account by default, and else no limit
	MaxElsewhere     int           // logins at once that one other cell is asked about; 1,000 by default, of them of one address a tenth at the most
	MaxBad           int           // wrong commands in a row until the connection is ended; 50 by default
	MaxLoginFailures int           // of a connection until it is ended; 5 by default
	MaxAtOnce        int           // commands of a connection that run at the same time, where they only read; 4 by default, 1 for one after the other
	MaxBeside        int           // commands of all connections that run beside another of their connection; 100 by default
	LoginDelay       time.Duration // after a failed login; 1 second by default, negative for none

	MaxLine     int   // octets of a command without its literals; 64 KiB by default
	MaxLiteral  int64 // octets of a literal that is not a message; 64 KiB by default
	MaxNesting  int   // parentheses, and keys of SEARCH within each other; 100 by default
	MaxContexts int   // searches of a session whose results it is kept up to date of (RFC 5267); 10 by default

	MaxRanges int   // numbers and ranges of a set in a command, and of one that a search saves; 20,000 by default
	MaxLevels int   // part numbers of a section; 100 by default
	MaxAppend int64 // octets in memory of the messages of one APPEND, when another is taken; 16 MiB by default

	// MaxCommands is how much memory all commands together may take while they are read and run, beyond the 16 KiB that
	// each may have anyway, in octets about; 256 MiB by default. One account has at most a quarter of it, and so have all
	// who have not logged in together; one tenant three quarters.
	MaxCommands int64

	// MaxContextMemory is how much memory all searches take together whose results clients are kept up to date of, in octets about; 64 MiB
	// by default. One account has at most a quarter of it, one tenant three quarters.
	MaxContextMemory int64

	NoCompress bool // COMPRESS=DEFLATE (RFC 4978) is not offered
	// MaxInflation is how many octets one may become that a client has compressed (RFC 4978), on the whole and
	// beyond the size of one message; 100 by default. Mail becomes 2 to 10, DEFLATE could make it 1032.
	MaxInflation int64
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Files == nil {
		o.Files = func(id.Tenant) message.Files { return nil }
	}
	o.Name = cmp.Or(o.Name, "Mailstead")
	o.LoginTimeout = cmp.Or(o.LoginTimeout, time.Minute)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 30*time.Minute)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 2*time.Minute)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 2*time.Minute)
	o.SearchTimeout = cmp.Or(o.SearchTimeout, 5*time.Minute)
	o.TurnTimeout = cmp.Or(o.TurnTimeout, 30*time.Second)
	o.ProgressInterval = cmp.Or(o.ProgressInterval, 10*time.Second)
	o.MaxConnections = cmp.Or(o.MaxConnections, 20_000)
	o.MaxPerAddress = cmp.Or(o.MaxPerAddress, 2000)
	o.Account.Connections = cmp.Or(o.Account.Connections, 1000)
	o.MaxElsewhere = cmp.Or(o.MaxElsewhere, 1000)
	o.MaxBad = cmp.Or(o.MaxBad, 50)
	o.MaxLoginFailures = cmp.Or(o.MaxLoginFailures, 5)
	o.LoginDelay = cmp.Or(o.LoginDelay, time.Second)
	o.MaxAtOnce = cmp.Or(o.MaxAtOnce, 4)
	o.MaxBeside = cmp.Or(o.MaxBeside, 100)
	o.MaxLine = cmp.Or(o.MaxLine, 64<<10)
	o.MaxLiteral = cmp.Or(o.MaxLiteral, 64<<10)
	o.MaxNesting = cmp.Or(o.MaxNesting, 100)
	o.MaxContexts = cmp.Or(o.MaxContexts, 10)
	o.MaxRanges = cmp.Or(o.MaxRanges, 20_000)
	o.MaxLevels = cmp.Or(o.MaxLevels, 100)
	o.MaxCommands = cmp.Or(o.MaxCommands, 256<<20)
	o.MaxContextMemory = cmp.Or(o.MaxContextMemory, 64<<20)
	o.MaxAppend = cmp.Or(o.MaxAppend, 16<<20)
	o.MaxInflation = cmp.Or(o.MaxInflation, 100)
	return o
}

// limits are what one command of a client may take.
func (o Options) limits() wire.DecoderOptions {
	limits := wire.DecoderOptions{
		MaxLine: o.MaxLine, MaxLiteral: o.MaxLiteral, MaxLiterals: 4 * o.MaxLiteral,
		MaxNesting: o.MaxNesting, MaxRanges: o.MaxRanges, MaxLevels: o.MaxLevels,
	}
	if o.LiteralMinus {
		limits.MaxUnasked = 4096
	}
	return limits
}
