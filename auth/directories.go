package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mailstead.dev/auth/directory"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// A tenant may have a directory of its own, which is asked who its users are, by mechanisms that give their passwords: then what is kept here
// as the password of an account lets nobody in. App passwords, certificates and tokens are what they are.
//
// The directory is asked for every login of the tenant's domains, whether or not there is such an account, so that
// its answers do not tell who has one here. Whom it knows itself it may give away by the time that it takes.

// rested is for how long a directory is not asked before it is given up. It is longer than any login takes, so nobody asks it then.
const rested = 10 * time.Minute

// directories are those that have been asked.
type directories struct {
	options directory.Options

	mu      sync.Mutex // guards what follows
	open    map[asSet]*openDirectory
	closed  bool
	closing sync.WaitGroup // of those that were open
}

// asSet is a directory as it has been set. Where that is changed, logins that have looked before go on with the old one, and close nothing of who has looked since.
type asSet struct {
	tenant   id.Tenant
	settings string // of the database
}

type openDirectory struct {
	at    *directory.Directory
	asked time.Time // last
}

// of returns a tenant's directory.
func (d *directories) of(t id.Tenant, settings string) (*directory.Directory, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := asSet{t, settings}
	if have := d.open[key]; have != nil {
		have.asked = time.Now()
		return have.at, nil
	}
	if d.closed {
		return nil, errors.New("the process ends")
	}
	s, err := directory.Parse(settings)
	if err != nil {
		return nil, err
	}
	o := d.options
	o.Logger = o.Logger.With("tenant", t)
	at, err := directory.Open(s, o)
	if err != nil {
		return nil, err
	}
	d.open[key] = &openDirectory{at, time.Now()}
	return at, nil
}

// giveUp closes those that have not been asked for long.
func (d *directories) giveUp(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, of := range d.open {
		if now.Sub(of.asked) > rested {
			d.closing.Go(of.at.Close)
			delete(d.open, key)
		}
	}
}

// close closes all, and opens no more.
func (d *directories) close() {
	d.mu.Lock()
	d.closed = true
	for _, of := range d.open {
		d.closing.Go(of.at.Close)
	}
	clear(d.open)
	d.mu.Unlock()
	d.closing.Wait()
}

// byDirectory lets in whom the tenant's directory takes, where they have an account.
func (a *Authenticator) byDirectory(ctx context.Context, t *attempt, p password) (Grant, error) {
	if len(p.given) > maxPassword {
		return Grant{}, store.ErrAuth
	}
	d, err := a.directories.of(t.account.User.Tenant, t.account.Directory)
	if err != nil {
		return Grant{}, a.away(ctx, t, err)
	}
	key := a.taken.key(t.login, p, t.account.Directory)
	var account store.Login
	whose, remembered := a.taken.get(key)
	if remembered {
		if account, err = a.accountOf(ctx, t, whose); err != nil {
			return Grant{}, err
		}
	}
	if account.User.Account == 0 { // accounts are made for whom the directory takes now, and not for whom it took some minutes ago
		if whose, err = a.ask(ctx, d, t, p); err != nil {
			return Grant{}, err
		}
		if account, err = a.accountOf(ctx, t, whose); err != nil {
			return Grant{}, err
		}
		if account.User.Account == 0 {
			if account, err = a.create(ctx, d.Settings, t, account, whose); err != nil {
				return Grant{}, err
			}
		}
		a.taken.add(key, whose) // here alone, or it would be remembered for as long as it is used
	}
	t.account = account
	g, err := admit(account)
	g.vouched(d.Settings.Roles)
	return g, err
}

// ask asks a directory for an attempt, and returns the login of the account that it is right for. store.ErrAuth, store.ErrUnavailable.
func (a *Authenticator) ask(ctx context.Context, d *directory.Directory, t *attempt, p password) (whose string, err error) {
	answer, err := d.Ask(ctx, t.login, p.given, t.allowed)
	if answer.Odd != nil {
		a.log.WarnContext(ctx, "a directory does not say who somebody is", append(t.who(), "err", answer.Odd)...)
	}
	switch {
	case errors.Is(err, directory.ErrAway): // which it has said to the log
		return "", fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case err != nil:
		return "", err
	case !answer.Right && d.Settings.Hashes():
		if err := a.prove(ctx, t, a.proofOf(ctx, t, answer.Hash), p); err != nil {
			return "", err
		}
	case !answer.Right:
		return "", store.ErrAuth
	}
	if answer.Login == "" {
		return t.login, nil
	}
	whose, err = store.NormalLogin(answer.Login)
	if err != nil {
		a.log.WarnContext(ctx, "a directory names an account that is none", t.who()...)
		return "", store.ErrAuth
	}
	return whose, nil
}

