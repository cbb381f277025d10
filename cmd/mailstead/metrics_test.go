package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// An object that is not there is told from a bucket that is not there, and the answer stays whole.
func TestStatusOf(t *testing.T) {
	const (
		bucket = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>x</Message></Error>"
		object = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>x</Message></Error>"
	)
	for _, of := range []struct {
		status     int
		body, want string
	}{
		{404, bucket, "nobucket"}, {404, object, "404"}, {404, "", "404"}, {404, strings.Repeat("x", 5000), "404"},
		{403, bucket, "403"}, {206, bucket, "206"},
	} {
		answer := &http.Response{StatusCode: of.status, Body: io.NopCloser(strings.NewReader(of.body))}
		if got := statusOf(answer); got != of.want {
			t.Errorf("%d %.80s: %s, want %s", of.status, of.body, got, of.want)
		}
		if body, err := io.ReadAll(answer.Body); err != nil || string(body) != of.body {
			t.Errorf("%d %.80s: %d octets are left, %v", of.status, of.body, len(body), err)
		}
	}
}
