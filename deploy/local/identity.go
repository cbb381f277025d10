package local

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// identity is the user as whom PostgreSQL runs, which refuses to run as root.
type identity struct {
	credential *syscall.Credential // nil: this process's own
	caps       []uintptr           // ambient capabilities
	home       string
}

// Capabilities of Linux that let a process pass folders that are closed to its user.
const (
	capDACOverride   = 1
	capDACReadSearch = 2
)

// serverIdentity chooses who may run a server on dir.
func serverIdentity(dir string) (identity, error) {
	if os.Geteuid() != 0 {
		return identity{home: dir}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return identity{}, fmt.Errorf("as root, PostgreSQL runs as the user postgres of its package: %w; run `make dev-deps`", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return identity{}, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return identity{}, err
	}
	as := identity{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, home: dir}
	if err := as.own(dir); err != nil {
		return identity{}, err
	}
	// A folder below /root is closed to others. The server then gets the one
	// capability that lets it pass, which costs root nothing and leaves /root as it is.
	for _, caps := range [][]uintptr{nil, {capDACReadSearch}, {capDACOverride}} {
		as.caps = caps
		if as.reaches(dir) {
			return as, nil
		}
	}
	return identity{}, fmt.Errorf("the user postgres cannot reach %s: choose a folder below one that is open to others, such as /var/tmp", dir)
}

func (as identity) reaches(dir string) bool {
	cmd := exec.Command("/bin/sh", "-c", `cd "$1" && test -w .`, "sh", dir)
	as.apply(cmd)
	return cmd.Run() == nil
}

// own makes a folder that root has made the server's, for it alone.
func (as identity) own(dir string) error {
	if as.credential == nil {
		return nil
	}
	return os.Chown(dir, int(as.credential.Uid), int(as.credential.Gid))
}

func (as identity) apply(cmd *exec.Cmd) {
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as.credential, AmbientCaps: as.caps}
}

// start starts cmd as this identity, with its output appended to the file log.
func (as identity) start(cmd *exec.Cmd, log string, atParentsDeath syscall.Signal) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	as.apply(cmd)
	cmd.SysProcAttr.Pdeathsig = atParentsDeath
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + as.home}
	return Start(cmd)
}

// longestSocketDir leaves room for the socket's name in the 107 octets of a Unix address.
const longestSocketDir = 80

// socketDir makes the folder for the server's socket: in dir, or, where that is
// too long a name, below the folder for temporary files, always the same for the same dir.
func socketDir(dir string, as identity) (string, error) {
	path := filepath.Join(dir, "run")
	if len(path) > longestSocketDir {
		sum := sha256.Sum256([]byte(dir))
		path = filepath.Join(os.TempDir(), "mailstead-"+hex.EncodeToString(sum[:8]))
	}
	if err := os.Mkdir(path, 0o700); err != nil && !os.IsExist(err) {
		return "", err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() || info.Mode().Perm() != 0o700 {
		return "", fmt.Errorf("%s is not a folder of ours alone", path)
	}
	return path, as.own(path)
}
