// Steady delivers mail over LMTP at a fixed rate for a fixed time, to a number
// of users in turn, and says how many deliveries were acknowledged. Its use is
// to find out what a steady stream costs the server behind: requests to object
// storage, say, that the caller counts before and after.
//
// Usage:
//
//	steady -lmtp 127.0.0.1:24 -rcpt user%04d@example.org -user-count 90 -rate 50 -duration 5m
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"imapload/internal/corpus"
	"imapload/internal/lmtp"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("steady: ")
	addr := flag.String("lmtp", "127.0.0.1:24", "host:port of the LMTP service")
	rcpt := flag.String("rcpt", "user%04d@example.org", "recipient with a format verb for the number, from 1")
	users := flag.Int("user-count", 90, "recipients that exist")
	rate := flag.Float64("rate", 50, "deliveries per second")
	duration := flag.Duration("duration", 5*time.Minute, "how long")
	conns := flag.Int("conns", 8, "connections")
	seed := flag.Uint64("seed", 1, "seed of the mail")
	flag.Parse()

	acknowledged, failed := deliver(*addr, *rcpt, *users, *rate, *duration, *conns, *seed)
	fmt.Printf("acknowledged %d\nfailed %d\n", acknowledged, failed)
	if failed > 0 || acknowledged == 0 {
		log.Fatal("not every delivery was acknowledged")
	}
}

// deliver hands message numbers to the connections at the rate asked, and
// counts. A connection that fails is replaced for the next message.
func deliver(addr, rcpt string, users int, rate float64, duration time.Duration, conns int, seed uint64) (acknowledged, failed int64) {
	gen := corpus.New(seed, corpus.LogNormal(6000, 1.3))
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()

	var ok, bad atomic.Int64
	next := make(chan int)
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			var client *lmtp.Client
			var buf []byte
			for i := range next {
				if client == nil {
					var err error
					if client, err = lmtp.Dial(context.Background(), addr, time.Minute); err != nil {
						log.Print(err)
						bad.Add(1)
						continue
					}
				}
				m := gen.Render(buf[:0], i)
				buf = m.Data
				to := fmt.Sprintf(rcpt, i%users+1)
				if err := client.Deliver("steady@load.example", []string{to}, m.Data); err != nil {
					log.Print(err)
					bad.Add(1)
					client.Close()
					client = nil
					continue
				}
				ok.Add(1)
			}
			if client != nil {
				client.Close()
			}
		})
	}

	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			next <- i
		}
	}
	close(next)
	wg.Wait()
	return ok.Load(), bad.Load()
}
