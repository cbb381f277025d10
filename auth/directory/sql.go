package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SQL: a query of the login, $1, that returns one row or none. Its first column is what the password is verified by, in a form that package auth
// knows; there may be a second, the login of the account whose user it is.

// idleTime is for how long a connection rests before it is closed.
const idleTime = 5 * time.Minute

// maxValue bounds what a column says, in octets.
const maxValue = 4096

type sqlDirectory struct {
	text string // of the query
	pool *pgxpool.Pool
}

func openSQL(s Settings, secret func() (string, error)) (*sqlDirectory, error) {
	c, err := s.pool("")
	if err != nil {
		return nil, err
	}
	c.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) (err error) {
		c.Password, err = secret()
		return err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), c) // which outlives every question
	if err != nil {
		return nil, err
	}
	return &sqlDirectory{s.Query, pool}, nil
}

// pool returns how connections are made.
func (s Settings) pool(password string) (*pgxpool.Config, error) {
	text, err := s.connString()
	if err != nil {
		return nil, err
	}
	c, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, err
	}
	clear(c.ConnConfig.RuntimeParams) // of the environment
	c.ConnConfig.Password = password
	c.MaxConns, c.MinConns, c.MaxConnIdleTime = int32(s.Connections), 0, idleTime
	c.ConnConfig.ConnectTimeout = time.Duration(s.Timeout)
	c.ConnConfig.MaxProtocolMessageBodyLen = maxMessage
	c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is kept in the session, which may be a pooler's
	verified := func(host string, t *tls.Config) bool {
		return isLoopback(host) || strings.HasPrefix(host, "/") || t != nil && !t.InsecureSkipVerify && t.ServerName != ""
	}
	secure := verified(c.ConnConfig.Host, c.ConnConfig.TLSConfig)
	for _, f := range c.ConnConfig.Fallbacks {
		secure = secure && verified(f.Host, f.TLSConfig)
		if f.TLSConfig != nil {
			s.trust(f.TLSConfig)
		}
	}
	if !secure {
		return nil, errors.New("others could be in the place of the database, or read along: want sslmode=verify-full in the URL")
	}
	if c.ConnConfig.TLSConfig != nil {
		s.trust(c.ConnConfig.TLSConfig)
	}
	return c, nil
}

func (d *sqlDirectory) close() { d.pool.Close() }

// ofLogin tells whether an error of a query is of what it was asked about, and not of the database: a data exception or a
// cardinality violation (PostgreSQL's appendix A).
func ofLogin(err error) bool {
	p, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(p.Code, "22") || strings.HasPrefix(p.Code, "21"))
}

func (d *sqlDirectory) ask(ctx context.Context, login, _ string) (Answer, error) {
	answer, err := d.query(ctx, login)
	if ofLogin(err) {
		err = fmt.Errorf("%w: %w", errOdd, err)
	}
	return answer, err
}

func (d *sqlDirectory) query(ctx context.Context, login string) (Answer, error) {
	rows, err := d.pool.Query(ctx, d.text, login)
	if err != nil {
		return Answer{}, err
	}
	defer rows.Close()
	var hash, whose *string
	into := []any{&hash, &whose}
	found := 0
	for ; found < 2 && rows.Next(); found++ {
		columns := len(rows.FieldDescriptions())
		if columns < 1 || columns > len(into) {
			return Answer{}, fmt.Errorf("the query returns %d columns: want the password, and perhaps the login", columns)
		}
		for _, value := range rows.RawValues() {
			if len(value) > maxValue {
				return Answer{}, fmt.Errorf("%w: the query finds a value of %d octets", errOdd, len(value))
			}
		}
		if err := rows.Scan(into[:columns]...); err != nil {
			return Answer{}, err
		}
	}
	if found > 1 {
		return Answer{}, fmt.Errorf("%w: the query finds more than one row", errOdd)
	}
	rows.Close()
	if err := rows.Err(); err != nil || found == 0 || hash == nil {
		return Answer{}, err
	}
	answer := Answer{Hash: *hash}
	if whose != nil {
		answer.Login = *whose
	}
	return answer, nil
}
