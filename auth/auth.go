// Package auth decides who is logging in: it verifies passwords with bounded memory and the same work for logins
// that do not exist, runs the mechanisms of SASL, and ends the sessions of those who are let in no more.
// Who exists, and by what they are verified, is store's to say.
//
// SASL: RFC 4422; argon2id: RFC 9106; preparation of passwords: RFC 8265.
package auth

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"mailstead.dev/auth/kerberos"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// Options sets up an Authenticator. Zero fields mean the defaults.
type Options struct {
	// HashMemory is how many bytes all verifications together may use at once;
	// by default what one verification on each processor takes, and as much as the largest at least. Others wait.
	HashMemory int64
	// MaxWait is how long a login waits for its turn before it is told to come
	// back later; 10 s by default.
	MaxWait time.Duration
	// CacheTTL is for how long a verified password is accepted without hashing
	// it again, while it is not changed; an hour by default, so that clients which come every quarter of an hour are hashed
	// once, negative for never. What a directory took, which cannot tell of a change, is accepted for 5 minutes at most.
	CacheTTL time.Duration
	// CacheEntries bounds the verified logins that are remembered, at some 100
	// bytes each; 50,000 by default.
	CacheEntries int

	// Mechanisms are those that are on, of MechanismNames; DefaultMechanisms by default. What is offered of them
	// depends on the channel.
	Mechanisms []string
	// Anonymous is the login of the account as which ANONYMOUS lets everybody look.
	Anonymous string
	// Keytab is the file with the keys by which GSSAPI accepts tickets; without it there is no GSSAPI. Realms are those whose users are let in.
	Keytab string
	Realms []Realm
	// Secrets is the folder with the secrets of tenants' directories, a file each; "": there are none.
	Secrets string
	// Cells are this cell and others; by default there is but one.
	Cells Cells
	// Transport sends requests to issuers of tokens; http.DefaultTransport by default.
	Transport http.RoundTripper

	// Attempts say how many logins may fail.
	Attempts AttemptLimits

	Logger *slog.Logger // by default nothing is logged
}

// Directory is what an Authenticator needs of the store.
type Directory interface {
	LookupLoginFrom(ctx context.Context, login string, from netip.Addr) (store.Login, error)
	NoteFailedLogin(ctx context.Context, f store.FailedLogin) ([]store.Block, error)
	NoteKnownAddresses(ctx context.Context, t id.Tenant, all []store.KnownAddress) error
	ActAs(ctx context.Context, actor store.User, login string) (store.User, store.Standing, error)
	CreateAccount(ctx context.Context, n store.NewAccount) (store.Account, error)
	UpgradePassword(ctx context.Context, u store.User, old, secret string) error
	UsedAppPassword(ctx context.Context, u store.User, p id.AppPassword) error
	Revocations(ctx context.Context, since string) ([]store.Revocation, string, error)
	Issuers(ctx context.Context, t id.Tenant) ([]store.Issuer, error)
	LoginSecret(ctx context.Context) ([]byte, error)
	BeginOTP(ctx context.Context, login string) (store.OTPExchange, error)
	EndOTP(ctx context.Context, x store.OTPExchange) (bool, error)
	MeetGuest(ctx context.Context, u store.User, home store.Home) error
	UseOTP(ctx context.Context, u store.User, was, next store.OneTimePassword) (bool, error)
}

var _ Directory = (*store.Store)(nil)

// Authenticator verifies logins. It is safe for concurrent use.
type Authenticator struct {
	directory Directory
	log       *slog.Logger
	verified  *verified
	taken     *verified // by directories
	maxWait   time.Duration
	capacity  int64 // of hashing, KiB
	hashing   *semaphore.Weighted
	nobody    argon2id // what the password of an unknown login is compared with
	sessions  *sessions
	on        map[string]bool // mechanisms
	cells     Cells
	anonymous string
	keytab    *kerberos.Keytab
	realms    map[string]string // the domain of each
	issuers   *issuers

	directories *directories

	hashes  []*scramHash // that verifiers are kept for
	turns   turns
	decoyMu sync.Mutex // guards what follows
	decoy   []byte     // of LoginSecret; nil: not asked for yet

	limits  atomic.Pointer[AttemptLimits]
	recent  *recent
	counted counted
	known   known
}

