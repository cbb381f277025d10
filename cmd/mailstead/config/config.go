// Package config is Mailstead's configuration: one YAML file and environment
// variables over it. What it holds is documented at its fields, from which
// deploy/configuration.md is made.
package config

import (
	"time"
)

// Config is the whole configuration. Each key can be set by the environment as
// well: database.url as MAILSTEAD_DATABASE_URL; lists with commas between. What a
// process takes over on SIGHUP, while it runs, has the tag reload.
type Config struct {
	// What this process does: imap, lmtp, maintenance (folding, packs, garbage), index (search indexes, in search.folder)
	// and admin (health, metrics). In a cluster, roles run apart or together; several processes with maintenance take turns.
	Roles []Role `yaml:"roles"`
	// How long what is under way may take once the process is asked to end: commands, deliveries, requests. Then their
	// connections are broken. Whatever stops the process must leave it a little longer than that before it kills it.
	DrainTime time.Duration `yaml:"drain_time" reload:"hangup"`

	Log Log `yaml:"log"`

	Database Database `yaml:"database"`
	Objects  Objects  `yaml:"objects"`
	Store    Store    `yaml:"store"`
	Quota    Quota    `yaml:"quota"`
	Search   Search   `yaml:"search"`
	TLS      TLS      `yaml:"tls"`
	ACME     ACME     `yaml:"acme"`
	Auth     Auth     `yaml:"auth"`
	Cells    Cells    `yaml:"cells"`
	IMAP     IMAP     `yaml:"imap"`
	LMTP     LMTP     `yaml:"lmtp"`
	HTTP     HTTP     `yaml:"http"`
	Tracing  Tracing  `yaml:"tracing"`
	Accounts Accounts `yaml:"accounts"`
}

// Log says what is logged, to standard error.
type Log struct {
	// The least level that is logged: debug, info, warn or error.
	Level Level `yaml:"level" reload:"hangup"`
	// text for people, json for machines.
	Format LogFormat `yaml:"format"`
}

// Database is PostgreSQL, 15 or newer.
type Database struct {
	// Connection string of the login that serves, a member of the role mailstead_serving that owns nothing:
	// postgres://mailstead_serve:PASSWORD@db.example.org/mailstead?sslmode=verify-full. It may lead to PgBouncer.
	URL Secret `yaml:"url"`
	// Connection string of the owner of the tables, for `mailstead migrate` alone. A serving process neither needs nor uses it.
	OwnerURL Secret `yaml:"owner_url"`
	// Connection string for LISTEN, which needs a server of its own behind PgBouncer in transaction mode. Empty: that of url.
	ListenURL Secret `yaml:"listen_url"`
	// Whether url leads to PgBouncer in transaction mode: no named prepared statements are used then.
	PgBouncer bool `yaml:"pgbouncer"`
	// The most connections of this process to url. 0: 4 for each CPU, at least 16.
	MaxConnections int `yaml:"max_connections"`
}

// Objects is the S3 bucket that keeps packs and large messages.
type Objects struct {
	// URL of the S3 service, http or https: https://s3.eu-central-1.amazonaws.com
	Endpoint URL `yaml:"endpoint"`
	// Region that requests are signed for.
	Region string `yaml:"region"`
	// Name of the bucket. It must exist and be this database's alone: maintenance of another database, also of a
	// restored copy of this one, would remove objects that this one needs.
	Bucket string `yaml:"bucket"`
	// Access key id.
	AccessKey string `yaml:"access_key"`
	// Secret access key.
	SecretKey Secret `yaml:"secret_key"`
	// Whether the bucket is named in the path instead of the host name, as most servers other than Amazon's want it.
	PathStyle bool `yaml:"path_style"`
	// PEM file with the certificates of the authorities that the service's certificate is checked against. Empty: the system's.
	CAFile string `yaml:"ca_file"`
}

