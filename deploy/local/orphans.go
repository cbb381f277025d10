package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// orphanGrace is how long a server that outlived its parent may take to shut down.
const orphanGrace = 20 * time.Second

// endOrphans ends the processes of an earlier server on the cluster data, whose
// lock the caller holds: the server itself, if it is still shutting down, and
// sessions that have not yet noticed that it is gone. While one of them lives, a new server refuses to start.
func endOrphans(ctx context.Context, data string, as identity) error {
	signal, deadline := syscall.SIGQUIT, time.Now().Add(orphanGrace)
	for first := true; ; first = false {
		orphans, err := processesIn(data, as)
		if err != nil || len(orphans) == 0 {
			return err
		}
		late := time.Now().After(deadline)
		if late {
			signal = syscall.SIGKILL
			if time.Now().After(deadline.Add(orphanGrace)) {
				return fmt.Errorf("processes %v of an earlier PostgreSQL on %s do not end", orphans, data)
			}
		}
		if first || late {
			for _, pid := range orphans {
				_ = syscall.Kill(pid, signal) // an error says that it has ended
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// dropDeadLock removes a lock file that a server left behind. PostgreSQL itself
// takes it for a living one's if the process is not waited for yet, or if its number
// is now another's, as happens after a restart of the machine or a container.
func dropDeadLock(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // there is none, or PostgreSQL will say what is wrong with it
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || isServer(pid) {
		return nil
	}
	return os.Remove(file)
}

// isServer reports whether a process is one of PostgreSQL's that has not ended.
// Everybody may ask this, whoever runs it.
func isServer(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The state follows on the name, which is in parentheses and may hold anything.
	name, rest := string(stat), ""
	if end := strings.LastIndexByte(name, ')'); end >= 0 {
		name, rest = name[:end], name[end+1:]
	}
	return strings.HasSuffix(name, "(postgres") && !strings.HasPrefix(rest, " Z")
}

// processesIn lists the server's processes whose working directory is dir, as is
// that of every process of a PostgreSQL server.
func processesIn(dir string, as identity) ([]int, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, nil // no cluster yet, so no server on it
	}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is well-formed
	directories := make(map[string]string)
	for _, link := range links {
		directory, err := os.Readlink(link)
		if errors.Is(err, fs.ErrPermission) && as.credential != nil {
			// In a container root may not look at other users' processes; they themselves may.
			if directories, err = as.directories(); err != nil {
				return nil, err
			}
			break
		}
		if err == nil { // else it is another's process, or one that has just ended
			directories[filepath.Dir(link)] = directory
		}
	}
	var pids []int
	for process, directory := range directories {
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil && directory == dir && isServer(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// directories are the working directories of the identity's own processes.
func (as identity) directories() (map[string]string, error) {
	cmd := exec.Command("find", "/proc", "-maxdepth", "2", "-path", "/proc/[0-9]*/cwd", "-printf", `%h %l\n`)
	as.apply(cmd)
	out, err := cmd.Output()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) { // its status is 1 where it could not read all
		return nil, err
	}
	directories := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		process, directory, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		directories[process] = directory
	}
	return directories, nil
}
