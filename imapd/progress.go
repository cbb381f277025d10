package imapd

// INPROGRESS.
//
// RFC 9585. A client that waits for a command is told now and then that it is
// under way, and how far where that is known, so that neither it nor anything between it and us takes
// the connection for dead.

import (
	"strings"
	"time"
)

// unknownTotal is that of a command of which it is not known how far it is.
const unknownTotal = -1

// progress tells of one command.
type progress struct {
	s     *session
	total int       // messages to be looked at
	next  time.Time // when the client is told again
}

func (s *session) startProgress(total int) *progress {
	return &progress{s, total, time.Now().Add(s.server.o.ProgressInterval)}
}

// reached tells how many messages are done, if it is time and there are more to do: what
// is done is always told to be less than all.
func (p *progress) reached(done int) {
	now := time.Now()
	if now.Before(p.next) || done >= p.total && p.total != unknownTotal {
		return
	}
	p.next = now.Add(p.s.server.o.ProgressInterval)
	if p.total == unknownTotal {
		p.s.tellProgress("NIL NIL")
		return
	}
	p.s.tellProgress(numeral(uint32(done)) + " " + numeral(uint32(p.total)))
}

// tellProgress says that the command is under way, and which, unless its tag would
// end the response code.
//
// resp-text-code =/ "INPROGRESS" SP "(" (quoted / nil) SP (number / nil) SP (nz-number / nil) ")"
func (s *session) tellProgress(howFar string) {
	tag := `"` + s.tag + `"`
	if strings.Contains(tag, "]") {
		tag = "NIL"
	}
	s.enc.Raw("* OK [INPROGRESS (").Raw(tag).SP().Raw(howFar).Raw(")] Still at it").CRLF()
	s.enc.Flush() // an error of it sticks
	s.whole()
}

// patiently does what may take long in one piece and writes nothing to the
// client, who is told meanwhile that it is under way.
func (s *session) patiently(do func() error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }()
		defer recovered(&err)
		err = do()
	}()
	tick := time.NewTicker(s.server.o.ProgressInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			s.tellProgress("NIL NIL")
		}
	}
}