// Store is how mail is kept. All processes on one database should agree on it.
type Store struct {
	// The largest message taken, announced as APPENDLIMIT and SIZE.
	MaxMessage Size `yaml:"max_message"`
	// The largest value of an annotation (IMAP METADATA) of a mailbox or the server.
	MaxMetadataSize Size `yaml:"max_metadata_size"`
	// The most annotations of a mailbox that its users share, and the most that one user has of it for themselves; and
	// those of the server likewise.
	MaxMetadata int `yaml:"max_metadata"`
	// The most that all annotations of one account take together, names and values: those that one user has for themselves, and those that are
	// shared of their mailboxes. More are refused with [METADATA TOOMANY].
	MaxAccountMetadata Size `yaml:"max_account_metadata"`
	// Whether small messages are committed in the database first and move to the bucket in packs. Without it every
	// message is an object of its own from the start, for those whose database is the scarce part.
	Staging bool `yaml:"staging"`
	// The most bytes of staged content in the database. While the bucket is away, mail is taken until they are reached.
	StagingBound Size `yaml:"staging_bound"`
	// Content that is larger than this, compressed, is not staged but goes to the bucket at once.
	StagedMax Size `yaml:"staged_max"`
	// A pack is written when this much content of a tenant is staged.
	PackSize Size `yaml:"pack_size"`
	// Content staged for longer is packed even if there is less than pack_size of it.
	PackAge time.Duration `yaml:"pack_age"`
	// Whether objects that the database does not know, and that are older than object_grace, are removed from the bucket instead of
	// being reported only (log, mailstead_objects_unknown_total). Interrupted work leaves very few.
	RemoveUnknownObjects bool `yaml:"remove_unknown_objects"`
	// For how long expunged messages and deleted mailboxes are kept and can be brought back, with
	// mailstead mailbox undelete. What they take counts for no quota.
	Retention time.Duration `yaml:"retention"`
	// For how long it is known which UIDs were expunged when. A client with QRESYNC that has been away for longer is told
	// all UIDs that are missing. Not shorter than retention.
	ExpungeHorizon time.Duration `yaml:"expunge_horizon"`
	// For how long the ledger of usage is kept, also that of accounts that are gone; at least 35 days.
	UsageRetention time.Duration `yaml:"usage_retention"`
	// How often maintenance looks for what nothing needs any more, and writes packs anew.
	SweepEvery time.Duration `yaml:"sweep_every"`
	// How often it folds what no front end has folded, merges small packs, and removes objects that do not count.
	TidyEvery time.Duration `yaml:"tidy_every"`
	// For how long an object stays in the bucket that does not count yet, or does not any more: longer than a message takes to
	// come in, than a reader is on the way to it, and than there is between two copies of the bucket.
	ObjectGrace time.Duration `yaml:"object_grace"`
	// How many times the bytes that are needed may be stored, before packs in which much is not needed any more are
	// written anew without that. Less saves room and costs requests.
	StoredRatio float64 `yaml:"stored_ratio"`
	// A mailbox is folded, its log of changes becoming part of its segments, when the log has more bytes than this
	// and weighs more than fold_ratio says.
	FoldMin Size `yaml:"fold_min"`
	// The part of the segments that a log touches which it must weigh for its mailbox to be folded.
	FoldRatio float64 `yaml:"fold_ratio"`
	// Bytes of memory for views of mailboxes, shared by all sessions.
	ViewCache Size `yaml:"view_cache"`
	// Whether a mailbox that only this process reads is read from memory, without asking the database, until another process
	// changes it. A process that stops answering then delays such changes by others, by 4 seconds at most. Behind PgBouncer nothing is read so.
	Delegations bool `yaml:"delegations"`
	// Bytes of memory for what mail is sorted and threaded by, of some 200 bytes a message, shared by all sessions. An account of
	// which that would be more cannot have all its mail sorted or threaded at once.
	OrderCache Size `yaml:"order_cache"`
	// Bytes of memory for content that was read from the bucket.
	BlobCache Size `yaml:"blob_cache"`
	// Bytes of memory for messages on their way into the store and out of it, of all sessions together; of the half that is not
	// for reading ahead, one tenant has at most three quarters. Who finds no room waits for it.
	Transit Size `yaml:"transit"`
	// How long is waited for room in transit, before a command is refused with [UNAVAILABLE] and a delivery with 451.
	TransitWait time.Duration `yaml:"transit_wait"`
	// Folder for more of such content, on a disk that is faster than the bucket, for processes with the role imap; a folder of its own is made in it,
	// which no two of them may share. Empty: memory only.
	BlobCacheDir string `yaml:"blob_cache_dir"`
	// The most bytes in blob_cache_dir.
	BlobCacheDirSize Size `yaml:"blob_cache_dir_size"`
	// Folder for large messages while they arrive. Empty: the system's folder for temporary files.
	SpoolDir string `yaml:"spool_dir"`
	// The most mailboxes that an account can have, and the most names that it can subscribe to; more are refused with [LIMIT].
	MaxMailboxes int `yaml:"max_mailboxes"`
	// The longest name that a mailbox can be given, in bytes of UTF-8, at most 1000; longer ones are refused with [CANNOT].
	MaxNameLength int `yaml:"max_name_length"`
	// How many levels it can have.
	MaxNameDepth int `yaml:"max_name_depth"`
	// The most keywords (flags of the users' own) that a mailbox can have, at most 128; more are refused with [LIMIT].
	MaxKeywords int `yaml:"max_keywords"`
	// How deep the structure of a message is described, in multiparts and messages within each other. What lies deeper
	// is kept like all of it, and is told as part of the last that is described.
	MaxMIMEDepth int `yaml:"max_mime_depth"`
	// How many parts of a message are described.
	MaxMIMEParts int `yaml:"max_mime_parts"`
	// How much of each header is described, and of the headers of all parts together.
	MaxHeader Size `yaml:"max_header"`
}

