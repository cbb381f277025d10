package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/store/id"
)

// await waits until so many wait for a turn.
func (t *turns) await(tb testing.TB, n int) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		t.mu.Lock()
		waiting := 0
		for _, of := range t.waiting {
			waiting += len(of)
		}
		t.mu.Unlock()
		if waiting == n {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%d wait, want %d", waiting, n)
		}
	}
}

// Who comes behind many files of another tenant waits for one of them, not for all.
func TestTenantsByTurns(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	r := reader(t, shell(fmt.Sprintf("cat >>%q", log)), Limits{AtOnce: 1})
	if err := r.turns.take(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	for i, tenant := range append(slices.Repeat([]id.Tenant{1}, 10), 2) {
		content := func() io.Reader { return strings.NewReader(fmt.Sprintf("file %d of tenant %d\n", i, tenant)) }
		reading.Go(func() {
			if _, err := r.For(tenant).Text(t.Context(), "application/x-test", "", content(), func() (io.ReadCloser, error) { return io.NopCloser(content()), nil }); err != nil {
				t.Error(err)
			}
		})
		r.turns.await(t, i+1)
	}
	r.turns.give()
	reading.Wait()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(string(text), "\n"); len(lines) != 12 || lines[0] != "file 0 of tenant 1" || lines[1] != "file 10 of tenant 2" || lines[2] != "file 1 of tenant 1" {
		t.Errorf("they were read as %q", lines)
	}
}

// Whoever gives up, no turn is lost, and none too many is given.
func TestTurns(t *testing.T) {
	const most = 3
	turns := newTurns(most)
	var using, had, gaveUp atomic.Int64
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(200))*time.Microsecond)
				err := turns.take(ctx, id.Tenant(i%5))
				cancel()
				switch {
				case err == nil:
					if n := using.Add(1); n > most {
						t.Errorf("%d at a time", n)
					}
					time.Sleep(time.Duration(rand.IntN(50)) * time.Microsecond)
					using.Add(-1)
					turns.give()
					had.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					gaveUp.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if turns.free != most || len(turns.order)+len(turns.waiting) > 0 || had.Load() == 0 || gaveUp.Load() == 0 {
		t.Errorf("%+v, %d had a turn, %d gave up", turns, had.Load(), gaveUp.Load())
	}
}
