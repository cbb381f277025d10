package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// CloseAll is the job of Maintain.
var CloseAll = (*Store).closeAll

// TellReads tells the database what was read so far.
func (s *Store) TellReads(ctx context.Context) error { return s.reads.tell(ctx) }

// Trace makes t see all statements that are run from here on.
func (s *Store) Trace(t pgx.QueryTracer) {
	c := s.pool.Config()
	c.ConnConfig.Tracer = t
	pool, err := pgxpool.NewWithConfig(context.Background(), c) // it ends with the store
	if err != nil {
		panic(err)
	}
	s.pool.Close()
	s.pool = pool
}
