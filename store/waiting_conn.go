package store

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// answerTime is for how long an answer is waited for in the system call, in milliseconds: most come sooner.
const answerTime = 1

// waitingConn is a connection to the database that waits for an answer in the system call at first. That way the kernel
// wakes the thread that reads it, without the detour by the runtime's poller and scheduler, which cost a STORE a
// sixth of its time. It keeps a processor of the runtime from others meanwhile: so only one connection waits so, while no other
// waits at all, and none where there is one processor only.
type waitingConn struct {
	net.Conn
	raw     syscall.RawConn
	waiting *atomic.Int32 // connections
}

func (c *waitingConn) Read(b []byte) (int, error) {
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) == 1 && runtime.GOMAXPROCS(0) > 1 {
		// Whatever this comes to, Read says how things are.
		_ = c.raw.Control(func(fd uintptr) {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, answerTime)
		})
	}
	return c.Conn.Read(b)
}

// waitInCall has the connections that dial makes wait for answers in the system call.
func waitInCall(dial pgconn.DialFunc) pgconn.DialFunc {
	waiting := new(atomic.Int32)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		in, ok := conn.(syscall.Conn)
		if !ok {
			return conn, nil
		}
		raw, err := in.SyscallConn()
		if err != nil {
			return nil, fmt.Errorf("connection to the database: %w", err)
		}
		return &waitingConn{conn, raw, waiting}, nil
	}
}
