package imapd

import (
	"context"

	"mailstead.dev/imapd/wire"
)

// run does what a parsed command asks; the engine sends the tagged OK (what
// session.ok said, if anything) when it returns nil, and what errors.go says of
// its error otherwise.
type run interface {
	run(ctx context.Context, s *session) error
}

// do is a run that is nothing but a function.
type do func(ctx context.Context, s *session) error

func (f do) run(ctx context.Context, s *session) error { return f(ctx, s) }

// state is a set of the states in which a command is allowed.
type state uint8

const (
	notAuthenticated state = 1 << iota
	authenticated
	selectedState

	always   = notAuthenticated | authenticated | selectedState
	loggedIn = authenticated | selectedState
)

// trait is what the engine must know of a command before running it.
type trait uint8

const (
	// keepsSeqs: no EXPUNGE may be sent during or in answer to it (RFC 9051 section 7.5.1).
	keepsSeqs trait = 1 << iota
	// tellsAfter: what others did in the selected mailbox is told at its end.
	tellsAfter
	// goesOn: what read returns reads on from the client: a message, or answers to continuation requests.
	goesOn
	// byNumber: it takes message numbers, and is refused where they are not used any more (uidonly.go).
	byNumber
	// beside: it only reads, and may run at the same time as others of which that is true, unless
	// its arguments say otherwise (pipeline.go).
	beside
)

// command is a row of the command table: read parses to the end of the line and
// only then returns what to run.
type command struct {
	states state
	traits trait
	read   func(d *wire.Decoder) (run, error)
}

// commands is all that this server speaks.
var commands = map[string]command{
	// session.go
	"CAPABILITY": {always, beside, readCapability},
	"NOOP":       {always, tellsAfter, readNoop},
	"CHECK":      {selectedState, tellsAfter, readNoop}, // all is always checkpointed (RFC 3501 section 6.4.1)
	"LOGOUT":     {always, 0, readLogout},
	"ID":         {always, beside, readID},
	"ENABLE":     {loggedIn, 0, readEnable},

	// auth.go
	"STARTTLS":     {notAuthenticated, goesOn, readStartTLS},
	"LOGIN":        {notAuthenticated, 0, readLogin},
	"AUTHENTICATE": {notAuthenticated, goesOn, readAuthenticate},

	// compress.go
	"COMPRESS": {loggedIn, 0, readCompress},

	// unauthenticate.go
	"UNAUTHENTICATE": {loggedIn, 0, readUnauthenticate},

	// mailbox.go
	"CREATE":      {loggedIn, 0, readCreate},
	"DELETE":      {loggedIn, 0, readDelete},
	"RENAME":      {loggedIn, 0, readRename},
	"SUBSCRIBE":   {loggedIn, 0, readSubscribe},
	"UNSUBSCRIBE": {loggedIn, 0, readUnsubscribe},
	"NAMESPACE":   {loggedIn, beside, readNamespace},

	// list.go
	"LIST":   {loggedIn, beside, readList},
	"LSUB":   {loggedIn, beside, readLsub},
	"RLIST":  {loggedIn, 0, readRList},
	"RLSUB":  {loggedIn, 0, readRLsub},
	"STATUS": {loggedIn, beside, readStatus},

	// select.go
	"SELECT":   {loggedIn, 0, readSelect},
	"EXAMINE":  {loggedIn, 0, readExamine},
	"CLOSE":    {selectedState, 0, readClose},
	"UNSELECT": {selectedState, 0, readUnselect},

	// append.go
	"APPEND": {loggedIn, goesOn, readAppend},

	// replace.go
	"REPLACE":     {selectedState, goesOn | byNumber, readReplace},
	"UID REPLACE": {selectedState, goesOn, readUIDReplace},

	// fetch.go
	"FETCH":     {selectedState, keepsSeqs | byNumber | beside, readFetch}, // tells first what others did: fetchCmd.tellBefore
	"UID FETCH": {selectedState, beside, readUIDFetch},

	// flags.go; what others did is told as part of it
	"STORE":     {selectedState, keepsSeqs | byNumber, readStore},
	"UID STORE": {selectedState, 0, readUIDStore},

	// copy.go
	"COPY":     {selectedState, byNumber, readCopy},
	"UID COPY": {selectedState, 0, readUIDCopy},
	"MOVE":     {selectedState, byNumber, readMove},
	"UID MOVE": {selectedState, 0, readUIDMove},

	// expunge.go
	"EXPUNGE":     {selectedState, 0, readExpunge},
	"UID EXPUNGE": {selectedState, 0, readUIDExpunge},

	// search.go; tells first what others did
	"SEARCH":     {selectedState, keepsSeqs | byNumber | beside, readSearch},
	"UID SEARCH": {selectedState, beside, readUIDSearch},

	// sort.go, thread.go; likewise
	"SORT":       {selectedState, keepsSeqs | byNumber | beside, readSort},
	"UID SORT":   {selectedState, beside, readUIDSort},
	"THREAD":     {selectedState, keepsSeqs | byNumber | beside, readThread},
	"UID THREAD": {selectedState, beside, readUIDThread},

	// esearch.go; likewise
	"ESEARCH": {loggedIn, beside, readESearch},

	// comparator.go
	"COMPARATOR": {loggedIn, beside, readComparator},

	// context.go
	"CANCELUPDATE": {selectedState, 0, readCancelUpdate},

	// metadata.go
	"GETMETADATA": {loggedIn, beside, readGetMetadata},
	"SETMETADATA": {loggedIn, goesOn, readSetMetadata},

	// quota.go
	"GETQUOTA":     {loggedIn, beside, readGetQuota},
	"GETQUOTAROOT": {loggedIn, beside, readGetQuotaRoot},
	"SETQUOTA":     {loggedIn, 0, readSetQuota},

	// acl.go
	"GETACL":     {loggedIn, beside, readGetACL},
	"SETACL":     {loggedIn, 0, readSetACL},
	"DELETEACL":  {loggedIn, 0, readDeleteACL},
	"LISTRIGHTS": {loggedIn, beside, readListRights},
	"MYRIGHTS":   {loggedIn, beside, readMyRights},

	// idle.go
	"IDLE": {loggedIn, goesOn, readIdle},

	// obsolete.go; PARTIAL is a FETCH
	"PARTIAL": {selectedState, keepsSeqs | byNumber, readOldPartial},
	"FIND":    {loggedIn, 0, readFind},
}
