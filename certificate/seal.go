package certificate

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// Seals seal what the database keeps, so that who has a copy of it has no private key: XChaCha20-Poly1305, whose nonces are long enough to be drawn by chance.
type Seals struct {
	by  string // the id of the key that seals
	all map[string]cipher.AEAD
}

// maxSeals is how many keys there may be at once: one that seals, and those that it has replaced.
const maxSeals = 16

// errSeal says nothing of the line that it is about, which may be a key.
var errSeal = errors.New("want lines of 32 octets in base64, as `openssl rand -base64 32` makes them, 16 at the most")

// ReadSeals reads the keys of a file, one a line: the first seals, and all open.
func ReadSeals(file string) (*Seals, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s, err := parseSeals(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func parseSeals(text string) (*Seals, error) {
	s := &Seals{all: make(map[string]cipher.AEAD)}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(s.all) == maxSeals {
			return nil, errSeal
		}
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, errSeal
		}
		sum := sha256.Sum256(append([]byte("mailstead seal\x00"), key...))
		id := hex.EncodeToString(sum[:8])
		if s.by == "" {
			s.by = id
		}
		s.all[id] = aead
	}
	if s.by == "" {
		return nil, errSeal
	}
	return s, nil
}

// By is the id of the key that seals.
func (s *Seals) By() string { return s.by }

// Knows tells whether the key of an id is there; none of them is where there are no seals.
func (s *Seals) Knows(by string) bool { return s != nil && s.all[by] != nil }

// Errors of what is opened.
var (
	errNoSeal = errors.New("it is sealed by a key that is not in tls.seal_file")
	errSealed = errors.New("it is not what was sealed")
)

// seal seals a secret of something, which alone it opens for.
func (s *Seals) seal(of, secret []byte) (sealed []byte, by string) {
	aead := s.all[s.by]
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(secret)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, secret, of), s.by
}

// open opens what was sealed.
func (s *Seals) open(of, sealed []byte, by string) (secret []byte, err error) {
	if !s.Knows(by) {
		return nil, errNoSeal
	}
	aead := s.all[by]
	if len(sealed) < aead.NonceSize() {
		return nil, errSealed
	}
	secret, err = aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], of)
	if err != nil {
		return nil, errSealed
	}
	return secret, nil
}
