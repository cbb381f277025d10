package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/maypok86/otter/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"mailstead.dev/index"
	"mailstead.dev/index/remote/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// directory knows which node has the index of an account.
type directory interface {
	IndexStatus(ctx context.Context, t id.Tenant, account id.Account) (store.IndexStatus, error)
}

const (
	// placesKnown bounds how many accounts are known to have an index where, and placeTime for how long that is believed.
	placesKnown = 10_000
	placeTime   = 10 * time.Second
	// A node that does not answer is tried again after retryFirst, then later and later, but soon after it is back: without it searches read the mail.
	retryFirst, retryMost = 100 * time.Millisecond, 5 * time.Second
	// nodesKnown bounds the connections that are kept.
	nodesKnown = 1000
)

// Options of a client.
type Options struct {
	Directory directory
	Local     searcher    // the node of this process; nil: none
	LocalName string      // its name
	TLS       *tls.Config // to other nodes; nil: without, on loopback
	// Patience is for how long another node may say nothing; then the mail is read. Default 10 s.
	Patience time.Duration
}

// Client searches where the index of an account is.
type Client struct {
	o      Options
	places *otter.Cache[account, place]

	mu    sync.Mutex // guards nodes
	nodes map[string]*grpc.ClientConn
}

type account struct {
	tenant  id.Tenant
	account id.Account
}

// place is where an index is: in this process, at an address, or nowhere that can be reached.
type place struct {
	local   bool
	address string
}

// NewClient returns a client. Close ends it.
func NewClient(o Options) (*Client, error) {
	places, err := otter.New(&otter.Options[account, place]{
		MaximumSize: placesKnown, ExpiryCalculator: otter.ExpiryWriting[account, place](placeTime),
		Executor: func(f func()) { f() },
	})
	if err != nil {
		return nil, fmt.Errorf("cache of where indexes are: %w", err)
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	return &Client{o: o, places: places, nodes: make(map[string]*grpc.ClientConn)}, nil
}

// Close ends all connections.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, conn := range c.nodes {
		errs = append(errs, conn.Close())
	}
	clear(c.nodes)
	return errors.Join(errs...)
}

// Search looks for texts in the index of an account, wherever that is. index.ErrNone where none can be reached.
func (c *Client) Search(ctx context.Context, t id.Tenant, a id.Account, queries []index.Query) (result index.Result, err error) {
	err = c.at(ctx, account{t, a}, func(node searcher) (err error) {
		result, err = node.Search(ctx, t, a, queries)
		return err
	})
	return result, err
}

// Verify decides by the texts that an index keeps which queries emails match.
func (c *Client) Verify(ctx context.Context, t id.Tenant, a id.Account, queries []index.Query, emails *roaring.Bitmap, yield func(email id.Email, found, settled []bool) bool) error {
	return c.at(ctx, account{t, a}, func(node searcher) error { return node.Verify(ctx, t, a, queries, emails, yield) })
}

// at asks the node that has the index of an account. After an error it is asked anew which that is.
func (c *Client) at(ctx context.Context, a account, ask func(searcher) error) error {
	p, ok := c.places.GetIfPresent(a)
	if !ok {
		st, err := c.o.Directory.IndexStatus(ctx, a.tenant, a.account)
		if err != nil {
			return err
		}
		p = place{local: c.o.Local != nil && st.Node == c.o.LocalName, address: st.Address}
		c.places.Set(a, p)
	}
	var node searcher
	switch {
	case p.local:
		node = c.o.Local
	case p.address == "":
		return index.ErrNone
	default:
		conn, err := c.connection(p.address)
		if err != nil {
			return err
		}
		node = far{wire.NewIndexClient(conn), c.o.Patience}
	}
	err := ask(node)
	if err != nil {
		c.places.Invalidate(a)
	}
	return err
}