// Quota is what maintenance does about quotas. What accounts, domains and tenants are held to is set by `mailstead quota`.
type Quota struct {
	// How often all that is charged to quotas is counted anew. What differs is logged, and counted by mailstead_quota_drift_total.
	AuditEvery time.Duration `yaml:"audit_every"`
	// How often it is looked whether the grace of soft limits is over, and what is to be warned of. The grace of a domain or tenant may
	// last that much longer.
	LookEvery time.Duration `yaml:"look_every"`
	// The parts of a limit, in percent, that are warned of when they are used. It is warned as well of soft limits that are exceeded, of grace that
	// is over, and where nothing more fits; and told when use is 2 percent below again. Every warning is logged.
	WarnAt []Percent `yaml:"warn_at"`
	// Whether warnings are mailed: those of an account to its user, those of a domain or tenant to its admins. A mail that does not fit is not sent.
	Mail bool `yaml:"mail"`
	// Address that such mails are from. Empty: postmaster@ the domain of their reader.
	MailFrom string `yaml:"mail_from"`
	// URL that warnings are posted to as JSON, https: see operations.md. Empty: none.
	WebhookURL URL `yaml:"webhook_url"`
	// What they are signed with, 16 characters or more.
	WebhookSecret Secret `yaml:"webhook_secret"`
}

