package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"
)

// Cost of new hashes: OWASP's second recommendation for argon2id.
const (
	hashMemory  = 19 << 10 // KiB
	hashTime    = 2
	hashThreads = 1
	saltLen     = 16
	keyLen      = 32
)

// Bounds of hashes that are verified: a stored string must not be able to ask
// for all of the machine.
const (
	maxHashMemory = 1 << 20 // KiB
	maxHashTime   = 64
	maxKeyLen     = 128
)

var errHash = errors.New("not a PHC string of argon2id")

// hash is a parsed PHC string of argon2id.
type hash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// Hash returns the PHC string under which a password is kept.
func Hash(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	h := hash{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltLen)}
	rand.Read(h.salt)
	h.key = h.derive(prepare(password), keyLen)
	return h.String(), nil
}

// CheckHash says what is wrong with a PHC string that is to be stored.
func CheckHash(phc string) error {
	_, err := parseHash(phc)
	return err
}

// parseHash reads $argon2id$v=19$m=…,t=…,p=…$salt$key.
func parseHash(phc string) (hash, error) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return hash{}, errHash
	}
	var h hash
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil {
		return hash{}, errHash
	}
	var saltErr, keyErr error
	h.salt, saltErr = base64.RawStdEncoding.DecodeString(parts[4])
	h.key, keyErr = base64.RawStdEncoding.DecodeString(parts[5])
	sane := h.memory >= 8*uint32(h.threads) && h.memory <= maxHashMemory &&
		h.time >= 1 && h.time <= maxHashTime && h.threads >= 1 &&
		len(h.salt) >= 8 && len(h.key) >= 16 && len(h.key) <= maxKeyLen
	if saltErr != nil || keyErr != nil || !sane || h.String() != phc { // Sscanf lets pass what follows a number
		return hash{}, errHash
	}
	return h, nil
}

func (h hash) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, h.memory, h.time, h.threads, b64(h.salt), b64(h.key))
}

func (h hash) derive(password string, length int) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(length))
}

func (h hash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.derive(password, len(h.key)), h.key) == 1
}

// prepare brings a password to the one form in which it is hashed, so that the
// same password typed on systems that compose letters differently is the same
// (RFC 8265 section 4.2; RFC 4616 section 2 asks for its predecessor). What the
// profile does not allow is taken as it is.
func prepare(password string) string {
	if prepared, err := precis.OpaqueString.String(password); err == nil {
		return prepared
	}
	return password
}

// Generate returns a random password of 120 bits that can be typed.
func Generate() string { return rand.Text()[:24] }
