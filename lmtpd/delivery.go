package lmtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// delivery is one message on its way to its recipients.
type delivery struct {
	*session
	body    io.Reader
	content map[id.Tenant]*store.Content
	failed  map[id.Tenant]error // why a tenant's content could not be received
	done    map[place]error

	delivered int  // recipients
	inDoubt   bool // some recipient is to be tried again
}

// place is where a message goes once.
type place struct {
	tenant  id.Tenant
	account id.Account
	mailbox id.Mailbox
}

func newDelivery(s *session, body io.Reader) *delivery {
	return &delivery{
		session: s, body: body,
		content: make(map[id.Tenant]*store.Content), failed: make(map[id.Tenant]error), done: make(map[place]error),
	}
}

func (d *delivery) close(ctx context.Context) {
	for _, c := range d.content {
		if err := c.Close(); err != nil {
			d.server.o.Logger.WarnContext(ctx, "lmtp: content left behind", "error", err)
		}
	}
}

// tenants are those of the recipients, most often one.
func (d *delivery) tenants() []id.Tenant {
	var tenants []id.Tenant
	for _, r := range d.rcpts {
		for _, to := range r.to {
			if !slices.Contains(tenants, to.User.Tenant) {
				tenants = append(tenants, to.User.Tenant)
			}
		}
	}
	return tenants
}

// receive stores the content once for each tenant: tenants share nothing, nor
// does one whose staging is full hold up the mail of the others.
func (d *delivery) receive(ctx context.Context) {
	tenants := d.tenants()
	if len(tenants) == 1 {
		content, err := d.server.store.Receive(ctx, tenants[0], d.body)
		d.keep(tenants[0], content, err)
		return
	}
	// Each tenant's reader gets the octets as they come.
	type result struct {
		content *store.Content
		err     error
	}
	results := make([]chan result, len(tenants))
	pipes := make([]*io.PipeWriter, len(tenants))
	for i, tenant := range tenants {
		reader, writer := io.Pipe()
		results[i], pipes[i] = make(chan result, 1), writer
		go func() {
			c, err := d.server.store.Receive(ctx, tenant, reader)
			reader.CloseWithError(err) // one that gives up does not hold up the others
			results[i] <- result{c, err}
		}()
	}
	_, err := io.Copy(fan(pipes), d.body)
	for i, tenant := range tenants {
		pipes[i].CloseWithError(err) // nil: the end of the message
		r := <-results[i]
		d.keep(tenant, r.content, r.err)
	}
}

// keep remembers what became of a tenant's content.
func (d *delivery) keep(tenant id.Tenant, content *store.Content, err error) {
	if err != nil {
		d.failed[tenant] = err
	} else {
		d.content[tenant] = content
	}
}

// fan writes to all pipes that still take something.
type fan []*io.PipeWriter

func (f fan) Write(p []byte) (int, error) {
	for _, pipe := range f {
		pipe.Write(p) // its reader's error is told by its result
	}
	return len(p), nil
}

// deliver brings the message to all that one recipient stands for, and returns
// what to reply: see the package comment.
func (d *delivery) deliver(ctx context.Context, r rcpt) error {
	var delivered bool
	var hopeless, open error
	for _, to := range r.to {
		err := d.deliverTo(ctx, r.address, to)
		switch {
		case err == nil:
			delivered = true
		case isHopeless(err):
			hopeless = err
		default:
			open = err
		}
	}
	switch {
	case open != nil:
		return d.server.reply(open)
	case delivered:
		return nil
	default:
		return d.server.reply(hopeless)
	}
}

// isHopeless reports whether trying again soon would most likely fail again.
func isHopeless(err error) bool {
	var over *quota.OverError
	return errors.As(err, &over) || errors.Is(err, store.ErrTooBig)
}

// deliverTo brings the message to a mailbox, once.
func (d *delivery) deliverTo(ctx context.Context, address string, to store.Recipient) error {
	at := place{to.User.Tenant, to.User.Account, to.Mailbox.ID}
	if err, ok := d.done[at]; ok {
		return err
	}
	err := d.failed[to.User.Tenant]
	if err == nil {
		err = d.append(ctx, address, to)
	}
	d.done[at] = err
	log := d.server.o.Logger.With("tenant", to.User.Tenant, "account", to.User.Account, "mailbox", to.Mailbox.ID)
	if err != nil {
		log.WarnContext(ctx, "lmtp: not delivered", "error", err)
	} else {
		log.InfoContext(ctx, "lmtp: delivered", "size", d.content[to.User.Tenant].Size)
	}
	return err
}

func (d *delivery) append(ctx context.Context, address string, to store.Recipient) error {
	ctx, cancel := context.WithTimeout(ctx, d.server.o.DeliveryTimeout)
	defer cancel()
	_, err := to.Mailbox.Append(ctx, store.Incoming{
		Content:   d.content[to.User.Tenant],
		Prefix:    []byte("Return-Path: <" + path(d.from) + ">\r\nDelivered-To: " + path(address) + "\r\n"),
		Delivered: true,
	})
	if errors.Is(err, store.ErrNotExist) {
		// The mailbox was there a moment ago: the next try will see what has become of it.
		return fmt.Errorf("%w: the mailbox has gone", store.ErrUnavailable)
	}
	return err
}

// replied counts what a recipient was told.
func (d *delivery) replied(code int, took time.Duration) {
	if code == 250 {
		d.delivered++
	} else if code < 500 {
		d.inDoubt = true
	}
	if d.server.o.Observe != nil {
		d.server.o.Observe(code, took)
	}
}

// attributes are those of the message's span.
func (d *delivery) attributes() []attribute.KeyValue {
	all := []attribute.KeyValue{attrRecipients.Int(len(d.rcpts)), attrDelivered.Int(d.delivered)}
	for _, c := range d.content {
		all = append(all, attrOctets.Int64(c.Size))
		break // all tenants get the same octets
	}
	if tenants := d.tenants(); len(tenants) == 1 {
		all = append(all, attrTenant.Int64(int64(tenants[0])))
	} else {
		all = append(all, attrTenants.Int(len(tenants)))
	}
	return all
}
