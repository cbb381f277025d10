package index

import (
	"context"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// MaxText is how much text of an email, in octets, is kept and cut into words.
// What an email has beyond it is found by scanning its content.
const MaxText = 1 << 20

// Document is an email as an Account takes it in.
type Document struct {
	Email   id.Email
	Texts   []message.Text
	Partial bool // the email has more text than Texts
}

// Extract makes a Document of an email, of its first MaxText octets of text; files reads those that are attached, nil none.
func Extract(ctx context.Context, email id.Email, meta *message.Meta, content message.Reader, files message.Files) (Document, error) {
	d := Document{Email: email}
	size := 0
	err := meta.Texts(ctx, content, files, func(t message.Text) bool {
		if size >= MaxText {
			d.Partial = true
			return false
		}
		size += len(t.Header) + len(t.Value)
		d.Texts = append(d.Texts, t)
		return true
	})
	return d, err
}