// Search is how the role index keeps the search indexes of accounts. All of it can be lost: what is not there is made again, and until then
// SEARCH reads the mail itself, with the same answers.
type Search struct {
	// Folder of the indexes, on a fast disk of this machine, and this process's alone. An index takes about as much as the text that it is of.
	Folder string `yaml:"folder"`
	// Address at which front ends of other processes reach the indexes of this one, which the network must keep from all others; off: they do not.
	Listen Listen `yaml:"listen"`
	// Where those front ends connect to: host:port. Empty: the address of listen.
	Address string `yaml:"address"`
	// PEM files with the certificate, the key and the certificates of the authorities by which front ends and index nodes know each other:
	// each shows its own, with the name that is connected to, and demands the other's. Without them search.listen must be a loopback address.
	CertFile string `yaml:"cert_file"`
	// PEM file with the key of search.cert_file.
	KeyFile string `yaml:"key_file"`
	// PEM file with the authorities.
	CAFile string `yaml:"ca_file"`
	// How many messages an account must have to get an index. Fewer are read as fast.
	MinMessages int `yaml:"min_messages"`
	// Bytes of memory that open indexes may hold.
	Memory Size `yaml:"memory"`
	// How many indexes may be open.
	MaxOpen int `yaml:"max_open"`
	// How often it is looked which accounts have new mail. What an index does not have yet, SEARCH reads itself.
	Every time.Duration `yaml:"every"`
	// How many accounts are indexed at the same time.
	Workers int `yaml:"workers"`
	// How many emails more than its last copy in object storage an index has, and a quarter more, when it is copied again. From its copy
	// another node goes on when it takes the account. 0: there are no copies.
	CopyAfter int `yaml:"copy_after"`
	// After how long the accounts of an index node that is gone are taken by others, which go on from copies or make their indexes anew: longer than a restart takes.
	TakeoverAfter time.Duration `yaml:"takeover_after"`
	// Programs that read the text of attached files, for BODY and TEXT, each as TYPES=COMMAND: media types and ends of file names, divided by
	// commas, and a program by its path with its arguments, divided by blanks: application/pdf,.pdf=/usr/bin/pdftotext -q /dev/stdin -. A program
	// gets the file on its standard input, and writes its text to its standard output in UTF-8. What attackers send it is bounded, but not kept from the
	// machine, nor from the files that Mailstead may read, keys and mail among them: have it run in a sandbox that has none of those, as bubblewrap's
	// /usr/bin/bwrap --unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 --dev /dev --proc /proc
	// --size 67108864 --tmpfs /tmp --setenv HOME /tmp --setenv TMPDIR /tmp --chdir /tmp /usr/bin/pdftotext ..., which ends with it and bounds all that it writes. The same in all processes of the roles imap and index; indexes are made anew where it changes.
	Extractors []Extractor `yaml:"extractors"`
	// How long reading one file may take of a processor, in whole seconds; on a busy machine it may take three times as long. Of one email 20 files are read.
	ExtractorTime time.Duration `yaml:"extractor_time"`
	// Memory that a program may have while it reads a file: its whole address space.
	ExtractorMemory Size `yaml:"extractor_memory"`
	// The largest files that are read, as they were before they were encoded.
	ExtractorFile Size `yaml:"extractor_file"`
	// How much text of one file is searched; what is beyond is not.
	ExtractorText Size `yaml:"extractor_text"`
	// How many files are read at the same time. Where more are waited for, tenants have theirs by turns.
	ExtractorsAtOnce int `yaml:"extractors_at_once"`
}

// TLS is the certificate of the IMAP service. SIGHUP reads its files again, also when their names are the same. From no
// certificate to one, or back, takes a restart.
type TLS struct {
	// PEM file with the certificate and its chain.
	CertFile string `yaml:"cert_file" reload:"hangup"`
	// PEM file with its key.
	KeyFile string `yaml:"key_file" reload:"hangup"`
	// Folder with certificates of further names, each in a folder of its own, as fullchain.pem and privkey.pem (where certbot has them: /etc/letsencrypt/live) or tls.crt and
	// tls.key. A client is shown that of the name that it asks for (SNI), and that of cert_file where there is none.
	Folder string `yaml:"folder" reload:"hangup"`
	// File with the keys by which the private keys of certificates in the database are sealed (`mailstead certificate`), the same on all front ends; lines of 32 octets in
	// base64, as `openssl rand -base64 32` makes them. The first seals, all open. Empty: there are no certificates in the database.
	SealFile string `yaml:"seal_file" reload:"hangup"`
	// Bytes of memory for certificates that were read from the database.
	Cache Size `yaml:"cache"`
}

// ACME is how certificates are ordered (RFC 8555), for the names of `mailstead certificate order` and no others, by processes with the role
// maintenance, one at a time. They are kept in the database like those that are added to it, and ordered anew when less than a third of their time is left.
type ACME struct {
	// URL of the authority's directory: https://acme-v02.api.letsencrypt.org/directory. Empty: none are ordered.
	Directory URL `yaml:"directory"`
	// Whether you agree to the authority's terms, without which it takes no orders.
	Agree bool `yaml:"agree"`
	// An address that the authority may write to. Empty: none.
	Contact string `yaml:"contact"`
	// How the authority is shown that a name is yours, by whichever front end the name leads to: http-01, which it asks at port 80, so that has to lead to acme.listen; or
	// tls-alpn-01, which it asks at port 443, so that has to lead to imap.listen_tls.
	Challenge ACMEChallenge `yaml:"challenge"`
	// Address of HTTP at which front ends answer http-01, and nothing else; off: none.
	Listen Listen `yaml:"listen"`
	// PEM file with the certificates of the authorities that the directory's own is checked against. Empty: the system's.
	CAFile string `yaml:"ca_file"`
}

