package imapd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/view"
)

// COPY between a mailbox of this cell and one of another: an APPEND of all messages there (RFC 3502), or what FETCH tells of all of them there, added
// here at once. So it is all or nothing, as ever. MOVE cannot be so, and is refused.

// copyRun is a COPY.
type copyRun struct{ copyCmd }

func (c copyRun) run(ctx context.Context, s *session) error { return c.copy(ctx, s) }

// copyOut is a COPY from here to another cell.
type copyOut struct {
	passed
	copyCmd
}

func (c copyOut) run(ctx context.Context, s *session) error {
	v, uids, err := c.find(ctx, s)
	if err != nil || uids.Empty() {
		return err
	}
	return c.passed.with(ctx, s, func(t *passing) error {
		if err := c.send(ctx, t, v, uids); err != nil {
			return err
		}
		if told := strings.Fields(t.code); len(told) == 3 && told[0] == "APPENDUID" { // without the right to read it is not told
			s.ok("COPYUID "+told[1]+" "+uids.String()+" "+told[2], "Copied")
		}
		return nil
	})
}

// find returns the messages, as they are: by UID those that are there, by number all or none.
func (c copyOut) find(ctx context.Context, s *session) (*view.View, view.UIDSet, error) {
	uids, err := c.set.in(s)
	if err != nil {
		return nil, uids, err
	}
	v, err := s.view(ctx)
	if err != nil {
		return nil, uids, err
	}
	there := uids.Intersect(v.UIDs())
	if !c.set.uid && there.Len() < uids.Len() {
		return nil, uids, s.notCopied(ctx, store.ErrExpunged)
	}
	return v, there, nil
}

// send sends the messages. Where one cannot be read, the command is not ended, and so nothing is appended.
func (c copyOut) send(ctx context.Context, t *passing, v *view.View, uids view.UIDSet) error {
	t.own = true
	messages := slices.Collect(v.In(uids))
	ids := make([]id.Email, len(messages))
	for i := range messages {
		ids[i] = messages[i].Email
	}
	name := t.s.farName(c.dest)
	if !strings.HasPrefix(name, `"`) { // what asks for the name would be taken to ask for the first message
		return wrongCommand{store.ErrBadName}
	}
	text := []byte(t.s.tag + " APPEND " + name)
	told := t.s.startProgress(len(messages))
	sent := 0
	err := t.s.selected.Contents(ctx, ids, func(email id.Email, content message.Reader) error {
		m := &messages[sent]
		if m.Email != email {
			return store.ErrExpunged
		}
		sent++
		head := t.s.selected.appendFlags(append(text, ' '), m, v.Keywords())
		head = append(m.InternalDate.AppendFormat(append(head, ' '), dateTime), fmt.Sprintf(" {%d+}\r\n", m.Size)...)
		text = nil
		if err := t.offer(head); err != nil {
			return err
		}
		err := t.stream(ctx, content, m.Size)
		if err == nil {
			told.reached(sent)
		}
		return err
	})
	switch {
	case errors.Is(err, errAnswered):
		return nil
	case t.lost != nil:
		return t.lost
	case err == nil && sent < len(messages):
		err = store.ErrExpunged
	}
	if err != nil { // which does not lose what is selected: that is here
		t.c.leave()
		return wrongCommand{err}
	}
	if err := t.end(nil); err != nil {
		return err
	}
	return t.answer()
}

// stream sends a message.
func (t *passing) stream(ctx context.Context, content message.Reader, size int64) error {
	r, err := content.Open(ctx, 0, size)
	if err != nil {
		return err
	}
	defer r.Close() // of reading
	_, err = io.CopyN(remoteWriter{t}, r, size)
	return err
}

// copyIn is a COPY from another cell, where a mailbox is selected, to here.
type copyIn struct {
	passed
	copyCmd
}

func (c copyIn) run(ctx context.Context, s *session) error {
	in := &arriving{s: s, name: c.dest}
	defer in.close(ctx)
	var err error
	if in.dest, err = s.store.Open(ctx, s.user, c.dest, acl.Insert); err != nil {
		return tryCreate(err)
	}
	var from view.UIDSet
	err = c.passed.with(ctx, s, func(t *passing) (err error) {
		from, err = c.fetch(ctx, t, in)
		return err
	})
	if err != nil || s.answered || len(in.messages) == 0 {
		return err
	}
	appended, err := in.dest.Append(ctx, in.incoming()...)
	if errors.Is(err, store.ErrNotExist) { // or shared otherwise, while they came
		if in.dest, err = s.store.Open(ctx, s.user, c.dest, acl.Insert); err == nil {
			appended, err = in.dest.Append(ctx, in.incoming()...)
		}
	}
	if err != nil {
		return tryCreate(err)
	}
	s.tellOverSoft(appended.OverSoft)
	if in.dest.Rights.Has(acl.Read) {
		s.ok("COPYUID "+numeral(appended.UIDValidity)+" "+from.String()+" "+appended.UIDs.String(), "Copied")
	}
	return nil
}

