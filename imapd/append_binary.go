package imapd

// APPEND of binary data.
//
// RFC 3516 section 4.4. A literal8 can have NULs. No answer of IMAP but that of BINARY can,
// so parts in which there are some get a transfer encoding that hides them (section 6), and
// only those: what has none is kept as it comes.

import (
	"bytes"
	"context"
	"errors"
	"io"

	"mailstead.dev/store"
	"mailstead.dev/store/message"
)

// errNUL answers an APPEND with NULs where MIME has no way to tell what they mean.
var errNUL = no("UNKNOWN-CTE", "Only in parts whose content transfer encoding is binary can a NUL be")

// binary receives a message of a literal8. Where there is a NUL in it, it is read once more,
// from where it was received to.
func (in *arriving) binary(ctx context.Context, literal io.Reader) (*store.Content, error) {
	looking := nulReader{r: literal}
	content, err := in.text(ctx, &looking)
	if err != nil || !looking.found {
		return content, err
	}
	encoded, err := in.encoded(ctx, content)
	if err := errors.Join(err, content.Close()); err != nil {
		return nil, err
	}
	return encoded, nil
}

// encoded receives once more what was received, without NULs.
func (in *arriving) encoded(ctx context.Context, c *store.Content) (content *store.Content, err error) {
	r, err := message.EncodeBinary(ctx, c.Meta, in.s.store.Received(c))
	if errors.Is(err, message.ErrNUL) {
		return nil, errNUL
	}
	if err != nil {
		return nil, err
	}
	content, err = in.text(ctx, r)
	if cerr := r.Close(); err == nil && cerr != nil {
		return nil, errors.Join(cerr, content.Close())
	}
	return content, err
}

// nulReader looks for a NUL in what is read.
type nulReader struct {
	r     io.Reader
	found bool
}

func (n *nulReader) Read(p []byte) (int, error) {
	read, err := n.r.Read(p)
	n.found = n.found || bytes.IndexByte(p[:read], 0) >= 0
	return read, err
}
