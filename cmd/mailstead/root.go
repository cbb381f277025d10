package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mailstead.dev/cmd/mailstead/config"
)

// app is what all subcommands share: where output goes and the options of the root command.
type app struct {
	in       io.Reader
	out, err io.Writer
	environ  []string
	level    slog.LevelVar // of what is logged

	configFile string
	json       bool
}

// usageError is a command line that makes no sense; the exit status is 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// root builds the command tree. A subcommand is a file with a function that
// returns it, and a line here.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "mailstead",
		Short:         "A multi-tenant mail store: IMAP and LMTP on PostgreSQL and S3",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(wrongFlag)
	root.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(c, args[0])
		}
		return nil
	}
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	flags := root.PersistentFlags()
	flags.StringVarP(&a.configFile, "config", "c", os.Getenv("MAILSTEAD_CONFIG"), "configuration file (or MAILSTEAD_CONFIG)")
	flags.BoolVar(&a.json, "json", false, "print JSON instead of tables")
	root.AddCommand(
		a.accountCommand(),
		a.aclCommand(),
		a.aliasCommand(),
		a.auditCommand(),
		a.blocksCommand(),
		a.cellCommand(),
		a.certificateCommand(),
		a.configCommand(),
		a.devCommand(),
		a.directoryCommand(),
		a.domainCommand(),
		a.fsckCommand(),
		a.gcCommand(),
		a.groupCommand(),
		a.guestCommand(),
		a.mailboxCommand(),
		a.migrateCommand(),
		a.quotaCommand(),
		a.indexCommand(),
		a.serveCommand(),
		a.sharedCommand(),
		a.tenantCommand(),
		a.usageCommand(),
		a.visitCommand(),
	)
	return root
}

// load reads the configuration that the options name.
func (a *app) load() (*config.Config, error) { return config.Load(a.configFile, a.environ) }

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

// wrongFlag says what would be right in place of a flag that is wrong.
func wrongFlag(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		err = fmt.Errorf("%w%s", err, config.Suggestion(unknown.GetSpecifiedName(), names))
	case errors.As(err, &invalid) && invalid.GetFlag().Value.Type() == "int":
		err = fmt.Errorf("--%s %s: want a whole number", invalid.GetFlag().Name, invalid.GetValue())
	case errors.As(err, &invalid) && invalid.GetFlag().Value.Type() == "bool":
		err = fmt.Errorf("--%s %s: want true or false", invalid.GetFlag().Name, invalid.GetValue())
	}
	return usageError{fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
}

func unknownCommand(c *cobra.Command, name string) error {
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	return usageError{fmt.Errorf("%s has no command %q%s (see %s --help)", c.CommandPath(), name, config.Suggestion(name, names), c.CommandPath())}
}

// exactArgs wants these arguments, and says their names where they are not there.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError{fmt.Errorf("%s: %s is missing (see %s --help)", c.CommandPath(), names[len(args)], c.CommandPath())}
		case len(args) > len(names):
			return usageError{fmt.Errorf("%s: what is %q? (see %s --help)", c.CommandPath(), args[len(names)], c.CommandPath())}
		}
		return nil
	}
}

// addressAndTargets wants an address and one target or more.
func addressAndTargets(c *cobra.Command, args []string) error {
	if len(args) < 2 {
		return exactArgs("ADDRESS", "TARGET")(c, args)
	}
	return nil
}

// group is a command that only has subcommands: without one it is used wrongly.
func group(use, short string, subcommands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, RunE: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(c, args[0])
		}
		return usageError{fmt.Errorf("%s: which command? (see %s --help)", c.CommandPath(), c.CommandPath())}
	}}
	c.AddCommand(subcommands...)
	return c
}
