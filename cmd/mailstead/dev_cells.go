package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"mailstead.dev/acl"
	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/deploy/local"
	"mailstead.dev/store"
)

// The second cell of `mailstead dev --cells 2` is a `mailstead dev` of its own, in a folder within that of the first, which starts and ends it.

const (
	firstCell  = "west"
	secondCell = "east"
	firstDemo  = "demo"
	secondDemo = secondCell

	cellPorts = 50 // the second cell has the ports of the first, so many higher
)

// second are the options of the second cell.
func (o devOptions) second() devOptions {
	return devOptions{
		data: o.path(secondCell), portBase: o.portBase + cellPorts, frontEnds: 1, cells: 1, demo: secondDemo, plaintextLogin: o.plaintextLogin,
	}
}

// prepare makes the certificate of a cell, by which the other one will know it.
func (o devOptions) prepare() error {
	if err := os.MkdirAll(o.data, 0o711); err != nil {
		return err
	}
	if err := makeCertificates(o.path("tls"), time.Now()); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	return nil
}

// cellsOf are the settings of the first cell.
func (o devOptions) cellsOf(state *devState, login config.CellLogin) config.Cells {
	return o.knows(firstCell, secondCell, o.second(), state.Cells, login)
}

// knows are the settings of a cell that knows another.
func (o devOptions) knows(name, other string, at devOptions, secret string, login config.CellLogin) config.Cells {
	return config.Cells{
		Name:      name,
		Others:    []config.CellHost{{Name: other, Host: "localhost", Port: uint16(at.portBase + portIMAP)}},
		Addresses: []config.CellAddress{{Name: other, Address: at.address(portIMAPS)}},
		CAFile:    at.path("tls", caFile),
		Secret:    config.Secret(secret),
		Login:     login,
	}
}

// startSecond starts the second cell. It returns when that answers.
func (o devOptions) startSecond(state *devState, first config.Cells) func(ctx context.Context) (child, error) {
	second := o.second()
	cells := second.knows(secondCell, firstCell, o, state.Cells, first.Login)
	return func(ctx context.Context) (child, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		log, err := openLog(o.path("log", secondCell+".log"))
		if err != nil {
			return nil, err
		}
		defer log.Close()
		cmd := exec.Command(self, "dev", "--data", second.data, "--port-base", fmt.Sprint(second.portBase), "--demo", second.demo, fmt.Sprintf("--plaintext-login=%t", second.plaintextLogin))
		cmd.Stdout, cmd.Stderr = log, log
		for _, entry := range os.Environ() {
			if !strings.HasPrefix(entry, "MAILSTEAD_CELLS_") {
				cmd.Env = append(cmd.Env, entry)
			}
		}
		cmd.Env = append(cmd.Env,
			"MAILSTEAD_CELLS_NAME="+cells.Name, "MAILSTEAD_CELLS_OTHERS="+cells.Others[0].String(), "MAILSTEAD_CELLS_ADDRESSES="+cells.Addresses[0].String(),
			"MAILSTEAD_CELLS_CA_FILE="+cells.CAFile, "MAILSTEAD_CELLS_SECRET="+cells.Secret.Reveal(), "MAILSTEAD_CELLS_LOGIN="+string(cells.Login))
		p, err := local.Start(cmd)
		if err != nil {
			return nil, err
		}
		return awaitReady(ctx, frontEndProcess{p}, second.address(portHTTP), log.Name())
	}
}

// introduceCells tells each cell of the domains of the other, and shares a mailbox of the second with a user of the first.
func (o devOptions) introduceCells(ctx context.Context, first *config.Config) error {
	second, err := config.Load(o.second().path(operatorFile), nil)
	if err != nil {
		return err
	}
	for _, of := range []struct {
		config  *config.Config
		cell    string
		domains [2]string
		share   func(ctx context.Context, s *store.Store) error
	}{{first, secondCell, o.second().domains(), o.visit}, {second, firstCell, o.domains(), o.shareWithGuest}} {
		s, err := openStore(ctx, of.config, storeOptions(of.config, slog.New(slog.DiscardHandler)), nil)
		if err != nil {
			return err
		}
		for _, domain := range of.domains {
			err = errors.Join(err, s.SetRemoteDomain(ctx, domain, of.cell))
		}
		if err == nil {
			err = of.share(ctx, s)
		}
		if err := errors.Join(err, s.Close()); err != nil {
			return err
		}
	}
	return nil
}

// sharedProjects is the mailbox of the second cell's first user that is shared with the guest, who is the first user of the first cell.
const sharedProjects = "Projects"

// guest is the guest's login.
func (o devOptions) guest() string { return "guest@" + o.second().domains()[0] }

// visit has the user of the first cell see what is shared with the guest.
func (o devOptions) visit(ctx context.Context, s *store.Store) error {
	account, err := s.Account(ctx, o.users()[0])
	if err != nil {
		return err
	}
	err = s.AddVisit(ctx, account.User(), store.Visit{Cell: secondCell, Login: o.guest()})
	return there(err)
}

// shareWithGuest makes in the second cell the guest, and the mailbox.
func (o devOptions) shareWithGuest(ctx context.Context, s *store.Store) error {
	owner, err := s.Account(ctx, o.second().users()[0])
	if err != nil {
		return err
	}
	if _, err := s.CreateGuest(ctx, o.guest(), o.users()[0]); there(err) != nil {
		return err
	}
	if _, err := s.Create(ctx, owner.User(), sharedProjects, nil); there(err) != nil {
		return err
	}
	const all = acl.Lookup | acl.Read | acl.Seen | acl.Write | acl.Insert | acl.DeleteMessages | acl.Expunge
	return s.SetACL(ctx, owner.User(), sharedProjects, acl.Identifier(o.guest()), acl.Modification{Rights: all})
}

// there takes it that what exists was made at an earlier start.
func there(err error) error {
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	return err
}

// tourSecond prints where the second cell is, and who can be logged in as in both.
func (o devOptions) tourSecond(out io.Writer) error {
	second := o.second()
	state, err := loadDevState(second.path("dev.json"), second.users())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `
A second cell, %s, has IMAP at %s, IMAP over TLS at %s (its authority is %s) and LMTP at %s:

`, secondCell, second.address(portIMAP), second.address(portIMAPS), second.path("tls", caFile), second.address(portLMTP))
	for _, login := range second.users() {
		fmt.Fprintf(out, "  %s  password %s\n", login, state.Passwords[login])
	}
	fmt.Fprintf(out, "\n  Log in as any of them at either cell. What an operator sees: mailstead -c '%s' cell list\n", o.path(operatorFile))
	home, owner := o.users()[0], second.users()[0]
	fmt.Fprintf(out, "  %[1]s shares the mailbox %[2]s with the guest %[3]s, who is %[4]s: it is Other Users/%[1]s/%[2]s for %[4]s at home, and for who logs in as the guest, with the password of %[4]s\n",
		owner, sharedProjects, o.guest(), home)
	return nil
}
