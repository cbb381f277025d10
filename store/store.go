package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/view"
)

// maxAppenders is how many appends of this process to one mailbox are under way at once.
const maxAppenders = 4

// Options sets a store up. Zero fields mean the defaults that are given.
type Options struct {
	// DSN of the serving role: no superuser, no BYPASSRLS, no table of its own.
	DSN string
	// ListenDSN is for LISTEN, which needs a connection of its own that no pooler shares; default DSN, but behind PgBouncer there is none.
	ListenDSN string
	// PgBouncer says that DSN leads to PgBouncer in transaction mode: no named prepared statements, no session settings.
	PgBouncer bool
	// MaxConns bounds the connections to the database; default 16.
	MaxConns int32
	// Schema is the version that the database's schema must have at least; default 0, any.
	Schema int64

	Bucket blob.Bucket
	// MaxMessage bounds one message, in octets; default 64 MiB.
	MaxMessage int64
	// MaxMetadataSize bounds the value of one annotation, in octets; default 16 KiB. MaxMetadata bounds how many there are of a
	// mailbox, and of the server: that many which are shared, and as many of each user; default 100.
	MaxMetadataSize int64
	MaxMetadata     int
	// MaxAccountMetadata bounds all annotations of one user together, their names and values, in octets: those that are theirs, and
	// those that are shared of their mailboxes; default 1 MiB.
	MaxAccountMetadata int64
	// NoStaging writes all content to the bucket at once.
	NoStaging bool
	// StagedMax bounds the compressed content of one message in staging, in octets; what is larger becomes an object at once; default 128 KiB.
	StagedMax int
	// StagingBound bounds staging as a whole, in octets; default 1 GiB.
	StagingBound int64
	// PackSize is how much staged content of a tenant makes a pack, in octets; default 4 MiB.
	PackSize int64
	// PackAge is after how long staged content is packed even where it is less; default 6 hours.
	PackAge time.Duration
	// PackInterval is how often Maintain looks whether there is something to pack; default 5 seconds.
	PackInterval time.Duration
	// TidyInterval is how often Maintain folds what no front end has folded, merges small packs and collects orphans; default 10 minutes.
	TidyInterval time.Duration
	// OrphanGrace is how long an object stays that does not count (any more); default 24 hours. It is longer than
	// the longest append takes, and than a reader is on the way to content that has moved.
	OrphanGrace time.Duration
	// SweepInterval is how often the whole bucket is listed for objects that the database does not know; default 24 hours.
	SweepInterval time.Duration
	// RemoveUnknown lets it remove such objects, not only report them: where no copy of the database uses the bucket.
	RemoveUnknown bool

	// Retention is for how long expunged messages and deleted mailboxes can be brought back; default 14 days.
	Retention time.Duration
	// ExpungeHorizon is for how long it is known which UIDs were expunged when; who has been away for longer is told
	// all that are missing. It is not shorter than Retention; default 90 days.
	ExpungeHorizon time.Duration
	// StoredRatio is how many times what is live may be stored before packs are rewritten; default 1.15.
	StoredRatio float64
	// UsageInterval is how often what clients have read is written to the ledger: of so much a process that dies has lost count; default 10 seconds.
	UsageInterval time.Duration
	// UsageRetention is for how long the ledger of usage is kept, and not less than 35 days; default 400 days.
	UsageRetention time.Duration
	// SweepEvery is how often Maintain looks for what nothing names any more; default 6 hours.
	SweepEvery time.Duration

	// AuditEvery is how often Maintain counts all that is charged to quotas anew; default 1 hour.
	AuditEvery time.Duration
	// LookEvery is how often it looks whether the grace of soft limits is over, and what is to be warned of; default 1 minute.
	LookEvery time.Duration
	// WarnAt are the parts of a limit that are warned of when they are used, in percent; none by default.
	WarnAt []int
	// MailWarnings tells users and admins by mail, from MailFrom; default postmaster of the reader's domain.
	MailWarnings bool
	MailFrom     string
	// Webhook gets all warnings, and blocks of logins; nil: there is none.
	Webhook Webhook

	// FoldMin is how many octets of log a mailbox must have before it is folded; default 64 KiB.
	FoldMin int64
	// FoldRatio is which part of the segments that it touches the log must weigh to be folded; default 0.25.
	FoldRatio float64

	// ViewCacheBytes bounds the views kept in memory; default 256 MiB.
	ViewCacheBytes int64
	// NoDelegations has each read of a mailbox ask the database, also where nobody else has changed it. Behind PgBouncer it always does.
	NoDelegations bool
	// OrderCacheBytes bounds what is kept in memory to sort and thread mail, of one account and of all; default 256 MiB.
	OrderCacheBytes int64
	// BlobCacheBytes bounds the content kept in memory; default 64 MiB.
	BlobCacheBytes int64
	// TransitBytes bounds the memory of content on its way in and out, of all sessions together; default 512 MiB.
	TransitBytes int64
	// TransitWait is how long is waited for room among them before ErrUnavailable; default 30 seconds.
	TransitWait time.Duration
	// BlobCacheDir is a folder for the content cache on disk; default none, BlobCacheDirBytes bounds it; default 1 GiB.
	BlobCacheDir      string
	BlobCacheDirBytes int64
	// SpoolDir is where large messages wait while they come in; default the system's folder for temporary files.
	SpoolDir string

	// MaxMailboxes bounds the mailboxes of an account; default 10,000.
	MaxMailboxes int
	// MaxNameBytes bounds the name of a mailbox, in octets, and can be no more than its default, 1,000, for names stand in
	// rows of an index and five at a time in a line. MaxNameLevels bounds its levels; default 64.
	MaxNameBytes, MaxNameLevels int
	// MaxKeywords bounds the keywords of a mailbox, and can be no more than its default, view.MaxKeywords, for each is a bit of a message.
	MaxKeywords int
	// Describe bounds what is described of a message; default message's.
	Describe message.Limits

	Logger *slog.Logger // default slog.Default()
	// TracerProvider takes the spans of SQL statements and of work in the background; by default there are none.
	TracerProvider trace.TracerProvider
}

