package store

import (
	"context"
	"encoding/json"
	"time"
)

// BlockEvent tells that too many logins have failed.
type BlockEvent struct {
	ID    string    `json:"id"` // stable: who has seen it before has been told before
	At    time.Time `json:"at"`
	Event string    `json:"event"` // login.blocked
	Block
}

// postBlocks posts what is due of blocks. Of a name that has been blocked again meanwhile only the last is told.
func (s *Store) postBlocks(ctx context.Context) error {
	const (
		due   = `SELECT name, told_as, at, until, posts FROM blocks_to_post($1)`
		noted = `SELECT FROM block_posted($1, $2, $3)`
	)
	type row struct {
		Name, ToldAs string
		At, Until    time.Time
		Posts        int
	}
	found, err := lookup[row](ctx, s, due, postsAtOnce)
	if err != nil {
		return err
	}
	for _, r := range found {
		body, err := json.Marshal(BlockEvent{r.ToldAs, r.At, "login.blocked", Block{r.Name, r.Until}})
		if err != nil {
			return err
		}
		pause, failed := s.post(ctx, r.ToldAs, body, r.At, r.Posts)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var again *time.Duration // nil: never
		if pause > 0 {
			again = &pause
		}
		if _, err := lookupOnce[struct{}](ctx, s, noted, []any{r.Name, r.ToldAs, again}); err != nil || failed != nil {
			return err
		}
	}
	return nil
}
