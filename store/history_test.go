package store_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	commandline "flag" // flag is a helper here
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/storetest/testdb"
)

// The property test of the mailbox log. Several front-end processes change
// twenty mailboxes at random, and note what they were told: the result of each
// operation, what each session shows after it, what a client that comes back
// with an old state is brought to. One of them sweeps and packs meanwhile, and leaves little time
// to what is expunged. A plain model then replays the changes in
// the order of their MODSEQs and must find every note right, and fsck all that is left.
//
// The front ends are this test binary again, running TestFrontEndProcess; for
// TestPlantedBugs one with a mistake in it.

var (
	historyOperations = commandline.Int("history.operations", 20_000, "operations of TestHistory")
	historyPlanted    = commandline.Bool("history.planted", false, "TestPlantedBugs plants mistakes in the program too, which is built anew for each")
	historySeed       = commandline.Uint64("history.seed", 0, "seed of TestHistory; 0: a random one")
)

// history is one run of the property test.
type history struct {
	Cluster    *testdb.Cluster
	User       store.User
	Mailboxes  []string
	FrontEnds  int
	Workers    int // of each front end
	Operations int // of all workers
	Seed       uint64
	FoldMin    int64
	Patience   time.Duration // for how long an operation is waited for
	Retention  time.Duration // how long what was expunged can be brought back
	CleanEvery time.Duration // how long nothing is swept and packed in between

	FrontEnd int // of the process that is told
}

const historyVariable = "MAILSTEAD_HISTORY"

func newHistory(t testing.TB, operations int, seed uint64) *history {
	t.Helper()
	h := &history{
		Cluster: storetest.Config(t), FrontEnds: 3, Workers: 3,
		Operations: operations, Seed: seed, FoldMin: 300, Patience: 2 * time.Minute,
		Retention: 2 * time.Second, CleanEvery: time.Second,
	}
	s := storetest.Open(t, h.Cluster)
	h.User = storetest.Account(t, s, "history@example.com")
	for i := range 20 {
		name := fmt.Sprintf("box%02d", i)
		if _, err := s.Create(t.Context(), h.User, name, nil); err != nil {
			t.Fatal(err)
		}
		h.Mailboxes = append(h.Mailboxes, name)
	}
	return h
}

func TestHistory(t *testing.T) {
	seed := *historySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: run again with -args -history.seed=%d", seed, seed)
	h := newHistory(t, *historyOperations, seed)
	countFolds(t, h)
	start := time.Now()
	events := h.run(t, os.Args[0])
	ran := time.Since(start)
	problems := h.check(t, events)
	checked := time.Since(start) - ran
	for i, p := range problems {
		if i == 20 {
			t.Errorf("and %d more", len(problems)-i)
			break
		}
		t.Error(p)
	}
	changes := 0
	for _, e := range events {
		if e.ModSeq > 0 {
			changes++
		}
	}
	folds := folds(t, h)
	t.Logf("seed %d: %d operations in %v, %d notes and %d changes checked in %v, %d folds",
		seed, h.Operations, ran.Round(time.Second), len(events), changes, checked.Round(time.Second), folds)
	var swept, packs int
	h.query(t, `SELECT (SELECT sum(next_email - 1) FROM account_state) - (SELECT count(*) FROM email), (SELECT count(*) FROM object)`, &swept, &packs)
	t.Logf("%d emails were swept, there are %d packs", swept, packs)
	var d store.Delegations
	for _, e := range events {
		d.Answered += e.Delegations.Answered
		d.Recalled += e.Delegations.Recalled
	}
	t.Logf("%d reads were answered from memory, %d mailboxes recalled", d.Answered, d.Recalled)
	if folds < 100 || swept < h.Operations/100 || packs == 0 {
		t.Errorf("only %d folds, %d emails swept, %d packs", folds, swept, packs)
	}
}