func (o Options) withDefaults() Options {
	setDefault(&o.ListenDSN, o.DSN)
	setDefault(&o.MaxConns, 16)
	setDefault(&o.MaxMessage, 64<<20)
	setDefault(&o.MaxMetadataSize, 16<<10)
	setDefault(&o.MaxMetadata, 100)
	setDefault(&o.MaxAccountMetadata, 1<<20)
	setDefault(&o.StagedMax, 128<<10)
	setDefault(&o.StagingBound, 1<<30)
	setDefault(&o.PackSize, 4<<20)
	setDefault(&o.PackAge, 6*time.Hour)
	setDefault(&o.PackInterval, 5*time.Second)
	setDefault(&o.TidyInterval, 10*time.Minute)
	setDefault(&o.OrphanGrace, 24*time.Hour)
	setDefault(&o.SweepInterval, 24*time.Hour)
	setDefault(&o.Retention, 14*24*time.Hour)
	setDefault(&o.ExpungeHorizon, 90*24*time.Hour)
	o.ExpungeHorizon = max(o.ExpungeHorizon, o.Retention)
	setDefault(&o.StoredRatio, 1.15)
	setDefault(&o.SweepEvery, 6*time.Hour)
	setDefault(&o.UsageInterval, 10*time.Second)
	setDefault(&o.UsageRetention, 400*24*time.Hour)
	o.UsageRetention = max(o.UsageRetention, 35*24*time.Hour)
	setDefault(&o.AuditEvery, time.Hour)
	setDefault(&o.LookEvery, time.Minute)
	setDefault(&o.FoldMin, 64<<10)
	setDefault(&o.FoldRatio, 0.25)
	setDefault(&o.ViewCacheBytes, 256<<20)
	setDefault(&o.OrderCacheBytes, 256<<20)
	setDefault(&o.BlobCacheBytes, 64<<20)
	setDefault(&o.BlobCacheDirBytes, 1<<30)
	setDefault(&o.TransitBytes, 512<<20)
	setDefault(&o.TransitWait, 30*time.Second)
	setDefault(&o.MaxMailboxes, 10_000)
	setDefault(&o.MaxNameBytes, maxNameBytes)
	o.MaxNameBytes = min(o.MaxNameBytes, maxNameBytes)
	setDefault(&o.MaxNameLevels, 64)
	setDefault(&o.MaxKeywords, view.MaxKeywords)
	o.MaxKeywords = min(o.MaxKeywords, view.MaxKeywords)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Store is a handle on one database and one bucket. It is safe for concurrent use.
type Store struct {
	options Options
	log     *slog.Logger
	tracer  trace.Tracer // nil: none
	pool    *pgxpool.Pool

	views       *viewCache
	orders      *orderCache
	changers    *turns // those who change a mailbox from its view
	appenders   *turns
	transit     *transit
	puts        chan struct{} // has one for each PUT under way
	cache       *blob.Cache
	contents    *knownContents
	emails      *knownEmails
	staging     *stagingGauge
	watch       *watch
	folder      *folder
	packs       *packsAhead
	reads       *readMeter
	delegations *delegations
	roots       knownRoots

	maintained maintained
	atStep     func(context.Context, step) error // in tests: see reached
}

// Open connects to the database, and fails where that has not been migrated, or where the
// role that it serves as could get past row-level security.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.PgBouncer && o.ListenDSN == "" {
		return nil, errors.New("behind PgBouncer in transaction mode LISTEN needs a connection string of its own, to PostgreSQL itself")
	}
	o = o.withDefaults()
	if o.Bucket == nil {
		return nil, errors.New("no bucket for the store's content")
	}
	o.NoDelegations = o.NoDelegations || o.PgBouncer
	delegations := newDelegations()
	pool, err := newPool(ctx, o, delegations.number)
	if err != nil {
		return nil, err
	}
	s := &Store{
		options: o, log: o.Logger, pool: pool, delegations: delegations,
		views:     newViewCache(o.ViewCacheBytes),
		orders:    newOrderCache(o.OrderCacheBytes),
		changers:  newTurns(1),
		appenders: newTurns(maxAppenders),
		transit:   newTransit(o.TransitBytes, o.TransitWait),
		puts:      make(chan struct{}, putsAtOnce),
	}
	if o.TracerProvider != nil {
		s.tracer = o.TracerProvider.Tracer(scope)
	}
	if s.cache, err = blob.NewCache(blob.CacheOptions{
		Bytes: o.BlobCacheBytes, Dir: o.BlobCacheDir, DirBytes: o.BlobCacheDirBytes, Logger: o.Logger,
	}); err != nil {
		pool.Close()
		return nil, err
	}
	if s.emails, err = newKnownEmails(); err != nil {
		pool.Close()
		return nil, err
	}
	if s.contents, err = newKnownContents(); err != nil {
		pool.Close()
		return nil, err
	}
	s.delegations.store = s
	s.staging = &stagingGauge{store: s, tenants: make(map[id.Tenant]int64)}
	s.watch, s.folder, s.packs = newWatch(s), newFolder(s), newPacksAhead(s)
	if err := s.checkRole(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	if err := s.Ready(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	s.reads = newReadMeter(s)
	return s, nil
}

// MaxKeywords returns how many keywords a mailbox can have.
func (s *Store) MaxKeywords() int { return s.options.MaxKeywords }

// MaxMessage returns how large a message can be, in octets.
func (s *Store) MaxMessage() int64 { return s.options.MaxMessage }

// Close ends the store's work in the background and its connections.
func (s *Store) Close() error {
	s.packs.close()
	s.folder.close()
	s.watch.close()
	s.delegations.work.Wait()
	s.reads.close()
	s.pool.Close()
	return nil
}

// newPool makes connections that bear the number of this front end, and keep notices of recalls.
func newPool(ctx context.Context, o Options, frontEnd func() int64) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("database address: %w", err)
	}
	c.MaxConns = o.MaxConns
	if o.TracerProvider != nil {
		c.ConnConfig.Tracer = sqlTracer{o.TracerProvider.Tracer(scope)}
	}
	setDefault(&c.ConnConfig.ConnectTimeout, 5*time.Second)
	if o.PgBouncer {
		// A named statement lives in one server connection, a session setting too, and the pooler hands us another one each time: see setTenantPooled.
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		c.ConnConfig.StatementCacheCapacity = 0
	} else {
		for name, value := range map[string]string{
			"application_name":                    "mailstead",
			"statement_timeout":                   statementTimeout,
			"lock_timeout":                        lockTimeout,
			"idle_in_transaction_session_timeout": idleTimeout,
		} {
			setDefaultParam(c.ConnConfig.RuntimeParams, name, value)
		}
		c.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
			conn.RuntimeParams["mailstead.front_end"] = strconv.FormatInt(frontEnd(), 10)
			return nil
		}
	}
	c.ConnConfig.OnNotice = noticed
	c.ConnConfig.DialFunc = waitInCall(c.ConnConfig.DialFunc)
	return pgxpool.NewWithConfig(ctx, c)
}

func setDefaultParam(params map[string]string, name, value string) {
	if _, ok := params[name]; !ok {
		params[name] = value
	}
}

// checkRole refuses to serve as a role that row-level security does not bind.
func (s *Store) checkRole(ctx context.Context) error {
	const query = `
		SELECT r.rolsuper, r.rolbypassrls, EXISTS (
			SELECT FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind IN ('r', 'p')
			  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
			  AND pg_has_role(current_user, c.relowner, 'MEMBER'))
		FROM pg_roles r
		WHERE r.rolname = current_user`

	var super, bypass, owner bool
	if err := s.pool.QueryRow(ctx, query).Scan(&super, &bypass, &owner); err != nil {
		return fmt.Errorf("check of the serving role: %w", lost(ctx, err, unsent))
	}
	switch {
	case super:
		return errors.New("the serving role is a superuser, whom row-level security does not bind: use a role that is only a member of mailstead_serving")
	case bypass:
		return errors.New("the serving role has BYPASSRLS: use a role that is only a member of mailstead_serving")
	case owner:
		return errors.New("the serving role owns tables: use another role than the one that migrates, a member of mailstead_serving")
	}
	return nil
}
