package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store/id"
)

// endOfTime is later than all that the ledger has.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// deleteStep is how many rows one transaction of a deletion removes.
const deleteStep = 2000

// DeleteAccount removes an account and all of its mail, for good, in bounded
// steps; when it was interrupted, it goes on where it was. From the first step
// on nobody can log in, and no mail is taken.
//
// Content stays until the collector finds that no email refers to it: it may
// be another account's as well.
func (s *Store) DeleteAccount(ctx context.Context, u User) error {
	if err := s.closeAccount(ctx, u); err != nil {
		return err
	}
	if err := s.revoke(ctx, u); err != nil {
		return fmt.Errorf("delete account %s: %w", u.Login, err)
	}
	if err := s.forgetAnnotations(ctx, u); err != nil {
		return fmt.Errorf("delete account %s: %w", u.Login, err)
	}
	for _, step := range []string{
		// The log first in age, the mailbox row last: it says what is left to do.
		deleteOfMailboxes("mailbox_log"),
		deleteOfMailboxes("mailbox_segment"),
		deleteOfMailboxes("mailbox_expunged"),
		deleteOfMailboxes("mailbox_overlay"),
		deleteOfAccount("mailbox"),         // with its annotations
		deleteOfAccount("mailbox_overlay"), // what it had of its own in those of others
		deleteOfAccount("metadata"),
		deleteOfAccount("mailbox_tombstone"),
		deleteOfAccount("subscription"),
		deleteOfAccount("email"),
		deleteOfAccount("swept"),
		deleteOfAccount("domain_admin"),
		deleteOfAccount("app_password"),
		deleteOfAccount("one_time_password"),
		deleteOfAccount("known_address"),
		deleteOfAccount("guest"),
		deleteOfAccount("visit"),
		deleteOfAccount("account"),
	} {
		if err := s.deleteInSteps(ctx, u.Tenant, step, u.Tenant, u.Account); err != nil {
			return fmt.Errorf("delete account %s: %w", u.Login, err)
		}
	}
	return nil
}

// closeAccount makes the account one that is being deleted. Without its name
// tree no mailbox is made any more, and deleted mailboxes take no change: each
// is locked in turn, so that changes under way are done before. Nobody grants it
// anything any more, who locks its row for that. Its counters go, the ledger of what it used stays.
func (s *Store) closeAccount(ctx context.Context, u User) error {
	const (
		tree      = `DELETE FROM name_tree WHERE tenant_id = $1 AND account_id = $2`
		lock      = `SELECT FROM mailbox WHERE tenant_id = $1 AND account_id = $2 ORDER BY mailbox_id FOR UPDATE`
		mailboxes = `UPDATE mailbox SET deleted_at = now() WHERE tenant_id = $1 AND account_id = $2 AND deleted_at IS NULL RETURNING mailbox_id`
		settle    = `SELECT close_hours(tenant_id, account_id, metering_clock(), true) FROM account_state WHERE tenant_id = $1 AND account_id = $2`
		limits    = `DELETE FROM quota_root WHERE tenant_id = $1 AND level = 0 AND root = $2`
		account   = `UPDATE account SET deleting = true, password = '' WHERE tenant_id = $1 AND account_id = $2`

		// Its domain and its tenant do not have it any more.
		uncharge = `
			SELECT charge_account(tenant_id, account_id, -messages, -bytes, 0), charge_names(tenant_id, account_id, -mailboxes, -annotations)
			FROM account_state
			WHERE tenant_id = $1 AND account_id = $2`
		marks  = `DELETE FROM quota_mark WHERE tenant_id = $1 AND level = 0 AND root = $2`
		events = `DELETE FROM quota_event WHERE tenant_id = $1 AND level = 0 AND root = $2`
	)
	var gone []id.Mailbox
	err := s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, tree, u.Tenant, u.Account); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, account, u.Tenant, u.Account)
		if err := affected(tag, err, ErrNoAccount); err != nil {
			return err
		}
		if err := revokeAccount(ctx, tx, u); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lock, u.Tenant, u.Account); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, mailboxes, u.Tenant, u.Account) // CollectRows reports the error
		if gone, err = pgx.CollectRows(rows, pgx.RowTo[id.Mailbox]); err != nil {
			return err
		}
		for _, query := range []string{limits, uncharge, settle} {
			if _, err := tx.Exec(ctx, query, u.Tenant, u.Account); err != nil {
				return err
			}
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "account.delete", Object: u.Login})
	})
	if err != nil {
		return err
	}
	s.rightsChanged(u.Tenant, gone) // who idles there has no mailbox any more
	return nil
}

// deleteOfMailboxes removes some rows of a table that belong to an account's mailboxes.
func deleteOfMailboxes(table string) string {
	return fmt.Sprintf(`
		DELETE FROM %[1]s WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
			SELECT r.ctid FROM mailbox m
			JOIN %[1]s r ON r.tenant_id = m.tenant_id AND r.mailbox_id = m.mailbox_id
			WHERE m.tenant_id = $1 AND m.account_id = $2
			LIMIT $3))`, table)
}

// deleteOfAccount removes some rows of a table that belong to an account.
func deleteOfAccount(table string) string {
	return fmt.Sprintf(`
		DELETE FROM %[1]s WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
			SELECT ctid FROM %[1]s WHERE tenant_id = $1 AND account_id = $2 LIMIT $3))`, table)
}

// deleteOfTenant removes some rows of a table that belong to a tenant.
func deleteOfTenant(table string) string {
	return fmt.Sprintf(`
		DELETE FROM %[1]s WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
			SELECT ctid FROM %[1]s WHERE tenant_id = $1 LIMIT $2))`, table)
}

