package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Filter says which messages are wanted; the zero value, all.
type Filter struct {
	Since, Before   time.Time // by internal date, the day counts
	Larger, Smaller int64     // than so many octets
}

// Search is a command that finds messages.
type Search struct {
	s       *Session
	command *imapclient.SearchCommand
	done    func()
}

// UIDs returns those of all messages that the filter lets through.
func (s *Session) UIDs(f Filter) (imap.UIDSet, error) { return s.StartUIDs(f).Wait() }

// StartUIDs asks for UIDs and does not wait for them.
func (s *Session) StartUIDs(f Filter) *Search {
	done := s.conn.expect()
	criteria := &imap.SearchCriteria{Since: f.Since, Before: f.Before, Larger: f.Larger, Smaller: f.Smaller}
	var options *imap.SearchOptions
	if s.caps.Has(imap.CapESearch) {
		options = &imap.SearchOptions{ReturnAll: true}
	}
	return &Search{s, s.client.UIDSearch(criteria, options), done}
}

// Wait returns the UIDs.
func (c *Search) Wait() (imap.UIDSet, error) {
	defer c.done()
	data, err := c.command.Wait()
	if err != nil {
		return nil, c.s.because(err)
	}
	set, _ := data.All.(imap.UIDSet) // none at all where nothing was found
	return set, nil
}

// MessageInfo is what is known of a message without its text.
type MessageInfo struct {
	UID       imap.UID
	Size      int64
	Date      time.Time
	Flags     []imap.Flag
	MessageID string // where it was asked for
}

// Want says what Infos asks for.
type Want struct {
	Flags, Size, Date, MessageID bool
	ChangedSince                 uint64 // 0: all
}

var messageIDSection = &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Message-ID"}, Peek: true}

// Infos calls f for each message of the set that the server still has.
func (s *Session) Infos(set imap.UIDSet, want Want, f func(MessageInfo) error, messageID func(io.Reader) string) error {
	for _, part := range Split(set) {
		if err := s.StartInfos(part, want).Each(f, messageID); err != nil {
			return err
		}
	}
	return nil
}

// InfosCommand is a command that Infos sends.
type InfosCommand struct {
	s       *Session
	command *imapclient.FetchCommand
	done    func()
}

// StartInfos asks for what Infos asks for, in one command, and does not wait for it.
func (s *Session) StartInfos(set imap.UIDSet, want Want) *InfosCommand {
	done := s.conn.expect()
	options := &imap.FetchOptions{UID: true, Flags: want.Flags, RFC822Size: want.Size, InternalDate: want.Date, ChangedSince: want.ChangedSince}
	if want.MessageID {
		options.BodySection = []*imap.FetchItemBodySection{messageIDSection}
	}
	return &InfosCommand{s, s.client.Fetch(set, options), done}
}

// Each calls f for each message, as Infos does.
func (c *InfosCommand) Each(f func(MessageInfo) error, messageID func(io.Reader) string) error {
	defer c.done()
	var failed error
	for data := c.command.Next(); data != nil; data = c.command.Next() {
		info, err := c.s.readInfo(data, messageID)
		var broken *brokenError
		if errors.As(err, &broken) {
			return c.s.because(err)
		}
		if err == nil && info.UID != 0 && failed == nil {
			err = f(info)
		}
		failed = errors.Join(failed, err)
	}
	if err := c.command.Close(); err != nil {
		return c.s.because(err)
	}
	return failed
}

func (s *Session) readInfo(data *imapclient.FetchMessageData, messageID func(io.Reader) string) (MessageInfo, error) {
	var info MessageInfo
	for item := data.Next(); item != nil; item = data.Next() {
		section, ok := item.(imapclient.FetchItemDataBodySection)
		if !ok {
			s.take(&info, item)
			continue
		}
		if section.Literal == nil || section.Literal.Size() > longestLiteral || messageID == nil {
			continue
		}
		var header bytes.Buffer
		if err := s.copyLiteral(&header, section.Literal); err != nil {
			return info, err
		}
		info.MessageID = messageID(&header)
	}
	return info, nil
}

// take takes what an item of an answer says of the message, other than its text.
func (s *Session) take(info *MessageInfo, item imapclient.FetchItemData) {
	switch item := item.(type) {
	case imapclient.FetchItemDataUID:
		info.UID = item.UID
	case imapclient.FetchItemDataFlags:
		info.Flags = s.bounded(item.Flags)
	case imapclient.FetchItemDataRFC822Size:
		info.Size = item.Size
	case imapclient.FetchItemDataInternalDate:
		info.Date = item.Time
	}
}

// longestFlags bounds the flags of one message: they stand in one line of the state file, and those of many messages are held at once.
const longestFlags = 4 << 10

