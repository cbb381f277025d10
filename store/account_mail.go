package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// DefaultMailbox is a mailbox that new accounts get, subscribed.
type DefaultMailbox struct {
	Name       string
	SpecialUse []string // "\\Sent" ... (RFC 6154 section 2)
}

// DefaultMailboxes are what new accounts get beside INBOX where nothing else is set.
var DefaultMailboxes = []DefaultMailbox{
	{"Drafts", []string{`\Drafts`}},
	{"Sent", []string{`\Sent`}},
	{"Junk", []string{`\Junk`}},
	{"Trash", []string{`\Trash`}},
	{"Archive", []string{`\Archive`}},
}

// createMailboxes gives a new account all that its mail needs: account_state
// (without limits, nothing charged yet), name_tree, INBOX, and the mailboxes of defaults, all subscribed.
func createMailboxes(ctx context.Context, tx pgx.Tx, t id.Tenant, domain id.Domain, account id.Account, defaults []DefaultMailbox) error {
	if err := createState(ctx, tx, t, domain, account); err != nil {
		return err
	}
	for _, m := range append([]DefaultMailbox{{Name: inbox}}, defaults...) {
		if err := checkName(m.Name); err != nil {
			return err
		}
		if _, err := insertMailbox(ctx, tx, t, account, m.Name, m.SpecialUse); err != nil {
			return err
		}
		if err := insertSubscription(ctx, tx, t, account, m.Name); err != nil {
			return err
		}
	}
	return nil
}

// createState gives a new account what it has without any mailbox. The tenant is locked, so that no hour is closed meanwhile.
func createState(ctx context.Context, tx pgx.Tx, t id.Tenant, domain id.Domain, account id.Account) error {
	// A clock that was set back begins no hour again that is closed.
	const state = `
		INSERT INTO account_state (tenant_id, domain_id, account_id, metered_to)
		SELECT $1, $2, $3, greatest(metering_clock(), (SELECT extract(epoch FROM closed_to)::bigint FROM usage_tenant WHERE tenant_id = $1))`

	// The clock as the first UIDVALIDITY: an account that is made anew under an
	// old login then starts above the one that its clients knew.
	const tree = `
		INSERT INTO name_tree (tenant_id, account_id, uidvalidity)
		VALUES ($1, $2, extract(epoch FROM now())::bigint)`

	if _, err := tx.Exec(ctx, state, t, domain, account); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, tree, t, account); err != nil {
		return err
	}
	return meterAccount(ctx, tx, t, account)
}

// insertMailbox makes a mailbox in an account whose name tree is locked; chargeNames comes after it, and after the mailboxes that are locked.
func insertMailbox(ctx context.Context, tx pgx.Tx, t id.Tenant, account id.Account, name string, specialUse []string) (*Mailbox, error) {
	const query = `
		WITH tree AS (
			UPDATE name_tree SET uidvalidity = greatest(uidvalidity + 1, extract(epoch FROM now())::bigint)
			WHERE tenant_id = $1 AND account_id = $2
			RETURNING uidvalidity
		)
		INSERT INTO mailbox (tenant_id, account_id, name, uidvalidity, special_use, objectid)
		SELECT $1, $2, $3, uidvalidity, $4, $5
		FROM tree
		RETURNING mailbox_id, uidvalidity`

	if specialUse == nil {
		specialUse = []string{}
	}
	m := &Mailbox{Tenant: t, Owner: account, Name: name, ObjectID: newObject("F")}
	err := tx.QueryRow(ctx, query, t, account, name, specialUse, m.ObjectID).Scan(&m.ID, &m.UIDValidity)
	return m, err
}

func insertSubscription(ctx context.Context, tx pgx.Tx, t id.Tenant, account id.Account, name string) error {
	const query = `
		INSERT INTO subscription (tenant_id, account_id, name)
		VALUES ($1, $2, $3)
		ON CONFLICT DO NOTHING`

	_, err := tx.Exec(ctx, query, t, account, name)
	return err
}
