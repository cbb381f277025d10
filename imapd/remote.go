package imapd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"mailstead.dev/store"
)

// Mailboxes of other cells.
//
// RFC 2193. What users of another cell share with a guest of theirs (store.Visit) has here the name that it has there: that of a mailbox of
// another user, whose login is of a domain that lives there. Of what else the guest has there nothing is seen here. A client that knows of referrals, as it says by
// RLIST or RLSUB, is referred to the other cell (remote_refer.go); for all others its commands are passed on (remote_pass.go). What they are shown
// by LIST is the same (remote_list.go).
//
// Nobody is led in a circle: a guest has no visits, and an owner whose domain lives here is nobody else's.

// visitor is what this needs of the store.
type visitor interface {
	Visits(ctx context.Context, u store.User) ([]store.Visit, error)
	LookupLogin(ctx context.Context, login string) (store.Login, error)
}

var _ visitor = (*store.Store)(nil)

// remotes is what a session has to do with other cells.
type remotes struct {
	server *Server
	holder holder // of the connections

	visits []store.Visit
	fresh  time.Duration     // they are taken for true
	asked  time.Time         // when visits were asked for; zero: they have not been
	cells  map[string]string // by domain, "": none that is visited; as far as they were asked for since then

	refers bool // the client knows of referrals

	selected *remoteConn // in whose cell a mailbox is selected; nil: none is

	rest time.Duration // after which connections that are not used go

	mu    sync.Mutex             // guards what follows
	away  map[string]awayCell    // by cell
	conns map[string]*remoteConn // by cell
}

// visitsTime is how long what is known of visits is taken for true.
const visitsTime = time.Minute

// maxDomains bounds what is remembered of domains.
const maxDomains = 1000

// mayVisit says that the session may see what is shared in other cells.
func (s *session) mayVisit() {
	if s.server.o.moreCells() && !s.user.Guest {
		s.remotes = &remotes{server: s.server, holder: s.holder, fresh: s.server.visitsTime, rest: remoteIdle, conns: make(map[string]*remoteConn), away: make(map[string]awayCell)}
	}
}

// keepForRemotes has the next command kept as it comes, where it may have to be passed on.
func (s *session) keepForRemotes() {
	if r := s.remotes; r != nil {
		s.keep(!r.none())
	}
}

// keepAlong has what a command goes on reading kept as well, where it is passed on. It is kept for nobody else: an APPEND can have any number of lines.
func (s *session) keepAlong(r run) {
	if _, on := r.(passed); !on && s.remotes != nil {
		s.keep(false)
	}
}

// none tells whether there are no visits.
func (r *remotes) none() bool { return len(r.visits) == 0 && time.Since(r.asked) < r.fresh }

// abroad tells whether a command may have to do with another cell.
func (s *session) abroad(p *request) bool {
	switch r := s.remotes; {
	case r == nil, p.name == "LOGOUT": // which nothing that is away is to refuse
		return false
	case r.selected != nil:
		return true
	case r.none():
		return false
	}
	switch p.name {
	case "LIST", "LSUB", "RLIST", "RLSUB":
		return true
	}
	if c, ok := p.run.(*esearchCmd); ok && c.reachesOthers() {
		return true
	}
	return slices.ContainsFunc(p.mailboxes, func(name string) bool { return store.Owner(name) != "" })
}

// lookForVisits makes sure that visits are known.
func (s *session) lookForVisits(ctx context.Context) error {
	if r := s.remotes; time.Since(r.asked) < r.fresh {
		return nil
	}
	return s.askForVisits(ctx)
}

// askForVisits asks for the visits, and leaves the cells that are not visited any more.
func (s *session) askForVisits(ctx context.Context) error {
	r := s.remotes
	visits, err := s.store.Visits(ctx, s.user)
	if err != nil {
		return err
	}
	r.visits, r.asked, r.cells = visits, time.Now(), make(map[string]string)
	for _, c := range r.connections() {
		if slices.Contains(visits, c.visit) {
			continue
		}
		c.leave()
		if c == r.selected {
			return errLeft
		}
	}
	return nil
}

// refersFromNow says that the client knows of referrals.
func (s *session) refersFromNow() {
	if s.remotes != nil {
		s.remotes.refers = true
	}
}

// visitOf returns the visit by which a mailbox is seen that has a name; nil: it is of this cell.
func (s *session) visitOf(ctx context.Context, name string) (*store.Visit, error) {
	owner := store.Owner(name)
	domain := strings.ToLower(owner[strings.LastIndexByte(owner, '@')+1:])
	if domain == "" {
		return nil, nil
	}
	r := s.remotes
	cell, known := r.cells[domain]
	if !known {
		found, err := s.store.LookupLogin(ctx, owner)
		if err != nil && !errors.Is(err, store.ErrNoAccount) {
			return nil, err
		}
		cell = found.Cell
		if len(r.cells) >= maxDomains {
			clear(r.cells)
		}
		r.cells[domain] = cell
	}
	at := slices.IndexFunc(r.visits, func(v store.Visit) bool { return v.Cell == cell })
	if _, known := s.server.o.Cells[cell]; at < 0 || !known {
		return nil, nil
	}
	return &r.visits[at], nil
}

// place returns what a command does: what it would do here, or in another cell.
func (s *session) place(ctx context.Context, p *request) (run, error) {
	if !s.abroad(p) {
		return p.run, nil
	}
	if err := s.enc.Flush(); err != nil { // what other cells are asked may take time
		return nil, err
	}
	if err := s.lookForVisits(ctx); err != nil {
		return nil, err
	}
	switch p.name {
	case "LIST", "LSUB", "RLIST", "RLSUB": // which go everywhere
		return p.run, s.keepSelected(ctx)
	}
	at := make([]*store.Visit, len(p.mailboxes))
	for i, name := range p.mailboxes {
		var err error
		if at[i], err = s.visitOf(ctx, name); err != nil {
			return nil, err
		}
	}
	return s.placeAt(ctx, p, at)
}
