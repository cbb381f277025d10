package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mailstead.dev/cmd/imap-backup/archive"
	"mailstead.dev/cmd/imap-backup/backup"
	"mailstead.dev/cmd/imap-backup/remote"
)

// app is what all commands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	account  accountOptions
	choice   choiceOptions
	copying  runOptions
	output   outputOptions
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func wrong(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errProblems is a run that came to its end and had something to report on the way.
var errProblems = errors.New("there were problems")

// release is set by the Makefile.
var release string

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "imap-backup [flags] {URL DIRECTORY | ACCOUNT... | --all}",
		Short: "Keep a copy of your mail as plain files, from any IMAP server",
		Long: `Imap-backup keeps a copy of the mail on an IMAP server as plain files: each
mailbox one mbox file, or a Maildir, or a directory of .eml files, which mail
programs, grep and editors open. A later run fetches what is new. Nothing on the
server is changed.

URL is imap://user@host/ (with STARTTLS) or imaps://user@host/ (RFC 5092). The
password is taken from the environment variable IMAP_PASSWORD, from a file or a
command, or asked for. ACCOUNT is the name of an account in the configuration
file.

Exit status: 0, all is well; 1, something could not be copied, and the report
says what; 2, wrong usage; 3, the run could not begin or had to end; 4, the
server does not let us in; 5, another run is at work on the directory; 130,
interrupted.`,
		Example: `  imap-backup imaps://anna%40example.org@imap.example.org/ ~/mail
  imap-backup --exclude 'Junk*' --removed drop imap://anna@mail.example.org/ ~/mail
  imap-backup verify ~/mail
  imap-backup restore ~/mail imaps://anna@imap.example.net/`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, args []string) error {
			return a.forAccounts(c, args, a.copying.all, a.run)
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return wrong("%v (see %s --help)", err, c.CommandPath()) })
	a.account.register(root.PersistentFlags())
	a.output.register(root.PersistentFlags())
	a.choice.register(root.Flags())
	a.copying.register(root.Flags())
	root.AddCommand(a.listCommand(), a.verifyCommand(), a.restoreCommand(), a.manCommand())
	return root
}

// runOptions are those of a run alone.
type runOptions struct {
	all        bool
	removed    string
	maxMessage size
}

func (o *runOptions) register(flags *pflag.FlagSet) {
	flags.BoolVar(&o.all, "all", false, "all accounts of the configuration file")
	flags.StringVar(&o.removed, "removed", "keep", "what becomes here of messages that are removed on the server: `keep` or drop")
	flags.Var(&o.maxMessage, "max-message", "leave out and report messages larger than this `size`, such as 100M (default: none)")
}

// choiceOptions say which mailboxes and messages are meant.
type choiceOptions struct {
	format          string
	mailboxes       []string
	exclude         []string
	uses, notUses   []string
	since, before   date
	larger, smaller size
}

func (o *choiceOptions) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.format, "format", "mbox", "what the plain files are: `mbox`, maildir or eml")
	o.registerMailboxes(flags)
	o.registerUses(flags)
	flags.Var(&o.since, "since", "only messages that arrived on this `day` (2026-11-26) or later")
	flags.Var(&o.before, "before", "only messages that arrived before this `day`")
	flags.Var(&o.larger, "larger", "only messages larger than this `size`, such as 10K")
	flags.Var(&o.smaller, "smaller", "only messages smaller than this `size`")
}

func (o *choiceOptions) registerMailboxes(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&o.mailboxes, "mailbox", "m", nil, "only mailboxes that match this `pattern`; * is any text, ? any character (can be repeated)")
	flags.StringArrayVarP(&o.exclude, "exclude", "x", nil, "no mailboxes that match this `pattern` (can be repeated)")
}

// registerUses has what only a server knows of a mailbox.
func (o *choiceOptions) registerUses(flags *pflag.FlagSet) {
	flags.StringArrayVar(&o.uses, "special-use", nil, "only mailboxes for this `use`, such as Sent or Drafts (can be repeated)")
	flags.StringArrayVar(&o.notUses, "exclude-special-use", nil, "no mailboxes for this `use`, such as Junk or Trash (can be repeated)")
}

func (o *choiceOptions) selection() (backup.Select, error) {
	s := backup.Select{Include: o.mailboxes, Exclude: o.exclude, Uses: o.uses, NotUses: o.notUses}
	if err := s.CheckPatterns(); err != nil {
		return s, usageError{err}
	}
	return s, nil
}

func (o *choiceOptions) filter() remote.Filter {
	return remote.Filter{Since: time.Time(o.since), Before: time.Time(o.before), Larger: int64(o.larger), Smaller: int64(o.smaller)}
}

// options are what package backup is told.
func (a *app) options(at target) (backup.Options, error) {
	selection, err := a.choice.selection()
	if err != nil {
		return backup.Options{}, err
	}
	if at.mailbox != "" {
		selection.Include = append(selection.Include, backup.Literally(at.mailbox))
	}
	if at.url == nil && len(selection.Uses)+len(selection.NotUses) > 0 {
		return backup.Options{}, wrong("what a mailbox is used for only the server says: want its URL as well")
	}
	if a.choice.format != "" && !slices.Contains(archive.Formats, a.choice.format) {
		return backup.Options{}, wrong("--format %s: there are %s", a.choice.format, strings.Join(archive.Formats, ", "))
	}
	o := backup.Options{Dir: at.dir, Format: a.choice.format, Connections: a.account.connections, Select: selection, Filter: a.choice.filter()}
	if at.url != nil {
		o.Dial, err = a.account.dialer(a, at)
	}
	return o, err
}

func (a *app) run(ctx context.Context, at target) error {
	if a.copying.removed != "keep" && a.copying.removed != "drop" {
		return wrong("--removed %s: keep or drop", a.copying.removed)
	}
	o, err := a.options(at)
	if err != nil {
		return err
	}
	o.Drop, o.MaxMessage = a.copying.removed == "drop", int64(a.copying.maxMessage)
	show := a.output.show(a, at.name, "fetched")
	o.Show = show.event
	result, err := backup.Run(ctx, o)
	show.end(result, err)
	return problems(result, err)
}

// problems makes an error of a report that has problems.
func problems(r backup.Result, err error) error {
	if err == nil && r.Problems > 0 {
		return errProblems
	}
	return err
}
