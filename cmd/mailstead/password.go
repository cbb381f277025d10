package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mailstead.dev/auth"
	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/store"
)

// passwordOptions say where a new password comes from: one of them, else it is
// asked for where there is a terminal, else made.
type passwordOptions struct {
	stdin, hash, generate, none bool
}

func (o *passwordOptions) register(c *cobra.Command) {
	c.Flags().BoolVar(&o.stdin, "password-stdin", false, "read the password from standard input, up to the end of its first line")
	c.Flags().BoolVar(&o.hash, "hash-stdin", false, "read what another system has kept of the password, such as a bcrypt hash, from the first line of standard input; SCRAM works with it once the user has logged in by sending it")
	c.Flags().BoolVar(&o.generate, "generate", false, "make a password and print it")
	c.Flags().BoolVar(&o.none, "no-password", false, "no password: nobody logs in by one of the account's own; app passwords, certificates and tokens stay what they are")
	c.MarkFlagsMutuallyExclusive("password-stdin", "hash-stdin", "generate", "no-password")
}

// choose returns what the chosen password of an account is kept as, and the password itself if
// it was made here and must be shown. The account is as it was, zero if it is being made.
func (o passwordOptions) choose(j *job, of store.Login) (secret, generated string, err error) {
	a := j.app
	password := ""
	switch {
	case o.none:
		return "", "", nil
	case o.hash:
		hash, err := firstLine(a.in)
		if err == nil {
			secret, err = auth.ParseSecret(hash)
		}
		if err != nil {
			return "", "", fmt.Errorf("hash from standard input: %w", err)
		}
		return secret, "", nil
	case o.stdin:
		if password, err = firstLine(a.in); err != nil {
			return "", "", fmt.Errorf("password from standard input: %w", err)
		}
	case !o.generate && isTerminal(a.in):
		if password, err = a.askPassword(); err != nil {
			return "", "", err
		}
	default:
		password = auth.Generate()
		generated = password
	}
	secret, err = auth.NewSecret(of, password, mechanisms(j.config))
	return secret, generated, err
}

func firstLine(r io.Reader) (string, error) {
	const longest = 4096
	line, err := bufio.NewReader(io.LimitReader(r, longest)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// askPassword asks twice, without an echo.
func (a *app) askPassword() (string, error) {
	var typed [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		text, err := a.readPassword(prompt)
		if err != nil {
			return "", err
		}
		typed[i] = text
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords are not the same")
	}
	return typed[0], nil
}

// readPassword asks once.
func (a *app) readPassword(prompt string) (string, error) {
	fmt.Fprint(a.err, prompt)
	text, err := term.ReadPassword(int(a.in.(*os.File).Fd()))
	fmt.Fprintln(a.err)
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	return string(text), nil
}

// mechanisms are those that are on, by their names.
func mechanisms(c *config.Config) []string {
	names := []string{}
	for _, name := range c.Auth.Mechanisms {
		names = append(names, string(name))
	}
	return names
}