// connection returns the connection to a node, which is made when it is used.
func (c *Client) connection(address string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.nodes[address]; conn != nil {
		return conn, nil
	}
	if len(c.nodes) >= nodesKnown { // of nodes that are gone, most of them
		for address, conn := range c.nodes {
			delete(c.nodes, address)
			if err := conn.Close(); err != nil {
				return nil, err
			}
		}
	}
	safety := insecure.NewCredentials()
	if c.o.TLS != nil {
		safety = credentials.NewTLS(c.o.TLS)
	}
	// One that has gone without a word is noticed while it is waited for.
	alive := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: aliveEvery, Timeout: aliveEvery})
	again := grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: retryFirst, Multiplier: 2, Jitter: 0.2, MaxDelay: retryMost}, MinConnectTimeout: retryMost})
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(safety), alive, again, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply), grpc.MaxCallSendMsgSize(maxQuestion)))
	if err != nil {
		return nil, err
	}
	c.nodes[address] = conn
	return conn, nil
}

// far is a node of another process.
type far struct {
	wire.IndexClient
	patience time.Duration
}

func (f far) Search(ctx context.Context, t id.Tenant, a id.Account, queries []index.Query) (index.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	reply, err := f.IndexClient.Search(ctx, &wire.SearchRequest{Tenant: int64(t), Account: int64(a), Queries: encodeQueries(queries)})
	if err != nil {
		return index.Result{}, errorOf(err)
	}
	if len(reply.GetAnswers()) != len(queries) {
		return index.Result{}, fmt.Errorf("%d answers to %d queries", len(reply.GetAnswers()), len(queries))
	}
	r := index.Result{UpTo: id.Email(reply.GetUpTo())}
	for _, sent := range reply.GetAnswers() {
		var answer index.Answer
		var matchesErr, maybeErr error
		answer.Matches, matchesErr = decodeSet(sent.GetMatches())
		answer.Maybe, maybeErr = decodeSet(sent.GetMaybe())
		if err := errors.Join(matchesErr, maybeErr); err != nil {
			return index.Result{}, err
		}
		r.Answers = append(r.Answers, answer)
	}
	return r, nil
}

func (f far) Verify(ctx context.Context, t id.Tenant, a id.Account, queries []index.Query, emails *roaring.Bitmap, yield func(email id.Email, found, settled []bool) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the stream, where yield ends it
	silence := time.AfterFunc(f.patience, cancel)
	defer silence.Stop()
	set, err := encodeSet(emails)
	if err != nil {
		return err
	}
	stream, err := f.IndexClient.Verify(ctx, &wire.VerifyRequest{Tenant: int64(t), Account: int64(a), Queries: encodeQueries(queries), Emails: set})
	if err != nil {
		return errorOf(err)
	}
	for {
		v, err := stream.Recv()
		silence.Stop() // while yield has it
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errorOf(err)
		}
		if more, err := takeVerdicts(v, len(queries), yield); err != nil || !more {
			return err
		}
		silence.Reset(f.patience)
	}
}

func takeVerdicts(v *wire.Verdicts, queries int, yield func(email id.Email, found, settled []bool) bool) (more bool, err error) {
	emails, err := decodeSet(v.GetEmails())
	if err != nil {
		return false, err
	}
	matches, matchesErr := decodeSets(v.GetMatches(), queries)
	settled, settledErr := decodeSets(v.GetSettled(), queries)
	if err := errors.Join(matchesErr, settledErr); err != nil {
		return false, err
	}
	found, known := make([]bool, queries), make([]bool, queries)
	for it := emails.Iterator(); it.HasNext(); {
		email := it.Next()
		for i := range queries {
			found[i], known[i] = matches[i].Contains(email), settled[i].Contains(email)
		}
		if !yield(id.Email(email), found, known) {
			return false, nil
		}
	}
	return true, nil
}

func errorOf(err error) error {
	if status.Code(err) == codes.NotFound {
		return index.ErrNone
	}
	return fmt.Errorf("index node: %w", err)
}
