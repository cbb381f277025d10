package imapd

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/view"
)

// fetcher answers one FETCH.
//
// Responses are put together in buf, and written when there is some of it. What
// is large stays outside: a stream is opened before its literal is announced, and
// copied when its turn comes. A literal that then breaks off ends the connection,
// since nothing else could be true on the wire.
type fetcher struct {
	s     *session
	items []fetchItem
	asked itemKind // what items are
	view  *view.View

	ghosts []view.Message // gone from the view, but the client has not been told so; ascending
	done   id.UID         // up to which the responses are written
	gone   bool           // of a message that was asked for nothing is left

	marked   view.UIDSet // took \Seen from this command: their FLAGS are told
	markedAt id.ModSeq   // by that

	left        []id.UID // messages that were left out:
	undecodable bool     // for one has a part that was asked for in an encoding that is not known,
	damaged     error    // or is not what was stored

	content message.Reader // of the message at hand, where it was read ahead
	held    int64          // what the command has reserved besides responses, in octets

	buf     []byte
	streams []stream
	partly  bool // the response at hand is written in part, and must be written to its end
}

// stream is the rest of a literal whose head ends at an offset of buf.
type stream struct {
	at   int
	size int64
	r    *bufio.Reader
	c    io.Closer
}

const (
	// flushAt is how much of the responses is put together before it is written.
	flushAt = 16 << 10
	// inlineSize is up to which size a section is read as a whole.
	inlineSize = 64 << 10
	// maxPending and maxStreams are from when on a response is written before it
	// is complete: what fails behind that ends the connection.
	maxPending = 1 << 20
	maxStreams = 16
	// maxHeader is how much of a header is searched for fields. What was kept on
	// arrival answers nearly all; no real header is as long.
	maxHeader = 4 << 20
)

// markSeen sets \Seen of the messages that do not have it, in one change. What
// others did meanwhile is told, so the messages that exist now are returned.
func (f *fetcher) markSeen(ctx context.Context, uids view.UIDSet, expunges bool) (view.UIDSet, error) {
	var unseen []id.UID
	for m := range f.view.In(uids) {
		if m.Flags&view.Seen == 0 {
			unseen = append(unseen, m.UID)
		}
	}
	if len(unseen) == 0 {
		return uids, nil
	}
	var r store.FlagResult
	err := f.s.withRights(ctx, acl.Seen, func() (err error) {
		r, err = f.s.selected.SetFlags(ctx, store.FlagChange{
			UIDs: view.NewUIDSet(unseen...), Mode: view.Add, Flags: view.Seen, UnchangedSince: -1,
		})
		return err
	})
	switch {
	case as[*acl.DeniedError](err): // since just now
		return uids, nil
	case err != nil:
		return uids, ofSelected(err)
	}
	f.s.tellStored(ctx, r, expunges)
	f.view, f.marked, f.markedAt = r.View, r.Changed, r.ModSeq
	return uids.Intersect(r.View.UIDs()), nil
}

// messages yields the messages of uids and the ghosts, ascending.
func (f *fetcher) messages(uids view.UIDSet) iter.Seq[view.Message] {
	if len(f.ghosts) == 0 {
		return f.view.In(uids)
	}
	return func(yield func(view.Message) bool) {
		ghosts := f.ghosts
		for m := range f.view.In(uids) {
			for ; len(ghosts) > 0 && ghosts[0].UID < m.UID; ghosts = ghosts[1:] {
				if !yield(ghosts[0]) {
					return
				}
			}
			if !yield(m) {
				return
			}
		}
		for _, m := range ghosts {
			if !yield(m) {
				return
			}
		}
	}
}

// fetch writes the responses for all messages of uids and for the ghosts.
func (f *fetcher) fetch(ctx context.Context, uids view.UIDSet) error {
	f.held = f.s.reserved.octets
	var err error
	switch {
	case f.needsEmails():
		err = f.fetchWithEmails(ctx, uids)
	default:
		err = f.fetchFromView(ctx, uids)
	}
	f.flush()
	if missed := f.notGiven(err); !missed.Empty() {
		f.unmark(ctx, missed, err == nil || !fatal(err))
	}
	return err
}

