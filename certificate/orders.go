package certificate

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"golang.org/x/crypto/acme"

	"mailstead.dev/store"
)

// Orders order certificates by ACME (RFC 8555) for the names that an operator has named, and anew when less than a third of their time is left. One
// process at a time does, under a lease; what it gets lies in the database, from where all front ends show it.
type Orders struct {
	o               OrderOptions
	client          *acme.Client // nil: until it has an account
	ordered, failed atomic.Int64
}

// OrderOptions say where, and how.
type OrderOptions struct {
	Store     *store.Store
	Seals     func() *Seals  // by which keys are sealed now
	Directory string         // URL of the authority's
	Contact   string         // an address that the authority may write to; "": none
	Challenge string         // by what names are proven: HTTP01 or TLSALPN01
	Roots     *x509.CertPool // that the authority's own certificate is checked against; nil: the system's
	Version   string
	Logger    *slog.Logger

	Every  time.Duration // between two looks at what is to be ordered; 30 seconds if zero
	Settle time.Duration // until all front ends have an answer; 5 seconds if zero
	Pause  time.Duration // after an order, and a first failure, twice that after the next one; 5 minutes if zero
}

const (
	orderTime  = 5 * time.Minute    // for one
	longest    = 12 * time.Hour     // pause
	mostPaused = 7 * 24 * time.Hour // where the authority asks for it
	proofTime  = 2 * orderTime      // how long answers stay whose process dies
	maxProblem = 500
	tries      = 3 // of one request
)

// NewOrders makes what orders.
func NewOrders(o OrderOptions) *Orders {
	o.Every = cmp.Or(o.Every, 30*time.Second)
	o.Settle = cmp.Or(o.Settle, 2*watchInterval+time.Second)
	o.Pause = cmp.Or(o.Pause, 5*time.Minute)
	return &Orders{o: o}
}

// Ordered tells how many certificates were ordered, and how many tries have failed.
func (o *Orders) Ordered() (ordered, failed int64) { return o.ordered.Load(), o.failed.Load() }

// Run orders what is due until ctx ends.
func (o *Orders) Run(ctx context.Context) error {
	timer := time.NewTimer(rand.N(o.o.Every)) // processes that started together take turns
	defer timer.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		_, err := o.o.Store.Ordering(ctx, o.round)
		if err != nil && ctx.Err() == nil && !failing { // once, and not each time
			o.o.Logger.WarnContext(ctx, "certificates cannot be ordered for now", "err", wordless(err))
		}
		failing = err != nil
		timer.Reset(o.o.Every)
	}
}

// round orders what is due. An error is of more than one order.
func (o *Orders) round(ctx context.Context) error {
	for {
		all, err := o.o.Store.CertificateOrders(ctx) // each time, for some may have been cancelled meanwhile
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(c store.CertificateOrder) bool { return c.Due })
		if i < 0 {
			return nil
		}
		if err := o.fill(ctx, all[i]); err != nil {
			return err
		}
	}
}

// fill orders one certificate, and notes how that has gone.
func (o *Orders) fill(ctx context.Context, order store.CertificateOrder) error {
	err := o.order(ctx, order)
	if ctx.Err() != nil {
		return ctx.Err() // the end of the process, or of the lease, is no failure
	}
	if err == nil {
		o.ordered.Add(1)
		return o.o.Store.OrderDone(ctx, order.Name, "", o.o.Pause) // also where what came is due again at once
	}
	o.failed.Add(1)
	pause := o.pause(order.Failures, err)
	if err := o.o.Store.OrderDone(ctx, order.Name, problem(err), pause); err != nil {
		return err
	}
	o.o.Logger.WarnContext(ctx, "a certificate could not be ordered: mailstead certificate orders tells which, and why", "failures", order.Failures+1, "again_in", pause.Round(time.Second))
	if !ofOrder(err) || o.client == nil {
		return err // the authority or the database is away, or there is no account: it would be the same with all others
	}
	if gone(err) {
		return o.forget(ctx)
	}
	return nil
}

// pause is until an order is tried again.
func (o *Orders) pause(failures int, err error) time.Duration {
	pause := min(o.o.Pause<<min(failures, 12), longest)
	var e *acme.Error
	if errors.As(err, &e) {
		if asked, limited := acme.RateLimit(e); limited {
			pause = max(pause, min(asked, mostPaused))
		}
	}
	return pause + rand.N(pause/5+1)
}

// again is after what time a request is tried again that the authority has not taken; 0: it is not. Who is told that it has asked too much would be held up for as
// long as the authority says, and all other names with it: pause sees to that, of this one alone.
func again(failures int, _ *http.Request, answer *http.Response) time.Duration {
	if answer.StatusCode == http.StatusTooManyRequests || failures >= tries {
		return 0
	}
	return time.Duration(failures) * time.Second
}

