package remote

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Mailbox is what the server says of a mailbox before it is opened.
type Mailbox struct {
	Name      string
	Delimiter rune
	Uses      []string // \Sent and the like (RFC 6154)
	Status    Status
}

// Status has zeroes where the server does not say.
type Status struct {
	UIDValidity uint32
	UIDNext     imap.UID
	Messages    uint32
	ModSeq      uint64
	Size        int64
}

// statusItems are those that this server knows.
func (s *Session) statusItems() *imap.StatusOptions {
	return &imap.StatusOptions{
		NumMessages: true, UIDNext: true, UIDValidity: true,
		HighestModSeq: s.condStore(),
		Size:          s.caps.Has(imap.CapStatusSize),
	}
}

func (s *Session) condStore() bool {
	return s.caps.Has(imap.CapCondStore) || s.caps.Has(imap.CapQResync)
}

// The names of all mailboxes are held at once: so much room for them, and for what else there is to one of them.
const (
	roomOfNames = 32 << 20
	roomOfName  = 300
)

// Mailboxes lists all that can be opened, sorted, with their status: in one round trip where the server has LIST-STATUS, else in two.
func (s *Session) Mailboxes() ([]Mailbox, error) {
	done := s.conn.expect()
	defer done()
	var options *imap.ListOptions
	extended := s.caps.Has(imap.CapListStatus) && s.caps.Has(imap.CapListExtended)
	if extended {
		options = &imap.ListOptions{ReturnStatus: s.statusItems(), ReturnSpecialUse: s.caps.Has(imap.CapSpecialUse)}
	}
	command := s.client.List("", "*", options)
	var mailboxes []Mailbox
	names := 0
	for data := command.Next(); data != nil; data = command.Next() {
		if names += len(data.Mailbox) + roomOfName; names > roomOfNames {
			s.conn.giveUp(&BadResponseError{fmt.Sprintf("it has more mailboxes than can be (%d)", len(mailboxes))})
			break
		}
		if slices.Contains(data.Attrs, imap.MailboxAttrNoSelect) || slices.Contains(data.Attrs, imap.MailboxAttrNonExistent) || data.Mailbox == "" {
			continue
		}
		m := Mailbox{Name: data.Mailbox, Delimiter: data.Delim, Uses: specialUses(data.Attrs)}
		if data.Status != nil {
			m.Status = statusOf(data.Status)
		}
		mailboxes = append(mailboxes, m)
	}
	if err := command.Close(); err != nil {
		return nil, s.because(err)
	}
	slices.SortStableFunc(mailboxes, func(a, b Mailbox) int { return strings.Compare(a.Name, b.Name) })
	mailboxes = slices.CompactFunc(mailboxes, func(a, b Mailbox) bool { return a.Name == b.Name })
	return mailboxes, s.statuses(mailboxes)
}

// statuses asks for what LIST did not say.
func (s *Session) statuses(mailboxes []Mailbox) error {
	const atOnce = 50
	var missing []*Mailbox
	for i := range mailboxes {
		if mailboxes[i].Status.UIDValidity == 0 {
			missing = append(missing, &mailboxes[i])
		}
	}
	for some := range slices.Chunk(missing, atOnce) {
		commands := make([]*imapclient.StatusCommand, len(some))
		for i, m := range some {
			commands[i] = s.client.Status(m.Name, s.statusItems())
		}
		for i, command := range commands {
			data, err := command.Wait()
			var status *imap.Error
			if errors.As(err, &status) {
				continue // whoever opens it will be told why
			}
			if err != nil {
				return s.because(err)
			}
			some[i].Status = statusOf(data)
		}
	}
	return nil
}

func statusOf(data *imap.StatusData) Status {
	status := Status{UIDValidity: data.UIDValidity, UIDNext: data.UIDNext, ModSeq: data.HighestModSeq}
	if data.NumMessages != nil {
		status.Messages = *data.NumMessages
	}
	if data.Size != nil {
		status.Size = *data.Size
	}
	return status
}

func specialUses(attrs []imap.MailboxAttr) []string {
	var uses []string
	for _, attr := range attrs {
		switch attr {
		case imap.MailboxAttrAll, imap.MailboxAttrArchive, imap.MailboxAttrDrafts, imap.MailboxAttrFlagged,
			imap.MailboxAttrJunk, imap.MailboxAttrSent, imap.MailboxAttrTrash, imap.MailboxAttrImportant:
			uses = append(uses, string(attr))
		}
	}
	return uses
}

// Examine opens a mailbox to read it and nothing else.
func (s *Session) Examine(name string) (Status, error) {
	done := s.conn.expect()
	defer done()
	s.selected, s.validity = name, 0
	data, err := s.client.Select(name, &imap.SelectOptions{ReadOnly: true, CondStore: s.condStore()}).Wait()
	if err != nil {
		return Status{}, s.because(err)
	}
	s.validity = data.UIDValidity
	return Status{UIDValidity: data.UIDValidity, UIDNext: data.UIDNext, Messages: data.NumMessages, ModSeq: data.HighestModSeq}, nil
}

// Create makes a mailbox, if it is not there.
func (s *Session) Create(name string) error {
	done := s.conn.expect()
	defer done()
	err := s.client.Create(name, nil).Wait()
	var status *imap.Error
	if errors.As(err, &status) && (status.Code == imap.ResponseCodeAlreadyExists || s.exists(name)) {
		return nil
	}
	return s.because(err)
}

// exists asks an old server, which has no code for it.
func (s *Session) exists(name string) bool {
	_, err := s.client.Status(name, &imap.StatusOptions{NumMessages: true}).Wait()
	return err == nil
}