// Auth is how users log in.
type Auth struct {
	// The mechanisms of SASL that are on. All are offered over TLS alone: PLAIN, LOGIN, without either of which the command LOGIN is refused as well; SCRAM-SHA-256
	// and SCRAM-SHA-1, each bound to TLS (-PLUS) as well, for which passwords that are set from then on are kept in another form too; EXTERNAL, for
	// clients with a certificate, which all are asked for then; OAUTHBEARER and XOAUTH2, with tokens of the issuers
	// of `mailstead tenant issuer`; GSSAPI, with tickets of Kerberos (auth.keytab); CRAM-MD5, with app passwords that were made for it; OTP, with the one-time
	// passwords of `mailstead account otp`; ANONYMOUS.
	Mechanisms []Mechanism `yaml:"mechanisms"`
	// Login of the account as which ANONYMOUS lets everybody look, and change nothing.
	AnonymousAccount string `yaml:"anonymous_account"`
	// File with the keys of the service imap, such as imap/mail.example.org@EXAMPLE.ORG, by which GSSAPI (Kerberos) accepts tickets; read each time. Empty: there is no GSSAPI.
	Keytab string `yaml:"keytab"`
	// The realms of Kerberos whose users GSSAPI lets in: each is that of the domain of the same name, or of another: CORP.EXAMPLE.ORG=example.org.
	Realms []Realm `yaml:"realms"`
	// Folder of files with the secrets by which tenants' directories are asked (`mailstead directory set --secret`), one each, read whenever one is needed. Empty: none.
	SecretsFolder string `yaml:"secrets_folder"`
	// Networks and addresses from which logins may fail as often as they like, such as that of a webmail server. Tenants can have more (`mailstead tenant network`).
	Trusted []Network `yaml:"trusted" reload:"hangup"`
	// How many logins may fail within an hour from one address, of IPv6 from one network of 64 bits, before it is blocked: then only accounts that have been logged in to from
	// there before can be, each of which may fail as often there.
	MaxFailuresPerAddress int `yaml:"max_failures_per_address" reload:"hangup"`
	// How many logins of one account may fail within an hour, from wherever, before it is guarded: then it can be logged in to from addresses that it was logged in
	// to from before, and from others where fewer than three logins have failed.
	MaxFailuresPerAccount int `yaml:"max_failures_per_account" reload:"hangup"`
	// How many logins of accounts of one tenant may fail within an hour before all of them are guarded like that.
	MaxFailuresPerTenant int `yaml:"max_failures_per_tenant" reload:"hangup"`
	// How long such a block lasts; each further one within a day lasts twice as long as the one before, up to four hours.
	BlockTime time.Duration `yaml:"block_time" reload:"hangup"`
}

// Cells are several databases, each with a bucket, index nodes and front ends of its own, which hold whole tenants: `mailstead cell` says which domains
// live in another. Their front ends let in the users of all of them. Settings of the same name are the same in all cells.
type Cells struct {
	// The name of this cell: letters a to z, digits and -.
	Name string `yaml:"name"`
	// The other cells, each as NAME=HOST or NAME=HOST:PORT, where clients reach it by IMAP with STARTTLS; the port is 143 where there is none. Empty: there is but one cell.
	Others []CellHost `yaml:"others"`
	// Where front ends reach other cells by IMAP over TLS, each as NAME=HOST:PORT: those that are missing at their host in cells.others, port 993. Whatever is
	// there has to show a certificate for that host.
	Addresses []CellAddress `yaml:"addresses"`
	// PEM file with the certificates of the authorities that those certificates are checked against. Empty: the system's.
	CAFile string `yaml:"ca_file"`
	// What the front ends of all cells know each other by, 32 characters or more.
	Secret Secret `yaml:"secret"`
	// Another secret, by which those of other cells are known as well, while the secret is replaced. Empty: none.
	SecondSecret Secret `yaml:"second_secret"`
	// What becomes of a client whose account is in another cell: proxy, it is passed through to that; hint, the same, and it is told where its own server is (RFC
	// 2221), for the next time; or refer, it is told to go there itself, which many programs do not understand. In all cases the other cell says whether its password is right. Where there are other cells, SCRAM is not offered with channel
	// binding (-PLUS); CRAM-MD5, client certificates, GSSAPI and ANONYMOUS let in the users of their own cell alone.
	Login CellLogin `yaml:"login"`
}

