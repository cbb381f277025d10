package main

import (
	"errors"

	"github.com/spf13/cobra"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/migrations"
)

func (a *app) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to the newest schema, as its owner",
		Args:  exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			if cfg.Database.OwnerURL == "" {
				return errors.New("database.owner_url is not set; want the connection string of the owner of the tables, in the file or as " + config.Variable("database.owner_url"))
			}
			version, err := migrations.Up(c.Context(), cfg.Database.OwnerURL.Reveal())
			if err != nil {
				return err
			}
			return a.say(map[string]int64{"version": version}, "The database is at schema version %d.", version)
		},
	}
}
