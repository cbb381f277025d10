package local

import (
	"context"
	"fmt"
	"os"
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
func endOrphans(ctx context.Context, data string) error {
	signal, deadline := syscall.SIGQUIT, time.Now().Add(orphanGrace)
	for first := true; ; first = false {
		orphans := processesIn(data)
		if len(orphans) == 0 {
			return nil
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

// dropDeadLock removes a lock file of a server that was killed and that its
// new parent has not waited for yet: PostgreSQL would take it for a living one.
func dropDeadLock(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil // there is none, or PostgreSQL will say what is wrong with it
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || !isZombie(pid) {
		return nil
	}
	return os.Remove(file)
}

// isZombie reports whether a process has ended but is still listed.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The state follows on the name, which is in parentheses and may hold anything.
	_, state, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	return ok && strings.HasPrefix(state, "Z")
}

// processesIn lists the processes whose working directory is dir, as is that
// of every process of a PostgreSQL server.
func processesIn(dir string) []int {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil // no cluster yet, so no server on it
	}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is well-formed
	var pids []int
	for _, link := range links {
		if cwd, err := os.Readlink(link); err != nil || cwd != dir {
			continue // another's process, or one that has just ended
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil && pid != os.Getpid() && isPostgres(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isPostgres keeps a shell that somebody has left in the folder alive.
func isPostgres(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && filepath.Base(exe) == "postgres"
}
