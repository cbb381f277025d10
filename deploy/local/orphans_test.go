package local

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A server that was killed and not waited for does not keep the next one from starting.
func TestLockOfTheDead(t *testing.T) {
	data := t.TempDir()
	file := filepath.Join(data, "postmaster.pid")
	cmd := exec.Command("sh", "-c", "echo; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d\n%s\n", cmd.Process.Pid, data), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dropDeadLock(file); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the lock of one that lives: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for one := make([]byte, 1); ; { // the pipe ends when the process has
		if _, err := out.Read(one); err != nil {
			break
		}
	}
	for !isZombie(cmd.Process.Pid) {
	}
	if err := dropDeadLock(file); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the lock of one that was killed is still there: %v", err)
	}
	_ = cmd.Wait() // killed
}