// IMAP is the service for mail clients.
type IMAP struct {
	// Address of IMAP with STARTTLS; off: none.
	Listen Listen `yaml:"listen"`
	// Address of IMAP over TLS; off: none.
	ListenTLS Listen `yaml:"listen_tls"`
	// Whether clients on this machine itself may log in without TLS, for tests.
	PlaintextLogin bool `yaml:"plaintext_login"`
	// The most connections at once; more are told to come back.
	MaxConnections int `yaml:"max_connections" reload:"hangup"`
	// The most connections at once that come from one address, of IPv6 from one network of 64 bits, and have not logged in; more are told to
	// come back. Those that have are bounded by their account.
	MaxConnectionsPerAddress int `yaml:"max_connections_per_address" reload:"hangup"`
	// Networks and addresses of balancers, whose connections begin with whose they are: the PROXY protocol, version 1 or 2, which they have to send.
	Balancers []Network `yaml:"balancers"`
	// The most connections at once that are logged in to one account.
	MaxConnectionsPerAccount int `yaml:"max_connections_per_account" reload:"hangup"`
	// The most connections at once that are logged in to accounts of one tenant; 0: no limit.
	MaxConnectionsPerTenant int `yaml:"max_connections_per_tenant" reload:"hangup"`
	// The most searches at once of one account, on one front end; others wait for their turn, up to 30 seconds. 0: no limit.
	MaxSearchesPerAccount int `yaml:"max_searches_per_account"`
	// The same for all accounts of a tenant together.
	MaxSearchesPerTenant int `yaml:"max_searches_per_tenant"`
	// The most commands in a second of one account, on one front end; others wait for their turn, up to 30 seconds. 0: no limit.
	CommandsPerSecondPerAccount int `yaml:"commands_per_second_per_account"`
	// The same for all accounts of a tenant together.
	CommandsPerSecondPerTenant int `yaml:"commands_per_second_per_tenant"`
	// The most that is received from and sent to clients of one account in a second, on one front end; what is beyond it is slowed down. 0: no limit.
	BytesPerSecondPerAccount Size `yaml:"bytes_per_second_per_account"`
	// The same for all accounts of a tenant together.
	BytesPerSecondPerTenant Size `yaml:"bytes_per_second_per_tenant"`
	// How long a client may take from connecting to having logged in, TLS included.
	LoginTime time.Duration `yaml:"login_time"`
	// How long a client may send no command, or stay in IDLE; RFC 9051 demands 30 minutes or more.
	IdleTime time.Duration `yaml:"idle_time"`
	// How long a client may take to send 16 KiB of a command, or what is left of it: 137 bytes a second by default.
	ReadTime time.Duration `yaml:"read_time"`
	// How long a client may take to receive 16 KiB of an answer.
	WriteTime time.Duration `yaml:"write_time"`
	// How long a SEARCH may take; then it is refused, and nothing of its result is told.
	SearchTime time.Duration `yaml:"search_time"`
	// How often a client is told that a command is under way that takes long (INPROGRESS).
	ProgressTime time.Duration `yaml:"progress_time"`
	// The longest command, without what it has in literals; RFC 2683 asks for 8000 bytes or more.
	MaxLine Size `yaml:"max_line"`
	// The largest literal that is no message. All those of a command are at most four times as large together.
	MaxLiteral Size `yaml:"max_literal"`
	// How deep parentheses and SEARCH keys can be nested.
	MaxNesting int `yaml:"max_nesting"`
	// How many searches of one session are kept up to date at a time (CONTEXT=SEARCH, CONTEXT=SORT).
	MaxContexts int `yaml:"max_contexts"`
	// Memory for all searches together that are kept up to date: what they ask and what they have found. One account has at most a
	// quarter of it, one tenant three quarters. Where there is none left a client is told that its search is not kept up to date ([NOUPDATE]), and asks again.
	MaxContextMemory Size `yaml:"max_context_memory"`
	// How many numbers and ranges a set of messages can have in a command, and one that a search saves (SEARCHRES).
	MaxSetRanges int `yaml:"max_set_ranges"`
	// How deep a section can be that FETCH names, such as BODY[1.2.3].
	MaxSectionDepth int `yaml:"max_section_depth"`
	// Memory for the commands of all connections while they are read and run, beyond the 16 KiB that each may have anyway. One
	// account has at most a quarter of it, and so have all clients together that have not logged in; one tenant three quarters. Who finds no room is refused with [UNAVAILABLE],
	// or [LIMIT].
	MaxCommandMemory Size `yaml:"max_command_memory"`
	// Memory that the messages of one APPEND take together before no more are taken; each by itself takes less than 1 MiB,
	// however large it is.
	MaxAppendMemory Size `yaml:"max_append_memory"`
	// Whether clients can compress (COMPRESS=DEFLATE, RFC 4978) once they have logged in. A connection that does so and waits
	// takes up to 38 KiB more.
	Compress bool `yaml:"compress"`
	// How many bytes one byte may become that a client has compressed (COMPRESS), on the whole and beyond the size of one
	// message. Mail becomes 2 to 10; DEFLATE could make it 1032.
	MaxInflation int `yaml:"max_inflation"`
	// How many commands of a connection can be wrong in a row before it is ended.
	MaxWrongCommands int `yaml:"max_wrong_commands"`
	// How many logins of a connection can fail before it is ended.
	MaxLoginFailures int `yaml:"max_login_failures"`
	// How many commands of a connection run at the same time, where a client has sent them together and they only read: then the
	// bucket is waited for once, not for each. 1: one after the other.
	MaxCommandsAtOnce int `yaml:"max_commands_at_once"`
	// How many commands of all connections run beside another of their own connection. Where more would, they run one after the other.
	MaxCommandsBeside int `yaml:"max_commands_beside"`
	// Whether LITERAL- is announced instead of LITERAL+ (RFC 7888): clients then ask before they send a message of more than 4096 octets,
	// which takes a round trip, and saves the way of those that are refused.
	LiteralMinus bool `yaml:"literal_minus"`
	// Whether messages with 8-bit characters in their header are refused from clients that have not enabled UTF-8 (RFC 6855 section 4 wants that). Old
	// mail is full of them, so by default it is taken as it is.
	Refuse8Bit bool `yaml:"refuse_8bit_headers"`
}