// needsEmails tells whether more is asked for than the view knows, or the whole message.
func (f *fetcher) needsEmails() bool {
	for _, item := range f.items {
		if item.kind&ofEmail != 0 && !(item.kind == itemSection && item.section.whole()) {
			return true
		}
	}
	return false
}

// whole tells whether the section is the message as it is: where it lies is known without looking.
func (s *section) whole() bool { return len(s.path) == 0 && s.kind == "" }

// notGiven returns those of the messages that took \Seen from this command whose response
// was not written; err is what ended it.
func (f *fetcher) notGiven(err error) view.UIDSet {
	missed := view.NewUIDSet(f.left...)
	if err != nil {
		missed = missed.Union(view.UIDSetOf(view.Range{First: f.done + 1, Last: ^id.UID(0)}))
	}
	return f.marked.Intersect(missed)
}

// unmarkTimeout bounds how long \Seen is taken back.
const unmarkTimeout = 10 * time.Second

// unmark takes \Seen back from messages that the client has not been given, where nobody has
// changed their flags since, and tells it what they have now, if something can be told yet.
func (f *fetcher) unmark(ctx context.Context, uids view.UIDSet, tell bool) {
	// Also where the client has gone away in the middle, which ends the context of its commands.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmarkTimeout)
	defer cancel()
	r, err := f.s.selected.SetFlags(ctx, store.FlagChange{UIDs: uids, Mode: view.Remove, Flags: view.Seen, UnchangedSince: f.markedAt})
	if err != nil {
		f.s.log.WarnContext(ctx, `taking \Seen back failed`, "err", err)
	}
	if !tell {
		return
	}
	v := f.view // as it still is, as far as is known
	if err == nil {
		f.s.tellStored(ctx, r, f.s.uid)
		v, uids = r.View, r.Changed
	}
	for m := range v.In(uids) {
		f.s.writeChanged(f.s.number(m.UID), m, v.Keywords())
	}
}

// fetchFromView answers what the view knows, and whole messages.
func (f *fetcher) fetchFromView(ctx context.Context, uids view.UIDSet) error {
	if f.readsContent() {
		return f.fetchContents(ctx, slices.Collect(f.messages(uids)), nil)
	}
	for m := range f.messages(uids) {
		if err := f.message(ctx, &m, nil); err != nil {
			return err
		}
	}
	return nil
}

// readsContent tells whether what is asked for lies in the content of most messages. Headers are kept with the parsed message.
func (f *fetcher) readsContent() bool {
	return slices.ContainsFunc(f.items, func(item fetchItem) bool {
		return item.kind == itemSection && item.section.kind != "HEADER" && item.section.kind != "MIME"
	})
}

// fetchContents answers for messages whose contents are read ahead; emails are theirs, nil where they are not needed.
func (f *fetcher) fetchContents(ctx context.Context, messages []view.Message, emails []store.Email) error {
	ids := make([]id.Email, len(messages))
	for i := range messages {
		ids[i] = messages[i].Email
	}
	i := 0
	err := f.s.selected.Contents(ctx, ids, func(email id.Email, content message.Reader) error {
		for ; messages[i].Email != email; i++ {
			f.gone = true
		}
		var kept *store.Email
		if emails != nil {
			kept = &emails[i]
		}
		f.content = content
		err := f.message(ctx, &messages[i], kept)
		i++
		return err
	})
	f.content = nil
	f.gone = f.gone || err == nil && i < len(messages)
	return err
}

// fetchWithEmails answers what needs what was kept of the message on its arrival.
func (f *fetcher) fetchWithEmails(ctx context.Context, uids view.UIDSet) error {
	return f.s.selected.eachBatch(ctx, f.messages(uids), func(b emailsOf) error { return f.fetchBatch(ctx, b) })
}

