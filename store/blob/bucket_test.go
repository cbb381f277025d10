package blob_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

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
	// As the store uses it: the S3 child answers 400 where its idle connection ends as a request comes.
	blobtest.Run(t, blob.NewReliable(b, blob.ReliableOptions{}))
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

// A service's answers to a deletion of many keys, and what is left then.
func TestS3Deletes(t *testing.T) {
	const (
		denied = `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`
		mixed  = `<DeleteResult><Deleted><Key>a</Key></Deleted>` +
			`<Error><Key>b</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>` +
			`<Error><Key>c</Key><Code>NoSuchKey</Code><Message>gone</Message></Error></DeleteResult>`
	)
	for _, test := range []struct {
		name   string
		status int
		answer string
		single int // the status of a DELETE of one key, 0: none is to come
		left   string
	}{
		{"all refused", 403, denied, 0, "a b c"},
		{"some refused", 200, mixed, 0, "b"},
		{"too many requests", 503, `<Error><Code>SlowDown</Code></Error>`, 0, "a b c"},
		{"a bucket that is not there", 404, "", 0, "a b c"},
		{"not all named", 200, `<DeleteResult><Deleted><Key>b</Key></Deleted></DeleteResult>`, 204, ""},
		{"not all named, the others refused", 200, `<DeleteResult><Deleted><Key>b</Key></Deleted></DeleteResult>`, 403, "a c"},
		{"none named, and then away", 200, `<DeleteResult></DeleteResult>`, 503, "a b c"},
		{"an answer that breaks off", 200, mixed[:60], 403, "a b c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := make(map[string]bool)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					w.WriteHeader(test.status)
					io.WriteString(w, test.answer)
					return
				}
				asked[r.URL.Path] = true
				if test.single == 0 || r.Method != http.MethodDelete {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				w.WriteHeader(test.single)
			}))
			defer server.Close()
			b, err := blob.NewS3(blob.S3Options{Endpoint: server.URL, Bucket: "bucket", Access: "a", Secret: "s", PathStyle: true})
			if err != nil {
				t.Fatal(err)
			}
			left, err := b.Delete(t.Context(), "a", "b", "c")
			if got := strings.Join(left, " "); got != test.left {
				t.Errorf("left %q, want %q", got, test.left)
			}
			if (err != nil) != (test.left != "") || err != nil && !errors.Is(err, blob.ErrUnavailable) {
				t.Errorf("error %v", err)
			}
			if test.single >= 500 && len(asked) > 1 {
				t.Errorf("asked for %v of a service that is away", asked)
			}
		})
	}
}

func TestNewS3Refuses(t *testing.T) {
	for _, o := range []blob.S3Options{{Endpoint: "s3.example.org"}, {Endpoint: "http://x", CAFile: "/nowhere"}, {Endpoint: "http://x", CAFile: "bucket_test.go"}} {
		if _, err := blob.NewS3(o); err == nil {
			t.Errorf("NewS3(%+v) = nil, want an error", o)
		}
	}
}

// A service that stops in the middle of an answer is not waited for without
// end; a reader that takes its time is.
func TestS3Stalls(t *testing.T) {
	content := strings.Repeat("x", 1<<20)
	stall := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("ETag", `"x"`)
		if r.URL.Path == "/bucket/whole" {
			io.WriteString(w, content)
			return
		}
		io.WriteString(w, content[:1000])
		w.(http.Flusher).Flush()
		<-stall
	}))
	defer server.Close()
	defer close(stall)
	b, err := blob.NewS3(blob.S3Options{Endpoint: server.URL, Bucket: "bucket", Access: "a", Secret: "s", PathStyle: true, Wait: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	rc, err := b.Get(t.Context(), "stalled", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if got, err := io.ReadAll(rc); len(got) != 1000 || !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("read %d octets, %v; want 1000, %v", len(got), err, blob.ErrUnavailable)
	}
	rc, err = b.Get(t.Context(), "whole", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	for read := 0; read < len(content); read += len(content) / 4 {
		time.Sleep(150 * time.Millisecond)
		if _, err := io.CopyN(io.Discard, rc, int64(len(content)/4)); err != nil {
			t.Fatalf("after %d octets: %v", read, err)
		}
	}
}
