package imapd

// Commands of one connection at the same time.
//
// RFC 9051 section 5.5, RFC 3501 section 5.5. Commands are read, run and answered one after
// the other. But those that have come together and only read (the trait beside) make a
// round: they run at the same time, in a few lanes, and are answered as they end. What each of
// them waits for is then waited for once, and one that takes long holds up none of the others.
//
// No client can tell a round from the same commands one after the other, but by the order of the answers:
//   - All of its commands have been read before it begins. One that changes anything, be it only what the session
//     knows, waits for all before it, and is alone.
//   - What others did is told before it, and no command tells more. So all see one state, and no message
//     gets another number meanwhile. An EXPUNGE is told only if each of its commands
//     allows it (RFC 9051 section 7.5.1).
//   - No answer can be taken for that to another command: of each kind that does not name its command there is but
//     one, and no message is in two FETCHes.
//   - A response is written whole: the lane that writes has the floor up to its end. Tagged answers come behind all that belongs to them.
//
// What a lane takes is bounded as with any command; of all connections together there are
// so many lanes (Options.MaxBeside), and where none is left, commands run one after the other.

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailstead.dev/store/view"
)

// chooser is a command whose arguments decide whether it may run beside others.
type chooser interface {
	mayRunBeside(s *session) bool
}

// looker is a command that tells what others did before its own data.
type looker interface {
	looks(s *session) look
}

// look is how a command looks at the selected mailbox.
type look struct {
	recent   bool // what was seen a moment ago will do
	expunges bool // an EXPUNGE may be told
}

var (
	_ = []chooser{fetchCmd{}, (*searchCmd)(nil), (*sortCmd)(nil), (*threadCmd)(nil), (*esearchCmd)(nil), listCmd{}, statusCmd{}}
	_ = []looker{fetchCmd{}, (*searchCmd)(nil), (*sortCmd)(nil), (*threadCmd)(nil), (*esearchCmd)(nil)}
)

// maxRound bounds the commands of a round.
const maxRound = 64

// job is commands that one lane runs, one after the other.
type job []*request

// mayRunBeside tells whether a command may run beside others. Strangers get one at a time.
func (s *session) mayRunBeside(p request) bool {
	if p.err != nil || p.cmd.traits&beside == 0 || s.state == notAuthenticated || s.abroad(&p) {
		return false
	}
	c, ok := p.run.(chooser)
	return !ok || c.mayRunBeside(s)
}

// lineAhead tells whether the next command has come, whole and without a literal, so that reading it waits for nobody.
func (c *conn) lineAhead() bool {
	if c.br.Buffered() == 0 {
		return false
	}
	input, _ := c.br.Peek(c.br.Buffered()) // what is there can be looked at
	line, _, ok := bytes.Cut(input, []byte("\n"))
	return ok && !bytes.HasSuffix(bytes.TrimSuffix(line, []byte("\r")), []byte("}"))
}

// pipeline runs a command that may run beside others with those that have come with it.
func (s *session) pipeline(ctx context.Context, first request) error {
	all, beside := []request{first}, 1
	defer func() {
		for _, p := range all { // where an error leaves some that are not run
			s.server.budget.give(p.reserved.holder, p.reserved.octets)
		}
	}()
	for beside == len(all) && s.lineAhead() {
		p := s.read()
		all = append(all, p)
		if s.mayRunBeside(p) {
			beside++
		}
	}
	if err := s.runAll(ctx, all[:beside]); err != nil || beside == len(all) {
		return err
	}
	return s.alone(ctx, &all[beside])
}

// runAll runs commands that may run beside each other, in as many rounds as it takes. Once the
// connection ends, no further one is begun.
func (s *session) runAll(ctx context.Context, all []request) error {
	for len(all) > 0 {
		jobs, n := s.nextRound(ctx, all)
		err := cmp.Or(s.runRound(ctx, jobs), s.ended()) // where it ends, some of the round may not have been run
		s.forget()
		if err != nil {
			return err
		}
		for _, p := range all[:n] {
			if err := s.count(p.outcome); err != nil {
				return err
			}
		}
		all = all[n:]
	}
	return nil
}

// nextRound tells what others did, and returns the jobs of the round that begins with the first command,
// and how many commands it has.
func (s *session) nextRound(ctx context.Context, all []request) (jobs []job, n int) {
	all = all[:min(len(all), maxRound)]
	if err := s.tellRound(ctx, all); err != nil {
		return []job{{&all[0]}}, 1 // which looks again, if it has to, and says what is wrong
	}
	var fetched view.UIDSet
	kinds := make(map[string]int) // of answers: whose they are
	for i := range all {
		p := &all[i]
		kind := strings.TrimPrefix(p.name, "UID ")
		switch c := p.run.(type) {
		case fetchCmd:
			kind = ""
			uids, _ := c.set.in(s) // of a set that is wrong nothing is told
			if !uids.Intersect(fetched).Empty() {
				return jobs, i
			}
			fetched = fetched.Union(uids)
		case *searchCmd:
			if c.extended || s.rev2 { // ESEARCH names its command
				kind = ""
			}
		case *esearchCmd:
			kind = ""
		case *sortCmd:
			if c.extended {
				kind = ""
			}
		}
		at, taken := kinds[kind]
		switch {
		case taken && kind == "STATUS": // one query is for all
			jobs[at] = append(jobs[at], p)
			continue
		case taken:
			return jobs, i
		case kind != "":
			kinds[kind] = len(jobs)
		}
		jobs = append(jobs, job{p})
	}
	return jobs, len(all)
}

