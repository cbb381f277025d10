package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// S3Options says how devs3 is run.
type S3Options struct {
	Dir            string   // folder of the objects; created if missing
	Listen, Status string   // host:port; a port of 0 is chosen
	Buckets        []string // created if missing
	Access, Secret string
	Log            string // file for what the server says; empty: Dir/devs3.log
}

// S3 is a running devs3.
type S3 struct {
	*Process
	Endpoint string // host:port of the S3 service, plain HTTP
	Status   string // host:port of counters and bucket creation
}

// Region is what devs3 calls its region.
const Region = "us-east-1"

// StartS3 starts devs3 and returns when it answers.
func StartS3(ctx context.Context, o S3Options) (*S3, error) {
	bin, err := devs3Bin()
	if err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	if o.Log == "" {
		o.Log = filepath.Join(o.Dir, "devs3.log")
	}
	// A port may be taken between its choice and its use, and one that is given may
	// be held for a moment longer by a server that is just ending.
	const attempts = 10
	for range attempts {
		var s *S3
		if s, err = startS3(ctx, bin, o); err == nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("%w\n%s", err, Tail(o.Log))
}

func startS3(ctx context.Context, bin string, o S3Options) (*S3, error) {
	s := &S3{}
	var err error
	if s.Endpoint, err = chosen(o.Listen); err != nil {
		return nil, err
	}
	if s.Status, err = chosen(o.Status); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(o.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(bin, "-with-parent", "-dir", o.Dir, "-listen", s.Endpoint, "-status", s.Status,
		"-region", Region, "-buckets", strings.Join(o.Buckets, ","))
	cmd.Env = append(os.Environ(), "DEVS3_ACCESS_KEY="+o.Access, "DEVS3_SECRET_KEY="+o.Secret)
	cmd.Stdout, cmd.Stderr = log, log
	// Never written to: it ends when this process does.
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if s.Process, err = Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", bin, err)
	}
	startCtx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = s.await(startCtx, "devs3", func(ctx context.Context) error { return answers(ctx, "http://"+s.Endpoint+"/healthz") })
	if err == nil {
		err = s.await(startCtx, "devs3", func(ctx context.Context) error { return answers(ctx, "http://"+s.Status+"/metrics") })
	}
	if err != nil {
		s.Stop(ctx)
		return nil, err
	}
	return s, nil
}

// Stop ends the server.
func (s *S3) Stop(ctx context.Context) { s.Process.Stop(ctx, syscall.SIGTERM) }

// MakeBucket creates a bucket, if it is not there, at a devs3 with this status address.
func MakeBucket(ctx context.Context, status, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+status+"/buckets/"+name, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		return fmt.Errorf("create bucket %s: %s", name, answer.Status)
	}
	return nil
}

func answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// chosen replaces the port 0 by one that is free.
func chosen(address string) (string, error) {
	if !strings.HasSuffix(address, ":0") {
		return address, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// systemLibrary is where `make dev-deps` puts devs3 when root runs it, for every user.
const systemLibrary = "/usr/local/lib/mailstead"

// devs3Bin finds devs3: as told by MAILSTEAD_DEVS3, beside this program, or where
// `make dev-deps` puts it.
func devs3Bin() (string, error) {
	if path := os.Getenv("MAILSTEAD_DEVS3"); path != "" {
		return path, nil
	}
	var tried []string
	if self, err := os.Executable(); err == nil {
		tried = append(tried, filepath.Dir(self))
	}
	if cache, err := os.UserCacheDir(); err == nil {
		tried = append(tried, filepath.Join(cache, "mailstead"))
	}
	tried = append(tried, systemLibrary)
	for _, dir := range tried {
		path := filepath.Join(dir, "devs3")
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("no devs3 in %s: run `make dev-deps`, or set MAILSTEAD_DEVS3 to its path", strings.Join(tried, ", "))
}
