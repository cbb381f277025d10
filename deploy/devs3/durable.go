package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3response"
)

// durable is the gateway's directory backend with syncs before the answers,
// and counters of the requests that cost money elsewhere.
type durable struct {
	*posix.Posix
	objects    string // folder with a folder for each bucket
	attributes string // the same for attributes; empty: extended attributes

	puts, parts, gets, deletes atomic.Int64
	putBytes                   atomic.Int64
}

func (d *durable) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	d.puts.Add(1)
	out, err := d.Posix.PutObject(ctx, in)
	if err != nil {
		return out, err
	}
	if in.ContentLength != nil {
		d.putBytes.Add(*in.ContentLength)
	}
	return out, d.syncObject(*in.Bucket, *in.Key)
}

func (d *durable) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	d.parts.Add(1)
	return d.Posix.UploadPart(ctx, in)
}

func (d *durable) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	d.puts.Add(1)
	result, version, err := d.Posix.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return result, version, err
	}
	return result, version, d.syncObject(*in.Bucket, *in.Key)
}

func (d *durable) CopyObject(ctx context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	d.puts.Add(1)
	out, err := d.Posix.CopyObject(ctx, in)
	if err != nil {
		return out, err
	}
	return out, d.syncObject(*in.Bucket, *in.Key)
}

func (d *durable) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	d.gets.Add(1)
	return d.Posix.GetObject(ctx, in)
}

func (d *durable) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	d.deletes.Add(1)
	return d.Posix.DeleteObject(ctx, in)
}

func (d *durable) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	d.deletes.Add(1)
	return d.Posix.DeleteObjects(ctx, in)
}

// syncObject makes an object survive a power cut: its content and extended
// attributes, its name, the names of its folders, and its attributes where
// they are files.
func (d *durable) syncObject(bucket, key string) error {
	if err := syncUpTo(filepath.Join(d.objects, bucket, key), d.objects); err != nil {
		return err
	}
	if d.attributes == "" {
		return nil
	}
	folder := filepath.Join(d.attributes, bucket, key, "meta") // the layout of versitygw's sidecar
	entries, err := os.ReadDir(folder)
	if err != nil {
		return goneIsFine(err)
	}
	for _, entry := range entries {
		if err := goneIsFine(syncPath(filepath.Join(folder, entry.Name()))); err != nil {
			return err
		}
	}
	return syncUpTo(folder, d.attributes)
}

// syncUpTo syncs path and every folder above it up to and with root. What is
// not there any more has been deleted since, which is no error.
func syncUpTo(path, root string) error {
	for {
		if err := goneIsFine(syncPath(path)); err != nil {
			return err
		}
		if path == root {
			return nil
		}
		path = filepath.Dir(path)
	}
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func goneIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