// run runs the front ends, and returns what they noted.
func (h *history) run(t testing.TB, binary string) []event {
	t.Helper()
	var mu sync.Mutex // guards events
	var events []event
	var group sync.WaitGroup
	var stirred sync.WaitGroup // the front ends whose workers are not done
	stirred.Add(h.FrontEnds)
	finish := make(chan struct{})
	go func() {
		stirred.Wait()
		close(finish)
	}()
	for i := range h.FrontEnds {
		group.Go(func() {
			settled := sync.OnceFunc(stirred.Done)
			defer settled()
			err := h.runFrontEnd(t, binary, i, finish, func(e event) {
				if e.Kind == "settled" {
					settled()
					return
				}
				mu.Lock()
				events = append(events, e)
				mu.Unlock()
			})
			if err != nil {
				mu.Lock()
				events = append(events, event{Kind: "process", FrontEnd: i, Err: err.Error()})
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return events
}

// runFrontEnd runs a front-end process. When all have settled it is told to
// finish: to look at the mailboxes a last time.
func (h *history) runFrontEnd(t testing.TB, binary string, i int, finish <-chan struct{}, note func(event)) error {
	own := *h
	own.FrontEnd = i
	config, err := json.Marshal(own)
	if err != nil {
		return err
	}
	notes, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer notes.Close()
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestFrontEndProcess$", "-test.timeout=2h")
	cmd.Env = append(os.Environ(), historyVariable+"="+string(config))
	cmd.ExtraFiles = []*os.File{theirs}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return errors.Join(err, theirs.Close())
	}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	go func() {
		<-finish
		stdin.Close()
	}()
	lines := bufio.NewReader(notes)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // the process has ended, in whichever way
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		note(e)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("front end %d: %w\n%s", i, err, output.Bytes())
	}
	return nil
}

// countFolds has the database count how often mailboxes are folded.
func countFolds(t testing.TB, h *history) {
	t.Helper()
	h.execute(t, `
		CREATE TABLE fold_count (at timestamptz DEFAULT now());
		CREATE FUNCTION count_fold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN
			INSERT INTO public.fold_count DEFAULT VALUES;
			RETURN NULL;
		END
		$$;
		CREATE TRIGGER count_fold AFTER UPDATE OF folded_modseq ON mailbox
			FOR EACH ROW WHEN (old.folded_modseq <> new.folded_modseq) EXECUTE FUNCTION count_fold()`)
}

func folds(t testing.TB, h *history) (n int) {
	t.Helper()
	h.query(t, `SELECT count(*) FROM fold_count`, &n)
	return n
}

// execute runs statements as the owner of the tables.
func (h *history) execute(t testing.TB, statements string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.Cluster.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statements, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

// query reads one row as the database's superuser, whom row-level security does not bind.
func (h *history) query(t testing.TB, query string, values ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.Cluster.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), query).Scan(values...); err != nil {
		t.Fatal(err)
	}
}

// planted is a mistake that TestHistory has to find: a change of the program,
// of the functions in the database, or of both.
type planted struct {
	name    string
	program []edit // of a file, named from this folder
	sql     []edit // of a function
	trigger string // statements to run in the database
}

// edit replaces text that is there exactly once.
type edit struct{ in, old, new string }

// apply returns text with the edit made.
func (e edit) apply(t testing.TB, text string) string {
	t.Helper()
	if n := strings.Count(text, e.old); n != 1 {
		t.Fatalf("%s has %d times what is to be changed: %q", e.in, n, e.old)
	}
	return strings.Replace(text, e.old, e.new, 1)
}

// TestPlantedBugs tests the test: each mistake against the rules of the mailbox
// log makes it fail. Those of the program are planted in make property only.
func TestPlantedBugs(t *testing.T) {
	for _, p := range plantedBugs {
		if len(p.program) > 0 && !*historyPlanted {
			p.changed(t) // which fails where the code is another by now
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			binary := os.Args[0]
			if len(p.program) > 0 {
				binary = p.build(t)
			}
			for seed := range uint64(8) {
				h := newHistory(t, 2500, seed+1)
				h.Patience, h.Retention, h.CleanEvery = 30*time.Second, 500*time.Millisecond, 100*time.Millisecond
				p.plant(t, h)
				if problems := h.check(t, h.run(t, binary)); len(problems) > 0 {
					t.Logf("found with seed %d: %s", seed+1, strings.TrimSpace(problems[0]))
					return
				}
			}
			t.Error("not found")
		})
	}
}

// changed returns the files with the mistake in them, by their paths.
func (p *planted) changed(t testing.TB) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	for _, e := range p.program {
		path, err := filepath.Abs(e.in)
		if err != nil {
			t.Fatal(err)
		}
		text, ok := texts[path]
		if !ok {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		texts[path] = e.apply(t, text)
	}
	return texts
}

// build makes a test binary with the mistake in it.
func (p *planted) build(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for path, text := range p.changed(t) {
		changed := filepath.Join(dir, fmt.Sprintf("%d.go", len(overlay.Replace)))
		overlay.Replace[path] = changed
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "store.test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with %s: %v\n%s", p.name, err, output)
	}
	return binary
}

// plant makes the mistake in the database.
func (p *planted) plant(t testing.TB, h *history) {
	t.Helper()
	for _, e := range p.sql {
		var text string
		h.query(t, fmt.Sprintf(`SELECT pg_get_functiondef('%s'::regproc)`, e.in), &text)
		h.execute(t, e.apply(t, text))
	}
	if p.trigger != "" {
		h.execute(t, p.trigger)
	}
}
