package webhook

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An event is taken where the server says 2xx, and in no other case; whatever a server does, that takes neither long nor much memory.
func TestPost(t *testing.T) {
	const secret, body = "s3cret", `{"id":"e1"}`
	var elsewhere atomic.Int64
	for _, test := range []struct {
		name   string
		handle http.HandlerFunc
		fails  string
	}{
		{"taken", func(w http.ResponseWriter, r *http.Request) {
			got, err := io.ReadAll(r.Body)
			if err != nil || string(got) != body || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Mailstead-Event") != "e1" {
				t.Errorf("%s %v: %s, %v", r.Method, r.Header, got, err)
			}
			signature := r.Header.Get("Mailstead-Signature")
			at, _, _ := strings.Cut(strings.TrimPrefix(signature, "t="), ",")
			seconds, err := time.ParseDuration(at + "s")
			if err != nil || time.Since(time.Unix(int64(seconds/time.Second), 0)) > time.Minute {
				t.Errorf("signature %s", signature)
			}
			if want := Signature([]byte(secret), time.Unix(int64(seconds/time.Second), 0), []byte(body)); signature != want {
				t.Errorf("signature %s, want %s", signature, want)
			}
			w.WriteHeader(http.StatusNoContent)
		}, ""},
		{"refused", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, "answered 403"},
		{"broken", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oh", http.StatusInternalServerError) }, "answered 500"},
		{"sent elsewhere", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/hook" {
				elsewhere.Add(1)
			}
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}, "answered 307"},
		{"silent", func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // to return is an answer
		}, "Timeout"},
		{"cut", func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{"long header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*maxHeader)) }, "header"},
		{"endless answer", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		}, ""},
		{"slow answer", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, ""},
	} {
		p := posterTo(t, secret, test.handle)
		began := time.Now()
		err := p.Post(t.Context(), "e1", []byte(body))
		if test.fails == "" && err != nil || test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.fails)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: the error tells the URL: %v", test.name, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s", test.name, took)
		}
	}
	if elsewhere.Load() > 0 {
		t.Error("a redirect was followed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := func(http.ResponseWriter, *http.Request) { t.Error("posted after the end") }
	if err := posterTo(t, secret, never).Post(ctx, "e1", []byte(body)); err == nil {
		t.Error("taken after the end")
	}
}

// posterTo posts to a server that answers so, at a URL that is a secret in part.
func posterTo(t *testing.T, secret string, handle http.HandlerFunc) *Poster {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body) // only then does a server see its client go
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	p := New(Options{URL: server.URL + "/hook?key=hidden", Secret: secret, Transport: server.Client().Transport.(*http.Transport)})
	p.client.Timeout = 500 * time.Millisecond
	return p
}
