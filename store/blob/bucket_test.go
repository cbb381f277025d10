package blob_test

import (
	"errors"
	"strings"
	"testing"

	"mailstead.dev/store/blob"
	"mailstead.dev/store/blob/blobtest"
	"mailstead.dev/store/storetest/testdb"
)

func TestMemory(t *testing.T) { blobtest.Run(t, &blobtest.Memory{}) }

func TestS3(t *testing.T) {
	c := testdb.New(t)
	b, err := blob.NewS3(blob.S3Options{
		Endpoint: "http://" + c.Endpoint, Region: c.Region, Bucket: c.Bucket, Access: c.Access, Secret: c.Secret, PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	blobtest.Run(t, b)
}

// What an operator can mend is no reason to give mail up.
func TestS3Refuses(t *testing.T) {
	c := testdb.New(t)
	right := blob.S3Options{Endpoint: "http://" + c.Endpoint, Bucket: c.Bucket, Access: c.Access, Secret: c.Secret, PathStyle: true}
	wrongSecret, wrongBucket, away := right, right, right
	wrongSecret.Secret, wrongBucket.Bucket, away.Endpoint = "wrong", "no-such-bucket", "http://127.0.0.1:1"
	for name, o := range map[string]blob.S3Options{"wrong secret": wrongSecret, "wrong bucket": wrongBucket, "away": away} {
		b, err := blob.NewS3(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Put(t.Context(), "k", strings.NewReader("x"), 1); !errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("%s: Put = %v, want %v", name, err, blob.ErrUnavailable)
		}
		if _, err := b.Get(t.Context(), "k", 0, -1); !errors.Is(err, blob.ErrUnavailable) {
			t.Errorf("%s: Get = %v, want %v", name, err, blob.ErrUnavailable)
		}
	}
}

func TestNewS3Refuses(t *testing.T) {
	for _, o := range []blob.S3Options{{Endpoint: "s3.example.org"}, {Endpoint: "http://x", CAFile: "/nowhere"}, {Endpoint: "http://x", CAFile: "bucket_test.go"}} {
		if _, err := blob.NewS3(o); err == nil {
			t.Errorf("NewS3(%+v) = nil, want an error", o)
		}
	}
}
