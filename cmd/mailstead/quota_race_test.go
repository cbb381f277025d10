package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailstead.dev/quota"
	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

var quotaOperations = flag.Int("quota.operations", 12, "operations of each of 16 connections in TestQuotaRaceOverConnections, at each level")

// Near each limit of each level, 16 connections to two front ends append, copy and deliver. The limits are never exceeded by an
// octet or a message, what was acknowledged is there, and of what was refused nothing is.
func TestQuotaRaceOverConnections(t *testing.T) {
	a := newServing(t, nil)
	b := a.newServing(nil)
	for _, s := range []*serving{a, b} {
		s.start(nil)
		s.hears("READY=1")
	}
	for i, level := range []string{"account", "domain", "tenant"} {
		tenant, other := fmt.Sprintf("race%d.test", i), fmt.Sprintf("other%d.test", i)
		logins := []string{"user0@" + tenant}
		root := "account:" + logins[0]
		if level != "account" {
			logins = append(logins, "user1@"+tenant, "user2@"+tenant)
			root = level + ":" + tenant
		}
		storetest.Domain(t, a.store, tenant, tenant)
		storetest.Domain(t, a.store, tenant, other)
		if level == "tenant" {
			logins = append(logins, "user0@"+other, "user1@"+other)
		}
		t.Run(level, func(t *testing.T) { raceForQuota(t, []*serving{a, b}, logins, root) })
	}
	a.want("quota audit", "Differences: 0.")
	a.want("fsck", "")
}

func raceForQuota(t *testing.T, fronts []*serving, logins []string, root string) {
	s := fronts[0].store
	var users []store.User
	for _, login := range logins {
		users = append(users, storetest.Account(t, s, login))
	}
	racers := make([]*racer, 16)
	for i := range racers {
		service := "imap"
		if i%3 == 2 {
			service = "lmtp"
		}
		racers[i] = dialRacer(t, fronts[i/2%2].address(service), i, logins[i%len(logins)])
	}
	together := func(do func(r *racer) error) {
		var work sync.WaitGroup
		for _, r := range racers {
			work.Go(func() {
				if err := do(r); err != nil {
					t.Errorf("connection %d, %s: %v", r.number, r.login, err)
				}
			})
		}
		work.Wait()
	}
	together(func(r *racer) error { return r.begin() })

	r, err := s.FindQuota(t.Context(), users[0], root)
	if err != nil {
		t.Fatal(err)
	}
	octets, messages := r.Used.Of(quota.Storage)+20_000, r.Used.Of(quota.Message)+60
	fronts[0].want(fmt.Sprintf("quota set %s --storage %dB --messages %d", root, octets, messages), "")
	within := func() error {
		now, err := s.FindQuota(t.Context(), users[0], root)
		if err == nil && (now.Used.Of(quota.Storage) > octets || now.Used.Of(quota.Message) > messages) {
			err = fmt.Errorf("%v used, %d octets and %d messages allowed", now.Used, octets, messages)
		}
		return err
	}
	var over atomic.Int64
	together(func(r *racer) error {
		for n := range *quotaOperations {
			refused, err := r.change(n)
			if err != nil {
				return err
			}
			if refused {
				over.Add(1)
			}
			if err := within(); err != nil {
				return err
			}
		}
		return nil
	})
	if over.Load() == 0 {
		t.Error("nothing was refused")
	}
	t.Logf("%d of %d changes were refused", over.Load(), *quotaOperations*len(racers))

	for _, login := range logins {
		var want []string
		for _, r := range racers {
			if r.login == login {
				want = append(want, r.taken...)
			}
		}
		if got := subjects(t, fronts[0].address("imap"), login); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("INBOX of %s has %q, acknowledged were %q", login, got, want)
		}
	}
}

// racer is a connection that adds to an account, and takes away what it copied.
type racer struct {
	net.Conn
	lines  *bufio.Reader
	random *rand.Rand
	number int
	login  string
	lmtp   bool
	taken  []string // the subjects of what was acknowledged
}

func dialRacer(t *testing.T, address string, number int, login string) *racer {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(4 * patience)); err != nil {
		t.Fatal(err)
	}
	return &racer{Conn: c, lines: bufio.NewReader(c), random: rand.New(rand.NewPCG(uint64(number), 1)), number: number, login: login}
}

