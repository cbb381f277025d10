package blob

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Options says where a bucket is.
type S3Options struct {
	Endpoint  string // URL, http or https
	Region    string // that requests are signed for; us-east-1 by default
	Bucket    string
	Access    string
	Secret    string
	PathStyle bool          // the bucket is named in the path, not in the host name
	CAFile    string        // PEM file of the authorities to trust; the system's by default
	Wait      time.Duration // for the beginning of an answer, and for each piece of it; 30 s by default
	// Wrap is put around what sends the requests, each try of one: traces and metrics are made there. By default nothing is.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// S3 is a bucket of an S3 service. Of the protocol it uses only what all services have: PUT,
// multipart uploads, GET and range GET, HEAD, DELETE, batch DELETE and List version 2.
type S3 struct {
	core   minio.Core
	bucket string
}

const (
	s3Retries     = 3       // of a request, within seconds: what lasts longer is the caller's to decide
	s3PartSize    = 8 << 20 // larger objects are uploaded in parts of this size
	s3DialTimeout = 3 * time.Second
	s3Wait        = 30 * time.Second // for the beginning of an answer, and for each piece of it
	s3IdleConns   = 64
)

// NewS3 returns a bucket, which must exist. It asks nothing of the service yet.
func NewS3(o S3Options) (*S3, error) {
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("S3 endpoint %q: want a URL such as https://s3.example.org", o.Endpoint)
	}
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: s3DialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: cmp.Or(o.Wait, s3Wait),
		MaxIdleConns:          s3IdleConns,
		MaxIdleConnsPerHost:   s3IdleConns,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true, // an object is what was put
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("S3 authorities: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("S3 authorities: no certificate in %s", o.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	lookup := minio.BucketLookupDNS
	if o.PathStyle {
		lookup = minio.BucketLookupPath
	}
	var sender http.RoundTripper = &impatient{transport, cmp.Or(o.Wait, s3Wait)}
	if o.Wrap != nil {
		sender = o.Wrap(sender)
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(o.Access, o.Secret, ""),
		Secure: endpoint.Scheme == "https", Region: o.Region, BucketLookup: lookup,
		Transport: sender, MaxRetries: s3Retries,
	})
	if err != nil {
		return nil, fmt.Errorf("S3: %w", err)
	}
	return &S3{minio.Core{Client: client}, o.Bucket}, nil
}

// impatient ends answers of which nothing more comes: a service that has
// stopped in the middle of one, its connection still open, would be waited for without end.
type impatient struct {
	*http.Transport
	wait time.Duration
}

func (t *impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	answer, err := t.Transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	answer.Body = &impatientBody{ReadCloser: answer.Body, wait: t.wait, cancel: cancel}
	return answer, nil
}

// impatientBody waits for each piece, not for who reads: a client may take its time.
type impatientBody struct {
	io.ReadCloser
	wait   time.Duration
	cancel context.CancelFunc
}

var errStalled = errors.New("the answer has stopped")

func (b *impatientBody) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.wait, b.cancel)
	n, err := b.ReadCloser.Read(p)
	if !timer.Stop() && err != nil && err != io.EOF {
		err = errStalled
	}
	return n, err
}

func (b *impatientBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// Put implements Bucket.
func (b *S3) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	source := &reader{Reader: r}
	_, err := b.core.Client.PutObject(ctx, b.bucket, key, source, size, minio.PutObjectOptions{
		SendContentMd5: true, PartSize: s3PartSize, ContentType: "application/octet-stream",
	})
	if source.err != nil {
		return source.err
	}
	return told(ctx, "put "+key, err)
}

// reader tells an error of what is put from one of the service.
type reader struct {
	io.Reader
	err error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// Get implements Bucket.
func (b *S3) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if n == 0 {
		return io.NopCloser(eof{}), nil
	}
	var o minio.GetObjectOptions
	if off > 0 || n > 0 {
		end := int64(0) // with a beginning: to the end
		if n > 0 {
			end = off + n - 1
		}
		if err := o.SetRange(off, end); err != nil && end > 0 {
			return nil, err
		}
	}
	body, _, _, err := b.core.GetObject(ctx, b.bucket, key, o)
	if err != nil {
		return nil, told(ctx, "get "+key, err)
	}
	return &answer{body, func(err error) error { return told(ctx, "get "+key, err) }}, nil
}

