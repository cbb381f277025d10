package auth

import (
	"context"
	"slices"
	"sync"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

const (
	// watchInterval is how often revocations are asked for: all front ends are to know within two seconds.
	watchInterval = time.Second
	// rememberRevocations is longer than there can be between the look at an account and the start of its session.
	rememberRevocations = 5 * time.Minute
)

// sessions are all that rest on a grant in this process.
type sessions struct {
	mu     sync.Mutex // guards what follows
	held   map[id.Account]map[*held]struct{}
	recent map[id.Account]map[store.Revocation]time.Time // when each was told; 0: those of tenants
}

// held is a session.
type held struct {
	grant Grant
	end   func()
}

func newSessions() *sessions {
	return &sessions{held: make(map[id.Account]map[*held]struct{}), recent: make(map[id.Account]map[store.Revocation]time.Time)}
}

// Hold has end called, once at the most and from another goroutine, when the grant does not hold any more; release is for the
// session's end. It is not ok where it does not hold already: then nobody is let in.
func (a *Authenticator) Hold(g Grant, end func()) (release func(), ok bool) {
	h := &held{g, sync.OnceFunc(end)}
	if !a.sessions.add(h) {
		return nil, false
	}
	if g.until.IsZero() {
		return func() { a.sessions.remove(h) }, true
	}
	expiry := time.AfterFunc(time.Until(g.until), h.end)
	return func() {
		expiry.Stop()
		a.sessions.remove(h)
	}, true
}

func (s *sessions) add(h *held) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range h.grant.rests {
		for _, account := range []id.Account{0, of.Account} {
			for r := range s.recent[account] {
				if r.Ends(of) {
					return false
				}
			}
		}
	}
	for _, of := range h.grant.rests {
		if s.held[of.Account] == nil {
			s.held[of.Account] = make(map[*held]struct{})
		}
		s.held[of.Account][h] = struct{}{}
	}
	return true
}

func (s *sessions) remove(h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range h.grant.rests {
		delete(s.held[of.Account], h)
		if len(s.held[of.Account]) == 0 {
			delete(s.held, of.Account)
		}
	}
}

// revoke returns the sessions that revocations end, and remembers those for sessions that are about to begin.
func (s *sessions) revoke(revoked []store.Revocation, now time.Time) (ended []*held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for account, all := range s.recent {
		for r, told := range all {
			if now.Sub(told) > rememberRevocations {
				delete(all, r)
			}
		}
		if len(all) == 0 {
			delete(s.recent, account)
		}
	}
	for _, r := range revoked {
		if s.recent[r.Account] == nil {
			s.recent[r.Account] = make(map[store.Revocation]time.Time)
		}
		s.recent[r.Account][r] = now
		if r.Account != 0 {
			ended = append(ended, endedBy(s.held[r.Account], r)...)
			continue
		}
		for _, all := range s.held {
			ended = append(ended, endedBy(all, r)...)
		}
	}
	return ended
}

func endedBy(all map[*held]struct{}, r store.Revocation) (ended []*held) {
	for h := range all {
		if slices.ContainsFunc(h.grant.rests, r.Ends) {
			ended = append(ended, h)
		}
	}
	return ended
}

// Watch ends sessions that are held when what they rest on is revoked, wherever that was done, until ctx ends; and it notes from where accounts are used, and gives up
// directories that nobody asks.
func (a *Authenticator) Watch(ctx context.Context) error {
	defer a.directories.close()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	since, away := "0", false // all that is known: what was revoked between the first login and now is among it
	for {
		revoked, next, err := a.directory.Revocations(ctx, since)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			since, away = next, false
			for _, h := range a.sessions.revoke(revoked, time.Now()) {
				h.end()
			}
		case !away: // once, and not each second
			away = true
			a.log.WarnContext(ctx, "who is let in no more is not known for now, and their sessions go on", "err", err)
		}
		if err := a.noteKnown(ctx); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "from where accounts are used was not noted", "err", err)
		}
		a.directories.giveUp(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
