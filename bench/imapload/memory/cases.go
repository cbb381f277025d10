package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"imapload/internal/wire"
)

// large is the mailbox that is fetched and not read; it is the first user's.
const large = "memory"

// prepare makes the mailboxes: large, and an INBOX with messages for each user.
func (o *options) prepare() error {
	c, err := o.login(o.dial, 0)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Exec("CREATE "+large, nil); err != nil {
		return err
	}
	if err := fill(c, large, o.messages, o.size, 1); err != nil {
		return err
	}
	for user := range o.userCount {
		c, err := o.login(o.dial, user)
		if err != nil {
			return err
		}
		err = errors.Join(fill(c, "INBOX", o.inbox, 1000, uint64(user)+2), c.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

// fill appends n messages of the size, no two alike.
func fill(c *wire.Client, mailbox string, n, size int, seed uint64) error {
	const batch = 100
	c.NonSync = 1 << 20
	file := newFile(seed, size)
	for i := 0; i < n; i += batch {
		var messages []wire.Message
		for k := i; k < min(i+batch, n); k++ {
			messages = append(messages, wire.Message{Data: file.message(k)})
		}
		if err := c.Append(mailbox, messages...); err != nil {
			return err
		}
	}
	return nil
}

// random makes messages of one size that differ in every line.
type random struct {
	size int
	head string // fields that say what the body is
	line func(*rand.Rand) []byte
	rng  *rand.Rand
}

// newText makes messages of text, whose words are each the only ones of their kind: a search index takes the most for those.
func newText(seed uint64, size int) *random {
	return &random{size: size, rng: rand.New(rand.NewPCG(seed, 0)), line: func(rng *rand.Rand) (b []byte) {
		for range 70 / 7 {
			b = fmt.Appendf(b, "%06x ", rng.Uint32()>>8)
		}
		return b
	}}
}

// newFile makes messages that are a file, as most of what is large is: a search index is not kept busy with it for long.
func newFile(seed uint64, size int) *random {
	return &random{size: size, rng: rand.New(rand.NewPCG(seed, 0)), head: "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n", line: func(rng *rand.Rand) []byte {
		var octets [51]byte
		for i := range octets {
			octets[i] = byte(rng.Uint32())
		}
		return base64.StdEncoding.AppendEncode(nil, octets[:])
	}}
}

func (r *random) message(i int) []byte {
	b := fmt.Appendf(nil, "From: memory@load.example\r\nSubject: %d\r\nMessage-ID: <%d.%d@load.example>\r\n%s\r\n", i, i, r.rng.Uint64(), r.head)
	for len(b) < r.size {
		b = append(append(b, r.line(r.rng)...), "\r\n"...)
	}
	return append(b[:r.size-2], "\r\n"...)
}

// warmUp has each user log in and look at the INBOX, so that what a server keeps of that is
// there before anything is measured.
func (o *options) warmUp() error {
	for user := range o.userCount {
		c, err := o.login(o.dial, user)
		if err != nil {
			return err
		}
		if err := c.Exec("SELECT INBOX", nil); err != nil {
			return err
		}
		if err := c.Logout(); err != nil {
			return err
		}
	}
	return nil
}

// stalled asks for all of a large mailbox and reads the first answer only.
func (o *options) stalled() (measurement, error) {
	c, err := o.login(o.dial, 0)
	if err != nil {
		return measurement{}, err
	}
	defer c.Close()
	have := uint32(0)
	if err := c.Exec("SELECT "+large, func(r *wire.Response) error {
		if r.Is("EXISTS") {
			have = r.Num
		}
		return nil
	}); err != nil {
		return measurement{}, err
	}
	if int(have) != o.messages {
		return measurement{}, fmt.Errorf("%d messages in %s instead of %d: run with -prepare first", have, large, o.messages)
	}
	before, err := o.settled()
	if err != nil {
		return measurement{}, err
	}
	stop := o.peak()
	began, errRead := make(chan struct{}), errors.New("enough")
	c.SetTimeout(time.Minute)
	go func() {
		// The first answer holds up all others until the measurement is over.
		_ = c.Exec("UID FETCH 1:* (BODY.PEEK[])", func(*wire.Response) error {
			close(began)
			time.Sleep(20 * time.Second)
			c.Close()
			return errRead
		})
	}()
	select {
	case <-began:
	case <-time.After(30 * time.Second):
		return measurement{}, errors.New("no answer to FETCH")
	}
	time.Sleep(15 * time.Second)
	most, err := stop()
	return measurement{name: "stalled", growth: most - before, conns: 1, bound: 32 << 20}, err
}

// idle has n connections in IDLE at once, on INBOXes of a thousand messages; begin is done after the login.
func (o *options) idle(name string, n int, dial func() (*wire.Client, error), begin func(*wire.Client) error, bound int64) (measurement, error) {
	before, err := o.settled()
	if err != nil {
		return measurement{}, err
	}
	clients := make([]*wire.Client, n)
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.Close()
			}
		}
	}()
	err = each(n, 16, func(i int) error {
		c, err := o.login(dial, i)
		if err != nil {
			return err
		}
		clients[i] = c
		if begin != nil {
			if err := begin(c); err != nil {
				return err
			}
		}
		have := uint32(0)
		err = c.Exec("SELECT INBOX", func(r *wire.Response) error {
			if r.Is("EXISTS") {
				have = r.Num
			}
			return nil
		})
		if err == nil && int(have) < o.inbox {
			err = fmt.Errorf("%d messages in INBOX, not %d", have, o.inbox)
		}
		return errors.Join(err, c.StartIdle())
	})
	if err != nil {
		return measurement{}, err
	}
	// What making the connections took is given back in time; what they hold stays.
	after, err := o.settled()
	return measurement{name: name, growth: after - before, conns: n, bound: bound, each: bound > 0}, err
}