// New returns an Authenticator for the accounts of a directory, a *store.Store.
func New(d Directory, o Options) *Authenticator {
	capacity := o.HashMemory >> 10
	if capacity <= 0 {
		capacity = max(int64(runtime.GOMAXPROCS(0))*hashMemory, maxHashMemory)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Mechanisms == nil {
		o.Mechanisms = DefaultMechanisms
	}
	on := make(map[string]bool)
	for _, name := range o.Mechanisms {
		on[name] = true
	}
	a := &Authenticator{
		directory:   d,
		log:         o.Logger,
		verified:    newVerified(cmp.Or(o.CacheTTL, time.Hour), cmp.Or(o.CacheEntries, 50_000)),
		taken:       newVerified(min(cmp.Or(o.CacheTTL, time.Hour), 5*time.Minute), cmp.Or(o.CacheEntries, 50_000)),
		maxWait:     cmp.Or(o.MaxWait, 10*time.Second),
		capacity:    capacity,
		hashing:     semaphore.NewWeighted(capacity),
		nobody:      argon2id{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltLen), key: make([]byte, keyLen)},
		sessions:    newSessions(),
		on:          on,
		cells:       o.Cells,
		anonymous:   o.Anonymous,
		keytab:      kerberos.NewKeytab(o.Keytab),
		realms:      make(map[string]string),
		issuers:     newIssuers(o.Transport),
		directories: newDirectories(o.Secrets, o.Logger),
		recent:      newRecent(),
		hashes:      hashesOf(o.Mechanisms),
	}
	for _, r := range o.Realms {
		a.realms[r.Realm] = r.Domain
	}
	if o.Keytab == "" {
		delete(on, "GSSAPI") // RFC 4752 section 3.2
	}
	a.Limit(o.Attempts)
	return a
}

// IMAP names the protocol in Channel.Protocol and in the scopes of app passwords.
const IMAP = "imap"

// Protocols are those that app passwords can be for.
var Protocols = []string{IMAP}

// Channel is how somebody comes in.
type Channel struct {
	Protocol    string               // IMAP
	Private     bool                 // nobody else can read what is sent: passwords are taken
	TLS         *tls.ConnectionState // nil: none
	Certificate *x509.Certificate    // that the server has shown; nil without TLS
	From        netip.Addr           // where the client is; zero where that is not known

	// Introduced is told of the client that a front end of another cell comes for, before anything is looked up; its error refuses it. nil: nobody is.
	Introduced func(client netip.Addr) error

	unbound    bool // an exchange cannot be bound to TLS
	introduced bool // it is another cell's front end that passes on what the client sends
	asked      bool // it is another cell that asks about a guest of its own
}

// Grant is that somebody is let in.
type Grant struct {
	User store.User // as whom

	until time.Time        // zero: for good
	rests []store.Standing // on these: of who has logged in, and of whom they act as
}

// Login lets somebody in by their password, or one of their app passwords. Its errors wrap store.ErrAuth,
// store.ErrDisabled (only told to those who have the password), ErrBlocked or store.ErrUnavailable; or it is an ElsewhereError.
//
// The account is looked up each time, also when the password needs no hashing
// because it was verified lately: a new password and a disabled account take
// effect at once.
func (a *Authenticator) Login(ctx context.Context, ch Channel, login, given string) (Grant, error) {
	return a.login(ctx, ch, "", login, given)
}

// login is Login for somebody who wants to act as another, where their account is elsewhere.
func (a *Authenticator) login(ctx context.Context, ch Channel, identity, login, given string) (Grant, error) {
	t, err := a.attempt(ctx, ch, login)
	p := newPassword(given)
	if e, ok := errors.AsType[*ElsewhereError](err); ok {
		e.plain(identity, login, p)
	}
	if err != nil {
		return Grant{}, err
	}
	if err := a.atHome(ch, t, identity, p); err != nil {
		return Grant{}, err
	}
	g, err := a.check(ctx, ch, t, p)
	switch {
	case errors.Is(err, store.ErrAuth):
		return Grant{}, t.refused(ctx, t.guess(p))
	case err == nil:
		t.succeeded()
	}
	return g, err
}

func (a *Authenticator) check(ctx context.Context, ch Channel, t *attempt, p password) (Grant, error) {
	if t.account.User.Guest { // whose home is to say, and cannot be asked
		return Grant{}, a.refuse(ctx, t, p)
	}
	for _, app := range t.account.AppPasswords {
		if parseSecret(app.Secret).isToken(p) {
			return a.admitApp(ctx, ch, t.account, app)
		}
	}
	if t.account.Directory != "" {
		return a.byDirectory(ctx, t, p)
	}
	s := parseSecret(t.account.Password)
	if s.proof == nil || len(p.given) > maxPassword { // "" lets nobody in
		return Grant{}, a.refuse(ctx, t, p)
	}
	if err := a.verify(ctx, t, s, p); err != nil {
		return Grant{}, err
	}
	return admit(t.account)
}

// lookup finds an account that is shown to be somebody's by what cannot be guessed.
func (a *Authenticator) lookup(ctx context.Context, login string) (store.Login, error) {
	return a.directory.LookupLoginFrom(ctx, login, netip.Addr{})
}

// LoginAs is Login for somebody who wants to act as another, their identity
// (RFC 4616 section 2); "" is no other. store.ErrActAs where their role does not let them.
func (a *Authenticator) LoginAs(ctx context.Context, ch Channel, identity, login, password string) (Grant, error) {
	g, err := a.login(ctx, ch, identity, login, password)
	if err != nil {
		return Grant{}, err
	}
	return a.as(ctx, g, identity)
}

