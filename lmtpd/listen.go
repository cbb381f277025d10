package lmtpd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// listener admits connections, and wraps them for go-smtp.
type listener struct {
	net.Listener
	server *Server
}

func (l listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := newConn(accepted, l.server)
		refusal := l.server.admit(c)
		if refusal == "" {
			return c, nil
		}
		l.server.o.Logger.Warn("lmtp: connection refused", "client", accepted.RemoteAddr().String(), "reply", strings.TrimSpace(refusal))
		accepted.SetWriteDeadline(time.Now().Add(time.Second))
		accepted.Write([]byte(refusal)) // a courtesy: it is refused all the same
		accepted.Close()
	}
}

// Close closes the listener, if nobody has done so yet.
func (l listener) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Listen listens at host:port, or at a unix socket when the address is
// unix:PATH. A socket that a process left behind is replaced; one that answers
// is not. mode is of the socket's file; zero means 0660.
func Listen(address string, mode fs.FileMode) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return net.Listen("tcp", address)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if mode == 0 {
		mode = 0o660
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody listens at, and nothing else: whatever
// an address names by mistake is refused by net.Listen.
func removeStale(path string) error {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
		return nil // nothing is there, or what net.Listen will tell
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("listen unix %s: another process listens there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil // what net.Listen will tell
	}
	return os.Remove(path)
}
