package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
)

// IndexWork is an account whose search index lacks emails.
type IndexWork struct {
	TenantID  id.Tenant
	AccountID id.Account
	LastEmail id.Email // that the account has had
	UpTo      id.Email // the last one in the index
	Mine      bool     // false: no node has the account, or one that is gone
	Asked     string   // by an operator: AskRebuild, AskVerify or nothing
}

// IndexWork returns up to most accounts that a node has something to do for: its own, and those that have at least so
// many messages and are of no node, or of one that has been gone for so long.
func (s *Store) IndexWork(ctx context.Context, node string, messages int, gone time.Duration, most int) ([]IndexWork, error) {
	return lookup[IndexWork](ctx, s, `SELECT tenant_id, account_id, last_email, up_to, mine, asked FROM index_work($1, $2, $3, $4)`, node, messages, gone, most)
}

// IndexedAccount is an account that has a search index.
type IndexedAccount struct {
	TenantID  id.Tenant
	AccountID id.Account
}

// IndexedAccounts returns the accounts of a node.
func (s *Store) IndexedAccounts(ctx context.Context, node string) ([]IndexedAccount, error) {
	return lookup[IndexedAccount](ctx, s, `SELECT tenant_id, account_id FROM index_list($1)`, node)
}

// AnnounceIndexNode says that a node lives, for so long, and where it answers. What has been dead for a day is forgotten.
func (s *Store) AnnounceIndexNode(ctx context.Context, node, address string, lasts time.Duration) error {
	const query = `
		WITH forgotten AS (DELETE FROM search_node WHERE expires_at < clock_timestamp() - interval '1 day' AND node <> $1)
		INSERT INTO search_node (node, address, expires_at) VALUES ($1, $2, clock_timestamp() + $3::interval)
		ON CONFLICT (node) DO UPDATE SET address = excluded.address, expires_at = excluded.expires_at
		RETURNING node`

	type row struct{ Node string }
	_, err := lookupOnce[row](ctx, s, query, []any{node, address, lasts})
	return err
}

// TakeIndex makes an account that of a node, unless it is that of another that has not been gone for so long, and reports
// whether it is. What a node takes from another has nothing in it yet.
func (s *Store) TakeIndex(ctx context.Context, t id.Tenant, account id.Account, node string, gone time.Duration) (taken bool, err error) {
	const query = `
		INSERT INTO search_index AS i (tenant_id, account_id, node)
		SELECT tenant_id, account_id, $3 FROM account_state WHERE tenant_id = $1 AND account_id = $2
		ON CONFLICT (tenant_id, account_id) DO UPDATE
		SET node = excluded.node, changed_at = now(), stamp = 0, stamp_old = 0, up_to = 0, emails = 0, word_bytes = 0, text_bytes = 0
		WHERE i.node <> excluded.node AND node_gone(i.node, $4)`
	const mine = `SELECT EXISTS (SELECT FROM search_index WHERE tenant_id = $1 AND account_id = $2 AND node = $3)`

	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, query, t, account, node, gone); err != nil {
			return err
		}
		return tx.QueryRow(ctx, mine, t, account, node).Scan(&taken)
	})
	return taken, err
}

// StampIndex gives a stamp for the change that a node makes next to the index of an account, which has another one, or
// none as yet: 0. ErrStaleIndex where the index is of another time than the database, or of another node.
func (s *Store) StampIndex(ctx context.Context, t id.Tenant, account id.Account, node string, has, next uint64) error {
	const query = `
		UPDATE search_index SET stamp_old = $4::bigint, stamp = $5
		WHERE tenant_id = $1 AND account_id = $2 AND node = $3 AND ($4::bigint = 0 OR $4::bigint IN (stamp, stamp_old, copy_stamp))`

	return s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, t, account, node, int64(has), int64(next))
		return affected(tag, err, ErrStaleIndex)
	})
}

// KnowsIndex tells whether the index of an account that a node has, with its stamp, is of the database's time, and up to
// which email the node has said that its index goes; 0: it has said nothing.
func (s *Store) KnowsIndex(ctx context.Context, t id.Tenant, account id.Account, node string, stamp uint64) (known bool, upTo id.Email, err error) {
	const query = `
		SELECT $4 IN (stamp, stamp_old, copy_stamp), up_to FROM search_index WHERE tenant_id = $1 AND account_id = $2 AND node = $3`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, account, node, int64(stamp)).QueryRow(func(row pgx.Row) error { return row.Scan(&known, &upTo) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, 0, nil
	}
	return known, upTo, err
}

// ErrStaleIndex says that a search index is not what the database knows of it: the database was restored, or another
// node has made one.
var ErrStaleIndex = errors.New("the search index is of another time than the database")

// IndexState is how far the search index of an account goes, and what it takes on its node's disk.
type IndexState struct {
	UpTo      id.Email
	Emails    int64
	WordBytes int64
	TextBytes int64
	Stamp     uint64 // of the last change; 0: none
}

// IndexReached notes the state of an index, if it is the node's and of the database's time, and reports whether it is.
func (s *Store) IndexReached(ctx context.Context, t id.Tenant, account id.Account, node string, state IndexState) (mine bool, err error) {
	const query = `
		UPDATE search_index SET up_to = $4, emails = $5, word_bytes = $6, text_bytes = $7, changed_at = now()
		WHERE tenant_id = $1 AND account_id = $2 AND node = $3 AND ($8::bigint = 0 OR $8::bigint IN (stamp, stamp_old, copy_stamp))`

	err = s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, t, account, node, state.UpTo, state.Emails, state.WordBytes, state.TextBytes, int64(state.Stamp))
		mine = tag.RowsAffected() == 1
		return err
	})
	return mine, err
}

