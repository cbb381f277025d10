// Package directory asks a tenant's own directory who a user is: LDAP (RFC 4511), or a database that is asked in SQL. It bounds
// how many are asked at once and for how long, and leaves a directory alone for a while that does not answer. What follows from an answer is package auth's.
package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"
)

// ErrAway says that a directory cannot be asked now.
var ErrAway = errors.New("the directory is away")

// errOdd says that what a directory says of a login makes no sense: nobody is let in by that, and whoever tries such logins makes nothing of it.
var errOdd = errors.New("the directory's answer is odd")

// Answer is what a directory says of a login and a password.
type Answer struct {
	Right bool   // it has verified the password itself
	Hash  string // else, what the password is to be verified by; "": nothing is right
	Login string // of the account whose user it is; "": that which was asked for
	Odd   error  // that it makes no sense, which lets nobody in; its text names neither login nor entry
}

// Options sets up a Directory. Zero fields mean the defaults.
type Options struct {
	Secrets string        // folder of files with secrets; "": there are none
	Rest    time.Duration // for how long a directory is left alone that did not answer; 10 s by default
	Logger  *slog.Logger  // by default nothing is logged
}

// failuresInRow is how many questions are not answered before a directory is left alone.
const failuresInRow = 5

// backend is what is asked. Its errors mean that it is away, but for errOdd.
type backend interface {
	ask(ctx context.Context, login, password string) (Answer, error)
	close()
}

// Directory is one that is asked. It is safe for concurrent use.
type Directory struct {
	Settings Settings

	log     *slog.Logger
	backend backend
	timeout time.Duration
	slots   *semaphore.Weighted
	breaker *gobreaker.CircuitBreaker[Answer]
}

// Open returns a directory, which nothing is asked yet.
func Open(s Settings, o Options) (*Directory, error) {
	s, err := s.Check()
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	log := o.Logger
	d := &Directory{
		Settings: s, log: log, timeout: time.Duration(s.Timeout), slots: semaphore.NewWeighted(int64(s.Connections)),
		breaker: gobreaker.NewCircuitBreaker[Answer](gobreaker.Settings{
			Timeout:      cmp.Or(o.Rest, 10*time.Second),
			IsSuccessful: func(err error) bool { return err == nil || errors.Is(err, errOdd) },
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failuresInRow },
			OnStateChange: func(_ string, _, to gobreaker.State) {
				switch to {
				case gobreaker.StateOpen:
					log.Warn("a directory is left alone for now")
				case gobreaker.StateClosed:
					log.Info("a directory answers again")
				}
			},
		}),
	}
	secret := func() (string, error) { return readSecret(o.Secrets, s.Secret) }
	if s.Hashes() {
		d.backend, err = openSQL(s, secret)
	} else {
		d.backend, err = openLDAP(s, secret)
	}
	return d, err
}

// Close lets go of the connections of a directory that nobody asks any more.
func (d *Directory) Close() { d.backend.close() }

// Ask asks for a login and a password, when it is its turn and that is allowed still. ErrAway, or the error of allowed.
func (d *Directory) Ask(ctx context.Context, login, password string, allowed func() error) (Answer, error) {
	if password == "" { // by which LDAP would let anybody in, as nobody (RFC 4513 section 5.1.2)
		return Answer{}, nil
	}
	waiting, stop := context.WithTimeout(ctx, d.timeout)
	defer stop()
	if err := d.slots.Acquire(waiting, 1); err != nil {
		return Answer{}, fmt.Errorf("%w: too many questions at once: %w", ErrAway, err)
	}
	defer d.slots.Release(1)
	if err := allowed(); err != nil {
		return Answer{}, err
	}
	// Also where the client does not wait for it: that says nothing of the directory.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.timeout)
	defer cancel()
	answer, err := d.breaker.Execute(func() (Answer, error) {
		answer, err := d.backend.ask(ctx, login, password)
		if err != nil && !errors.Is(err, errOdd) { // said here, and not each time that it is left alone
			d.log.WarnContext(ctx, "a directory does not answer", "err", err)
		}
		return answer, err
	})
	switch {
	case errors.Is(err, errOdd):
		return Answer{Odd: err}, nil
	case err != nil:
		return Answer{}, fmt.Errorf("%w: %w", ErrAway, err)
	}
	return answer, nil
}

// maxSecret bounds a file with a secret.
const maxSecret = 4096

// readSecret reads a secret as it is now, "" where none is named. Its line's end is not part of it.
func readSecret(folder, name string) (string, error) {
	switch {
	case name == "":
		return "", nil
	case folder == "":
		return "", errors.New("there is no folder of secrets here")
	}
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret))
	return strings.TrimRight(string(text), "\r\n"), err
}
