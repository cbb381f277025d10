package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mailstead.dev/store/message"
)

var (
	errCut        = errors.New("the file has more text than is read")
	errUnreadable = errors.New("the program does not read it")
	errPassing    = fmt.Errorf("%w: the file or the machine is to blame", message.ErrFile)
)

// bounded runs a program within bounds of its own: the shell sets them before there is anything to be read. What it
// may write to one file is bounded by what it is given, for those that spool their input (all files: watch). The lower limit of time comes with a signal of its own
// (SIGXCPU), which tells it from others that kill.
const bounded = `ulimit -c 0; ulimit -v "$1"; ulimit -t $(($2 + 1)); ulimit -S -t "$2"; ulimit -f "$3"; shift 3; exec "$@"`

// endTime is how long a program that was killed is waited for, with whatever it has started.
const endTime = 2 * time.Second

// run returns what a program writes about a file; errCut, with the text up to there, where that is too much, errUnreadable where it fails by the file,
// errPassing where it may do so, message.ErrNoFiles where it cannot be tried.
func (r *Reader) run(ctx context.Context, p *Program, file *os.File) (string, error) {
	const blocks = 512 // octets, that sh counts the size of files in

	limits, largest := r.limits, 2*r.limits.File
	if _, err := exec.LookPath(p.Command[0]); err != nil {
		return "", fmt.Errorf("%w: %w", message.ErrNoFiles, err)
	}
	dir, err := os.MkdirTemp("", "mailstead-files-")
	if err != nil {
		return "", fmt.Errorf("%w: %w", message.ErrNoFiles, err)
	}
	defer func() {
		if err := remove(dir); err != nil {
			r.log.WarnContext(ctx, "what a program has left behind is not removed", "program", p.Command[0], "folder", dir, "err", err)
		}
	}()
	within, cancel := context.WithTimeout(ctx, busyTimes*limits.Time)
	defer cancel()
	args := []string{"-c", bounded, "sh", strconv.FormatInt(limits.Memory>>10, 10), strconv.Itoa(int((limits.Time + time.Second - 1) / time.Second)), strconv.FormatInt(largest/blocks, 10)}
	cmd := exec.CommandContext(within, "/bin/sh", append(args, p.Command...)...)
	// Nothing of ours is told to it: settings may stand in our environment.
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + dir, "TMPDIR=" + dir}
	cmd.Dir, cmd.Stdin = dir, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = endTime
	text := &most{left: limits.Text, full: cancel}
	cmd.Stdout = text // what it says of a file may quote it, and so is neither kept nor logged
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("%w: %w", message.ErrNoFiles, err)
	}
	looking, stop := context.WithCancel(within)
	var outOfBounds error
	var watching sync.WaitGroup
	watching.Go(func() {
		if outOfBounds = watch(looking, dir, 2*largest); outOfBounds != nil {
			cancel()
		}
	})
	ended(cmd.Process.Pid)
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it has started and left; the group is there until Wait
	err = cmd.Wait()
	stop()
	watching.Wait()
	written := strings.ToValidUTF8(text.text.String(), "\uFFFD")
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case text.over:
		return written, errCut
	case outOfBounds != nil:
		return "", outOfBounds
	case within.Err() != nil:
		return "", fmt.Errorf("%w: %s has not read it within %s", errPassing, p.Command[0], busyTimes*limits.Time)
	case errors.As(err, &exit) && ofTheFile(exit):
		return "", fmt.Errorf("%w: %w", errUnreadable, err)
	case err != nil:
		return "", fmt.Errorf("%w: %w", errPassing, err)
	}
	return written, nil
}

// busyTimes is how many times as long as it may take of a processor a program may take on a busy machine.
const busyTimes = 3

// ofTheFile tells whether it is the file that its program failed by, not the machine: it would again. 126 and 127 are what a shell says of a program
// that it cannot run, and 128 with a signal, as sandboxes do, of one that was killed.
func ofTheFile(exit *exec.ExitError) bool {
	status := exit.Sys().(syscall.WaitStatus)
	by, code := status.Signal(), status.ExitStatus() // one of them is -1
	if code > 128 {
		by = syscall.Signal(code - 128)
	}
	return by != syscall.SIGKILL && by != syscall.SIGTERM && code != 126 && code != 127
}

// ended waits until a child has ended, which is still to be waited for.
func ended(pid int) {
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), syscall.EINTR) {
	}
}

// most keeps what is written to it, up to a bound, beyond which full is called and the rest dropped. It is no more than a
// Writer: what a Buffer can besides would go around the bound.
type most struct {
	text bytes.Buffer
	left int64
	over bool
	full func()
}

func (m *most) Write(b []byte) (int, error) {
	n := min(int64(len(b)), m.left)
	m.left -= n
	m.text.Write(b[:n])
	if n < int64(len(b)) && !m.over {
		m.over = true
		m.full()
	}
	return len(b), nil
}

var _ io.Writer = (*most)(nil)
