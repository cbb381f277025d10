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
// neither its answers nor the time that they take tell who has one here.

// rested is for how long a directory is not asked before its connections are given up.
const rested = time.Hour

// directories are those that have been asked, by their tenants.
type directories struct {
	options directory.Options

	mu   sync.Mutex // guards what follows
	open map[id.Tenant]*openDirectory

	closing sync.WaitGroup // of those that were open
}

type openDirectory struct {
	settings string // of the database, as it was opened with
	at       *directory.Directory
	asked    time.Time // last
}

// of returns a tenant's directory, as its settings are now.
func (d *directories) of(t id.Tenant, settings string) (*directory.Directory, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if have := d.open[t]; have != nil && have.settings == settings {
		have.asked = now
		return have.at, nil
	}
	for tenant, of := range d.open {
		if tenant == t || now.Sub(of.asked) > rested {
			d.closing.Go(of.at.Close) // when those who ask it now are done
			delete(d.open, tenant)
		}
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
	if d.open == nil {
		d.open = make(map[id.Tenant]*openDirectory)
	}
	d.open[t] = &openDirectory{settings, at, now}
	return at, nil
}

// close gives up the connections of all.
func (d *directories) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for tenant, of := range d.open {
		of.at.Close()
		delete(d.open, tenant)
	}
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
	key := a.verified.key(t.login, p, t.account.Directory)
	whose, ok := a.verified.get(key)
	if !ok {
		if whose, err = a.ask(ctx, d, t, p); err != nil {
			return Grant{}, err
		}
	}
	account, err := a.accountOf(ctx, d.Settings, t, whose)
	if err != nil {
		return Grant{}, err
	}
	t.account = account
	if !ok { // once, or it would be remembered for as long as it is used
		a.verified.add(key, whose)
	}
	g, err := admit(account)
	g.vouched(d.Settings.Roles)
	return g, err
}

// ask asks a directory for an attempt, and returns the login of the account that it is right for. store.ErrAuth, store.ErrUnavailable.
func (a *Authenticator) ask(ctx context.Context, d *directory.Directory, t *attempt, p password) (whose string, err error) {
	answer, err := d.Ask(ctx, t.login, p.given, t.allowed)
	switch {
	case errors.Is(err, directory.ErrAway): // which it has said to the log
		return "", fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case err != nil:
		return "", err
	case !answer.Right && d.Settings.Hashes():
		if err := a.prove(ctx, t, parseSecret(answer.Hash).proof, p); err != nil {
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
		a.log.WarnContext(ctx, "a directory names an account that is none", "tenant", t.account.User.Tenant, "err", err)
		return "", store.ErrAuth
	}
	return whose, nil
}

// away says that a directory cannot be asked, to the log in full.
func (a *Authenticator) away(ctx context.Context, t *attempt, err error) error {
	a.log.WarnContext(ctx, "a directory cannot be asked", "tenant", t.account.User.Tenant, "err", err)
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// accountOf returns the account of whom the directory has taken, which must be one of its tenant; store.ErrAuth.
func (a *Authenticator) accountOf(ctx context.Context, s directory.Settings, t *attempt, whose string) (store.Login, error) {
	tenant := t.account.User.Tenant
	account := t.account
	if whose != t.login {
		var err error
		if account, err = a.lookup(ctx, whose); err != nil && !errors.Is(err, store.ErrNotExist) {
			return store.Login{}, fmt.Errorf("login: %w", err)
		}
	}
	if account.User.Account == 0 && account.User.Tenant == tenant && s.Create {
		var err error
		if account, err = a.create(ctx, tenant, whose); err != nil {
			return store.Login{}, err
		}
	}
	if account.User.Account == 0 || account.User.Tenant != tenant {
		return store.Login{}, store.ErrAuth
	}
	return account, nil
}

// create makes an account with what accounts of its tenant have, unless it cannot be one.
func (a *Authenticator) create(ctx context.Context, tenant id.Tenant, login string) (store.Login, error) {
	made, err := a.directory.CreateAccount(store.WithActor(ctx, "directory"), store.NewAccount{Login: login})
	if _, invalid := errors.AsType[*store.InvalidError](err); invalid || errors.Is(err, store.ErrExists) { // somebody else has made it just now, or it is an alias
		a.log.InfoContext(ctx, "a directory's user gets no account", "tenant", tenant, "err", err)
	} else if err != nil {
		return store.Login{}, fmt.Errorf("login: %w", err)
	} else {
		a.log.InfoContext(ctx, "a directory's user has got an account", "tenant", tenant, "account", made.ID)
	}
	account, err := a.lookup(ctx, login)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return store.Login{}, fmt.Errorf("login: %w", err)
	}
	return account, nil
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
	return &directories{options: directory.Options{Secrets: secrets, Logger: log}}
}
