package remote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"mailstead.dev/index"
	"mailstead.dev/index/remote/wire"
	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// oneNode is a directory in which all accounts are at one node.
type oneNode string

func (n oneNode) IndexStatus(context.Context, id.Tenant, id.Account) (store.IndexStatus, error) {
	return store.IndexStatus{Node: "far", Address: string(n), Alive: true}, nil
}

// answering says of each email that it matches the first query for certain, and of others that the text decides. It says
// nothing at all where it hangs.
type answering struct {
	emails uint32
	hangs  bool
}

func (a answering) Search(ctx context.Context, _ id.Tenant, account id.Account, queries []index.Query) (index.Result, error) {
	if a.hangs {
		<-ctx.Done()
		return index.Result{}, ctx.Err()
	}
	r := index.Result{UpTo: id.Email(a.emails)}
	for i := range queries {
		all := index.Answer{Matches: roaring.New(), Maybe: roaring.New()}
		if i == 0 {
			all.Matches.AddRange(1, uint64(a.emails)+1)
		} else {
			all.Maybe.AddRange(1, uint64(a.emails)+1)
		}
		r.Answers = append(r.Answers, all)
	}
	return r, nil
}

// Verify finds the emails with even numbers, and does not know of those that three divides.
func (a answering) Verify(ctx context.Context, _ id.Tenant, _ id.Account, queries []index.Query, emails *roaring.Bitmap, yield func(id.Email, []bool, []bool) bool) error {
	found, settled := make([]bool, len(queries)), make([]bool, len(queries))
	for it := emails.Iterator(); it.HasNext(); {
		n := it.Next()
		if a.hangs && n > verdicts {
			<-ctx.Done()
			return ctx.Err()
		}
		for i := range queries {
			found[i], settled[i] = n%2 == 0, n%3 != 0
		}
		if !yield(id.Email(n), found, settled) {
			return nil
		}
	}
	return nil
}

// serve starts a node, and returns its address.
func serve(t *testing.T, of searcher, config *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(of, config)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return l.Addr().String()
}

func connect(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

var twoQueries = []index.Query{{In: index.Body, Text: "a"}, {In: index.Header, Field: "subject", Text: "\xff"}}

// Answers arrive as the node gave them, in more than one piece; and whoever asks can end them.
func TestAnswers(t *testing.T) {
	const emails = 3*verdicts + 7
	c := connect(t, Options{Directory: oneNode(serve(t, answering{emails: emails}, nil))})
	r, err := c.Search(t.Context(), 1, 2, twoQueries)
	if err != nil || r.UpTo != emails || len(r.Answers) != 2 ||
		r.Answers[0].Matches.GetCardinality() != emails || !r.Answers[0].Maybe.IsEmpty() ||
		!r.Answers[1].Matches.IsEmpty() || r.Answers[1].Maybe.GetCardinality() != emails {
		t.Fatalf("%+v, %v", r, err)
	}
	asked := roaring.New()
	asked.AddRange(1, emails+1)
	told := roaring.New()
	verify := func(most int) {
		t.Helper()
		told.Clear()
		err := c.Verify(t.Context(), 1, 2, twoQueries, asked, func(e id.Email, found, settled []bool) bool {
			for i := range twoQueries {
				if found[i] != (e%2 == 0) || settled[i] != (e%3 != 0) {
					t.Errorf("of email %d: %v %v", e, found, settled)
				}
			}
			told.Add(uint32(e))
			return told.GetCardinality() < uint64(most)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	verify(emails)
	if !told.Equals(asked) {
		t.Errorf("told of %v", told)
	}
	verify(5)
	if told.GetCardinality() != 5 {
		t.Errorf("told of %v after it had enough", told)
	}
	_, err = (&service{of: answering{}}).Search(t.Context(), &wire.SearchRequest{Queries: []*wire.Query{{Scope: 77}}})
	if err == nil {
		t.Error("a scope that nobody knows is searched")
	}
}

// A node that says nothing is waited for only so long, also in the middle of an answer; an answer that takes longer is not ended.
func TestSilentNode(t *testing.T) {
	const patience = 200 * time.Millisecond
	c := connect(t, Options{Directory: oneNode(serve(t, answering{emails: 2000, hangs: true}, nil)), Patience: patience})
	begin := time.Now()
	if _, err := c.Search(t.Context(), 1, 2, twoQueries); err == nil || errors.Is(err, index.ErrNone) {
		t.Errorf("search: %v", err)
	}
	all := roaring.New()
	all.AddRange(1, 2001)
	n := 0
	err := c.Verify(t.Context(), 1, 2, twoQueries, all, func(id.Email, []bool, []bool) bool {
		if n++; n == 1 {
			time.Sleep(2 * patience) // of ours it is not counted
		}
		return true
	})
	if err == nil || n != verdicts {
		t.Errorf("verify: %v after %d of %d", err, n, verdicts)
	}
	if took := time.Since(begin); took > 20*patience {
		t.Errorf("took %v", took)
	}
}

// authority makes a certificate for 127.0.0.1 of an authority of its own, and what demands one of the same.
func authority(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(own)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

// Only who shows a certificate of the authority is answered, and believed.
func TestStrangers(t *testing.T) {
	ours, theirs := authority(t), authority(t)
	none := ours.Clone()
	none.Certificates = nil
	believing := theirs.Clone()
	believing.RootCAs = ours.RootCAs // who cares little for whom they ask
	address := oneNode(serve(t, answering{emails: 3}, ours))
	for name, config := range map[string]*tls.Config{"without TLS": nil, "without a certificate": none, "of another authority": theirs, "with another's certificate": believing} {
		if _, err := connect(t, Options{Directory: address, TLS: config, Patience: 2 * time.Second}).Search(t.Context(), 1, 2, twoQueries); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	if r, err := connect(t, Options{Directory: address, TLS: ours}).Search(t.Context(), 1, 2, twoQueries); err != nil || r.UpTo != 3 {
		t.Errorf("ours: %+v, %v", r, err)
	}
}

// Who connects and says nothing holds up a shutdown for a few seconds at the most.
func TestShutdownDuringHandshake(t *testing.T) {
	for name, config := range map[string]*tls.Config{"TLS": authority(t), "plain": nil} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := NewServer(answering{emails: 3}, config)
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		address := l.Addr().String()
		silent, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		if _, err := connect(t, Options{Directory: oneNode(address), TLS: config}).Search(t.Context(), 1, 2, twoQueries); err != nil { // by when it has been accepted
			t.Errorf("%s: %v", name, err)
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		server.Shutdown(ctx) // in time or not
		if took := time.Since(begin); took > handshakeTime+5*time.Second {
			t.Errorf("%s: the shutdown took %v", name, took)
		}
		if err := <-served; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