// EmailsAfter calls yield for the next emails of an account after one, in order, up to most, with access to what they
// say, and returns the email up to which there is none that it has not yielded.
func (s *Store) EmailsAfter(
	ctx context.Context, t id.Tenant, account id.Account, after id.Email, most int, yield func(id.Email, *message.Meta, message.Reader) error,
) (upTo id.Email, err error) {
	const (
		last = `SELECT next_email - 1 FROM account_state WHERE tenant_id = $1 AND account_id = $2`
		next = `
			SELECT email_id, emailid, threadid, size, prefix, meta
			FROM email
			WHERE tenant_id = $1 AND account_id = $2 AND email_id > $3
			ORDER BY email_id
			LIMIT $4`
	)

	rows := make(map[id.Email]*emailRow)
	var ids []id.Email
	err = s.readSnapshot(ctx, t, func(b *pgx.Batch) {
		clear(rows)
		ids = nil
		b.Queue(last, t, account).QueryRow(func(row pgx.Row) error { return row.Scan(&upTo) })
		b.Queue(next, t, account, after, most).Query(func(found pgx.Rows) error {
			all, err := pgx.CollectRows(found, pgx.RowToAddrOfStructByPos[emailRow])
			for _, r := range all {
				rows[r.EmailID] = r
				ids = append(ids, r.EmailID)
			}
			return err
		})
	})
	if err != nil {
		return 0, fmt.Errorf("read the next emails: %w", err)
	}
	if len(ids) == most {
		upTo = ids[most-1]
	}
	m := &Mailbox{Tenant: t, Owner: account, store: s}
	return upTo, m.contents(ctx, ids, func(email id.Email, content *emailReader) error {
		content.once = true
		e, err := rows[email].email()
		if err != nil {
			return fmt.Errorf("email %d of account %d: %w", email, account, err)
		}
		return yield(email, e.Meta, content)
	})
}

// EmailIDs returns the numbers of the next emails of an account after one, in order, up to most.
func (s *Store) EmailIDs(ctx context.Context, t id.Tenant, account id.Account, after id.Email, most int) (ids []id.Email, err error) {
	const query = `
		SELECT email_id
		FROM email
		WHERE tenant_id = $1 AND account_id = $2 AND email_id > $3
		ORDER BY email_id
		LIMIT $4`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, account, after, most).Query(func(rows pgx.Rows) (err error) {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[id.Email])
			return err
		})
	})
	return ids, err
}

// What can be asked of the node that has the index of an account.
const (
	AskRebuild = "rebuild" // make it anew, beside the one that answers meanwhile
	AskVerify  = "verify"  // compare all of it with its texts
)

// IndexStatus is what is known of the search index of an account.
type IndexStatus struct {
	IndexState
	LastEmail id.Email // that the account has had
	Node      string   // "": it has none
	Address   string   // of the node; "": it serves its own process alone
	Alive     bool
	ChangedAt time.Time
	Asked     string // and not done yet
	Answer    string // to what was asked last
}

// IndexStatus returns the state of the search index of an account. ErrNotExist where there is no such account.
func (s *Store) IndexStatus(ctx context.Context, t id.Tenant, account id.Account) (st IndexStatus, err error) {
	const query = `
		SELECT s.next_email - 1, coalesce(i.node, ''), node_address(i.node), coalesce(node_lives(i.node), false),
			coalesce(i.up_to, 0), coalesce(i.emails, 0), coalesce(i.word_bytes, 0), coalesce(i.text_bytes, 0),
			coalesce(i.changed_at, now()), coalesce(i.asked, ''), coalesce(i.answer, '')
		FROM account_state s
		LEFT JOIN search_index i ON i.tenant_id = s.tenant_id AND i.account_id = s.account_id
		WHERE s.tenant_id = $1 AND s.account_id = $2`

	err = s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(query, t, account).QueryRow(func(row pgx.Row) error {
			return row.Scan(&st.LastEmail, &st.Node, &st.Address, &st.Alive, &st.UpTo, &st.Emails, &st.WordBytes, &st.TextBytes,
				&st.ChangedAt, &st.Asked, &st.Answer)
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotExist
	}
	return st, err
}

// AskIndex asks something of the node that has the index of an account, which answers when its turn comes. ErrNotExist where none has one.
func (s *Store) AskIndex(ctx context.Context, t id.Tenant, account id.Account, what string) error {
	const query = `UPDATE search_index SET asked = $3, answer = '' WHERE tenant_id = $1 AND account_id = $2`

	return s.transact(ctx, t, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, t, account, what)
		return affected(tag, err, ErrNotExist)
	})
}

// AnswerIndex is a node's answer to what was asked.
func (s *Store) AnswerIndex(ctx context.Context, t id.Tenant, account id.Account, node, asked, answer string) error {
	const query = `
		UPDATE search_index SET asked = NULL, answer = $5
		WHERE tenant_id = $1 AND account_id = $2 AND node = $3 AND asked = $4`

	return s.transact(ctx, t, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, query, t, account, node, asked, answer)
		return err
	})
}

// IndexNode is a process with the role index, and what it has.
type IndexNode struct {
	Node      string
	Address   string
	Alive     bool
	Accounts  int64
	Emails    int64
	WordBytes int64
	TextBytes int64
}

// IndexNodes returns the nodes that are known, those that live first.
func (s *Store) IndexNodes(ctx context.Context) ([]IndexNode, error) {
	return lookup[IndexNode](ctx, s, `SELECT node, address, alive, accounts, emails, word_bytes, text_bytes FROM index_nodes()`)
}
