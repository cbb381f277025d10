package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/filename"
	"mailstead.dev/cmd/imap-backup/remote"
)

// tries is how often in a row a mailbox may make no progress before it is given up, or the run if there is no
// connection any more.
const tries = 5

// Run brings the copies in a directory up to date. What concerns one mailbox or message is
// a problem in the report, and the rest goes on; the error is for what ends the run.
func Run(ctx context.Context, o Options) (Result, error) {
	a, err := archive.Create(o.Dir)
	if err != nil {
		return Result{}, err
	}
	total, err := run(ctx, o, a)
	return total, errors.Join(err, a.Close())
}

func run(ctx context.Context, o Options, a *archive.Archive) (Result, error) {
	r := &report{show: o.Show}
	session, mailboxes, err := survey(ctx, o, r)
	if err != nil {
		return r.total, err
	}
	names, foreign, err := a.Names()
	if err != nil {
		session.Close()
		return r.total, err
	}
	reportStrays(foreign, mailboxes, r)
	wanted := slices.DeleteFunc(mailboxes, func(m remote.Mailbox) bool { return !o.Select.Match(m.Name, m.Uses) })
	r.event(Event{Kind: Found, Messages: len(wanted)})
	// The largest first, so that at the end no connection is alone with it.
	slices.SortStableFunc(wanted, func(x, y remote.Mailbox) int {
		return cmp.Compare(y.Status.Messages, x.Status.Messages)
	})
	// All of a mailbox that is not here yet is to be fetched; of the others it is found out when it is their turn.
	planned := map[string]bool{}
	for _, m := range wanted {
		if o.Filter == (remote.Filter{}) && !slices.Contains(names, filename.Encode(m.Name, m.Delimiter)) {
			planned[m.Name] = true
			r.event(Event{Kind: Planned, Mailbox: m.Name, Messages: int(m.Status.Messages), Bytes: m.Status.Size})
		}
	}
	err = each(ctx, o, r, session, wanted, func(ctx context.Context, c *connection, m remote.Mailbox) error {
		return newJob(o, a, r, m, planned[m.Name]).run(ctx, c)
	})
	return r.total, err
}

// survey connects and lists the mailboxes.
func survey(ctx context.Context, o Options, r *report) (*remote.Session, []remote.Mailbox, error) {
	session, err := o.Dial(ctx, func(text string) { r.problem("", "%s", text) })
	if err != nil {
		return nil, nil, err
	}
	mailboxes, err := session.Mailboxes()
	if err != nil {
		session.Close()
		return nil, nil, fmt.Errorf("list the mailboxes: %w", err)
	}
	files := map[string]string{}
	mailboxes = slices.DeleteFunc(mailboxes, func(m remote.Mailbox) bool {
		name := filename.Encode(m.Name, m.Delimiter)
		if other, taken := files[name]; taken {
			r.problem(m.Name, "its file would be that of %q; left out", other)
			return true
		}
		files[name] = m.Name
		return false
	})
	return session, mailboxes, nil
}

// usesOf returns what mailboxes are for, which only the server knows.
func usesOf(mailboxes []remote.Mailbox) map[string][]string {
	uses := map[string][]string{}
	for _, m := range mailboxes {
		uses[m.Name] = m.Uses
	}
	return uses
}

// reportStrays names what lies in the directory and is not ours.
func reportStrays(foreign []string, mailboxes []remote.Mailbox, r *report) {
	wanted := map[string]bool{}
	for _, m := range mailboxes {
		wanted[filename.Encode(m.Name, m.Delimiter)] = true
	}
	for _, name := range foreign {
		base, ext, _ := cutLast(name, ".")
		if wanted[base] && slices.Contains(archive.Formats, ext) {
			continue // its mailbox says so
		}
		r.event(Event{Kind: Notice, Text: fmt.Sprintf("%s is not ours; left alone", name)})
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// connection is a worker's, and is made again when it is lost.
type connection struct {
	dial    func(context.Context) (*remote.Session, error)
	session *remote.Session
}

// get returns a session that is good for work.
func (c *connection) get(ctx context.Context) (*remote.Session, error) {
	if c.session != nil {
		return c.session, nil
	}
	session, err := c.dial(ctx)
	if err != nil {
		return nil, &unreachableError{err}
	}
	c.session = session
	return session, nil
}

// unreachableError is that there is no connection to be had.
type unreachableError struct{ error }

func (e *unreachableError) Unwrap() error { return e.error }

// lose drops a session that is lost.
func (c *connection) lose() {
	if c.session != nil {
		c.session.GiveUp(errLost)
		c.session.Close()
	}
	c.session = nil
}

// close logs out.
func (c *connection) close() {
	if c.session != nil {
		c.session.Close()
	}
}

var errLost = errors.New("the connection is lost")

// queue is the mailboxes that wait for a connection.
type queue struct {
	mutex     sync.Mutex
	mailboxes []remote.Mailbox
}

func (q *queue) take() (m remote.Mailbox, ok bool) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if len(q.mailboxes) == 0 {
		return m, false
	}
	m, q.mailboxes = q.mailboxes[0], q.mailboxes[1:]
	return m, true
}

func (q *queue) putBack(m remote.Mailbox) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.mailboxes = append(q.mailboxes, m)
}

// each runs work for all mailboxes, over several connections. What work returns ends all, but where a further
// connection cannot be had: perhaps the server allows no more of them, and the others do the work.
func each(ctx context.Context, o Options, r *report, first *remote.Session, mailboxes []remote.Mailbox,
	work func(context.Context, *connection, remote.Mailbox) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	waiting := &queue{mailboxes: slices.Clone(mailboxes)}
	dial := func(ctx context.Context) (*remote.Session, error) {
		return o.Dial(ctx, func(text string) { r.problem("", "%s", text) })
	}
	worker := func(c *connection, further bool) {
		for ctx.Err() == nil {
			m, ok := waiting.take()
			if !ok {
				return
			}
			err := work(ctx, c, m)
			var unreachable *unreachableError
			if further && errors.As(err, &unreachable) {
				r.event(Event{Kind: Notice, Text: "the server takes no further connection: " + unreachable.Error()})
				waiting.putBack(m)
				return
			}
			if err != nil {
				cancel(err)
			}
		}
	}
	main := &connection{dial: dial, session: first}
	var workers sync.WaitGroup
	for range max(1, min(o.Connections, len(mailboxes))) - 1 {
		workers.Go(func() {
			c := &connection{dial: dial}
			worker(c, true)
			c.close()
		})
	}
	worker(main, false)
	workers.Wait()
	worker(main, false) // what was put back
	main.close()
	return context.Cause(ctx)
}

// fatal reports whether an error is that of all mailboxes: there is no point in going on with others.
func fatal(ctx context.Context, err error) bool {
	var login *remote.LoginError
	return ctx.Err() != nil || errors.As(err, &login) ||
		errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO)
}

// pause waits before the nth try, longer and longer: a network comes back, and a server that says nonsense does so at once.
func (o *Options) pause(ctx context.Context, n int, err error) {
	var bad *remote.BadResponseError
	if n == 0 || errors.As(err, &bad) {
		return
	}
	timer := time.NewTimer(min(cmp.Or(o.Pause, 400*time.Millisecond)<<(2*n-2), 30*time.Second))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
