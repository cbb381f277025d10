package node

import (
	"context"
	"errors"
	"time"

	"mailstead.dev/index"
	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// errEnough ends a batch.
var errEnough = errors.New("enough for a batch")

// read returns the next emails of an account with their texts, how many octets those have, and the email up to which nothing is missing; more
// tells whether there may be others. What has taken a turn to read is a batch, however little it is: files may take long.
func (n *Node) read(ctx context.Context, k key, after id.Email) (docs []index.Document, octets int, upTo id.Email, more bool, err error) {
	began, files := time.Now(), n.o.Files(k.tenant)
	upTo, err = n.o.Source.EmailsAfter(ctx, k.tenant, k.account, after, batchEmails, func(email id.Email, meta *message.Meta, content message.Reader) error {
		d, size, err := document(ctx, email, meta, content, files)
		if err != nil {
			return err
		}
		docs = append(docs, d)
		if octets += size; octets >= batchOctets || time.Since(began) > turn {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		upTo, more, err = docs[len(docs)-1].Email, true, nil
	}
	return docs, octets, upTo, more || len(docs) == batchEmails, err
}

// document reads the texts of an email, as far as they are kept. Of one that cannot be read, because it is damaged or has just gone,
// nothing is known: searches read it themselves, and find out. Where no email can be read, or no file, it is none's fault, and waited for.
func document(ctx context.Context, email id.Email, meta *message.Meta, content message.Reader, files message.Files) (d index.Document, octets int, err error) {
	d, err = index.Extract(ctx, email, meta, content, files)
	for _, t := range d.Texts {
		octets += len(t.Value)
	}
	switch {
	case ctx.Err() != nil:
		return d, octets, ctx.Err()
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, blob.ErrUnavailable), errors.Is(err, message.ErrNoFiles):
		return d, octets, err
	case err != nil:
		d.Partial = true
	}
	return d, octets, nil
}
