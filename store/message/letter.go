package message

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/emersion/go-message/mail"
)

// Letter is a plain mail that the store itself writes.
type Letter struct {
	FromName, From string // From and To are addresses
	To             string
	Subject, Text  string // lines of Text end in LF
	Date           time.Time
	MessageID      string // without its brackets
}

// Bytes returns the message (RFC 5322). It says that no person has written it (RFC 3834 section 5), so that nobody's vacation answers.
func (l Letter) Bytes() ([]byte, error) {
	var h mail.Header
	h.SetDate(l.Date)
	h.SetAddressList("From", []*mail.Address{{Name: l.FromName, Address: l.From}})
	h.SetAddressList("To", []*mail.Address{{Address: l.To}})
	h.SetSubject(l.Subject)
	h.SetMessageID(l.MessageID)
	h.Set("Auto-Submitted", "auto-generated")
	h.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
	var b bytes.Buffer
	w, err := mail.CreateSingleInlineWriter(&b, h)
	if err != nil {
		return nil, fmt.Errorf("write a letter: %w", err)
	}
	if _, err := io.WriteString(w, l.Text); err != nil {
		return nil, fmt.Errorf("write a letter: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write a letter: %w", err)
	}
	return b.Bytes(), nil
}
