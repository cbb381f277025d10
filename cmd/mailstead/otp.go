package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/auth"
	"mailstead.dev/auth/otp"
	"mailstead.dev/store"
)

// otpView is where an account stands in its one-time passwords, as --json prints it.
type otpView struct {
	Login     string     `json:"login"`
	Algorithm string     `json:"algorithm"`
	Sequence  int        `json:"sequence"` // of the next one; 0: there is none
	Seed      string     `json:"seed"`
	Left      int        `json:"left"`                  // logins until another sequence has to begin
	Set       *time.Time `json:"set,omitempty"`         // when this one began
	Phrase    string     `json:"pass_phrase,omitempty"` // one that was just made
}

func viewOTP(a store.Account, p store.OneTimePassword) otpView {
	v := otpView{Login: a.Login, Algorithm: p.Algorithm, Sequence: p.Sequence - 1, Seed: p.Seed, Left: auth.OTPLeft(p)}
	if !p.Set.IsZero() {
		v.Set = &p.Set
	}
	return v
}

// otpOptions say what to do with an account's one-time passwords.
type otpOptions struct {
	show, delete bool

	algorithm string
	sequence  int
	stdin     bool
}

func (a *app) accountOTP() *cobra.Command {
	var o otpOptions
	c := &cobra.Command{
		Use:   "otp LOGIN",
		Short: "Begin a sequence of one-time passwords, show where it is, or delete it",
		Long: `Begin a sequence of one-time passwords (RFC 2289), by which the account's user logs in with OTP, and print
what it is made of beside the pass phrase. That is asked for; where there is no terminal, one is made and printed. It is not kept: only whoever
has it knows which password comes next.`,
		Args: exactArgs("LOGIN"),
		RunE: a.onStore(func(j *job) error { return accountOTP(j, o) }),
	}
	c.Flags().BoolVar(&o.show, "show", false, "show where the sequence is, and change nothing")
	c.Flags().BoolVar(&o.delete, "delete", false, "take the one-time passwords away, and end the account's sessions")
	c.Flags().StringVar(&o.algorithm, "algorithm", string(otp.MD5), "what passwords are made with: md5, which every program knows, or sha1")
	c.Flags().IntVar(&o.sequence, "sequence", auth.OTPSequence, "how many there are, and two more")
	c.Flags().BoolVar(&o.stdin, "phrase-stdin", false, "read the pass phrase, of 10 characters or more, from the first line of standard input")
	for _, other := range []string{"algorithm", "sequence", "phrase-stdin"} {
		c.MarkFlagsMutuallyExclusive("show", "delete", other)
	}
	return c
}

func accountOTP(j *job, o otpOptions) error {
	account, err := j.account()
	if err != nil {
		return err
	}
	of := "one-time passwords of " + account.Login
	switch {
	case o.delete:
		if err := j.store.DeleteOTP(j, account.User()); err != nil {
			return about(of, err)
		}
		return j.say(map[string]string{"login": account.Login}, "The one-time passwords of %s are gone.", account.Login)
	case o.show:
		p, err := j.store.OTP(j, account.User())
		if err != nil {
			return about(of, err)
		}
		v := viewOTP(account, p)
		if v.Sequence == 0 { // it is not asked for
			return j.say(v, "The one-time passwords of %s are used up: begin another sequence.", v.Login)
		}
		hint := ""
		if v.Left < auth.OTPFew {
			hint = "; it is time to begin another sequence"
		}
		return j.say(v, "Next for %s is otp-%s %d %s, and %d logins are left since %s%s.", v.Login, v.Algorithm, v.Sequence, v.Seed, v.Left, day(p.Set), hint)
	}
	algorithm := otp.Algorithm(o.algorithm)
	if algorithm != otp.MD5 && algorithm != otp.SHA1 {
		return usageError{fmt.Errorf("--algorithm %s: want md5 or sha1", o.algorithm)}
	}
	phrase, made, err := o.phrase(j)
	if err != nil {
		return err
	}
	p, err := auth.NewOTP(algorithm, o.sequence, phrase)
	if err != nil {
		return about(of, err)
	}
	if err := j.store.SetOTP(j, account.User(), p); err != nil {
		return about(of, err)
	}
	v := viewOTP(account, p)
	v.Phrase = made
	if made != "" {
		return j.say(v, "%s can log in by one-time passwords, first otp-%s %d %s, with the pass phrase %s", v.Login, v.Algorithm, v.Sequence, v.Seed, made)
	}
	return j.say(v, "%s can log in by one-time passwords, first otp-%s %d %s", v.Login, v.Algorithm, v.Sequence, v.Seed)
}

// phrase returns a pass phrase, and where it was made here and must be shown, that again.
func (o otpOptions) phrase(j *job) (phrase, made string, err error) {
	switch {
	case o.stdin:
		phrase, err = firstLine(j.app.in)
		if err != nil {
			err = fmt.Errorf("pass phrase from standard input: %w", err)
		}
		return phrase, "", err
	case isTerminal(j.app.in):
		phrase, err = j.app.askPassword()
		return phrase, "", err
	}
	made = auth.Generate()
	return made, made, nil
}
