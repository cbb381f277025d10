package certificate

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"mailstead.dev/store"
)

// Bounds of a certificate that is kept, so that none of them takes more than its share of a front end's memory.
const (
	maxNames = 100
	maxChain = 64 << 10
)

// Seal makes of a certificate what the database keeps of it.
func (s *Seals) Seal(pair tls.Certificate, domain, source string) (store.Certificate, store.SealedCertificate, error) {
	leaf := pair.Leaf
	names := Names(leaf)
	chain := slices.Concat(pair.Certificate...)
	switch {
	case len(names) == 0:
		return store.Certificate{}, store.SealedCertificate{}, errors.New("it has no name")
	case len(names) > maxNames:
		return store.Certificate{}, store.SealedCertificate{}, errors.New("it has more than 100 names")
	case len(chain) > maxChain:
		return store.Certificate{}, store.SealedCertificate{}, errors.New("its chain is longer than 64 KiB")
	}
	secret, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return store.Certificate{}, store.SealedCertificate{}, err
	}
	sealed, by := s.seal(keyOf(leaf), secret)
	of := store.Certificate{
		Names: names, Algorithm: leaf.PublicKeyAlgorithm.String(), Issuer: leaf.Issuer.String(), Begins: leaf.NotBefore, Ends: leaf.NotAfter, Domain: domain, Source: source, SealedBy: by,
	}
	return of, store.SealedCertificate{Chain: chain, Sealed: sealed, SealedBy: by}, nil
}

// Names are those of a certificate, sorted, in lower case.
func Names(leaf *x509.Certificate) (names []string) {
	for _, name := range leaf.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Open makes a certificate again of what the database has kept.
func (s *Seals) Open(kept store.SealedCertificate) (*tls.Certificate, error) {
	chain, err := x509.ParseCertificates(kept.Chain)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errSealed
	}
	secret, err := s.open(keyOf(chain[0]), kept.Sealed, kept.SealedBy)
	if err != nil {
		return nil, err
	}
	private, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, errSealed // and not what was wrong with it
	}
	pair := &tls.Certificate{PrivateKey: private, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	public, ok := private.(crypto.Signer)
	if own, is := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !is || !own.Equal(public.Public()) {
		return nil, errSealed
	}
	return pair, nil
}

// Reseal seals a key anew, by the key that seals now.
func (s *Seals) Reseal(kept store.SealedCertificate) (store.SealedCertificate, error) {
	chain, err := x509.ParseCertificates(kept.Chain)
	if err != nil || len(chain) == 0 {
		return kept, errSealed
	}
	secret, err := s.open(keyOf(chain[0]), kept.Sealed, kept.SealedBy)
	if err == nil {
		kept.Sealed, kept.SealedBy = s.seal(keyOf(chain[0]), secret)
	}
	return kept, err
}

// keyOf names the private key of a certificate, which is sealed for that alone.
func keyOf(leaf *x509.Certificate) []byte {
	sum := sha256.Sum256(leaf.Raw)
	return append([]byte("key of certificate\x00"), sum[:]...)
}