func (f *fetcher) fetchBatch(ctx context.Context, b emailsOf) error {
	if f.readsContent() && !slices.ContainsFunc(b.emails, func(e store.Email) bool { return e.Meta == nil }) {
		return f.fetchContents(ctx, b.messages, b.emails)
	}
	for i := range b.messages {
		if b.emails[i].Meta == nil {
			f.gone = true
			continue
		}
		if err := f.message(ctx, &b.messages[i], &b.emails[i]); err != nil {
			return err
		}
	}
	return nil
}

// message puts together the response for one message. email is nil where it is not needed.
func (f *fetcher) message(ctx context.Context, m *view.Message, email *store.Email) error {
	var meta *message.Meta
	if email != nil {
		meta = email.Meta
	}
	if f.unknownCTE(meta) {
		f.undecodable = true
		f.leaveOut(m)
		return nil
	}
	start := len(f.buf)
	f.partly = false
	f.begin(m)
	for i, item := range f.items {
		if i > 0 {
			f.buf = append(f.buf, ' ')
		}
		if item.kind != itemSection {
			f.item(item.kind, m, email)
			continue
		}
		if err := f.section(ctx, item.section, m, meta); err != nil {
			if f.partly {
				return fmt.Errorf("%w: FETCH response cut short: %w", errLost, err)
			}
			f.abandon(start)
			switch {
			case isExpunged(err):
				f.gone = true
			case errors.Is(err, store.ErrDamaged): // others need not be
				f.damaged = cmp.Or(f.damaged, err)
				f.leaveOut(m)
			default:
				return err
			}
			return nil
		}
		if len(f.buf) >= maxPending || len(f.streams) >= maxStreams {
			f.partly = true
			if err := f.write(ctx); err != nil {
				return fmt.Errorf("%w: FETCH response cut short: %w", errLost, err)
			}
		}
	}
	f.buf = append(f.buf, ")\r\n"...)
	if len(f.buf) >= flushAt || len(f.streams) > 0 || f.partly {
		f.partly = false
		if err := f.write(ctx); err != nil {
			return err
		}
	}
	f.done = m.UID
	return nil
}

// leaveOut passes over a message that cannot be answered for.
func (f *fetcher) leaveOut(m *view.Message) {
	f.left, f.done = append(f.left, m.UID), m.UID
}

// write is flush with a look whether anybody takes it.
func (f *fetcher) write(ctx context.Context) error {
	f.flush()
	if !f.partly {
		f.s.whole()
	}
	return cmp.Or(f.s.enc.Err(), ctx.Err())
}

// begin begins a response. The flags of a message that took \Seen are told first, where they are not asked for.
func (f *fetcher) begin(m *view.Message) {
	f.buf = f.s.beginFetch(f.buf, f.s.number(m.UID), m.UID)
	if f.marked.Empty() || !f.marked.Contains(m.UID) {
		return
	}
	extra := itemFlags
	if f.s.condstore {
		extra |= itemModSeq
	}
	if f.s.tellsUIDs() {
		extra |= itemUID
	}
	for _, kind := range [...]itemKind{itemUID, itemFlags, itemModSeq} {
		if extra&^f.asked&kind != 0 {
			f.item(kind, m, nil)
			f.buf = append(f.buf, ' ')
		}
	}
}

