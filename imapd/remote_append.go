package imapd

import (
	"bytes"
	"errors"
	"io"
)

// Commands that go on reading while they are passed on to another cell.
//
// A message streams. It is offered there as one that is waited for, so that what is refused is refused before the client sends it, where that waits.

// append passes on an APPEND or REPLACE, of several messages or one.
func (t *passing) append(text []byte, m appendMessage, several bool) error {
	d := t.s.dec
	for {
		literal, _ := d.Literal(func(int64, bool) error {
			more, _ := d.Kept()
			return t.offer(append(text, more...))
		})
		if d.Err() != nil {
			break
		}
		if _, err := io.Copy(remoteWriter{t}, literal); err != nil {
			return err
		}
		text = nil
		if m.utf8 {
			d.Special(')')
		}
		if !several || !d.TrySP() {
			break
		}
		m = readAppendMessage(d)
	}
	err := d.End()
	more, _ := d.Kept()
	switch {
	case errors.Is(err, errAnswered):
		return nil
	case err == nil:
		if err := t.end(more); err != nil {
			return err
		}
		return t.answer()
	case t.lost != nil:
		return t.lost
	}
	return t.takeBack(err)
}

// offer sends a command up to the size of a literal, and waits until that is asked for; errAnswered where the command is answered instead.
func (t *passing) offer(text []byte) error {
	t.begun = true
	text = append(bytes.TrimSuffix(text, []byte("+}\r\n")), "}\r\n"...)
	if t.lost = t.c.send(t.s, text); t.lost != nil {
		return t.lost
	}
	for {
		p, err := t.next(t.quick)
		answered := false
		if err == nil {
			answered, err = t.tell(p)
		}
		switch {
		case err != nil:
			t.lost = err
			return err
		case answered:
			return errAnswered
		case t.asks && p.ends:
			return nil
		}
	}
}

// takeBack ends a command behind a message, by what is wrong in any case; err is what is wrong with what the client has sent.
func (t *passing) takeBack(err error) error {
	if t.begun && t.s.dead() == nil {
		t.mute = true
		if lost := t.end([]byte(" x")); lost != nil {
			return lost
		}
		if lost := t.answer(); lost != nil {
			return lost
		}
	}
	return wrongCommand{err}
}

// remoteWriter writes to the other cell.
type remoteWriter struct{ t *passing }

func (w remoteWriter) Write(p []byte) (int, error) {
	if w.t.lost = w.t.c.send(w.t.s, p); w.t.lost != nil {
		return 0, w.t.lost
	}
	return len(p), nil
}

// annotate passes on a SETMETADATA.
func (t *passing) annotate(text []byte) error {
	if _, err := readAnnotations(t.s.dec, t.s.store.MaxMetadataSize()); err != nil {
		return wrongCommand{err}
	}
	more, _ := t.s.dec.Kept()
	return t.command(append(text, more...))
}