// LMTP is the service for the mail server in front (Postfix, Exim). It has no
// authentication of its own: whoever may connect may deliver.
type LMTP struct {
	// Address, or unix:/path/of/socket; off: none.
	Listen Listen `yaml:"listen"`
	// Networks and addresses that may connect over TCP; others get a 421.
	Allow []Network `yaml:"allow" reload:"hangup"`
	// Permissions of a Unix socket, in octal.
	SocketMode Mode `yaml:"socket_mode"`
	// The host name in greetings. Empty: the machine's.
	Hostname string `yaml:"hostname"`
	// The most connections at once; more get a 421.
	MaxConnections int `yaml:"max_connections" reload:"hangup"`
	// The most recipients of one message; more get a 452, and the mail server sends them another copy.
	MaxRecipients int `yaml:"max_recipients"`
	// Whether mail for an account that is over its quota is refused for good (552), so that the sender hears of it at
	// once. Otherwise the answer is 452, and the mail server goes on trying for as long as it does.
	RejectOverQuota bool `yaml:"reject_over_quota" reload:"hangup"`
}

// HTTP is the service for operators: /livez, /readyz, /metrics. It has no
// authentication: keep it on loopback or a network of its own.
type HTTP struct {
	// Address; off: none.
	Listen Listen `yaml:"listen"`
}

// Tracing sends spans of commands, deliveries, SQL statements and requests to the bucket to a collector of OpenTelemetry,
// by OTLP over HTTP. Its standard variables are heeded as well, such as OTEL_EXPORTER_OTLP_HEADERS for what the collector
// wants to be shown, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_MAX_QUEUE_SIZE and OTEL_SDK_DISABLED.
type Tracing struct {
	// URL of the collector: http://127.0.0.1:4318. Empty: what OTEL_EXPORTER_OTLP_ENDPOINT says; without either there is no
	// tracing, and it costs nothing.
	Endpoint URL `yaml:"endpoint"`
	// The part of commands and deliveries that is traced, from 0 to 1. OTEL_TRACES_SAMPLER, where it is set, decides instead.
	Sample float64 `yaml:"sample"`
}