// problem is what operators are told of an error: the authority's words, in one line.
func problem(err error) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, err.Error())
	if runes := []rune(text); len(runes) > maxProblem {
		text = string(runes[:maxProblem]) + "…"
	}
	return text
}

// wordless is what the log has of an error: of the authority's words, which may name domains and the address that it writes to, only what kind of problem it is.
func wordless(err error) error {
	if e, ok := errors.AsType[*acme.Error](err); ok {
		return fmt.Errorf("the authority answered %d, %s", e.StatusCode, e.ProblemType)
	}
	return err
}

// ofOrder tells whether an error is of one order, by the authority's word, or ours on its answer or on the name: then others may go well.
func ofOrder(err error) bool {
	var refused *acme.Error
	var unproven *acme.AuthorizationError
	var failed *acme.OrderError
	var wrong *wrongError
	return errors.As(err, &refused) && refused.StatusCode < 500 || errors.As(err, &unproven) || errors.As(err, &failed) || errors.As(err, &wrong) ||
		errors.Is(err, store.ErrCertificateTaken) || errors.Is(err, store.ErrNoDomain)
}

// wrongError is of an answer of the authority's that is not what was asked for.
type wrongError struct{ what string }

func (e *wrongError) Error() string { return "the authority's answer: " + e.what }

// order proves a name, and gets a certificate for it.
func (o *Orders) order(ctx context.Context, order store.CertificateOrder) error {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	if o.client == nil {
		var err error
		if o.client, err = o.enter(ctx); err != nil {
			return err
		}
	}
	if err := o.o.Store.RoomForOrdered(ctx, order.Name, order.Domain); err != nil {
		return err
	}
	made, err := o.client.AuthorizeOrder(ctx, acme.DomainIDs(order.Name))
	if err != nil {
		return err
	}
	for _, url := range made.AuthzURLs {
		if err := o.prove(ctx, order.Name, url); err != nil {
			return err
		}
	}
	if made, err = o.client.WaitOrder(ctx, made.URI); err != nil {
		return err
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	request, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{DNSNames: []string{order.Name}}, key)
	if err != nil {
		return err
	}
	chain, _, err := o.client.CreateCertFromOrder(ctx, made, request, true)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	switch {
	case err != nil:
		return &wrongError{err.Error()}
	case !key.PublicKey.Equal(leaf.PublicKey):
		return &wrongError{"a certificate of another key"}
	case leaf.VerifyHostname(order.Name) != nil || len(leaf.DNSNames) != 1:
		return &wrongError{"a certificate of other names"}
	}
	kept, sealed, err := o.o.Seals().Seal(tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, order.Domain, store.SourceACME)
	if err != nil {
		return &wrongError{err.Error()}
	}
	_, err = o.o.Store.SetCertificate(ctx, kept, sealed)
	return err
}

// prove shows the authority that a name is ours.
func (o *Orders) prove(ctx context.Context, name, url string) error {
	asked, err := o.client.GetAuthorization(ctx, url)
	if err != nil || asked.Status == acme.StatusValid {
		return err
	}
	var challenge *acme.Challenge
	for _, c := range asked.Challenges {
		if c.Type == o.o.Challenge {
			challenge = c
		}
	}
	if challenge == nil {
		return &wrongError{"it does not take " + o.o.Challenge}
	}
	proof, err := o.proof(name, challenge.Token)
	if err != nil {
		return err
	}
	if err := o.o.Store.SetProof(ctx, proof, proofTime); err != nil {
		return err
	}
	defer func() { // also where there is no time left; if it stays, it is over by itself
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
		defer cancel()
		o.o.Store.DeleteProof(ctx, proof)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(o.o.Settle):
	}
	if _, err := o.client.Accept(ctx, challenge); err != nil {
		return err
	}
	_, err = o.client.WaitAuthorization(ctx, url)
	return err
}

// proof is what front ends answer by.
func (o *Orders) proof(name, token string) (store.Proof, error) {
	if o.o.Challenge == HTTP01 {
		text, err := o.client.HTTP01ChallengeResponse(token)
		return store.Proof{Kind: HTTP01, Key: token, Answer: []byte(text)}, err
	}
	pair, err := o.client.TLSALPN01ChallengeCert(token, name)
	if err != nil {
		return store.Proof{}, err
	}
	if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		return store.Proof{}, err
	}
	_, sealed, err := o.o.Seals().Seal(pair, "", store.SourceACME)
	return store.Proof{Kind: TLSALPN01, Key: name, Answer: sealed.Chain, Sealed: sealed.Sealed, SealedBy: sealed.SealedBy}, err
}

// http is what speaks to the authority.
func (o *Orders) http() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.o.Roots}
	return &http.Client{Transport: transport, Timeout: time.Minute}
}
