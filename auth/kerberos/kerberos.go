// Package kerberos accepts who shows a ticket of Kerberos 5, as GSS-API does (RFC 4121), and what is then wrapped without
// confidentiality. What follows from it is package auth's.
//
// gokrb5 decrypts the tickets. It has had no release since February 2023, and nobody answers for it; there is no other in Go, and go-ldap uses it as well. So
// it is used for as little as can be, what it does not look at is looked at here, and what it panics at is refused.
package kerberos

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/addrtype"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// maxSkew is by how much clocks may differ (RFC 4120 section 1.6).
const maxSkew = 5 * time.Minute

// encryption are the kinds of keys that RFC 4121 is for; older ones are not safe any more.
var encryption = []int32{
	etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.AES128_CTS_HMAC_SHA1_96, etypeID.AES256_CTS_HMAC_SHA384_192, etypeID.AES128_CTS_HMAC_SHA256_128,
}

// ErrNoKeys says that there are no keys of the service, or none that can be read.
var ErrNoKeys = errors.New("no keys of Kerberos")

// Keytab is a file with the keys of a service. It is read each time, so that they can be changed.
type Keytab struct {
	file string
	seen replays
}

// NewKeytab returns one that nothing was shown to yet.
func NewKeytab(file string) *Keytab { return &Keytab{file: file} }

// Check tells what is wrong with the file, an ErrNoKeys.
func (k *Keytab) Check() error {
	_, err := k.read()
	return err
}

func (k *Keytab) read() (keys *keytab.Keytab, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: keytab %s: %w", ErrNoKeys, k.file, err)
		}
	}()
	defer recovered(&err)
	keys, err = keytab.Load(k.file)
	if err == nil && len(keys.Entries) == 0 {
		err = errors.New("there is no key in it")
	}
	return keys, err
}

// Context is what has been agreed upon with somebody.
type Context struct {
	Name  string // who it is, without its realm
	Realm string
	Until time.Time // the end of the ticket

	key      types.EncryptionKey // of what is wrapped
	flags    byte                // of that, on both sides
	sequence int64               // of what we wrap
}

// Accept takes a client's first token, an AP-REQ for a service on whatever host. Where the client asks for mutual authentication it returns what proves
// that we have the service's key, nil otherwise. Then the key of the exchange is new, and a token that is sent again is good for nothing; otherwise it is
// remembered which have been seen. ErrNoKeys.
func (k *Keytab) Accept(service string, from netip.Addr, token []byte) (c *Context, reply []byte, err error) {
	defer recovered(&err)
	keys, err := k.read()
	if err != nil {
		return nil, nil, err
	}
	text, err := unframe(token, apReq)
	if err != nil {
		return nil, nil, err
	}
	var request messages.APReq
	if err := request.Unmarshal(text); err != nil {
		return nil, nil, err
	}
	if name := request.Ticket.SName.NameString; len(name) != 2 || name[0] != service {
		return nil, nil, errors.New("the ticket is for another service")
	}
	if kind := request.Ticket.EncPart.EType; !slices.Contains(encryption, kind) { // of the service's key, which may be among its keys nevertheless
		return nil, nil, fmt.Errorf("tickets of kind %d are not taken", kind)
	}
	ok, err := request.Verify(keys, maxSkew, hostAddress(from), nil)
	if err != nil {
		return nil, nil, unverified(err)
	}
	// Whose the ticket is: what the authenticator says of the realm is not compared with it.
	ticket, authenticator := request.Ticket.DecryptedEncPart, request.Authenticator
	switch {
	case !ok:
		return nil, nil, errors.New("the ticket is not valid")
	case len(ticket.CName.NameString) != 1: // such as jane/admin, or another service
		return nil, nil, errors.New("the ticket is of no user")
	case authenticator.CRealm != ticket.CRealm:
		return nil, nil, errors.New("the ticket is of another realm")
	case !slices.Contains(encryption, ticket.Key.KeyType):
		return nil, nil, fmt.Errorf("keys of kind %d are not taken", ticket.Key.KeyType)
	}
	mutual, err := wantsMutual(authenticator.Cksum)
	if err != nil {
		return nil, nil, err
	}
	c = &Context{Name: ticket.CName.NameString[0], Realm: ticket.CRealm, Until: ticket.EndTime}
	if mutual {
		reply, err = c.answer(ticket.Key, authenticator)
		return c, reply, err
	}
	c.key, c.sequence = ticket.Key, authenticator.SeqNumber
	if authenticator.SubKey.KeyType != 0 {
		c.key = authenticator.SubKey
	}
	if !slices.Contains(encryption, c.key.KeyType) {
		return nil, nil, fmt.Errorf("keys of kind %d are not taken", c.key.KeyType)
	}
	if err := k.seen.add(request.EncryptedAuthenticator.Cipher, time.Now()); err != nil {
		return nil, nil, err
	}
	return c, nil, nil
}

// unverified is why a ticket is not taken, by its number alone: the library's words name whom it is for, and are logged.
func unverified(err error) error {
	if e, ok := errors.AsType[messages.KRBError](err); ok {
		return errors.New(errorcode.Lookup(e.ErrorCode))
	}
	return errors.New("no key of the service opens the ticket")
}

func recovered(err *error) {
	if bug := recover(); bug != nil {
		*err = fmt.Errorf("what was sent makes no sense: %v", bug)
	}
}

