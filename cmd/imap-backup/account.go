package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"
	"golang.org/x/time/rate"

	"mailstead.dev/cmd/imap-backup/remote"
)

// accountOptions say how to reach a server.
type accountOptions struct {
	config          string
	passwordFile    string
	passwordCommand string
	tokenFile       string
	tokenCommand    string
	mechanism       string
	plaintext       bool
	anyCertificate  bool
	caFile          string
	timeout         time.Duration
	connections     int
	bandwidth       size
}

func (o *accountOptions) register(flags *pflag.FlagSet) {
	flags.StringVarP(&o.config, "config", "c", "", "configuration `file` (default: imap-backup/config.yaml where configurations of the user are)")
	flags.StringVar(&o.passwordFile, "password-file", "", "`file` whose first line is the password")
	flags.StringVar(&o.passwordCommand, "password-command", "", "`command` for the shell, which prints the password")
	flags.StringVar(&o.tokenFile, "token-file", "", "`file` whose first line is an OAuth access token")
	flags.StringVar(&o.tokenCommand, "token-command", "", "`command` for the shell, which prints an OAuth access token")
	flags.StringVar(&o.mechanism, "auth", "", "SASL `mechanism`: "+strings.Join(remote.Mechanisms, ", ")+" (default: the best that the server has)")
	flags.BoolVar(&o.plaintext, "insecure-plaintext", false, "do without TLS; anybody on the way can read password and mail")
	flags.BoolVar(&o.anyCertificate, "insecure-any-certificate", false, "take any certificate; anybody on the way can pretend to be the server")
	flags.StringVar(&o.caFile, "ca-file", "", "`file` of certificates to trust, in place of the system's")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "how long the server may be silent")
	flags.IntVar(&o.connections, "connections", 4, "how many connections at most")
	flags.Var(&o.bandwidth, "bandwidth", "read no more than this `size` in a second, such as 500K")
}

// target is one account with its directory.
type target struct {
	name    string // in the configuration file, if it is from there
	url     *url.URL
	dir     string
	mailbox string // the one in the URL
}

// parseURL reads an IMAP URL (RFC 5092) of a server, or of one of its mailboxes.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	const want = "want imap://user@host/ or imaps://user@host/ (an @ in the name is %%40)"
	switch { // no message has the text in it: where it is wrong there may be a password in it
	case err != nil:
		return nil, wrong("URL: it cannot be read: " + want)
	case u.Scheme != "imap" && u.Scheme != "imaps":
		return nil, wrong("URL: " + want)
	case u.Hostname() == "":
		return nil, wrong("URL: the host is missing: " + want)
	case u.User == nil || user(u) == "":
		return nil, wrong("URL: the user is missing: " + want)
	case u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Path, ";"):
		return nil, wrong("URL: it names no server or mailbox")
	}
	if _, has := u.User.Password(); has {
		return nil, wrong("URL: a password does not belong there; see --password-file, --password-command and IMAP_PASSWORD")
	}
	return u, nil
}

// user returns the name without the mechanism that can stand behind it.
func user(u *url.URL) string {
	name, _, _ := strings.Cut(u.User.Username(), ";AUTH=")
	return name
}

// mechanism returns the one in the URL; ";AUTH=*" is any.
func mechanism(u *url.URL) string {
	_, m, _ := strings.Cut(u.User.Username(), ";AUTH=")
	if m == "*" {
		return ""
	}
	return m
}

// dialer returns what connects to the server of a target. A password is asked for at once, and not when a bar covers the question.
func (o *accountOptions) dialer(a *app, at target) (func(context.Context, func(string)) (*remote.Session, error), error) {
	u := at.url
	r := remote.Options{
		User: user(u), Mechanism: o.mechanism, Implicit: u.Scheme == "imaps", Plaintext: o.plaintext, Timeout: o.timeout,
		TLS: &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: o.anyCertificate, MinVersion: tls.VersionTLS12},
	}
	if r.Mechanism == "" {
		r.Mechanism = mechanism(u)
	}
	if o.plaintext && r.Implicit {
		return nil, wrong("imaps:// is TLS, and --insecure-plaintext is none")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"imap": "143", "imaps": "993"}[u.Scheme]
	}
	r.Address = net.JoinHostPort(u.Hostname(), port)
	if o.caFile != "" {
		pem, err := os.ReadFile(o.caFile)
		if err != nil {
			return nil, err
		}
		r.TLS.RootCAs = x509.NewCertPool()
		if !r.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificates", o.caFile)
		}
	}
	if o.bandwidth > 0 {
		r.Limiter = rate.NewLimiter(rate.Limit(o.bandwidth), int(min(o.bandwidth, 64<<10)))
	}
	var err error
	if r.Password, r.Token, err = o.secrets(a, u); err != nil {
		return nil, err
	}
	return func(ctx context.Context, report func(string)) (*remote.Session, error) {
		mine := r
		mine.Report = report
		session, err := remote.Dial(ctx, mine)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Address, err)
		}
		return session, nil
	}, nil
}

// secrets returns a password or a token. What the command line or the configuration names is stronger than the environment.
func (o *accountOptions) secrets(a *app, u *url.URL) (password, token string, err error) {
	switch {
	case o.tokenFile != "":
		token, err = fileLine(o.tokenFile)
	case o.tokenCommand != "":
		token, err = commandLine(o.tokenCommand)
	case o.passwordFile != "":
		password, err = fileLine(o.passwordFile)
	case o.passwordCommand != "":
		password, err = commandLine(o.passwordCommand)
	case os.Getenv("IMAP_TOKEN") != "":
		token = os.Getenv("IMAP_TOKEN")
	case os.Getenv("IMAP_PASSWORD") != "":
		password = os.Getenv("IMAP_PASSWORD")
	default:
		password, err = a.ask(fmt.Sprintf("Password of %s at %s: ", user(u), u.Host))
	}
	return password, token, err
}

func (a *app) ask(prompt string) (string, error) {
	file, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return "", errors.New("no password: set IMAP_PASSWORD, or see --password-file and --password-command")
	}
	fmt.Fprint(a.err, prompt)
	text, err := term.ReadPassword(int(file.Fd()))
	fmt.Fprintln(a.err)
	return string(text), err
}

func fileLine(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	line, err := firstLine(file)
	return line, errors.Join(err, file.Close())
}

func commandLine(command string) (string, error) {
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("the command that prints the password: %w", err)
	}
	return firstLine(strings.NewReader(string(out)))
}

func firstLine(r io.Reader) (string, error) {
	const longest = 64 << 10
	line, err := bufio.NewReader(io.LimitReader(r, longest)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
