package storetest

import (
	"log/slog"
	"testing"

	"mailstead.dev/migrations"
	"mailstead.dev/store"
	"mailstead.dev/store/blob"
	"mailstead.dev/store/storetest/testdb"
)

// New opens a store on a fresh database and bucket. It ends with the test.
func New(t testing.TB, change ...func(*store.Options)) *store.Store {
	t.Helper()
	return Open(t, Config(t), change...)
}

// Config makes a database and a bucket, for several stores or processes on it.
func Config(t testing.TB) *testdb.Cluster {
	t.Helper()
	return testdb.New(t)
}

// Open opens one more store on c. It ends with the test.
func Open(t testing.TB, c *testdb.Cluster, change ...func(*store.Options)) *store.Store {
	t.Helper()
	newest, err := migrations.Newest()
	if err != nil {
		t.Fatal(err)
	}
	o := store.Options{DSN: c.ServingDSN, Schema: newest, Bucket: Bucket(t, c), SpoolDir: t.TempDir(), Logger: logger(t)}
	for _, f := range change {
		f(&o)
	}
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// Bucket is the bucket of c.
func Bucket(t testing.TB, c *testdb.Cluster) blob.Bucket {
	t.Helper()
	b, err := blob.NewS3(blob.S3Options{
		Endpoint: "http://" + c.Endpoint, Region: c.Region, Bucket: c.Bucket, Access: c.Access, Secret: c.Secret, PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// logger writes to the test's output.
func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
