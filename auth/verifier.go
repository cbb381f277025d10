package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"

	"mailstead.dev/store"
)

// scramHash is a hash that SCRAM is used with.
type scramHash struct {
	name string // of the mechanism (RFC 5802 section 4, RFC 7677 section 3)
	size int    // octets
	scram.HashGeneratorFcn
}

var scramHashes = []*scramHash{{"SCRAM-SHA-256", 32, scram.SHA256}, {"SCRAM-SHA-1", 20, scram.SHA1}}

// hashesOf returns those that mechanisms need.
func hashesOf(mechanisms []string) (all []*scramHash) {
	for _, h := range scramHashes {
		if slices.Contains(mechanisms, h.name) {
			all = append(all, h)
		}
	}
	return all
}

// scramIterations makes guessing a password from a stolen verifier slow; RFC 7677 section 4 asks for 4096 at the least. Each
// login costs the client as many, and us none.
const scramIterations = 100_000

// verifier is what a SCRAM exchange is checked with, without the password. Its text is that of RFC 5803.
type verifier struct {
	hash *scramHash
	scram.StoredCredentials
}

// factorsOf returns the salt and the iterations of an account's verifiers. They are those of its password, and of all its app passwords, so that an
// exchange that begins with them can end with any of these. It is not ok where it has none.
func factorsOf(of store.Login, h *scramHash) (scram.KeyFactors, bool) {
	secrets := []string{of.Password}
	for _, app := range of.AppPasswords {
		secrets = append(secrets, app.Secret)
	}
	for _, text := range secrets {
		if v, ok := parseSecret(text).verifier(h); ok {
			return v.KeyFactors, true
		}
	}
	return scram.KeyFactors{}, false
}

// newVerifiers returns the words of a secret that are verifiers, each with a blank before it.
func newVerifiers(of store.Login, p password, hashes []*scramHash) (string, error) {
	words := ""
	for _, h := range hashes {
		factors, ok := factorsOf(of, h)
		if !ok {
			salt := make([]byte, saltLen)
			rand.Read(salt)
			factors = scram.KeyFactors{Salt: string(salt), Iters: scramIterations}
		}
		v, err := newVerifier(h, factors, p)
		if err != nil {
			return "", err
		}
		words += " " + v.String()
	}
	return words, nil
}

// nobodysFactors are those that a login is told that has none: the same each time, and of no account.
func (a *Authenticator) nobodysFactors(ctx context.Context, h *scramHash, login string) (scram.KeyFactors, error) {
	made, err := a.nobodys(ctx, h.name, login)
	if err != nil {
		return scram.KeyFactors{}, err
	}
	return scram.KeyFactors{Salt: string(made[:saltLen]), Iters: scramIterations}, nil
}

// nobodys returns octets that what a mechanism tells of a login that does not exist is made of, the same each time. What they are
// made with is a secret of the deployment, or whoever has its own would know them.
func (a *Authenticator) nobodys(ctx context.Context, mechanism, login string) ([]byte, error) {
	a.decoyMu.Lock()
	defer a.decoyMu.Unlock()
	if a.decoy == nil {
		decoy, err := a.directory.LoginSecret(ctx)
		if err != nil {
			return nil, fmt.Errorf("login: %w", err)
		}
		a.decoy = decoy
	}
	mac := hmac.New(sha256.New, a.decoy)
	mac.Write([]byte(mechanism + "\x00" + login))
	return mac.Sum(nil), nil
}

func newVerifier(h *scramHash, k scram.KeyFactors, p password) (verifier, error) {
	c, err := h.NewClient("", p.given, "") // which prepares the password by SASLprep (RFC 5802 section 2.2)
	if err != nil {
		if c, err = h.NewClientUnprepped("", p.given, ""); err != nil {
			return verifier{}, err
		}
	}
	credentials, err := c.GetStoredCredentialsWithError(k)
	return verifier{h, credentials}, err
}

var errVerifier = errors.New("not a verifier of SCRAM")

// parseVerifier reads SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey.
func parseVerifier(word string) (verifier, error) {
	parts := strings.Split(word, "$")
	if len(parts) != 3 {
		return verifier{}, errVerifier
	}
	for _, h := range scramHashes {
		if parts[0] != h.name {
			continue
		}
		iterations, salt, _ := strings.Cut(parts[1], ":")
		stored, server, _ := strings.Cut(parts[2], ":")
		n, err := strconv.Atoi(iterations)
		decodedSalt, saltErr := base64.StdEncoding.DecodeString(salt)
		storedKey, storedErr := base64.StdEncoding.DecodeString(stored)
		serverKey, serverErr := base64.StdEncoding.DecodeString(server)
		if errors.Join(err, saltErr, storedErr, serverErr) != nil || n < 1 || n > maxRounds ||
			len(decodedSalt) == 0 || len(decodedSalt) > 64 || len(storedKey) != h.size || len(serverKey) != h.size {
			return verifier{}, errVerifier
		}
		return verifier{h, scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(decodedSalt), Iters: n}, StoredKey: storedKey, ServerKey: serverKey,
		}}, nil
	}
	return verifier{}, errVerifier
}

func (v verifier) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", v.hash.name, v.Iters, b64([]byte(v.Salt)), b64(v.StoredKey), b64(v.ServerKey))
}

// matches is for an account that has come with nothing but a verifier, and whose user sends the password.
func (v verifier) matches(p password) bool {
	given, err := newVerifier(v.hash, v.KeyFactors, p)
	return err == nil && subtle.ConstantTimeCompare(given.StoredKey, v.StoredKey) == 1
}

func (v verifier) cost() int64 { return busy }
