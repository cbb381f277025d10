// Imap-backup keeps one's own copy of one's mail as plain files, from any IMAP server.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/remote"
)

// Exit codes.
const (
	exitProblems    = 1 // all that could be done was done; the report names the rest
	exitUsage       = 2
	exitFailed      = 3 // the run could not begin or had to end: no connection, no room on the disk
	exitLogin       = 4
	exitLocked      = 5
	exitInterrupted = 130
)

// memoryGoal is what the collector of garbage works towards. Nothing here needs more.
const memoryGoal = 28 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryGoal)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	err := a.root().ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errProblems) {
		fmt.Fprintln(os.Stderr, "imap-backup:", err)
	}
	os.Exit(exitCode(ctx, err))
}

func exitCode(ctx context.Context, err error) int {
	var usage usageError
	var login *remote.LoginError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errProblems):
		return exitProblems
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &login):
		return exitLogin
	case errors.Is(err, archive.ErrLocked):
		return exitLocked
	}
	return exitFailed
}
