package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"mailstead.dev/index"
	"mailstead.dev/index/remote/wire"
	"mailstead.dev/store/id"
)

// searcher has indexes. *node.Node is one.
type searcher interface {
	Search(ctx context.Context, t id.Tenant, account id.Account, queries []index.Query) (index.Result, error)
	Verify(ctx context.Context, t id.Tenant, account id.Account, queries []index.Query, emails *roaring.Bitmap, yield func(email id.Email, found, settled []bool) bool) error
}

const (
	// maxReply bounds an answer: two sets for each query.
	maxReply = 64 << 20
	// maxQuestion bounds what is asked.
	maxQuestion = 16 << 20
	// aliveEvery is how often a client asks whether a node still lives that it waits for.
	aliveEvery = 10 * time.Second
	// verdicts is how many emails are told of at once.
	verdicts = 512
)

// Server answers front ends of other processes.
type Server struct{ grpc *grpc.Server }

// handshakeTime is how long a connection may take to be one. No shutdown ends those that are not yet.
const handshakeTime = 5 * time.Second

// NewServer serves what a node has. config demands certificates of those who ask; nil: there is neither TLS nor any check,
// which is for loopback alone.
func NewServer(of searcher, config *tls.Config) *Server {
	options := []grpc.ServerOption{
		grpc.ConnectionTimeout(handshakeTime),
		grpc.MaxRecvMsgSize(maxQuestion), grpc.MaxSendMsgSize(maxReply),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: aliveEvery / 2}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: aliveEvery, Timeout: aliveEvery}), // what a front end that is gone waits for is given up
	}
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	s := &Server{grpc.NewServer(options...)}
	wire.RegisterIndexServer(s.grpc, &service{of: of})
	return s
}

// Serve answers until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(l); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil // Shutdown came first
}

// Shutdown takes nothing new, and returns when what is under way has ended; at the end of ctx it breaks that off.
func (s *Server) Shutdown(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
		return ctx.Err()
	}
}

// service implements the methods.
type service struct {
	wire.UnimplementedIndexServer
	of searcher
}

func (s *service) Search(ctx context.Context, q *wire.SearchRequest) (*wire.SearchReply, error) {
	queries, err := decodeQueries(q.GetQueries())
	if err != nil {
		return nil, err
	}
	r, err := s.of.Search(ctx, id.Tenant(q.GetTenant()), id.Account(q.GetAccount()), queries)
	if err != nil {
		return nil, statusOf(err)
	}
	reply := &wire.SearchReply{UpTo: int64(r.UpTo)}
	for _, a := range r.Answers {
		matches, matchesErr := encodeSet(a.Matches)
		maybe, maybeErr := encodeSet(a.Maybe)
		if err := errors.Join(matchesErr, maybeErr); err != nil {
			return nil, statusOf(err)
		}
		reply.Answers = append(reply.Answers, &wire.Answer{Matches: matches, Maybe: maybe})
	}
	return reply, nil
}

func (s *service) Verify(q *wire.VerifyRequest, stream wire.Index_VerifyServer) error {
	emails, err := decodeSet(q.GetEmails())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	queries, err := decodeQueries(q.GetQueries())
	if err != nil {
		return err
	}
	t := newTold(len(queries))
	var sending error
	err = s.of.Verify(stream.Context(), id.Tenant(q.GetTenant()), id.Account(q.GetAccount()), queries, emails, func(email id.Email, found, settled []bool) bool {
		t.add(uint32(email), found, settled)
		if t.emails.GetCardinality() == verdicts {
			sending = t.send(stream)
		}
		return sending == nil
	})
	if err := cmp.Or(sending, err); err != nil {
		return statusOf(err)
	}
	return t.send(stream)
}

// told are verdicts that have not been sent.
type told struct {
	emails           *roaring.Bitmap
	matches, settled []*roaring.Bitmap
}

func newTold(queries int) *told {
	t := &told{emails: roaring.New()}
	for range queries {
		t.matches, t.settled = append(t.matches, roaring.New()), append(t.settled, roaring.New())
	}
	return t
}

func (t *told) add(email uint32, found, settled []bool) {
	t.emails.Add(email)
	for i := range found {
		if found[i] {
			t.matches[i].Add(email)
		}
		if settled[i] {
			t.settled[i].Add(email)
		}
	}
}

func (t *told) send(stream wire.Index_VerifyServer) error {
	if t.emails.IsEmpty() {
		return nil
	}
	v := &wire.Verdicts{}
	var err error
	encode := func(set *roaring.Bitmap) []byte {
		data, setErr := encodeSet(set)
		err = errors.Join(err, setErr)
		set.Clear()
		return data
	}
	v.Emails = encode(t.emails)
	for i := range t.matches {
		v.Matches, v.Settled = append(v.Matches, encode(t.matches[i])), append(v.Settled, encode(t.settled[i]))
	}
	if err != nil {
		return err
	}
	return stream.Send(v)
}

// statusOf is an error as it travels. The text of one is not for others to read: it may have names of files.
func statusOf(err error) error {
	switch {
	case errors.Is(err, index.ErrNone):
		return status.Error(codes.NotFound, index.ErrNone.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unavailable, "the index cannot be searched")
}