func (s *Session) bounded(flags []imap.Flag) []imap.Flag {
	octets := 0
	for i, flag := range flags {
		if octets += len(flag) + 1; octets > longestFlags {
			s.conn.report(fmt.Sprintf("mailbox %.80q: a message has more than %d octets of flags; the others are left out", s.selected, longestFlags))
			return flags[:i]
		}
	}
	return flags
}

// copyLiteral copies a literal to w. It returns a WriteError or a brokenError.
func (s *Session) copyLiteral(w io.Writer, literal imap.LiteralReader) error {
	for copied := int64(0); ; {
		n, err := literal.Read(s.buffer[:])
		if _, failed := w.Write(s.buffer[:n]); failed != nil {
			return &WriteError{failed}
		}
		copied += int64(n)
		switch {
		case err != nil && copied < literal.Size():
			return &brokenError{copied, literal.Size()}
		case err != nil:
			return nil
		}
	}
}

// WriteError is that what the server sent could not be written.
type WriteError struct{ err error }

func (e *WriteError) Error() string { return e.err.Error() }
func (e *WriteError) Unwrap() error { return e.err }

// brokenError is a connection that ended in a literal. The client takes that for the literal's end and reads on in
// a goroutine of its own, so that nobody else may touch the command from then on.
type brokenError struct{ got, size int64 }

func (e *brokenError) Error() string {
	return fmt.Sprintf("the connection ended after %d of %d octets of a message", e.got, e.size)
}

// maxRanges keeps a command shorter than servers take one to be (RFC 7162 section 4 has 8,192 octets).
const maxRanges = 300

// Split returns parts of a set that commands can name.
func Split(set imap.UIDSet) []imap.UIDSet {
	var parts []imap.UIDSet
	for len(set) > maxRanges {
		parts = append(parts, set[:maxRanges:maxRanges])
		set = set[maxRanges:]
	}
	if len(set) > 0 {
		parts = append(parts, set)
	}
	return parts
}

// Fetch is a command that fetches whole messages.
type Fetch struct {
	s       *Session
	command *imapclient.FetchCommand
	broken  bool
	done    func()
}

// TooLargeError is a message that is larger than is allowed.
type TooLargeError struct{ Size, Limit int64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the server sends %d octets, and %d is the limit (--max-message)", e.Size, e.Limit)
}

// StartFetch asks for messages, flags and dates, and does not wait for them: several can be under way.
func (s *Session) StartFetch(set imap.UIDSet) *Fetch {
	done := s.conn.expect()
	return &Fetch{s: s, done: done, command: s.client.Fetch(set, &imap.FetchOptions{
		UID: true, Flags: true, InternalDate: true, RFC822Size: true,
		BodySection: []*imap.FetchItemBodySection{{Peek: true}},
	})}
}

// Next copies the next message to w and reports what it is. At the end text
// is false and the UID 0. Text is false also for what is no whole message, such as a change of flags. After an error
// nothing but Abandon makes sense.
func (f *Fetch) Next(w io.Writer, limit int64) (info MessageInfo, text bool, err error) {
	data := f.command.Next()
	if data == nil {
		return info, false, nil
	}
	for item := data.Next(); item != nil; item = data.Next() {
		section, ok := item.(imapclient.FetchItemDataBodySection)
		if !ok {
			f.s.take(&info, item)
			continue
		}
		if section.Literal == nil || text {
			continue
		}
		if size := section.Literal.Size(); size > limit {
			return info, false, &TooLargeError{size, limit}
		}
		if err := f.s.copyLiteral(w, section.Literal); err != nil {
			var written *WriteError
			f.broken = !errors.As(err, &written)
			return info, false, err
		}
		text = true
	}
	return info, text, nil
}

// Close ends the command, and tells whether the server answered all of it.
func (f *Fetch) Close() error {
	defer f.done()
	return f.s.because(f.command.Close())
}

// Abandon ends the command with its connection, for a reason.
func (f *Fetch) Abandon(reason error) {
	f.s.conn.giveUp(reason)
	if !f.broken {
		f.command.Close() // says that the connection ended
	}
	f.done()
}

// Append puts a message into a mailbox. go-imap's client ends the connection where the server refuses the message before it has come.
func (s *Session) Append(mailbox string, flags []imap.Flag, date time.Time, size int64, text func(io.Writer) error) error {
	done := s.conn.expect()
	defer done()
	command := s.client.Append(mailbox, size, &imap.AppendOptions{Flags: flags, Time: date})
	err := text(command)
	var status *imap.Error
	if err != nil && !errors.As(err, &status) {
		s.conn.giveUp(err) // half of a literal cannot be taken back
	}
	if closed := command.Close(); err == nil {
		err = closed
	}
	_, answered := command.Wait()
	if errors.As(answered, &status) {
		return status
	}
	if err != nil {
		return s.because(err)
	}
	return s.because(answered)
}