// answer tells errors while reading as those before it.
type answer struct {
	io.ReadCloser
	told func(error) error
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = a.told(err)
	}
	return n, err
}

// Stat implements Bucket.
func (b *S3) Stat(ctx context.Context, key string) (Object, error) {
	info, err := b.core.Client.StatObject(ctx, b.bucket, key, minio.StatObjectOptions{})
	return Object{key, info.Size, info.LastModified}, told(ctx, "stat "+key, err)
}

// Delete implements Bucket. An answer to many keys need not name them all: some services leave out what was
// not there. Those are asked for one by one.
func (b *S3) Delete(ctx context.Context, keys ...string) (left []string, err error) {
	var answers map[string]error
	if len(keys) > 1 {
		answers = b.deleteMany(ctx, keys)
	}
	var away error // which each further request would wait for, too
	for _, key := range keys {
		failed, named := answers[key]
		switch {
		case named:
		case away != nil:
			failed = away
		default:
			if failed = b.deleteOne(ctx, key); failed != nil && !refused(failed) {
				away = failed
			}
		}
		if failed != nil {
			left = append(left, key)
			err = cmp.Or(err, failed)
		}
	}
	if len(left) > 1 {
		err = fmt.Errorf("%w (and %d other objects)", err, len(left)-1)
	}
	return left, err
}

func (b *S3) deleteOne(ctx context.Context, key string) error {
	return gone(told(ctx, "delete "+key, b.core.Client.RemoveObject(ctx, b.bucket, key, minio.RemoveObjectOptions{})))
}

// deleteMany returns what the service has said of the keys that it has named.
func (b *S3) deleteMany(ctx context.Context, keys []string) map[string]error {
	objects := make(chan minio.ObjectInfo, len(keys))
	for _, key := range keys {
		objects <- minio.ObjectInfo{Key: key}
	}
	close(objects)
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(map[string]error, len(keys))
	for r := range b.core.Client.RemoveObjectsWithResult(asking, b.bucket, objects, minio.RemoveObjectsOptions{}) {
		if r.ObjectName == "" {
			cancel() // an answer that cannot be read, or to one key, where the client sends them one by one
			continue
		}
		answers[r.ObjectName] = gone(told(ctx, "delete "+r.ObjectName, r.Err))
	}
	return answers
}

// Misconfigured reports whether an error says that a key, a bucket or a region is not right: other refusals, of a bucket that is full for example, pass.
func Misconfigured(err error) bool {
	var response minio.ErrorResponse
	return errors.As(err, &response) && slices.Contains(misconfigured, response.Code)
}

var misconfigured = []string{
	"AccessDenied", minio.NoSuchBucket, minio.InvalidBucketName, "AllAccessDisabled", "AuthorizationHeaderMalformed",
	"InvalidAccessKeyId", "InvalidSecurity", "PermanentRedirect", "SignatureDoesNotMatch",
}

// refused reports whether an error is the service's answer to this very request.
func refused(err error) bool {
	var response minio.ErrorResponse
	return errors.As(err, &response) && response.StatusCode >= 400 && response.StatusCode < 500
}

func gone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// List implements Bucket.
func (b *S3) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for info := range b.core.Client.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if info.Err != nil {
				yield(Object{}, told(ctx, "list "+prefix, info.Err))
				return
			}
			if !yield(Object{info.Key, info.Size, info.LastModified}, nil) {
				return
			}
		}
	}
}

// told says of an error of the service what a Bucket promises to say. What the
// service refuses for a reason of its own (a key that has expired, a bucket that is
// not there) the operator will mend: mail waits for it, and is not given up.
func told(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	response := minio.ToErrorResponse(err)
	if response.Code == minio.NoSuchKey || response.StatusCode == http.StatusNotFound && response.Code != minio.NoSuchBucket {
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, what, err)
}