// item puts one data item, which is no section, into the response.
func (f *fetcher) item(kind itemKind, m *view.Message, email *store.Email) {
	switch kind {
	case itemUID:
		f.buf = append(f.buf, "UID "...)
		f.buf = strconv.AppendUint(f.buf, uint64(m.UID), 10)
	case itemFlags:
		f.buf = append(f.buf, "FLAGS "...)
		f.buf = f.s.selected.appendFlags(f.buf, m, f.view.Keywords())
	case itemInternalDate:
		f.buf = append(f.buf, "INTERNALDATE "...)
		f.buf = m.InternalDate.AppendFormat(f.buf, dateTime)
	case itemSaveDate:
		f.buf = append(f.buf, "SAVEDATE "...)
		f.buf = m.SaveDate.AppendFormat(f.buf, dateTime)
	case itemSize:
		f.buf = append(f.buf, "RFC822.SIZE "...)
		f.buf = strconv.AppendInt(f.buf, m.Size, 10)
	case itemModSeq:
		f.buf = f.s.appendModSeq(f.buf, m)
	case itemEnvelope:
		f.buf = append(f.buf, "ENVELOPE "...)
		f.buf = appendEnvelope(f.buf, &email.Meta.Envelope)
	case itemBody:
		f.buf = append(f.buf, "BODY "...)
		f.buf = appendBodyStructure(f.buf, email.Meta.Root, f.s.bodyForm())
	case itemBodyStructure:
		f.buf = append(f.buf, "BODYSTRUCTURE "...)
		f.buf = appendBodyStructure(f.buf, email.Meta.Root, f.s.bodyForm()|bodyExtended)
	case itemEmailID:
		f.objectID("EMAILID", email.EmailID)
	case itemThreadID:
		f.objectID("THREADID", email.ThreadID)
	case itemPreview:
		f.buf = append(f.buf, "PREVIEW "...)
		f.buf = wire.AppendString(f.buf, email.Meta.Preview)
	}
}

// dateTime is date-time (RFC 3501 section 9) as package time writes it.
const dateTime = `"_2-Jan-2006 15:04:05 -0700"`

func (f *fetcher) objectID(item string, object id.Object) {
	f.buf = append(f.buf, item...)
	f.buf = append(f.buf, " ("...)
	f.buf = append(f.buf, object...)
	f.buf = append(f.buf, ')')
}

// section puts a section into the response: NIL where there is no such part.
func (f *fetcher) section(ctx context.Context, s *section, m *view.Message, meta *message.Meta) error {
	f.buf = append(f.buf, s.label...)
	f.buf = append(f.buf, ' ')
	place := message.Range{Len: m.Size}
	if !s.whole() {
		var ok bool
		if place, ok = meta.Section(s.path, s.kind); !ok {
			f.buf = append(f.buf, s.nothing()...)
			return nil
		}
	}
	if s.binary {
		return f.binary(ctx, s, m, meta, place)
	}
	if data, ok, err := f.smallSection(ctx, s, m, meta, place); err != nil || ok {
		f.literal(s.cut(data))
		return err
	}
	place = s.within(place)
	if place.Len == 0 {
		f.buf = append(f.buf, `""`...)
		return nil
	}
	return f.octets(ctx, m, place)
}

// smallSection returns header fields, and a header that is kept with the
// parsed message; ok is false for what lies in the content as it is.
func (f *fetcher) smallSection(ctx context.Context, s *section, m *view.Message, meta *message.Meta, place message.Range) (data []byte, ok bool, err error) {
	if s.kind != "HEADER" {
		return nil, false, nil
	}
	if len(s.path) == 0 {
		if len(s.fields) > 0 {
			data, ok = meta.HeaderFields(s.fields, s.not)
		} else {
			data, ok = meta.HeaderBlock()
		}
	}
	if ok || len(s.fields) == 0 {
		return data, ok, nil
	}
	place.Len = min(place.Len, maxHeader)
	held := f.s.reserved.octets
	if err := f.s.hold(2 * place.Len); err != nil { // the header, and the fields of it
		return nil, false, err
	}
	header, err := f.read(ctx, m, place)
	if err != nil {
		f.s.releaseTo(held)
		return nil, false, err
	}
	data = message.SelectFields(header, s.fields, s.not)
	f.s.releaseTo(held + 2*int64(len(data))) // the fields, and the response until it is written
	return data, true, nil
}

// cut applies <off.len> to what is in memory.
func (s *section) cut(data []byte) []byte {
	r := s.within(message.Range{Len: int64(len(data))})
	return data[r.Off : r.Off+r.Len]
}

// within applies <off.len> to a place: what lies behind its end is empty.
func (s *section) within(r message.Range) message.Range {
	if !s.partial {
		return r
	}
	off := min(s.off, r.Len)
	return message.Range{Off: r.Off + off, Len: min(s.len, r.Len-off)}
}

