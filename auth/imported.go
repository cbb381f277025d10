package auth

import (
	"crypto/sha1" // what SSHA is made of
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/go-crypt/x/crypt"
	"golang.org/x/crypto/bcrypt"
)

// Hashes that other systems have kept. They are verified until the next login, which keeps the password as an
// argon2id hash; until then the time that a wrong one takes may tell that the account is there, where it takes longer than ours.

// busy is the cost of what takes a processor, and no memory.
const busy = hashMemory

// Bounds of imported hashes: no login may keep a processor for much more than half a second.
const (
	maxBcryptCost = 13
	maxRounds     = 200_000
)

// bcryptOctets is how much of a password bcrypt looks at.
const bcryptOctets = 72

// bcryptHash is $2a$, $2b$ or $2y$.
type bcryptHash []byte

func parseBcrypt(word string) (bcryptHash, error) {
	cost, err := bcrypt.Cost([]byte(word))
	if err != nil || cost > maxBcryptCost || len(word) != 60 || !strings.Contains("aby", word[2:3]) {
		return nil, errUnknownHash
	}
	return bcryptHash(word), nil
}

func (h bcryptHash) matches(p password) bool {
	return bcrypt.CompareHashAndPassword(h, []byte(p.given)) == nil
}

func (h bcryptHash) cost() int64 { return busy }

// sha512Crypt is $6$salt$key, or $6$rounds=n$salt$key.
type sha512Crypt struct {
	rounds    int
	salt, key []byte // as they are written
}

const (
	sha512CryptRounds = 5000 // where none are said
	sha512CryptKey    = 86   // characters
	sha512CryptSalt   = 16   // at most
)

func parseSHA512Crypt(word string) (h sha512Crypt, err error) {
	parts := strings.Split(strings.TrimPrefix(word, "$6$"), "$")
	h.rounds = sha512CryptRounds
	if n, said := strings.CutPrefix(parts[0], "rounds="); said {
		if h.rounds, err = strconv.Atoi(n); err != nil || h.rounds < 1000 || h.rounds > maxRounds {
			return h, errUnknownHash
		}
		parts = parts[1:]
	}
	if len(parts) != 2 || len(parts[0]) > sha512CryptSalt || len(parts[1]) != sha512CryptKey {
		return h, errUnknownHash
	}
	h.salt, h.key = []byte(parts[0]), []byte(parts[1])
	return h, nil
}

func (h sha512Crypt) matches(p password) bool {
	return subtle.ConstantTimeCompare(crypt.KeySHACrypt(sha512.New, []byte(p.given), h.salt, h.rounds), h.key) == 1
}

func (h sha512Crypt) cost() int64 { return busy }

// salted is {SSHA} and the base64 of a SHA-1 sum with its salt behind it.
type salted struct{ sum, salt []byte }

const ssha = "{SSHA}"

func parseSalted(word string) (salted, error) {
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(word, ssha))
	if err != nil || len(decoded) <= sha1.Size || len(decoded) > sha1.Size+64 {
		return salted{}, errUnknownHash
	}
	return salted{decoded[:sha1.Size], decoded[sha1.Size:]}, nil
}

func (h salted) matches(p password) bool {
	sum := sha1.Sum(append([]byte(p.given), h.salt...))
	return subtle.ConstantTimeCompare(sum[:], h.sum) == 1
}

func (h salted) cost() int64 { return busy }