func hostAddress(from netip.Addr) types.HostAddress {
	from = from.Unmap().WithZone("")
	kind := addrtype.IPv4
	if from.Is6() {
		kind = addrtype.IPv6
	}
	return types.HostAddress{AddrType: kind, Address: from.AsSlice()}
}

// wantsMutual looks at what GSS-API has in the place of a checksum (RFC 4121 section 4.1.1).
func wantsMutual(sum types.Checksum) (bool, error) {
	const flagsAt, mutual = 20, 2
	if sum.CksumType != chksumtype.GSSAPI || len(sum.Checksum) < flagsAt+4 {
		return false, errors.New("the authenticator is none of GSS-API")
	}
	return binary.LittleEndian.Uint32(sum.Checksum[flagsAt:])&mutual != 0, nil
}

// answer makes the AP-REP (RFC 4120 section 5.5.2), with a key that is new.
func (c *Context) answer(session types.EncryptionKey, asked types.Authenticator) ([]byte, error) {
	kind, err := crypto.GetEtype(session.KeyType)
	if err != nil {
		return nil, err
	}
	if c.key, err = types.GenerateEncryptionKey(kind); err != nil {
		return nil, err
	}
	c.flags = acceptorSubkey
	var random [4]byte
	rand.Read(random[:])
	c.sequence = int64(binary.BigEndian.Uint32(random[:])>>2) + 1 // some take it for a signed number
	part, err := asn1.MarshalWithParams(
		messages.EncAPRepPart{CTime: asked.CTime, Cusec: asked.Cusec, Subkey: c.key, SequenceNumber: c.sequence}, application(asnAppTag.EncAPRepPart))
	if err != nil {
		return nil, err
	}
	encrypted, err := crypto.GetEncryptedData(part, session, keyusage.AP_REP_ENCPART, 0)
	if err != nil {
		return nil, err
	}
	text, err := asn1.MarshalWithParams(messages.APRep{PVNO: 5, MsgType: msgtype.KRB_AP_REP, EncPart: encrypted}, application(asnAppTag.APREP))
	if err != nil {
		return nil, err
	}
	return frame(text, apRep)
}

func application(tag int) string { return fmt.Sprintf("application,explicit,tag:%d", tag) }

// Kinds of tokens (RFC 4121 section 4.1).
var apReq, apRep = []byte{1, 0}, []byte{2, 0}

// mechanism is that of Kerberos, 1.2.840.113554.1.2.2.
var mechanism = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}

// frame puts around a token what every mechanism has (RFC 2743 section 3.1).
func frame(text, kind []byte) ([]byte, error) {
	return asn1.Marshal(asn1.RawValue{Class: asn1.ClassApplication, Tag: 0, IsCompound: true, Bytes: slices.Concat(mechanism, kind, text)})
}

func unframe(token, kind []byte) ([]byte, error) {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(token, &v)
	if err != nil {
		return nil, err
	}
	text, ok := bytes.CutPrefix(v.Bytes, slices.Concat(mechanism, kind))
	if !ok || len(rest) > 0 || v.Class != asn1.ClassApplication || v.Tag != 0 {
		return nil, errors.New("not a token of Kerberos")
	}
	return text, nil
}

// Flags of what is wrapped (RFC 4121 section 4.2.2).
const (
	byAcceptor     = 1 << iota
	_              // sealed
	acceptorSubkey // the key is the one that we have made
)

// Wrap wraps a text, without confidentiality, so that the client sees that it is ours (RFC 4121 section 4.2.4).
func (c *Context) Wrap(text []byte) ([]byte, error) {
	kind, err := crypto.GetEtype(c.key.KeyType)
	if err != nil {
		return nil, err
	}
	token := gssapi.WrapToken{Flags: byAcceptor | c.flags, EC: uint16(kind.GetHMACBitLength() / 8), SndSeqNum: uint64(c.sequence), Payload: text}
	c.sequence++
	if err := token.SetCheckSum(c.key, keyusage.GSSAPI_ACCEPTOR_SEAL); err != nil {
		return nil, err
	}
	return token.Marshal()
}

// Unwrap returns the text that the client has wrapped.
func (c *Context) Unwrap(wrapped []byte) (text []byte, err error) {
	defer recovered(&err)
	var token gssapi.WrapToken
	if err := token.Unmarshal(unrotated(wrapped), false); err != nil {
		return nil, err
	}
	if token.Flags != c.flags { // neither sealed nor with a key that another exchange could have
		return nil, fmt.Errorf("it is wrapped with the flags %d", token.Flags)
	}
	ok, err := token.Verify(c.key, keyusage.GSSAPI_INITIATOR_SEAL)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errors.New("it is not the client who has wrapped it")
	}
	return token.Payload, nil
}

// unrotated turns what stands behind the header of a token back to where it was before it was rotated to the right (RFC 4121
// section 4.2.5), which Windows does, and gokrb5 does not undo.
func unrotated(token []byte) []byte {
	const header, by = gssapi.HdrLen, 6
	if len(token) <= header {
		return token
	}
	rest := token[header:]
	n := int(binary.BigEndian.Uint16(token[by:])) % len(rest)
	return slices.Concat(token[:by], []byte{0, 0}, token[by+2:header], rest[n:], rest[:n])
}
