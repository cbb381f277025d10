package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/mailstead/config"
)

func (a *app) configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print what is in force",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			values, t := map[string]string{}, table{header: []string{"setting", "value"}}
			config.Walk(c, func(o config.Option) {
				values[o.Key] = o.Value
				t.add(o.Key, o.Value)
			})
			if err := a.print(values, t); err != nil {
				return err
			}
			for _, missing := range c.CheckServing() {
				fmt.Fprintf(a.err, "mailstead: to serve, %v\n", missing)
			}
			return nil
		},
	}
	reference := &cobra.Command{
		Use:   "reference",
		Short: "Print every setting with its default and meaning, in Markdown",
		Args:  exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			text, err := config.Reference()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.out, text)
			return err
		},
	}
	return group("config", "Check and explain the configuration", check, reference)
}

// serving loads the configuration for what needs the database and the bucket.
func (a *app) serving() (*config.Config, error) {
	c, err := a.load()
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, missing := range c.CheckServing() {
		problems = append(problems, missing)
	}
	return c, errors.Join(problems...)
}
