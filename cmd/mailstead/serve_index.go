package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"mailstead.dev/cmd/mailstead/config"
	"mailstead.dev/index/files"
	"mailstead.dev/index/node"
	"mailstead.dev/index/remote"
)

// openIndex opens the search indexes of this process, and what front ends of others reach them by.
func (p *process) openIndex() error {
	c := p.config
	listeners, err := p.listeners("index", "search.listen", c.Search.Listen)
	if err != nil {
		return err
	}
	safety, err := searchTLS(c)
	if err != nil {
		return err
	}
	address := ""
	if c.Search.Listen != "" {
		address = cmp.Or(c.Search.Address, string(c.Search.Listen))
	}
	options := node.Options{
		Source: p.store, Dir: c.Search.Folder, Address: address, Logger: p.log,
		Messages: c.Search.MinMessages, OpenMemory: int64(c.Search.Memory), MaxOpen: c.Search.MaxOpen, Every: c.Search.Every, Workers: c.Search.Workers, CopyAfter: c.Search.CopyAfter, Takeover: c.Search.TakeoverAfter,
	}
	if r := p.readFiles(); r != nil {
		options.Files, options.FilesBy = r.ForIndexes, r.Version()
	}
	p.index, err = node.New(options)
	if err != nil {
		return fmt.Errorf("search.folder: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background()) // until shutdown
	done := make(chan struct{})
	run := func() error {
		defer close(done)
		return p.index.Run(ctx)
	}
	server := remote.NewServer(p.index, safety)
	shutdown := func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		stop()
		select {
		case <-done:
			return err
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
	// Searches use it until they have ended.
	p.services = append(p.services, service{name: "index", serve: append(on(listeners, server.Serve), run), shutdown: shutdown, last: true})
	return nil
}

// searcher returns what finds the index of an account, here or at another process.
func (p *process) searcher() (*remote.Client, error) {
	safety, err := searchTLS(p.config)
	if err != nil {
		return nil, err
	}
	o := remote.Options{Directory: p.store, TLS: safety}
	if p.index != nil {
		o.Local, o.LocalName = p.index, p.index.Name()
	}
	client, err := remote.NewClient(o)
	if err != nil {
		return nil, err
	}
	p.clients = append(p.clients, client)
	return client, nil
}

// readFiles returns what reads attached files for searches, one for the process; nil where nothing does.
func (p *process) readFiles() *files.Reader {
	c := p.config
	if len(c.Search.Extractors) == 0 {
		return nil
	}
	if p.files == nil {
		var programs []files.Program
		for _, e := range c.Search.Extractors {
			programs = append(programs, files.Program(e))
		}
		p.files = files.New(programs, files.Limits{
			Time: c.Search.ExtractorTime, Memory: int64(c.Search.ExtractorMemory), File: int64(c.Search.ExtractorFile), Text: int64(c.Search.ExtractorText), AtOnce: c.Search.ExtractorsAtOnce,
		}, p.log)
	}
	return p.files
}

// searchTLS is how front ends and index nodes know each other.
func searchTLS(c *config.Config) (*tls.Config, error) {
	return config.MutualTLS(c.Search.CertFile, c.Search.KeyFile, c.Search.CAFile)
}
