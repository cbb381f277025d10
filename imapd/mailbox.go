package imapd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailstead.dev/imapd/wire"
	"mailstead.dev/store"
)

// CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE and NAMESPACE.
//
// RFC 3501 sections 6.3.3 to 6.3.7; NAMESPACE: RFC 2342; MAILBOXID: RFC 8474 section 4.1;
// USE: RFC 6154 section 3.

// delimiter separates the levels of mailbox names.
const delimiter = "/"

// naming is what these commands need of the store.
type naming interface {
	Create(ctx context.Context, u store.User, name string, specialUse []string) (*store.Mailbox, error)
	Delete(ctx context.Context, u store.User, name string) error
	Rename(ctx context.Context, u store.User, from, to string) error
	Subscribe(ctx context.Context, u store.User, name string) error
	Unsubscribe(ctx context.Context, u store.User, name string) error
}

var _ naming = (*store.Store)(nil)

// specialUses are those that a mailbox can be created with. \All and \Flagged are
// for mailboxes that show what lies in others (RFC 6154 section 2), of which there are none.
var specialUses = []string{`\Archive`, `\Drafts`, `\Junk`, `\Sent`, `\Trash`}

// create       = "CREATE" SP mailbox [SP "(" create-param *(SP create-param) ")"]
// create-param = "USE" SP "(" [use-attr *(SP use-attr)] ")"
//
// A delimiter at the end says that mailboxes will be created below it, which
// they can be below each (RFC 3501 section 6.3.3).
func readCreate(d *wire.Decoder) (run, error) {
	var c createCmd
	d.SP()
	c.name = d.Mailbox()
	if d.TrySP() {
		d.List(func() {
			if name := d.Keyword(); d.Err() == nil && (name != "USE" || c.uses != nil) {
				d.Fail("Unknown or repeated parameter %.40s", name)
			}
			d.SP()
			c.uses = []string{}
			d.List(func() { c.readUse(d) })
		})
	}
	return c, d.End()
}

type createCmd struct {
	name  string
	uses  []string // special ones; nil: nothing is said of them
	other string   // one that no mailbox can have
}

// use-attr = "\" atom
func (c *createCmd) readUse(d *wire.Decoder) {
	attr := string(d.Flag())
	use, ok := specialUse(attr)
	switch {
	case !ok && !strings.HasPrefix(attr, `\`):
		d.Fail("%.40s is no special use", attr)
	case !ok:
		c.other = attr
	case !slices.Contains(c.uses, use):
		c.uses = append(c.uses, use)
	}
}

// specialUse returns a special use as we spell it.
func specialUse(attr string) (use string, ok bool) {
	i := slices.IndexFunc(specialUses, func(use string) bool { return strings.EqualFold(use, attr) })
	if i < 0 {
		return "", false
	}
	return specialUses[i], true
}

func (c createCmd) run(ctx context.Context, s *session) error {
	if c.other != "" {
		return no("USEATTR", fmt.Sprintf("%.40s is not supported", c.other))
	}
	if err := s.mayName(c.name); err != nil {
		return err
	}
	m, err := s.store.Create(ctx, s.user, c.name, c.uses)
	if err != nil {
		return err
	}
	s.ok(mailboxID(m), "")
	return nil
}

// mailboxID is the response code with the identifier of a mailbox.
func mailboxID(m *store.Mailbox) string { return "MAILBOXID (" + string(m.ObjectID) + ")" }

// delete = "DELETE" SP mailbox
func readDelete(d *wire.Decoder) (run, error) {
	d.SP()
	name := d.Mailbox()
	return do(func(ctx context.Context, s *session) error {
		if err := s.store.Delete(ctx, s.user, name); err != nil {
			return err
		}
		s.leaveDeleted(ctx)
		return nil
	}), d.End()
}

// leaveDeleted leaves the selected mailbox if it is what this client has just deleted.
func (s *session) leaveDeleted(ctx context.Context) {
	if s.selected == nil {
		return
	}
	_, err := s.selected.View(ctx)
	switch {
	case errors.Is(err, store.ErrNotExist):
		s.deselect()
	case err != nil && !errors.Is(err, store.ErrRightsChanged): // the next command finds out
		s.log.WarnContext(ctx, "looking for the selected mailbox failed", "err", err)
	}
}

// rename = "RENAME" SP mailbox SP mailbox
func readRename(d *wire.Decoder) (run, error) {
	d.SP()
	from := d.Mailbox()
	d.SP()
	to := d.Mailbox()
	return do(func(ctx context.Context, s *session) error {
		if err := s.mayName(to); err != nil {
			return err
		}
		return s.store.Rename(ctx, s.user, from, to)
	}), d.End()
}

// subscribe = "SUBSCRIBE" SP [ "MAILBOX" SP ] mailbox
func readSubscribe(d *wire.Decoder) (run, error) {
	d.SP()
	skipMailbox(d)
	name := d.Mailbox()
	return do(func(ctx context.Context, s *session) error {
		return s.store.Subscribe(ctx, s.user, name)
	}), d.End()
}

// unsubscribe = "UNSUBSCRIBE" SP [ "MAILBOX" SP ] mailbox
func readUnsubscribe(d *wire.Decoder) (run, error) {
	d.SP()
	skipMailbox(d)
	name := d.Mailbox()
	return do(func(ctx context.Context, s *session) error {
		return s.store.Unsubscribe(ctx, s.user, name)
	}), d.End()
}

// namespace = "NAMESPACE"
//
// A user's own mailboxes, those of others under their logins, and those of the tenant.
func readNamespace(d *wire.Decoder) (run, error) {
	return do(func(_ context.Context, s *session) error {
		s.enc.Raw(`* NAMESPACE (("" "/")) (("` + store.OtherUsers + `/" "/")) (("` + store.SharedFolders + `/" "/"))`).CRLF()
		return nil
	}), d.End()
}