// compress begins compression, and says as much as a server has to remember.
func compress(c *wire.Client) error {
	if err := c.Compress(); err != nil {
		return err
	}
	for range 40 {
		if err := c.Execf(nil, "ID (\"name\" %s)", wire.Quote(strings.Repeat("x", 1000))); err != nil {
			return err
		}
	}
	return nil
}

// each calls f for 0 to n-1, a few at a time, and returns the first error.
func each(n, atOnce int, f func(i int) error) error {
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					once.Do(func() { first = err })
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return first
}

// appendLarge appends large messages of text, all at once and no two alike. Where the server indexes what it is given,
// that is part of the case.
func (o *options) appendLarge() (measurement, error) {
	common := newText(1, o.appendSize).message(0)
	before, err := o.settled()
	if err != nil {
		return measurement{}, err
	}
	stop := o.peak()
	err = each(o.appends, o.appends, func(i int) error {
		c, err := net.Dial("tcp", o.addr)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(15 * time.Minute))
		d := newDialog(c)
		head := fmt.Sprintf("From: memory@load.example\r\nSubject: append %d\r\n\r\n", i)
		// Turned by a part of a frame, so that nothing of it is like that of another.
		turn := (i + 1) * 9973
		d.expect("* OK")
		d.send("a LOGIN %s %s\r\n", wire.Quote(fmt.Sprintf(o.users, i%o.userCount+1)), wire.Quote(o.pass))
		d.expect("a OK")
		d.send("b APPEND Archive {%d}\r\n", len(head)+len(common))
		d.expect("+")
		d.send("%s", head)
		d.write(common[turn:])
		d.write(common[:turn])
		d.send("\r\n")
		return d.expect("b OK")
	})
	most, peakErr := stop()
	return measurement{name: "append", growth: most - before, conns: o.appends, bound: 512 << 20}, errors.Join(err, peakErr)
}

// announce has clients that have not logged in announce literals of 100 MB: some wait
// until they may go on, some do not wait and send a part.
func (o *options) announce() (measurement, error) {
	before, err := o.settled()
	if err != nil {
		return measurement{}, err
	}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	stop := o.peak()
	part := make([]byte, 64<<10)
	commands := []string{"a LOGIN {104857600}\r\n", "a APPEND INBOX {104857600}\r\n", "a LOGIN {104857600+}\r\n", "a APPEND INBOX (\\Seen) {104857600+}\r\n"}
	for i := range o.literals {
		c, err := net.Dial("tcp", o.addr)
		if err != nil {
			return measurement{}, err
		}
		open = append(open, c)
		c.SetDeadline(time.Now().Add(time.Minute))
		command := commands[i%len(commands)]
		if _, err := io.WriteString(c, command); err != nil {
			return measurement{}, err
		}
		if strings.Contains(command, "+") {
			if _, err := c.Write(part); err != nil {
				return measurement{}, err
			}
		}
	}
	time.Sleep(5 * time.Second)
	most, err := stop()
	return measurement{name: "literals", growth: most - before, conns: o.literals, bound: 64 << 20}, err
}
