package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"

	"golang.org/x/crypto/acme"

	"mailstead.dev/store"
)

// Whether a name is ours is asked of whichever front end the name leads to, so all of them have the answers that who orders has made, in memory: who
// asks for what is not there costs no more than a look.

// The challenges of ACME that are answered.
const (
	HTTP01    = "http-01"     // RFC 8555 section 8.3
	TLSALPN01 = "tls-alpn-01" // RFC 8737
)

// proofKey names an answer.
type proofKey struct{ kind, key string }

// lookAtProofs lists the answers where they are others than when it was looked last.
func (k *Kept) lookAtProofs(ctx context.Context) error {
	version, err := k.store.ProofVersion(ctx)
	if err != nil || version == k.proofsAs {
		return err
	}
	all, err := k.store.Proofs(ctx)
	if err != nil {
		return err
	}
	proofs := make(map[proofKey]store.Proof)
	for _, p := range all {
		proofs[proofKey{p.Kind, p.Key}] = p
	}
	k.proofs.Store(&proofs)
	k.proofsAs = version
	return nil
}

func (k *Kept) proof(kind, key string) (store.Proof, bool) {
	p, found := (*k.proofs.Load())[proofKey{kind, key}]
	return p, found
}

// proofPath is where HTTP is asked whether a name is ours.
const proofPath = "/.well-known/acme-challenge/"

// ServeHTTP answers http-01, and nothing else.
func (k *Kept) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, asked := strings.CutPrefix(r.URL.Path, proofPath)
	p, found := k.proof(HTTP01, token)
	if !asked || !found || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(p.Answer)
}

// forProof returns the settings of a handshake that asks by tls-alpn-01 whether a name is ours, which is its only protocol; nil for all others.
func (k *Kept) forProof(hello *tls.ClientHelloInfo) *tls.Config {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acme.ALPNProto {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{acme.ALPNProto}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		p, found := k.proof(TLSALPN01, strings.ToLower(hello.ServerName))
		if !found {
			return nil, errors.New("nobody proves that name now")
		}
		return k.names.Load().seals.Open(store.SealedCertificate{Chain: p.Answer, Sealed: p.Sealed, SealedBy: p.SealedBy})
	}}
}
