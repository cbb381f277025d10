// Package backup brings copies of mailboxes up to date, checks them and puts them back: what
// stands between a server (package remote) and a directory (package archive).
package backup

import (
	"fmt"
	"sync"
)

// Event is something that happened, for whoever shows it.
type Event struct {
	Kind     string  `json:"event"`
	Mailbox  string  `json:"mailbox,omitempty"`
	Messages int     `json:"messages,omitempty"`
	Bytes    int64   `json:"bytes,omitempty"`
	Text     string  `json:"text,omitempty"`
	Result   *Result `json:"result,omitempty"`
}

// The kinds of events.
const (
	Found   = "found"   // so many mailboxes, here in Messages, are to be looked at
	Planned = "planned" // of a mailbox so many messages and octets are to be transferred
	Moved   = "moved"   // so many were
	Problem = "problem" // Text says what is not as it should be; the rest goes on
	Notice  = "notice"  // Text says what is good to know
	Done    = "done"    // a mailbox is as far as it comes; Result says how far
)

// Result is what was done with a mailbox, or with all.
type Result struct {
	New       int   `json:"new"`       // messages transferred
	Bytes     int64 `json:"bytes"`     // their octets
	Again     int   `json:"again"`     // messages that were here already, under other UIDs
	Reflagged int   `json:"reflagged"` // messages with other flags
	Removed   int   `json:"removed"`   // messages that the server has no more
	Messages  int   `json:"messages"`  // that are here now, of those on the server
	Kept      int   `json:"kept"`      // that are here and not on the server
	Problems  int   `json:"problems"`
}

func (r *Result) add(o Result) {
	r.New += o.New
	r.Bytes += o.Bytes
	r.Again += o.Again
	r.Reflagged += o.Reflagged
	r.Removed += o.Removed
	r.Messages += o.Messages
	r.Kept += o.Kept
	r.Problems += o.Problems
}

// report collects events and problems of all workers.
type report struct {
	mutex sync.Mutex
	show  func(Event)
	total Result
}

func (r *report) event(e Event) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if e.Kind == Problem {
		r.total.Problems++
	}
	r.show(e)
}

func (r *report) problem(mailbox, format string, args ...any) {
	r.event(Event{Kind: Problem, Mailbox: mailbox, Text: fmt.Sprintf(format, args...)})
}

func (r *report) done(mailbox string, result Result) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.total.add(result)
	r.show(Event{Kind: Done, Mailbox: mailbox, Result: &result})
}