// fetch receives the messages. What is told of others meanwhile is the client's.
func (c copyIn) fetch(ctx context.Context, t *passing, in *arriving) (from view.UIDSet, err error) {
	t.own = true
	words := bytes.Fields(c.text) // tag, perhaps UID, COPY, and the set
	verb, set := "FETCH ", words[2]
	if c.set.uid {
		verb, set = "UID FETCH ", words[3]
	}
	if err := t.c.send(t.s, []byte(t.s.tag+" "+verb+string(set)+" (UID FLAGS INTERNALDATE BINARY.PEEK[])\r\n")); err != nil {
		return from, err
	}
	var refused error
	var uids []view.Range
	told := t.s.startProgress(unknownTotal)
	for {
		p, err := t.nextLine()
		if err != nil {
			return from, err
		}
		if p.begins && isMessage(p.octets) {
			uid, wrong, err := t.receive(ctx, in, p, refused != nil)
			if err != nil {
				return from, err
			}
			refused = errors.Join(refused, wrong)
			uids = append(uids, view.Range{First: uid, Last: uid})
			told.reached(0)
			continue
		}
		if answered, err := t.tell(p); err != nil {
			return from, err
		} else if answered {
			break
		}
	}
	if refused != nil && !t.s.answered {
		return from, wrongCommand{refused}
	}
	return view.UIDSetOf(uids...), nil
}

// nextLine is next, with the first line of a response as a whole: what stands before a message is in it.
func (t *passing) nextLine() (part, error) {
	p, err := t.next(t.long)
	for err == nil && p.begins && !bytes.HasSuffix(p.octets, []byte("\n")) {
		line := bytes.Clone(p.octets)
		if len(line) > maxOwnResponse {
			return p, errLongResponse
		}
		var more part
		more, err = t.next(t.long)
		p.octets, p.ends = append(line, more.octets...), more.ends
	}
	return p, err
}

// isMessage tells whether a response that begins like this has a whole message in it: by BINARY, which alone tells NULs as they are.
func isMessage(line []byte) bool {
	return bytes.Contains(line, []byte("FETCH (")) && (bytes.Contains(line, []byte("BINARY[] {")) || bytes.Contains(line, []byte("BINARY[] ~{")))
}

// receive receives the message in a response, or passes over it; wrong is why it is not taken.
func (t *passing) receive(ctx context.Context, in *arriving, p part, skip bool) (uid id.UID, wrong, err error) {
	uid, m, err := readFetched(p.octets)
	if err != nil {
		return 0, nil, err
	}
	size := t.c.in.left
	literal := &farLiteral{t: t, left: size}
	if !skip {
		if wrong = in.accept(ctx, size, false); wrong == nil {
			var content *store.Content
			if content, wrong = in.text(ctx, literal); wrong == nil {
				in.messages = append(in.messages, received{m, content})
				in.size += size
				in.weight += content.Weight() + m.flags.weight()
			}
		}
	}
	if _, err := io.Copy(io.Discard, literal); err != nil {
		return 0, nil, err
	}
	for !p.ends {
		if p, err = t.next(t.long); err != nil {
			return 0, nil, err
		}
	}
	return uid, wrong, nil
}

// readFetched reads what stands before a message.
func readFetched(line []byte) (uid id.UID, m appendMessage, err error) {
	d := wire.NewDecoder(bufio.NewReader(bytes.NewReader(line)), wire.DecoderOptions{MaxLine: len(line)})
	d.Special('*')
	d.SP()
	d.Number()
	d.SP()
	d.Keyword()
	d.SP()
	d.Special('(')
	for d.Err() == nil {
		switch item := d.Label(); item {
		case "UID":
			d.SP()
			uid = id.UID(d.NZNumber())
		case "FLAGS":
			d.SP()
			m.flags = readFlags(d, d.FlagList())
		case "INTERNALDATE":
			d.SP()
			m.date = d.DateTime()
		case "MODSEQ":
			d.SP()
			d.List(func() { d.Number64() })
		case "BINARY":
			return uid, m, d.Err()
		default:
			return 0, m, errors.New("it tells of a message what it was not asked for")
		}
		d.SP()
	}
	return 0, m, d.Err()
}

// farLiteral reads the literal of a response.
type farLiteral struct {
	t    *passing
	left int64
	part []byte
}

func (l *farLiteral) Read(b []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	if len(l.part) == 0 {
		p, err := l.t.next(l.t.long)
		if err != nil {
			return 0, err
		}
		l.part = p.octets
	}
	n := copy(b, l.part)
	l.part = l.part[n:]
	l.left -= int64(n)
	return n, nil
}
