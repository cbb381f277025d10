package node

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"mailstead.dev/index"
	"mailstead.dev/store/id"
	"mailstead.dev/store/message"
	"mailstead.dev/store/storetest"
)

// reading reads files of application/x-test.
type reading func(context.Context, io.Reader) (string, error)

func (reading) Reads(mediaType, _ string) bool { return mediaType == "application/x-test" }

func (f reading) forAll(id.Tenant) message.Files { return f }

func (f reading) Text(ctx context.Context, _, _ string, content io.Reader, _ func() (io.ReadCloser, error)) (string, error) {
	return f(ctx, content)
}

// attach appends a message that is nothing but a file.
func (r *running) attach(text string) {
	r.Helper()
	r.append("Subject: a file\r\nContent-Type: application/x-test\r\n\r\n" + text)
}

// While no file can be read, emails wait that have some; one file that cannot be read is left to searches.
func TestFilesUnavailable(t *testing.T) {
	s := storetest.New(t)
	var fails atomic.Pointer[error]
	fails.Store(&message.ErrNoFiles)
	r := &running{T: t, store: s, user: storetest.Account(t, s, "ann@one.test"), dir: t.TempDir()}
	r.openInbox()
	r.startWith(Options{Files: reading(func(_ context.Context, content io.Reader) (string, error) {
		if err := fails.Load(); err != nil {
			return "", *err
		}
		text, err := io.ReadAll(content)
		return string(text), err
	}).forAll})
	defer func() { r.stop() }()
	r.attach("nightingale")
	r.deliver(9)
	r.await("it is noticed", func() bool { return r.node.Counted().Failures > 0 })
	if st := r.status(); st.UpTo != 0 {
		t.Errorf("%+v, want nothing yet", st)
	}
	fails.Store(nil)
	r.whole(10)
	r.finds(r.node, "nightingale", 1)

	fails.Store(&message.ErrFile)
	r.attach("blackbird")
	r.whole(11)
	result, err := r.node.Search(t.Context(), r.user.Tenant, r.user.Account, []index.Query{{In: index.Body, Text: "blackbird"}})
	if err != nil || !result.Answers[0].Maybe.Contains(11) {
		t.Errorf("%+v, %v, want that searches read it", result, err)
	}
}