// as lets who is let in act as another.
func (a *Authenticator) as(ctx context.Context, g Grant, identity string) (Grant, error) {
	if identity == "" {
		return g, nil
	}
	u, standing, err := a.directory.ActAs(ctx, g.User, identity)
	if err != nil {
		return Grant{}, err
	}
	g.User, g.rests = u, append(g.rests, standing)
	return g, nil
}

// vouched takes the role from who is let in because somebody of the tenant's says so, an issuer or a directory: that could say it of anybody. With
// roles, only one of the platform.
func (g *Grant) vouched(roles bool) {
	if !roles || g.User.Role == store.RolePlatformSupport || g.User.Role == store.RolePlatformAdmin {
		g.User.Role = store.RoleNone
	}
}

// admit lets in who has shown that they are the account's user, which nobody can show here of a guest.
func admit(account store.Login) (Grant, error) {
	if account.User.Guest {
		return Grant{}, store.ErrAuth
	}
	if account.Disabled {
		return Grant{}, store.ErrDisabled
	}
	return Grant{User: account.User, rests: []store.Standing{account.Standing}}, nil
}

// admitApp lets in a program that has shown an app password. That does not give it the role of its user.
func (a *Authenticator) admitApp(ctx context.Context, ch Channel, account store.Login, app store.LoginAppPassword) (Grant, error) {
	if !slices.Contains(app.Protocols, ch.Protocol) {
		return Grant{}, store.ErrAuth
	}
	g, err := admit(account)
	if err != nil {
		return Grant{}, err
	}
	g.User.Role, g.User.ReadOnly = store.RoleNone, app.ReadOnly
	g.rests[0].AppPassword, g.until = app.ID, app.Expires
	if app.Stale {
		if err := a.directory.UsedAppPassword(ctx, account.User, app.ID); err != nil {
			a.log.WarnContext(ctx, "the use of an app password was not noted", "tenant", account.User.Tenant, "account", account.User.Account, "err", err)
		}
	}
	return g, nil
}

// refuse does the work of verifying a password, so that the time an answer
// takes does not tell which logins exist.
func (a *Authenticator) refuse(ctx context.Context, t *attempt, p password) error {
	if _, err := a.matches(ctx, t, a.nobody, p); err != nil {
		return err
	}
	return store.ErrAuth
}

func (a *Authenticator) verify(ctx context.Context, t *attempt, s secret, p password) error {
	key := a.verified.key(t.account.User.Login, p, t.account.Password)
	if _, ok := a.verified.get(key); ok {
		return nil
	}
	if s.outdated(a.hashes) { // one at a time: the hash may be a slow one, and all that are right want to upgrade it
		leave, err := a.turns.take(ctx, t.account.User.Account, a.maxWait)
		if err != nil {
			return err
		}
		defer leave()
		if _, ok := a.verified.get(key); ok {
			return nil
		}
	}
	if err := a.prove(ctx, t, s.proof, p); err != nil {
		return err
	}
	if s.outdated(a.hashes) {
		a.upgrade(ctx, t.account, s, p)
	}
	a.verified.add(key, t.account.User.Login)
	return nil
}

// prove verifies a password, and takes as long as for a login that does not exist, or longer, where it is wrong. nil: nothing is right.
func (a *Authenticator) prove(ctx context.Context, t *attempt, with proof, p password) error {
	if with == nil {
		return a.refuse(ctx, t, p)
	}
	ok, err := a.matches(ctx, t, with, p)
	if err != nil || ok {
		return err
	}
	if _, like := with.(argon2id); like {
		return store.ErrAuth
	}
	return a.refuse(ctx, t, p)
}

// upgrade keeps a password that was right in the form in which new ones are kept. If there is no memory for that now, the next login does.
func (a *Authenticator) upgrade(ctx context.Context, account store.Login, s secret, p password) {
	if _, whole := s.proof.(bcryptHash); whole && len(p.given) > bcryptOctets {
		return // what is behind them may be wrong
	}
	if !a.hashing.TryAcquire(min(hashMemory, a.capacity)) {
		return
	}
	defer a.hashing.Release(min(hashMemory, a.capacity))
	made, err := s.better(account, p, a.hashes)
	if err == nil {
		err = a.directory.UpgradePassword(ctx, account.User, account.Password, made)
	}
	if err != nil { // it will be tried at the next login
		a.log.WarnContext(ctx, "a password is still kept in its old form", "tenant", account.User.Tenant, "account", account.User.Account, "err", err)
	}
}

// matches compares once there is memory for it, where the attempt is allowed still.
func (a *Authenticator) matches(ctx context.Context, t *attempt, with proof, p password) (bool, error) {
	need := min(with.cost(), a.capacity) // what is larger than all runs alone
	waiting, cancel := context.WithTimeout(ctx, a.maxWait)
	defer cancel()
	if err := a.hashing.Acquire(waiting, need); err != nil {
		return false, fmt.Errorf("%w: too many logins at once: %w", store.ErrUnavailable, err)
	}
	defer a.hashing.Release(need)
	if err := t.allowed(); err != nil {
		return false, err
	}
	return with.matches(p), nil
}
