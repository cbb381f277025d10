package store

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Answers come through whenever they come, to several who wait at once, and a deadline and the end of a connection end the waiting.
func TestWaitingConn(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := waitInCall(new(net.Dialer).DialContext)
	connect := func() (here, there net.Conn) {
		t.Helper()
		here, err := dial(t.Context(), "unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := here.(*waitingConn); !ok {
			t.Fatalf("a %T does not wait in the call", here)
		}
		if there, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { here.Close(); there.Close() })
		return here, there
	}
	answers := make(chan error)
	for _, after := range []time.Duration{0, 100 * time.Microsecond, 20 * time.Millisecond} {
		for range 3 {
			here, there := connect()
			go func() {
				time.Sleep(after)
				if _, err := there.Write([]byte("answer")); err != nil {
					answers <- err
				}
			}()
			go func() {
				b := make([]byte, 16)
				n, err := here.Read(b)
				if err == nil && string(b[:n]) != "answer" {
					err = errors.New("read " + string(b[:n]))
				}
				answers <- err
			}()
		}
	}
	for range 9 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}

	here, there := connect()
	if err := here.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read until a deadline: %v", err)
	}
	if err := here.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(10 * time.Millisecond)
		there.Close()
	}()
	if n, err := here.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d octets of a connection that was closed, %v", n, err)
	}
	refused := waitInCall(func(context.Context, string, string) (net.Conn, error) { return nil, os.ErrPermission })
	if _, err := refused(t.Context(), "unix", "nowhere"); !errors.Is(err, os.ErrPermission) {
		t.Errorf("dialled nowhere: %v", err)
	}
}
