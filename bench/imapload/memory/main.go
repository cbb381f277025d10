// Memory measures what a server's processes take in resident memory when clients
// ask much of them at once: a client that asks for a large mailbox and does not
// read it, thousands that idle, many that append large messages together, and many
// that announce what they never send. Each case has a bound; above it, memory fails.
//
// Usage:
//
//	memory -prepare -addr 127.0.0.1:143          # makes the mailboxes, which takes minutes
//	memory -addr 127.0.0.1:143 -pids 812+813     # measures, best after a restart
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"imapload/internal/wire"
)

// options is what the command line says.
type options struct {
	addr, tlsAddr string
	users, pass   string
	userCount     int
	pids          []int
	cases         []string

	messages, size int // of the mailbox that is fetched and not read
	inbox          int // messages of each INBOX
	idlers         int
	appends        int
	appendSize     int
	literals       int
}

// A measurement is a case that was measured: how much larger the processes were at
// most than before, and for how many connections.
type measurement struct {
	name   string
	growth int64 // octets
	conns  int
	bound  int64 // octets; 0: none, it is stated only
	each   bool  // the bound is that of one connection
}

func main() {
	log.SetFlags(log.Ltime)
	log.SetPrefix("memory: ")
	var o options
	var pids, cases string
	flag.StringVar(&o.addr, "addr", "127.0.0.1:143", "host:port of IMAP in plain text")
	flag.StringVar(&o.tlsAddr, "tls-addr", "", "host:port of IMAP over TLS; empty: that case is left out")
	flag.StringVar(&o.users, "users", "user%04d@demo.test", "login with a format verb for the number, from 1")
	flag.StringVar(&o.pass, "pass", "pass", "password of all users")
	flag.IntVar(&o.userCount, "user-count", 90, "users that exist")
	flag.StringVar(&pids, "pids", "", "process ids of the server, with + between; children are not counted")
	flag.StringVar(&cases, "cases", "stalled,idle,idle-tls,idle-compressed,literals,append", "what is measured")
	flag.IntVar(&o.messages, "messages", 60_000, "messages of the mailbox that is fetched and not read")
	flag.IntVar(&o.size, "size", 10_000, "octets of each of them")
	flag.IntVar(&o.inbox, "inbox", 1000, "messages of each INBOX")
	flag.IntVar(&o.idlers, "idlers", 5000, "connections in IDLE")
	flag.IntVar(&o.appends, "appends", 200, "APPENDs at once")
	flag.IntVar(&o.appendSize, "append-size", 25_000_000, "octets of each of them")
	flag.IntVar(&o.literals, "literals", 1000, "connections that announce a literal of 100 MB before they log in")
	head := flag.Bool("head", true, "print what the columns are")
	prepareOnly := flag.Bool("prepare", false, "make the mailboxes instead of measuring")
	flag.Parse()
	o.cases = strings.Split(cases, ",")

	if *prepareOnly {
		if err := o.prepare(); err != nil {
			log.Fatal(err)
		}
		return
	}
	for pid := range strings.SplitSeq(pids, "+") {
		n, err := strconv.Atoi(pid)
		if err != nil {
			log.Fatalf("-pids: %v", err)
		}
		o.pids = append(o.pids, n)
	}
	measured, err := o.measure()
	if !report(measured, *head) || err != nil {
		log.Fatal("failed: ", err)
	}
}

// measure runs the cases one after the other, each on what the one before has left behind.
func (o *options) measure() ([]measurement, error) {
	if err := o.warmUp(); err != nil {
		return nil, err
	}
	known := map[string]func() (measurement, error){
		"stalled":         o.stalled,
		"idle":            func() (measurement, error) { return o.idle("idle", o.idlers, o.dial, nil, 40<<10) },
		"idle-tls":        func() (measurement, error) { return o.idle("idle-tls", o.idlers, o.dialTLS, nil, 0) },
		"idle-compressed": func() (measurement, error) { return o.idle("idle-compressed", o.idlers/5, o.dial, compress, 80<<10) },
		"append":          o.appendLarge,
		"literals":        o.announce,
	}
	var all []measurement
	for _, name := range o.cases {
		run := known[name]
		switch {
		case run == nil:
			return all, fmt.Errorf("there is no case %q", name)
		case name == "idle-tls" && o.tlsAddr == "":
			continue
		}
		log.Print(name)
		m, err := run()
		if err != nil {
			return all, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func report(measured []measurement, head bool) (good bool) {
	good = len(measured) > 0
	if head {
		fmt.Printf("%-15s %11s %12s %12s %10s\n", "case", "connections", "growth MiB", "each KiB", "bound")
	}
	for _, m := range measured {
		each := m.growth / int64(m.conns)
		bound, within := "stated", true
		switch {
		case m.each:
			bound, within = fmt.Sprintf("%d KiB", m.bound>>10), each <= m.bound
		case m.bound > 0:
			bound, within = fmt.Sprintf("%d MiB", m.bound>>20), m.growth <= m.bound
		}
		fmt.Printf("%-15s %11d %12.1f %12.1f %10s", m.name, m.conns, float64(m.growth)/(1<<20), float64(each)/(1<<10), bound)
		if !within {
			fmt.Print("  TOO MUCH")
			good = false
		}
		fmt.Println()
	}
	return good
}

func (o *options) dial() (*wire.Client, error) {
	return wire.Dial(context.Background(), wire.Config{Addr: o.addr, Timeout: 5 * time.Minute})
}

func (o *options) dialTLS() (*wire.Client, error) {
	// The server is this machine's own, and its certificate anyone's.
	return wire.Dial(context.Background(), wire.Config{Addr: o.tlsAddr, TLS: &tls.Config{InsecureSkipVerify: true}, Timeout: 5 * time.Minute})
}

func (o *options) login(dial func() (*wire.Client, error), user int) (*wire.Client, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	if err := c.Login(fmt.Sprintf(o.users, user%o.userCount+1), o.pass); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// rss is the resident memory of the server's processes, in octets.
func (o *options) rss() (sum int64, err error) {
	for _, pid := range o.pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		_, rest, ok := strings.Cut(string(text), "VmRSS:")
		if !ok {
			return 0, fmt.Errorf("no VmRSS in the status of process %d", pid)
		}
		kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += kib << 10
	}
	return sum, nil
}

// settled is the resident memory once it has stopped falling.
func (o *options) settled() (int64, error) {
	least, err := o.rss()
	for calm := 0; calm < 5 && err == nil; {
		time.Sleep(time.Second)
		var now int64
		if now, err = o.rss(); now < least-least/100 {
			least, calm = now, 0
		} else {
			calm++
		}
	}
	return least, err
}

// peak watches the resident memory until stop is called, which returns the most that was seen.
func (o *options) peak() (stop func() (int64, error)) {
	done, result := make(chan struct{}), make(chan error, 1)
	most := int64(0)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			now, err := o.rss()
			most = max(most, now)
			if err != nil {
				result <- err
				return
			}
			select {
			case <-done:
				result <- nil
				return
			case <-tick.C:
			}
		}
	}()
	return func() (int64, error) {
		close(done)
		err := <-result
		return most, err
	}
}