// tellRound tells what others did, if any of the commands would.
func (s *session) tellRound(ctx context.Context, all []request) error {
	together := look{recent: true, expunges: true}
	looks := false
	s.uid = false
	for _, p := range all {
		c, ok := p.run.(looker)
		if !ok {
			continue
		}
		l := c.looks(s)
		together.recent = together.recent && l.recent
		together.expunges = together.expunges && l.expunges
		s.uid = s.uid || p.byUID()
		looks = true
	}
	if !looks {
		return nil
	}
	return s.tellBefore(ctx, together)
}

// gatherTime is how long answers wait for others, to be sent together. The last of a round are sent with
// those to what comes behind it.
const gatherTime = time.Millisecond

// round is commands that run at the same time.
type round struct {
	s      *session // waits for the lanes, and sends what they write
	cancel context.CancelFunc
	jobs   []job
	next   atomic.Int32  // the first of jobs that no lane has
	news   chan struct{} // there is something to be sent; one does for several
	ended  chan struct{} // a lane has

	floor sync.Mutex // is who writes; guards s.enc and what follows
	err   error      // what ends the connection
}

// runRound runs jobs at the same time, as far as there are lanes for them.
func (s *session) runRound(ctx context.Context, jobs []job) error {
	lanes := 1
	for lanes < min(len(jobs), s.server.o.MaxAtOnce) && s.server.lanes.TryAcquire(1) {
		lanes++
	}
	defer s.server.lanes.Release(int64(lanes - 1))
	if lanes == 1 {
		for _, j := range jobs {
			if err := cmp.Or(s.runJob(ctx, j), s.ended()); err != nil {
				return err
			}
			s.forget()
		}
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := s.watch()
	defer stop()
	r := &round{s: s, cancel: cancel, jobs: jobs, news: make(chan struct{}, 1), ended: make(chan struct{}, lanes)}
	for range lanes {
		go r.newLane().run(ctx)
	}
	var due <-chan time.Time
	for lanes > 0 {
		news := r.news
		if due != nil { // it is sent with what is there already
			news = nil
		}
		select {
		case <-news:
			due = time.After(gatherTime)
		case <-due:
			due = nil
			r.send()
		case <-r.ended:
			lanes--
		}
	}
	return r.err
}

// send sends what lanes have written.
func (r *round) send() {
	r.floor.Lock()
	defer r.floor.Unlock()
	if r.s.enc.Flush() != nil { // it sticks, and each lane hears of it
		r.cancel()
	}
}

// runJob runs the commands of a job.
func (s *session) runJob(ctx context.Context, j job) error {
	s.ahead = statusAhead{}
	if len(j) > 1 {
		for _, p := range j {
			s.ahead.names = append(s.ahead.names, p.run.(statusCmd).name)
		}
	}
	for _, p := range j {
		if err := s.execute(ctx, p); err != nil {
			return err
		}
	}
	s.ahead = statusAhead{}
	return nil
}

// lane runs jobs of a round, each in a session that is like the one whose client is
// served, but writes to the lane.
type lane struct {
	round  *round
	conn   *conn
	speaks bool // has the floor
}

func (r *round) newLane() *lane {
	l := &lane{round: r}
	l.conn = r.s.conn.beside(l)
	return l
}

func (l *lane) run(ctx context.Context) {
	r := l.round
	defer func() {
		l.conn.leave()
		r.ended <- struct{}{}
	}()
	for r.s.ended() == nil {
		n := int(r.next.Add(1)) - 1
		if n >= len(r.jobs) {
			return
		}
		if err := l.runJob(ctx, r.jobs[n]); err != nil {
			l.fail(err)
			return
		}
	}
}

func (l *lane) runJob(ctx context.Context, j job) (err error) {
	defer func() { // as in Server.run, which is not on this stack
		if bug := recover(); bug != nil {
			l.round.s.log.ErrorContext(ctx, "panic in a session", "panic", bug, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: panic", errLost)
		}
	}()
	s := *l.round.s // what others did was told by it: expunged and reported are of all
	s.conn, s.lane, s.scratch = l.conn, l, nil
	return s.runJob(ctx, j)
}

// Write implements io.Writer: it takes the floor, up to yield.
func (l *lane) Write(p []byte) (int, error) {
	r := l.round
	if !l.speaks {
		r.floor.Lock()
		l.speaks = true
	}
	if r.err != nil {
		return 0, r.err
	}
	if err := r.s.enc.Bytes(p).Err(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// yield writes what is in the lane's buffer, which are whole responses, and lets others write.
func (l *lane) yield() {
	if l.conn.enc.Flush() != nil || !l.speaks {
		return // after an error fail gives the floor back
	}
	l.speaks = false
	l.round.floor.Unlock()
	select {
	case l.round.news <- struct{}{}:
	default:
	}
}

// fail ends the round, and the connection. Behind half a response nothing else can be told.
func (l *lane) fail(err error) {
	r := l.round
	if l.speaks { // unless what it took the floor for has not been written, since the round has failed before
		err = fmt.Errorf("%w: response cut short: %v", errLost, err)
		l.speaks = false
	} else {
		r.floor.Lock()
	}
	r.err = cmp.Or(r.err, err)
	r.floor.Unlock()
	r.cancel()
}
