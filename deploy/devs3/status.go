package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"
)

// status is the service beside S3: GET /metrics has the counters, PUT
// /buckets/NAME creates a bucket. It asks for no keys: listen on loopback.
func (d *durable) status(owner string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "devs3_put_requests_total %d\n", d.puts.Load())
		fmt.Fprintf(w, "devs3_put_bytes_total %d\n", d.putBytes.Load())
		fmt.Fprintf(w, "devs3_part_requests_total %d\n", d.parts.Load())
		fmt.Fprintf(w, "devs3_get_requests_total %d\n", d.gets.Load())
		fmt.Fprintf(w, "devs3_delete_requests_total %d\n", d.deletes.Load())
	})
	mux.HandleFunc("PUT /buckets/{name}", func(w http.ResponseWriter, r *http.Request) {
		if err := d.makeBucket(r.Context(), r.PathValue("name"), owner); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// makeBucket creates a bucket that belongs to owner, if it is not there.
func (d *durable) makeBucket(ctx context.Context, name, owner string) error {
	acl, err := json.Marshal(auth.ACL{Owner: owner})
	if err != nil {
		return err
	}
	//lint:ignore SA1029 the gateway's backends look the owner up under this very key
	ctx = context.WithValue(ctx, "bucket-owner", auth.Account{Access: owner, Role: auth.RoleAdmin})
	err = d.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket:                    &name,
		ObjectOwnership:           types.ObjectOwnershipBucketOwnerEnforced,
		CreateBucketConfiguration: &types.CreateBucketConfiguration{},
	}, acl)
	var refused s3err.BucketError
	if errors.As(err, &refused) && refused.Code == "BucketAlreadyOwnedByYou" {
		return nil
	}
	if err != nil {
		return err
	}
	return d.syncObject(name, "")
}
