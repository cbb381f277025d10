package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoOneTimePassword says that an account has no one-time passwords. It is an ErrNotExist.
var ErrNoOneTimePassword error = missing("one-time password")

// ErrOTPExchange says that somebody is answering the challenge of a login, and nobody else can meanwhile.
var ErrOTPExchange = errors.New("another exchange is under way")

// otpExchangeTime is how long somebody may take to answer, while nobody else can.
const otpExchangeTime = time.Minute

// OneTimePassword is where an account stands in its sequence of one-time passwords, which package auth understands.
type OneTimePassword struct {
	Algorithm string    `db:"algorithm"`
	Sequence  int       `db:"sequence"` // of Last; the next has one less
	Seed      string    `db:"seed"`
	Last      []byte    `db:"last"`   // that was accepted, or that the sequence began with
	Set       time.Time `db:"set_at"` // when it began
}

// OTPExchange is an exchange that has begun.
type OTPExchange struct {
	Login    string
	Password *OneTimePassword // without Set; nil: the login has none, or does not exist

	exchange string
}

// BeginOTP begins an exchange of a login, as NormalLogin has it, whether or not it exists; ErrOTPExchange. It is ended by EndOTP, or by itself after a minute.
func (s *Store) BeginOTP(ctx context.Context, login string) (OTPExchange, error) {
	const query = `SELECT exchange, algorithm, sequence, seed, last FROM begin_otp($1, $2)`

	type row struct {
		Exchange        string
		Algorithm, Seed *string
		Sequence        *int
		Last            []byte
	}
	rows, err := lookupOnce[row](ctx, s, query, []any{login, otpExchangeTime})
	if err != nil {
		return OTPExchange{}, err
	}
	if len(rows) == 0 {
		return OTPExchange{}, ErrOTPExchange
	}
	r := rows[0]
	x := OTPExchange{Login: login, exchange: r.Exchange}
	if r.Algorithm != nil {
		x.Password = &OneTimePassword{Algorithm: *r.Algorithm, Sequence: *r.Sequence, Seed: *r.Seed, Last: r.Last}
	}
	return x, nil
}

// EndOTP ends an exchange, and tells whether it was still under way.
func (s *Store) EndOTP(ctx context.Context, x OTPExchange) (bool, error) {
	type row struct{ Held bool }
	rows, err := lookupOnce[row](ctx, s, `SELECT end_otp($1, $2) AS held`, []any{x.Login, x.exchange})
	if err != nil {
		return false, err
	}
	return rows[0].Held, nil
}

// UseOTP puts next in the place of what an account had for its one-time password, once: of several who have it as it was, one is told that it was so.
func (s *Store) UseOTP(ctx context.Context, u User, was, next OneTimePassword) (used bool, err error) {
	const query = `
		UPDATE one_time_password
		SET algorithm = $7, sequence = $8, seed = $9, last = $10, set_at = CASE WHEN seed = $9 THEN set_at ELSE now() END
		WHERE tenant_id = $1 AND account_id = $2 AND algorithm = $3 AND sequence = $4 AND seed = $5 AND last = $6`

	err = s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, query, u.Tenant, u.Account, was.Algorithm, was.Sequence, was.Seed, was.Last, next.Algorithm, next.Sequence, next.Seed, next.Last)
		used = tag.RowsAffected() == 1
		return err
	})
	return used, err
}

// SetOTP gives an account one-time passwords; ErrGuest. Sessions that those before have let in end.
func (s *Store) SetOTP(ctx context.Context, u User, p OneTimePassword) error {
	const (
		lock   = `SELECT FROM account WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting FOR NO KEY UPDATE`
		remove = `DELETE FROM one_time_password WHERE tenant_id = $1 AND account_id = $2`
		add    = `INSERT INTO one_time_password (tenant_id, account_id, algorithm, sequence, seed, last) VALUES ($1, $2, $3, $4, $5, $6)`
	)
	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, lock, u.Tenant, u.Account)
		if err := affected(tag, err, ErrNoAccount); err != nil {
			return err
		}
		if err := notGuest(ctx, tx, u); err != nil {
			return err
		}
		if tag, err = tx.Exec(ctx, remove, u.Tenant, u.Account); err != nil {
			return err
		}
		if tag.RowsAffected() > 0 {
			if err := revokeAccount(ctx, tx, u); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, add, u.Tenant, u.Account, p.Algorithm, p.Sequence, p.Seed, p.Last); err != nil {
			return err
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "otp.set", Object: u.Login, Detail: map[string]any{"algorithm": p.Algorithm, "sequence": p.Sequence, "seed": p.Seed}})
	})
}

// OTP returns where an account stands in its sequence; ErrNoOneTimePassword.
func (s *Store) OTP(ctx context.Context, u User) (p OneTimePassword, err error) {
	const query = `
		SELECT algorithm, sequence, seed, last, set_at
		FROM one_time_password
		WHERE tenant_id = $1 AND account_id = $2`

	err = s.snapshot(ctx, u.Tenant, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, query, u.Tenant, u.Account) // CollectExactlyOneRow reports the error
		p, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[OneTimePassword])
		return noRow(err, ErrNoOneTimePassword)
	})
	return p, err
}

// DeleteOTP takes an account's one-time passwords away, and ends its sessions, any of which may be by one; ErrNoOneTimePassword.
func (s *Store) DeleteOTP(ctx context.Context, u User) error {
	const (
		lock   = `SELECT FROM account WHERE tenant_id = $1 AND account_id = $2 AND NOT deleting FOR NO KEY UPDATE`
		remove = `DELETE FROM one_time_password WHERE tenant_id = $1 AND account_id = $2`
	)
	return s.transact(ctx, u.Tenant, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, lock, u.Tenant, u.Account)
		if err := affected(tag, err, ErrNoAccount); err != nil {
			return err
		}
		tag, err = tx.Exec(ctx, remove, u.Tenant, u.Account)
		if err := affected(tag, err, ErrNoOneTimePassword); err != nil {
			return err
		}
		if err := revokeAccount(ctx, tx, u); err != nil {
			return err
		}
		return audit(ctx, tx, u.Tenant, Act{Action: "otp.delete", Object: u.Login})
	})
}
