package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Cost of new hashes: OWASP's second recommendation for argon2id.
const (
	hashMemory  = 19 << 10 // KiB
	hashTime    = 2
	hashThreads = 1
	saltLen     = 16
	keyLen      = 32
)

// Bounds of hashes that are verified: a stored string must not be able to ask for all of the machine. What they
// let pass takes half a second about.
const (
	maxHashMemory  = 64 << 10  // KiB
	maxHashWork    = 256 << 10 // KiB, of all passes
	maxHashThreads = 16
	maxKeyLen      = 128
)

var errHash = errors.New("not a PHC string of argon2id")

// argon2id is a parsed PHC string.
type argon2id struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

func newArgon2id(p password) argon2id {
	h := argon2id{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltLen)}
	rand.Read(h.salt)
	h.key = h.derive(p, keyLen)
	return h
}

// parseArgon2id reads $argon2id$v=19$m=…,t=…,p=…$salt$key.
func parseArgon2id(phc string) (argon2id, error) {
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return argon2id{}, errHash
	}
	var h argon2id
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil {
		return argon2id{}, errHash
	}
	var saltErr, keyErr error
	h.salt, saltErr = base64.RawStdEncoding.DecodeString(parts[4])
	h.key, keyErr = base64.RawStdEncoding.DecodeString(parts[5])
	sane := h.memory >= 8*uint32(h.threads) && h.memory <= maxHashMemory &&
		h.time >= 1 && uint64(h.time)*uint64(h.memory) <= maxHashWork && h.threads >= 1 && h.threads <= maxHashThreads &&
		len(h.salt) >= 8 && len(h.key) >= 16 && len(h.key) <= maxKeyLen
	if saltErr != nil || keyErr != nil || !sane || h.String() != phc { // Sscanf lets pass what follows a number
		return argon2id{}, errHash
	}
	return h, nil
}

func (h argon2id) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, h.memory, h.time, h.threads, b64(h.salt), b64(h.key))
}

func (h argon2id) derive(p password, length int) []byte {
	return argon2.IDKey([]byte(p.prepared), h.salt, h.time, h.memory, h.threads, uint32(length))
}

func (h argon2id) matches(p password) bool {
	return subtle.ConstantTimeCompare(h.derive(p, len(h.key)), h.key) == 1
}

func (h argon2id) cost() int64 { return max(int64(h.memory), busy) }
