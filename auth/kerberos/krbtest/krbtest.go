// Package krbtest makes tickets of Kerberos for tests, as a KDC would, and is the client who shows them, also with what no client should do.
package krbtest

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gofork "github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Realm is where tickets are of.
const Realm = "ACME.TEST"

// KDC makes tickets for the keys in a file.
type KDC struct {
	Keytab string // the file

	t    *testing.T
	keys *keytab.Keytab
}

// New makes keys of the services imap and host.
func New(t *testing.T) *KDC {
	t.Helper()
	k := &KDC{Keytab: filepath.Join(t.TempDir(), "keytab"), t: t, keys: keytab.New()}
	var errs []error
	for _, service := range []string{"imap/localhost", "host/localhost"} {
		for _, kind := range []int32{etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.RC4_HMAC} {
			errs = append(errs, k.keys.AddEntry(service, Realm, "a secret", time.Now(), 1, kind))
		}
	}
	text, err := k.keys.Marshal()
	if err := errors.Join(append(errs, err, os.WriteFile(k.Keytab, text, 0o600))...); err != nil {
		t.Fatal(err)
	}
	return k
}

// Ask is a ticket, and how it is shown. Zero fields mean what is right.
type Ask struct {
	Name, Realm string // whose it is
	Service     string
	Says        string // of which realm the client says it is
	Flags       uint32 // of GSS-API
	Kind        int32  // of the session's key
	Sealed      int32  // the kind of the service's key that the ticket is for; that of the session's by default
	Lasts       time.Duration
}

// Mutual is the flag that asks for mutual authentication.
const Mutual = 2

// Client is one who has shown a ticket.
type Client struct {
	Token []byte // that it begins with

	t            *testing.T
	session, key types.EncryptionKey
	mutual       bool
}

func or[T comparable](value, instead T) T {
	var zero T
	if value == zero {
		return instead
	}
	return value
}

// Client begins an exchange.
func (k *KDC) Client(a Ask) *Client {
	k.t.Helper()
	realm, name := or(a.Realm, Realm), types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, or(a.Name, "jane"))
	now := time.Now().UTC().Truncate(time.Second)
	ticket, session, err := messages.NewTicket(name, realm, types.NewPrincipalName(nametype.KRB_NT_SRV_HST, or(a.Service, "imap")+"/localhost"), Realm,
		gofork.BitString{Bytes: make([]byte, 4), BitLength: 32}, k.keys, or(a.Kind, etypeID.AES256_CTS_HMAC_SHA1_96), 1, now, now, now.Add(or(a.Lasts, time.Hour)), now)
	if err != nil {
		k.t.Fatal(err)
	}
	if a.Sealed != 0 {
		k.seal(&ticket, a.Sealed)
	}
	authenticator, err := types.NewAuthenticator(or(a.Says, realm), name)
	if err != nil {
		k.t.Fatal(err)
	}
	sum := make([]byte, 24)
	sum[0] = 16
	binary.LittleEndian.PutUint32(sum[20:], or(a.Flags, Mutual))
	authenticator.Cksum = types.Checksum{CksumType: 0x8003, Checksum: sum}
	request, err := messages.NewAPReq(ticket, session, authenticator)
	if err != nil {
		k.t.Fatal(err)
	}
	text, err := request.Marshal()
	if err != nil {
		k.t.Fatal(err)
	}
	oid := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}
	token, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, IsCompound: true, Bytes: slices.Concat(oid, []byte{1, 0}, text)})
	if err != nil {
		k.t.Fatal(err)
	}
	return &Client{Token: token, t: k.t, session: session, key: session, mutual: or(a.Flags, Mutual)&Mutual != 0}
}

// seal encrypts a ticket anew, for a key of the service of another kind.
func (k *KDC) seal(ticket *messages.Ticket, kind int32) {
	k.t.Helper()
	key := func(kind int32) types.EncryptionKey {
		found, _, err := k.keys.GetEncryptionKey(ticket.SName, ticket.Realm, 1, kind)
		if err != nil {
			k.t.Fatal(err)
		}
		return found
	}
	plain, err := crypto.DecryptEncPart(ticket.EncPart, key(ticket.EncPart.EType), keyusage.KDC_REP_TICKET)
	if err != nil {
		k.t.Fatal(err)
	}
	if ticket.EncPart, err = crypto.GetEncryptedData(plain, key(kind), keyusage.KDC_REP_TICKET, 1); err != nil {
		k.t.Fatal(err)
	}
}

// Agree takes the server's proof, and tells whether it has asked for one.
func (c *Client) Agree(token []byte) bool {
	c.t.Helper()
	if !c.mutual {
		return false
	}
	_, text, found := bytes.Cut(token, []byte{0x01, 0x02, 0x02, 2, 0}) // the end of the mechanism's name, and the kind of token
	var reply messages.APRep
	if err := reply.Unmarshal(text); err != nil || !found {
		c.t.Fatalf("the reply %x: %v", token, err)
	}
	plain, err := crypto.DecryptEncPart(reply.EncPart, c.session, keyusage.AP_REP_ENCPART)
	if err != nil {
		c.t.Fatal(err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		c.t.Fatal(err)
	}
	c.key = part.Subkey
	return true
}

// Unwrap returns what the server has wrapped.
func (c *Client) Unwrap(token []byte) []byte {
	c.t.Helper()
	var w gssapi.WrapToken
	if err := w.Unmarshal(token, true); err != nil {
		c.t.Fatal(err)
	}
	if ok, err := w.Verify(c.key, keyusage.GSSAPI_ACCEPTOR_SEAL); err != nil || !ok {
		c.t.Fatalf("what the server has wrapped is not its own: %v", err)
	}
	return w.Payload
}

// Wrap wraps a text; flags are what a token has of them, rotated by how much what it has is rotated to the right.
func (c *Client) Wrap(text []byte, flags byte, rotated int) []byte {
	c.t.Helper()
	w := gssapi.WrapToken{Flags: flags, EC: 12, Payload: text}
	if err := w.SetCheckSum(c.key, keyusage.GSSAPI_INITIATOR_SEAL); err != nil {
		c.t.Fatal(err)
	}
	token, err := w.Marshal()
	if err != nil {
		c.t.Fatal(err)
	}
	rest := token[gssapi.HdrLen:]
	n := len(rest) - rotated%len(rest)
	copy(rest, slices.Concat(rest[n:], rest[:n]))
	binary.BigEndian.PutUint16(token[6:], uint16(rotated))
	return token
}