// begin logs in and puts some mail in.
func (r *racer) begin() error {
	line, err := r.lines.ReadString('\n')
	if err != nil {
		return err
	}
	if r.lmtp = strings.HasPrefix(line, "220 "); r.lmtp {
		_, err := r.say("LHLO test\r\n", "250 ")
		return err
	}
	for _, command := range []string{"LOGIN " + r.login + " " + storetest.Password, "CREATE Archive", "SELECT INBOX"} {
		answer, err := r.say("a "+command+"\r\n", "a ")
		if err != nil || !strings.HasPrefix(answer, "a OK") && !strings.HasPrefix(answer, "a NO [ALREADYEXISTS]") {
			return errors.Join(errors.New(answer), err)
		}
	}
	for n := range 3 {
		if refused, err := r.add(-1 - n); err != nil || refused {
			return fmt.Errorf("to begin with: refused %v, %w", refused, err)
		}
	}
	return nil
}

// say sends something and returns the first line from then on that begins in one of these ways.
func (r *racer) say(text string, beginnings ...string) (string, error) {
	if _, err := r.Write([]byte(text)); err != nil {
		return "", err
	}
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return "", err
		}
		for _, b := range beginnings {
			if strings.HasPrefix(line, b) {
				return line, nil
			}
		}
	}
}

// change makes one change, and says whether it was refused for a quota. Every other answer but OK is an error.
func (r *racer) change(n int) (refused bool, err error) {
	if r.lmtp || r.random.IntN(2) == 0 {
		return r.add(n)
	}
	if r.random.IntN(3) > 0 {
		first := 1 + r.random.IntN(3) // of the three that it has been told of at least
		answer, err := r.say(fmt.Sprintf("c COPY %d:%d Archive\r\n", first, first+r.random.IntN(4-first)), "c ")
		return over(answer, err, "c OK")
	}
	for _, command := range []string{"SELECT Archive", `STORE 1:* +FLAGS.SILENT (\Deleted)`, "EXPUNGE", "SELECT INBOX"} {
		answer, err := r.say("d "+command+"\r\n", "d ")
		if command[0] == 'S' && strings.HasPrefix(answer, "d BAD") { // nothing is there
			continue
		}
		if _, err := over(answer, err, "d OK"); err != nil {
			return false, fmt.Errorf("%s: %w", command, err)
		}
	}
	return false, nil
}

// add appends or delivers one message.
func (r *racer) add(n int) (refused bool, err error) {
	subject := fmt.Sprintf("%d.%d.", r.number, n)
	text := "Subject: " + subject + "\r\n\r\n" + strings.Repeat("x", r.random.IntN(500)) + "\r\n"
	steps, ok := [][2]string{{fmt.Sprintf("b APPEND INBOX {%d}\r\n", len(text)), "+ "}, {text + "\r\n", "b "}}, "b OK"
	if r.lmtp {
		steps, ok = [][2]string{{"MAIL FROM:<a@b.test>\r\nRCPT TO:<" + r.login + ">\r\nDATA\r\n", "354 "}, {text + ".\r\n", ""}}, "250 2"
	}
	var answer string
	for _, step := range steps {
		if answer, err = r.say(step[0], step[1], "b NO", "4", "5"); err != nil || strings.HasPrefix(answer, "b NO") {
			break
		}
	}
	if refused, err = over(answer, err, ok); err == nil && !refused {
		r.taken = append(r.taken, subject)
	}
	return refused, err
}

// over reads an answer: whether it refuses for a quota; an error where it is neither that nor ok.
func over(answer string, err error, ok string) (bool, error) {
	if err != nil || strings.HasPrefix(answer, ok) {
		return false, err
	}
	if strings.Contains(answer, "NO [OVERQUOTA]") || strings.HasPrefix(answer, "452 4.2.2") {
		return true, nil
	}
	return false, errors.New(answer)
}

// subjects lists those of an INBOX.
func subjects(t *testing.T, address, login string) []string {
	t.Helper()
	r := dialRacer(t, address, 0, login)
	if _, err := r.say("a LOGIN "+login+" "+storetest.Password+"\r\na EXAMINE INBOX\r\n", "a OK [READ-ONLY]"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write([]byte("b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]\r\n")); err != nil {
		t.Fatal(err)
	}
	var found []string
	subject := regexp.MustCompile(`^Subject: (\S+)`)
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if m := subject.FindStringSubmatch(line); m != nil {
			found = append(found, m[1])
		}
		if strings.HasPrefix(line, "b ") {
			slices.Sort(found)
			return found
		}
	}
}