func (f *fetcher) literalHead(size int64) {
	f.buf = append(f.buf, '{')
	f.buf = strconv.AppendInt(f.buf, size, 10)
	f.buf = append(f.buf, "}\r\n"...)
}

func (f *fetcher) literal(data []byte) {
	f.literalHead(int64(len(data)))
	f.buf = append(f.buf, data...)
	hideNULs(f.buf[len(f.buf)-len(data):])
}

// hideNULs puts another octet in the place of each NUL, which nothing but a literal8 can hold (RFC 9051 section 9, CHAR8), and none but
// BINARY is answered with that. So mail with NULs has its length, and BINARY tells what it is.
func hideNULs(data []byte) {
	for i := bytes.IndexByte(data, 0); i >= 0; i = bytes.IndexByte(data, 0) {
		data[i] = hiddenNUL
		data = data[i+1:]
	}
}

// hiddenNUL is what other servers put there too.
const hiddenNUL = 0x80

// withoutNULs hides them in what is read.
type withoutNULs struct{ io.ReadCloser }

func (w withoutNULs) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	hideNULs(p[:n])
	return n, err
}

// octets puts a range of the message's content into the response: at once
// where it is small, else as a stream.
func (f *fetcher) octets(ctx context.Context, m *view.Message, place message.Range) error {
	rc, err := f.open(ctx, m, place)
	if err != nil {
		return err
	}
	if place.Len <= inlineSize {
		defer rc.Close()
		f.literalHead(place.Len)
		n := len(f.buf)
		f.buf = append(f.buf, make([]byte, place.Len)...)
		_, err := io.ReadFull(rc, f.buf[n:])
		hideNULs(f.buf[n:])
		return err
	}
	return f.stream("", place.Len, withoutNULs{rc})
}

// stream puts a literal into the response that is read when its turn comes; prefix stands before it.
func (f *fetcher) stream(prefix string, size int64, rc io.ReadCloser) error {
	br := bufio.NewReaderSize(rc, 32<<10)
	if _, err := br.Peek(1); err != nil { // before anything is announced
		rc.Close()
		return err
	}
	f.buf = append(f.buf, prefix...)
	f.literalHead(size)
	f.streams = append(f.streams, stream{len(f.buf), size, br, rc})
	return nil
}

func (f *fetcher) open(ctx context.Context, m *view.Message, place message.Range) (io.ReadCloser, error) {
	content := f.content
	if content == nil {
		var err error
		if content, err = f.s.selected.Content(ctx, m.Email); err != nil {
			return nil, err
		}
	}
	return content.Open(ctx, place.Off, place.Len)
}

// read reads a range of the message's content into memory.
func (f *fetcher) read(ctx context.Context, m *view.Message, place message.Range) ([]byte, error) {
	rc, err := f.open(ctx, m, place)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	var data bytes.Buffer
	data.Grow(int(place.Len) + bytes.MinRead) // which ReadFrom wants at the end
	_, err = data.ReadFrom(rc)
	return data.Bytes(), err
}

// flush writes what was put together, and the streams in it, and counts it for who reads it.
func (f *fetcher) flush() {
	from, octets := 0, int64(len(f.buf))
	for _, st := range f.streams {
		octets += st.size
		f.s.enc.Bytes(f.buf[from:st.at]).Copy(st.size, st.r)
		st.c.Close()
		from = st.at
	}
	f.s.enc.Bytes(f.buf[from:])
	if octets > 0 && f.s.enc.Err() == nil {
		f.s.store.CountFetched(f.s.user, octets)
	}
	f.buf, f.streams = f.buf[:0], f.streams[:0]
	if cap(f.buf) > 4*inlineSize {
		f.buf = nil
	}
	f.s.releaseTo(f.held)
}

// abandon takes back the response that begins at start, of which nothing was written.
func (f *fetcher) abandon(start int) {
	for _, st := range f.streams {
		st.c.Close()
	}
	f.buf, f.streams = f.buf[:start], f.streams[:0]
}
