package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/acl"
	"mailstead.dev/store/id"
	"mailstead.dev/store/view"
)

// Whether all who read a mailbox have one \Seen or each their own.

// seenMode reads the value of SeenEntry: whether it is one for all. ErrSeenMode.
func seenMode(value []byte) (*bool, error) {
	shared := string(value) == "shared"
	if !shared && value != nil && string(value) != "user" {
		return nil, ErrSeenMode
	}
	return &shared, nil
}

// switchSeen gives all who read a mailbox one \Seen, which is the owner's, or each their own, to begin with the owner's.
// The epoch of the rights moves with it, so that whoever has opened the mailbox finds out.
func (m *Mailbox) switchSeen(ctx context.Context, tx pgx.Tx, shared bool) (*changing, error) {
	const query = `
		UPDATE mailbox SET shared_seen = $3, acl_epoch = acl_epoch + 1
		WHERE tenant_id = $1 AND mailbox_id = $2`

	c := &changing{store: m.store, tenant: m.Tenant, targets: []target{m.target()}}
	c.compute = func(views []*view.View) ([]view.Record, error) {
		var seen []id.UID
		for msg := range views[0].Base().All() {
			if msg.Flags&view.Seen != 0 {
				seen = append(seen, msg.UID)
			}
		}
		return []view.Record{{view.SeenMode{Shared: shared, Seen: widen(view.NewUIDSet(seen...), views[0])}}}, nil
	}
	if err := c.within(ctx, tx); err != nil {
		return nil, err
	}
	_, err := tx.Exec(ctx, query, m.Tenant, m.ID, shared)
	return c, err
}

func (m *Mailbox) auditSeen(ctx context.Context, tx pgx.Tx, shared bool) error {
	return audit(ctx, tx, m.Tenant, Act{Actor: m.user.Who(), Action: "mailbox.seen", Object: m.Name, Detail: map[string]any{
		"account": m.Owner, "mailbox": m.ID, "shared": shared,
	}})
}

// CountUnseen counts what is unseen by the user alone, of those mailboxes where that is not what Status says.
// It takes the view of each that has any message, those that have changed with as many statements as one has.
func (s *Store) CountUnseen(ctx context.Context, u User, of map[string]Status) error {
	var asked []unseenOf
	for _, st := range of {
		if st.ownSeen && st.Counts.Messages > 0 && st.Rights.Has(acl.Read) {
			asked = append(asked, unseenOf{st.viewer, st.HighestModSeq, st.Counts.Messages})
		}
	}
	views, err := s.viewsOf(ctx, u, asked)
	if err != nil {
		return fmt.Errorf("count unseen messages: %w", err)
	}
	for name, st := range of {
		v := views[st.viewer]
		if v == nil || !st.ownSeen {
			continue // deleted since, or without a message: the row was the last of it
		}
		st.Counts, st.UIDNext, st.HighestModSeq = v.Counts(), v.UIDNext(), v.ModSeq() // of one moment
		of[name] = st
	}
	return nil
}
