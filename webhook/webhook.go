// Package webhook posts events to a server of the operator's, signed, so that it can tell them from those that others make up. What
// the event is, and when to try again, is for its caller.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// What a server can make a post take, whatever it does.
const (
	postTime  = 10 * time.Second
	maxHeader = 64 << 10
	maxReply  = 64 << 10 // of which nothing is looked at: it is read so that the connection can be used again
)

// Options say where to post.
type Options struct {
	URL    string // https
	Secret string // that bodies are signed with
	// Transport is for tests; default one of its own.
	Transport *http.Transport
}

// Poster posts to one URL. It is safe for concurrent use.
type Poster struct {
	url    string
	secret []byte
	client *http.Client
}

// New returns a Poster.
func New(o Options) *Poster {
	transport := o.Transport
	if transport == nil {
		transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	transport.MaxResponseHeaderBytes = maxHeader
	return &Poster{o.URL, []byte(o.Secret), &http.Client{
		Transport: transport,
		Timeout:   postTime,
		// An event goes where the operator has said, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Post sends an event, JSON, and returns nil if the server has taken it: answered 2xx within ten seconds. The header Mailstead-Event
// is the event's id, Mailstead-Signature what Signature says.
func (p *Poster) Post(ctx context.Context, id string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "mailstead")
	r.Header.Set("Mailstead-Event", id)
	r.Header.Set("Mailstead-Signature", Signature(p.secret, time.Now(), body))
	answer, err := p.client.Do(r)
	if err != nil {
		var at *url.Error
		if errors.As(err, &at) {
			err = at.Err // without the URL, in which there may be a secret
		}
		return fmt.Errorf("webhook: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("webhook: the server answered %d", answer.StatusCode)
	}
	// What becomes of the rest changes nothing: it has been taken.
	_, _ = io.CopyN(io.Discard, answer.Body, maxReply)
	return nil
}

// Signature signs a body at a time: t=SECONDS,v1=HEX, where HEX is the HMAC-SHA-256 of "SECONDS." and the body. With the time in it a
// receiver can refuse what somebody has caught and sends again later.
func Signature(secret []byte, at time.Time, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