// away says that a directory cannot be asked, to the log in full.
func (a *Authenticator) away(ctx context.Context, t *attempt, err error) error {
	a.log.WarnContext(ctx, "a directory cannot be asked", append(t.who(), "err", err)...)
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// proofOf reads a hash of a directory, in the words of who has made it; nil where there is none, or it is not understood.
func (a *Authenticator) proofOf(ctx context.Context, t *attempt, hash string) proof {
	if hash == "" {
		return nil
	}
	text, err := ParseSecret(hash)
	if err != nil {
		a.log.WarnContext(ctx, "a directory has a hash that verifies nobody", append(t.who(), "err", err)...)
		return nil
	}
	return parseSecret(text).proof
}

// accountOf looks for the account of whom the directory takes, which is to be one of its tenant; it may be none. store.ErrAuth, store.ErrUnavailable.
func (a *Authenticator) accountOf(ctx context.Context, t *attempt, whose string) (store.Login, error) {
	if whose == t.login {
		return t.account, nil
	}
	return a.lookedUp(ctx, t, whose)
}

// lookedUp is accountOf where that has to look, after the look at the login.
func (a *Authenticator) lookedUp(ctx context.Context, t *attempt, whose string) (store.Login, error) {
	account, err := a.lookup(ctx, whose)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotExist):
		return store.Login{}, fmt.Errorf("login: %w", err)
	case account.User.Tenant != t.account.User.Tenant:
		return store.Login{}, store.ErrAuth
	case account.Directory != t.account.Directory: // its sessions have been ended, and this one was to be among them
		return store.Login{}, fmt.Errorf("%w: the directory is another since it was asked", store.ErrUnavailable)
	}
	return account, nil
}

// create makes an account with what accounts of its tenant have, unless it cannot be one. none is what was looked up of it.
func (a *Authenticator) create(ctx context.Context, s directory.Settings, t *attempt, none store.Login, login string) (store.Login, error) {
	switch {
	case !s.Create:
		return store.Login{}, store.ErrAuth
	case none.Disabled:
		return store.Login{}, store.ErrDisabled
	}
	tenant := t.account.User.Tenant
	made, err := a.directory.CreateAccount(store.WithActor(ctx, "directory"), store.NewAccount{Login: login})
	invalid, is := errors.AsType[*store.InvalidError](err)
	switch {
	case err == nil:
		a.log.InfoContext(ctx, "a directory's user has got an account", "tenant", tenant, "account", made.ID)
	case is:
		a.log.InfoContext(ctx, "a directory's user gets no account", "tenant", tenant, "why", invalid.Why)
	case errors.Is(err, store.ErrExists): // somebody else has made it just now, or it is an alias
		a.log.InfoContext(ctx, "a directory's user gets no account", "tenant", tenant, "why", "something has the address already")
	default:
		return store.Login{}, fmt.Errorf("login: %w", err)
	}
	account, err := a.lookedUp(ctx, t, login)
	if err == nil && account.User.Account == 0 {
		err = store.ErrAuth
	}
	return account, err
}

// TryDirectory asks the directory of a login's tenant as a login would, counts nothing, and tells whose account it would be. store.ErrAuth,
// store.ErrUnavailable; store.ErrNotExist where the login is of no tenant that has a directory.
func (a *Authenticator) TryDirectory(ctx context.Context, login, password string) (whose string, err error) {
	t := &attempt{a: a, trusted: true, limits: *a.limits.Load()}
	if t.login, err = store.NormalLogin(login); err != nil {
		return "", err
	}
	if t.account, err = a.lookup(ctx, t.login); err != nil && !errors.Is(err, store.ErrNotExist) {
		return "", err
	}
	if t.account.Directory == "" {
		return "", store.ErrNoDirectory
	}
	d, err := a.directories.of(t.account.User.Tenant, t.account.Directory)
	if err != nil {
		return "", a.away(ctx, t, err)
	}
	return a.ask(ctx, d, t, newPassword(password))
}

func newDirectories(secrets string, log *slog.Logger) *directories {
	return &directories{options: directory.Options{Secrets: secrets, Logger: log}, open: make(map[asSet]*openDirectory)}
}
