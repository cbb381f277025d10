package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// A configuration file has accounts by name, and for each what would stand on the command
// line: url, directory, and flags by their long names.
//
//	accounts:
//	  work:
//	    url: imaps://anna@imap.example.org/
//	    directory: ~/mail/work
//	    password-command: pass show work
//	    exclude: [Junk, Trash]
type configFile struct {
	Accounts map[string]map[string]any `yaml:"accounts"`
}

// forAccounts calls f for the URL and the directory in args, or for each account that args name.
// An account that fails does not keep the others from their turn.
func (a *app) forAccounts(c *cobra.Command, args []string, all bool, f func(context.Context, target) error) error {
	if len(args) > 0 && strings.Contains(args[0], "://") {
		if len(args) != 2 || all {
			return wrong("want a URL and a directory (see %s --help)", c.CommandPath())
		}
		u, err := parseURL(args[0])
		if err != nil {
			return err
		}
		return f(c.Context(), target{url: u, dir: args[1], mailbox: strings.Trim(u.Path, "/")})
	}
	if len(args) == 0 && !all {
		return wrong("want a URL and a directory, or an account of the configuration file (see %s --help)", c.CommandPath())
	}
	config, file, err := a.readConfig()
	if err != nil {
		return err
	}
	if all {
		args = slices.Sorted(maps.Keys(config.Accounts))
	}
	var failed error
	given := *a
	for _, name := range args {
		account, ok := config.Accounts[name]
		if !ok {
			return wrong("%s has no account %q; it has %s", file, name, strings.Join(slices.Sorted(maps.Keys(config.Accounts)), ", "))
		}
		*a = given
		at, err := a.configure(c, name, account)
		if err != nil {
			return fmt.Errorf("%s: account %s: %w", file, name, err)
		}
		if err := f(c.Context(), at); err != nil {
			if c.Context().Err() != nil {
				return err
			}
			failed = worse(failed, fmt.Errorf("account %s: %w", name, err))
		}
	}
	return failed
}

// worse returns the error that says more of two.
func worse(a, b error) error {
	switch {
	case a == nil || errors.Is(a, errProblems):
		return b
	case errors.Is(b, errProblems):
		return a
	}
	return errors.Join(a, b)
}

func (a *app) readConfig() (config configFile, name string, err error) {
	name = a.account.config
	if name == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return config, "", err
		}
		name = filepath.Join(dir, "imap-backup", "config.yaml")
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return config, name, wrong("there is no configuration file %s", name)
	}
	if err != nil {
		return config, name, err
	}
	if err := yaml.UnmarshalWithOptions(text, &config, yaml.Strict()); err != nil {
		return config, name, wrong("%s: %v", name, err)
	}
	return config, name, nil
}

// configure sets the flags of an account that are not on the command line.
func (a *app) configure(c *cobra.Command, name string, account map[string]any) (target, error) {
	at := target{name: name}
	for _, key := range slices.Sorted(maps.Keys(account)) {
		values, err := texts(account[key])
		if err != nil {
			return at, wrong("%s: %v", key, err)
		}
		switch key {
		case "url":
			if at.url, err = parseURL(values[0]); err != nil {
				return at, err
			}
			at.mailbox = strings.Trim(at.url.Path, "/")
			continue
		case "directory":
			at.dir = home(values[0])
			continue
		case "config", "all", "help", "version":
			return at, wrong("%s: not in an account", key)
		}
		flag := c.Root().Flag(key)
		if flag == nil {
			return at, wrong("what is %s?", key)
		}
		if mine := c.Flag(key); mine != nil {
			flag = mine
		} else {
			continue // of a run, and this is another command
		}
		if flag.Changed {
			continue // the command line is stronger
		}
		for _, value := range values {
			if strings.HasSuffix(key, "-file") {
				value = home(value)
			}
			if err := flag.Value.Set(value); err != nil {
				return at, wrong("%s: %v", key, err)
			}
		}
	}
	if at.url == nil || at.dir == "" {
		return at, wrong("url and directory are missing, or one of them")
	}
	return at, nil
}

// texts returns a value, or the values of a list, as a flag takes them.
func texts(value any) ([]string, error) {
	switch value := value.(type) {
	case nil, map[string]any:
		return nil, errors.New("want a value or a list of values")
	case []any:
		var all []string
		for _, v := range value {
			one, err := texts(v)
			if err != nil {
				return nil, err
			}
			all = append(all, one...)
		}
		if len(all) == 0 {
			return nil, errors.New("the list is empty")
		}
		return all, nil
	}
	return []string{fmt.Sprint(value)}, nil
}

// home puts the home directory in place of a ~ in front.
func home(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	if dir, err := os.UserHomeDir(); ok && err == nil {
		return filepath.Join(dir, rest)
	}
	return path
}
