package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"mailstead.dev/store"
)

// A secret is the text by which the store keeps what a password is verified by: words with a blank between. One is a
// proof, for those who send the password; the others are verifiers of SCRAM, for those who do not.

// secret is such a text, parsed.
type secret struct {
	proof     proof // nil: none
	verifiers []verifier
}

// proof tells whether a password is the right one.
type proof interface {
	matches(p password) bool
	cost() int64 // of matches, in KiB of memory that it takes, or as much as keeps a processor busy for as long
}

// NewSecret returns what a new password of an account is kept as: an argon2id hash, and what each of the mechanisms that are on needs besides. The account is as it was,
// zero if it is being made.
func NewSecret(of store.Login, password string, mechanisms []string) (string, error) {
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password is longer than %d bytes", maxPassword)
	}
	p := newPassword(password)
	verifiers, err := newVerifiers(store.Login{AppPasswords: of.AppPasswords}, p, hashesOf(mechanisms))
	return newArgon2id(p).String() + verifiers, err
}

// better returns a secret for the password that a secret of the account was right for: argon2id, which it may have been, and the verifiers that are missing.
func (s secret) better(of store.Login, p password, hashes []*scramHash) (string, error) {
	text := ""
	if h, ok := s.proof.(argon2id); ok {
		text = h.String()
	} else {
		text = newArgon2id(p).String()
	}
	for _, v := range s.verifiers {
		text += " " + v.String()
	}
	verifiers, err := newVerifiers(of, p, s.missing(hashes))
	return text + verifiers, err
}

// missing returns the hashes of which there is no verifier.
func (s secret) missing(hashes []*scramHash) (all []*scramHash) {
	for _, h := range hashes {
		if _, ok := s.verifier(h); !ok {
			all = append(all, h)
		}
	}
	return all
}

// NewAppSecret makes an app password for an account, and what it is kept as. It cannot be guessed, so nothing needs to make guesses slow.
func NewAppSecret(of store.Login, mechanisms []string) (password, secret string, err error) {
	password = Generate()
	p := newPassword(password)
	verifiers, err := newVerifiers(of, p, hashesOf(mechanisms))
	return password, newToken(p).String() + verifiers, err
}

// ParseSecret reads a hash that another system has kept, in the words of that, and returns what the password is kept as until
// its next use:
//
//	argon2id     $argon2id$…
//	bcrypt       $2a$…, $2b$…, $2y$…
//	SHA512-CRYPT $6$…
//	SSHA         {SSHA}…
//	SCRAM        SCRAM-SHA-256$4096:salt$StoredKey:ServerKey (RFC 5803), {SCRAM-SHA-256}4096,salt,StoredKey,ServerKey (Dovecot),
//	             and the same of SCRAM-SHA-1
//
// Dovecot's {BLF-CRYPT}, {SHA512-CRYPT} and {ARGON2ID} may stand before theirs.
func ParseSecret(hash string) (string, error) {
	scheme, rest, _ := strings.Cut(strings.TrimPrefix(hash, "{"), "}")
	switch {
	case !strings.HasPrefix(hash, "{"):
	case scheme == "BLF-CRYPT", scheme == "SHA512-CRYPT", scheme == "ARGON2ID", scheme == "CRYPT":
		hash = rest
	case strings.HasPrefix(scheme, "SCRAM-"):
		parts := strings.Split(rest, ",")
		if len(parts) != 4 {
			return "", errors.New("want {SCRAM-SHA-256}iterations,salt,StoredKey,ServerKey") // and nothing of it, which may be logged
		}
		hash = fmt.Sprintf("%s$%s:%s$%s:%s", scheme, parts[0], parts[1], parts[2], parts[3])
	}
	if strings.ContainsAny(hash, " \t") {
		return "", errors.New("a hash has no blanks")
	}
	if _, err := parseVerifier(hash); err == nil {
		return hash, nil
	}
	p, err := parseProof(hash)
	if _, made := p.(token); made {
		err = errUnknownHash // which is for what cannot be guessed
	}
	return hash, err
}

var errUnknownHash = errors.New("the hash is of no kind that is known, or damaged: want argon2id, bcrypt, SHA512-CRYPT, SSHA, SCRAM-SHA-1 or SCRAM-SHA-256")

// parseSecret reads a secret. What is not understood verifies nobody.
func parseSecret(text string) (s secret) {
	for word := range strings.FieldsSeq(text) {
		if v, err := parseVerifier(word); err == nil {
			s.verifiers = append(s.verifiers, v)
		} else if p, err := parseProof(word); err == nil {
			s.proof = p
		}
	}
	if s.proof == nil && len(s.verifiers) > 0 {
		s.proof = s.verifiers[0]
	}
	return s
}

func parseProof(word string) (proof, error) {
	switch {
	case strings.HasPrefix(word, "$argon2id$"):
		return parseArgon2id(word)
	case strings.HasPrefix(word, "$2"):
		return parseBcrypt(word)
	case strings.HasPrefix(word, "$6$"):
		return parseSHA512Crypt(word)
	case strings.HasPrefix(word, ssha):
		return parseSalted(word)
	case strings.HasPrefix(word, sha256Of):
		return parseToken(word)
	}
	return nil, errUnknownHash
}

// outdated tells whether it is not kept as new ones are: as argon2id, whatever it costs, with verifiers for the hashes.
func (s secret) outdated(hashes []*scramHash) bool {
	_, ok := s.proof.(argon2id)
	return !ok || len(s.missing(hashes)) > 0
}

// isToken tells whether a password is the one that cannot be guessed.
func (s secret) isToken(p password) bool {
	t, ok := s.proof.(token)
	return ok && t.matches(p)
}

// token is the hash of a password that cannot be guessed.
type token [sha256.Size]byte

const sha256Of = "{SHA256}"

func newToken(p password) token { return sha256.Sum256([]byte(p.given)) }

func parseToken(word string) (token, error) {
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(word, sha256Of))
	if err != nil || len(sum) != sha256.Size {
		return token{}, errUnknownHash
	}
	return token(sum), nil
}

func (t token) String() string { return sha256Of + base64.StdEncoding.EncodeToString(t[:]) }

func (t token) matches(p password) bool {
	sum := newToken(p)
	return subtle.ConstantTimeCompare(t[:], sum[:]) == 1
}

func (t token) cost() int64 { return 0 }
