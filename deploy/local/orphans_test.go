package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A server that was killed and not waited for does not keep the next one from
// starting, nor does a process that has got its number since.
func TestLockOfTheDead(t *testing.T) {
	dir := t.TempDir()
	file, program := filepath.Join(dir, "postmaster.pid"), filepath.Join(dir, "postgres")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(sleep, program); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(program, "1000")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	dropped := func(pid int) bool {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, "%d\n%s\n", pid, dir), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := dropDeadLock(file); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(file)
		return os.IsNotExist(err)
	}
	if dropped(server.Process.Pid) {
		t.Error("the lock of a server that lives was removed")
	}
	if !dropped(os.Getpid()) {
		t.Error("a lock is still there whose number is that of a process that is no server")
	}
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for isServer(server.Process.Pid) { // until it is a zombie
	}
	if !dropped(server.Process.Pid) {
		t.Error("the lock of a server that was killed is still there")
	}
	_ = server.Wait() // killed
	if !dropped(server.Process.Pid) {
		t.Error("the lock of a server that is gone is still there")
	}
}

// The server's processes are found also by a root that may not look at those of other users, as in a container.
func TestProcessesOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // servers run as this user
	}
	dir := tempDir(t)
	as, err := serverIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "postgres")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(sleep, program); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "1000")
	as.apply(cmd)
	cmd.Dir = dir
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	server, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop(t.Context(), syscall.SIGKILL)
	directories, err := as.directories()
	if err != nil {
		t.Fatal(err)
	}
	if got := directories[fmt.Sprintf("/proc/%d", server.PID())]; got != dir {
		t.Errorf("the working directory of the server is %q, want %q", got, dir)
	}
}