// Accounts is what new accounts get.
type Accounts struct {
	// Whether new accounts get Drafts, Sent, Junk, Trash and Archive, subscribed, with their special uses (RFC 6154).
	DefaultMailboxes bool `yaml:"default_mailboxes"`
}

// Default returns the configuration of an empty file.
func Default() *Config {
	return &Config{
		Roles:     []Role{RoleIMAP, RoleLMTP, RoleMaintenance, RoleAdmin},
		DrainTime: 25 * time.Second,
		Log:       Log{Level: "info", Format: "text"},
		Database:  Database{},
		Objects:   Objects{Region: "us-east-1"},
		Store: Store{
			MaxMessage: 64 << 20, Staging: true, StagingBound: 1 << 30, StagedMax: 128 << 10,
			PackSize: 4 << 20, PackAge: 6 * time.Hour, Retention: 14 * 24 * time.Hour, ExpungeHorizon: 90 * 24 * time.Hour, UsageRetention: 400 * 24 * time.Hour,
			SweepEvery: 6 * time.Hour, TidyEvery: 10 * time.Minute, ObjectGrace: 24 * time.Hour, StoredRatio: 1.15,
			FoldMin: 64 << 10, FoldRatio: 0.25, ViewCache: 256 << 20, Delegations: true, OrderCache: 256 << 20, BlobCache: 128 << 20, BlobCacheDirSize: 4 << 30, Transit: 512 << 20, TransitWait: 30 * time.Second,
			MaxMetadataSize: 16 << 10, MaxMetadata: 100, MaxAccountMetadata: 1 << 20,
			MaxMailboxes: 10_000, MaxNameLength: 1000, MaxNameDepth: 64, MaxKeywords: 128, MaxMIMEDepth: 100, MaxMIMEParts: 10_000, MaxHeader: 1 << 20,
		},
		Quota: Quota{AuditEvery: time.Hour, LookEvery: time.Minute, WarnAt: []Percent{80, 90, 95}, Mail: true},
		TLS:   TLS{Cache: 32 << 20},
		ACME:  ACME{Challenge: ChallengeHTTP},
		Search: Search{MinMessages: 500, Memory: 256 << 20, MaxOpen: 1000, Every: 5 * time.Second, Workers: 1, CopyAfter: 5000, TakeoverAfter: 2 * time.Minute,
			Extractors: []Extractor{}, ExtractorTime: 10 * time.Second, ExtractorMemory: 512 << 20, ExtractorFile: 32 << 20, ExtractorText: 1 << 20, ExtractorsAtOnce: 2},
		Auth: Auth{
			Mechanisms: defaultMechanisms(), Realms: []Realm{}, Trusted: loopback(), MaxFailuresPerAddress: 20, MaxFailuresPerAccount: 50, MaxFailuresPerTenant: 1000, BlockTime: 5 * time.Minute,
		},
		Cells: Cells{Others: []CellHost{}, Addresses: []CellAddress{}, Login: LoginProxy},
		IMAP: IMAP{
			Listen: ":143", ListenTLS: ":993", Balancers: []Network{}, MaxConnections: 20000, MaxConnectionsPerAddress: 2000, MaxConnectionsPerAccount: 1000, MaxSearchesPerAccount: 16,
			LoginTime: time.Minute, IdleTime: 30 * time.Minute, ReadTime: 2 * time.Minute, WriteTime: 2 * time.Minute, SearchTime: 5 * time.Minute, ProgressTime: 10 * time.Second,
			MaxLine: 64 << 10, MaxLiteral: 64 << 10, MaxNesting: 100, MaxContexts: 10, MaxContextMemory: 64 << 20, MaxSetRanges: 20_000, MaxSectionDepth: 100, MaxCommandMemory: 256 << 20, MaxAppendMemory: 16 << 20, Compress: true, MaxInflation: 100, MaxWrongCommands: 50, MaxLoginFailures: 5,
			MaxCommandsAtOnce: 4, MaxCommandsBeside: 100,
		},
		LMTP:     LMTP{Listen: ":24", Allow: loopback(), SocketMode: 0o660, MaxConnections: 500, MaxRecipients: 1000},
		HTTP:     HTTP{Listen: "127.0.0.1:8143"},
		Tracing:  Tracing{Sample: 1},
		Accounts: Accounts{DefaultMailboxes: true},
	}
}
