package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/store"
)

// job is one run of a subcommand that works on the store.
type job struct {
	*app
	context.Context
	store  *store.Store
	config *config.Config
	args   []string
}

// onStore returns a subcommand's RunE that opens the store around f.
func (a *app) onStore(f func(j *job) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		s, cfg, err := a.open(c.Context())
		if err != nil {
			return err
		}
		ctx := store.WithActor(c.Context(), operator())
		return errors.Join(f(&job{app: a, Context: ctx, store: s, config: cfg, args: args}), s.Close())
	}
}

// about says what an error of the store is about, unless it says so itself.
func about(what string, err error) error {
	var invalid *store.InvalidError
	if err == nil || errors.As(err, &invalid) {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// day is how tables print times.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// unlimited prints a limit, nil being none.
func unlimited[T fmt.Stringer](limit *T) string {
	if limit == nil {
		return "none"
	}
	return (*limit).String()
}

// confirm wants --yes for what cannot be undone.
func confirm(yes bool, what string) error {
	if yes {
		return nil
	}
	return usageError{fmt.Errorf("this removes %s for good; repeat with --yes", what)}
}

func yesFlag(c *cobra.Command, yes *bool) *cobra.Command {
	c.Flags().BoolVar(yes, "yes", false, "do not ask: remove for good")
	return c
}