// deleteInSteps runs a statement whose last parameter is a LIMIT until it finds nothing.
func (s *Store) deleteInSteps(ctx context.Context, t id.Tenant, query string, args ...any) error {
	for {
		var n int64
		err := s.transact(ctx, t, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, query, append(args, deleteStep)...)
			n = tag.RowsAffected()
			return err
		})
		if err != nil || n == 0 { // fewer than a step can be because others were at the same rows
			return err
		}
	}
}

// DeleteTenant removes a tenant with all of its accounts and content, objects
// in object storage included, for good, in bounded steps; when it was
// interrupted, it goes on where it was. Its audit log stays, and for a day what ends its sessions.
//
// An object whose PUT is under way in another process while its intent goes
// here is left in the bucket without a row; nothing refers to it.
func (s *Store) DeleteTenant(ctx context.Context, t id.Tenant) error {
	const closing = `UPDATE tenant SET deleting = true, disabled = true WHERE tenant_id = $1 RETURNING name`

	var name string
	err := s.transact(ctx, t, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, closing, t).Scan(&name); err != nil {
			return noRow(err, ErrNoTenant)
		}
		if err := revokeTenant(ctx, tx, t); err != nil {
			return err
		}
		return audit(ctx, tx, t, Act{Action: "tenant.delete", Object: name})
	})
	if err != nil {
		return err
	}
	for a, err := range s.Accounts(ctx, t) {
		if err != nil {
			return err
		}
		if err := s.DeleteAccount(ctx, a.User()); err != nil {
			return err
		}
	}
	if err := s.deleteContent(ctx, t); err != nil {
		return err
	}
	if err := s.forgetUsage(ctx, t, endOfTime); err != nil {
		return err
	}
	return s.transact(ctx, t, func(tx pgx.Tx) error {
		for _, query := range []string{
			`DELETE FROM metadata WHERE tenant_id = $1`,
			`DELETE FROM user_group WHERE tenant_id = $1`,
			`DELETE FROM alias WHERE tenant_id = $1`,
			`DELETE FROM domain WHERE tenant_id = $1`,
			`DELETE FROM quota_slot WHERE tenant_id = $1`,
			`DELETE FROM quota_root WHERE tenant_id = $1`,
			`DELETE FROM quota_audit WHERE tenant_id = $1`,
			`DELETE FROM quota_mark WHERE tenant_id = $1`,
			`DELETE FROM quota_event WHERE tenant_id = $1`,
			`DELETE FROM token_issuer WHERE tenant_id = $1`,
			`DELETE FROM tenant_network WHERE tenant_id = $1`,
			`DELETE FROM tenant_directory WHERE tenant_id = $1`,
			`DELETE FROM swept WHERE tenant_id = $1`,
			`DELETE FROM usage_account WHERE tenant_id = $1`,
			`DELETE FROM usage_read WHERE tenant_id = $1`,
			`DELETE FROM usage_flush WHERE tenant_id = $1`,
			`DELETE FROM usage_tenant WHERE tenant_id = $1`,
			`DELETE FROM tenant WHERE tenant_id = $1`,
		} {
			if _, err := tx.Exec(ctx, query, t); err != nil {
				return err
			}
		}
		return audit(ctx, tx, t, Act{Action: "tenant.deleted", Object: name})
	})
}

// deleteRounds is how often content is looked for that another process, which sweeps or packs, has moved meanwhile.
const deleteRounds = 10

// deleteContent removes the content of a tenant that has no emails any more. It ends well only where nothing is left that could name an object.
func (s *Store) deleteContent(ctx context.Context, t id.Tenant) error {
	const query = `
		SELECT EXISTS (SELECT FROM blob WHERE tenant_id = $1) OR EXISTS (SELECT FROM object WHERE tenant_id = $1)
			OR EXISTS (SELECT FROM object_intent WHERE tenant_id = $1)`

	for range deleteRounds {
		if err := s.deleteContentOnce(ctx, t); err != nil {
			return err
		}
		left := false
		err := s.read(ctx, t, func(b *pgx.Batch) {
			b.Queue(query, t).QueryRow(func(row pgx.Row) error { return row.Scan(&left) })
		})
		if err != nil || !left {
			return err
		}
	}
	return fmt.Errorf("%w: content of the tenant is still being moved", ErrUnavailable)
}

func (s *Store) deleteContentOnce(ctx context.Context, t id.Tenant) error {
	for _, table := range []string{"blob", "staged_0", "staged_1", "staged_2", "staged_3"} {
		if err := s.deleteInSteps(ctx, t, deleteOfTenant(table), t); err != nil {
			return err
		}
	}
	// What no blob lies in any more counts no more, and is found by its intent
	// until it is gone from the bucket.
	const uncount = `
		WITH gone AS (
			DELETE FROM object WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
				SELECT ctid FROM object WHERE tenant_id = $1 LIMIT $2))
			RETURNING object_key
		)
		INSERT INTO object_intent (tenant_id, object_key)
		SELECT $1, object_key FROM gone`

	// Nothing of the tenant is left that could make an object count.
	const condemn = `
		UPDATE object_intent SET condemned = 0 WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
			SELECT ctid FROM object_intent WHERE tenant_id = $1 AND condemned IS NULL LIMIT $2))`

	for _, step := range []string{uncount, condemn} {
		if err := s.deleteInSteps(ctx, t, step, t); err != nil {
			return err
		}
	}
	return s.removeCondemned(ctx, t)
}
