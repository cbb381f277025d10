// Devs3 is an S3 server for one machine: versitygw's gateway over a directory,
// for `mailstead dev`, the tests and small installations. It is a program and a
// module of its own, so that the gateway's dependencies stay out of mailstead.
//
// What it adds to the gateway is durability: a PUT is answered only after the
// object, its attributes and its folders have been synced.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

const (
	accessVariable = "DEVS3_ACCESS_KEY"
	secretVariable = "DEVS3_SECRET_KEY"
	healthPath     = "/healthz"
	maxRequests    = 512
	maxParts       = 10000
	largestCopy    = 5 << 30 // of CopyObject, as in S3 itself; the gateway's zero value refuses every copy
)

type options struct {
	listen, status, dir, region, buckets string
	cert, key                            string
	withParent                           bool
	access, secret                       string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:9000", "address of the S3 service")
	flag.StringVar(&o.status, "status", "", "address of the status service (counters, buckets); empty: none")
	flag.StringVar(&o.dir, "dir", "", "folder that keeps the objects; created if missing")
	flag.StringVar(&o.region, "region", "us-east-1", "region name of the service")
	flag.StringVar(&o.buckets, "buckets", "", "buckets to create if missing, separated by commas")
	flag.StringVar(&o.cert, "cert", "", "PEM file with a certificate: the service speaks TLS")
	flag.StringVar(&o.key, "key", "", "PEM file with its key")
	flag.BoolVar(&o.withParent, "with-parent", false, "end when standard input ends")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: devs3 -dir DIR [options]\nThe keys are taken from %s and %s.\n", accessVariable, secretVariable)
		flag.PrintDefaults()
	}
	flag.Parse()
	o.access, o.secret = os.Getenv(accessVariable), os.Getenv(secretVariable)
	if err := run(o); err != nil {
		log.Fatalf("devs3: %v", err)
	}
}

func run(o options) error {
	if o.dir == "" || flag.NArg() > 0 {
		flag.Usage()
		return errors.New("-dir is needed, and no arguments")
	}
	if (o.cert == "") != (o.key == "") {
		return errors.New("-cert and -key belong together")
	}
	if o.access == "" || o.secret == "" {
		return fmt.Errorf("%s and %s must be set", accessVariable, secretVariable)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if o.withParent {
		go func() {
			io.Copy(io.Discard, os.Stdin) // the parent holds the other end as long as it lives
			stop()
		}()
	}

	gateway, err := open(o.dir)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(o.buckets, ",") {
		if name == "" {
			continue
		}
		if err := gateway.makeBucket(ctx, name, o.access); err != nil {
			return fmt.Errorf("bucket %s: %w", name, err)
		}
	}

	failed := make(chan error, 2)
	go func() {
		failed <- embedgw.RunVersityGW(ctx, gateway, &embedgw.Config{
			RootUserAccess: o.access, RootUserSecret: o.secret, Region: o.region,
			Ports: []string{o.listen}, CertFile: o.cert, KeyFile: o.key, HealthPath: healthPath, KeepAlive: true, Quiet: true,
			MaxConnections: 2 * maxRequests, MaxRequests: maxRequests, MultipartMaxParts: maxParts,
		})
	}()
	if o.status != "" {
		server := &http.Server{Addr: o.status, Handler: gateway.status(o.access), ReadHeaderTimeout: 5 * time.Second}
		defer server.Close()
		go func() { failed <- server.ListenAndServe() }()
	}
	ready := make(chan struct{})
	url := "http://" + o.listen
	if o.cert != "" {
		url = "https://" + o.listen
	}
	go announce(ctx, url, ready)

	for {
		select {
		case <-ready:
			fmt.Printf("ready %s\n", url)
			ready = nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("serve: %w", err)
		case <-ctx.Done():
			// The gateway waits for idle connections to close, which pooled clients do not
			// do. Everything acknowledged is synced, so there is nothing to wait long for.
			select {
			case <-failed:
			case <-time.After(time.Second):
			}
			return nil
		}
	}
}

// open prepares the folder: attributes of objects go to extended attributes
// where the file system has them, else to a folder of their own beside the objects.
func open(dir string) (*durable, error) {
	objects, attributes := filepath.Join(dir, "objects"), filepath.Join(dir, "attributes")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return nil, err
	}
	objects, err := filepath.Abs(objects)
	if err != nil {
		return nil, err
	}
	opts := posix.PosixOpts{CopyObjectThreshold: largestCopy, ValidateBucketNames: true}
	var storer meta.MetadataStorer = meta.XattrMeta{}
	sidecar := ""
	// A folder that began with a sidecar goes on with it: its objects have no extended attributes.
	if _, err := os.Stat(attributes); err == nil || (meta.XattrMeta{}).Test(objects) != nil {
		if sidecar, err = filepath.Abs(attributes); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(sidecar, 0o700); err != nil {
			return nil, err
		}
		opts.SideCarDir = sidecar
		if storer, err = meta.NewSideCar(sidecar); err != nil {
			return nil, err
		}
	}
	backend, err := posix.New(objects, storer, opts)
	if err != nil {
		return nil, err
	}
	return &durable{Posix: backend, objects: objects, attributes: sidecar}, nil
}

// announce closes ready once the service answers.
func announce(ctx context.Context, url string, ready chan<- struct{}) {
	// It asks itself, under an address that its certificate need not name.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for ctx.Err() == nil {
		if answer, err := client.Get(url + healthPath); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				client.CloseIdleConnections()
				close(ready)
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}
