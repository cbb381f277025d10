package kerberos

import (
	"net/netip"
	"testing"

	"mailstead.dev/auth/kerberos/krbtest"
)

// Whatever a client begins with that no KDC has made is refused, and nothing else happens.
func FuzzAccept(f *testing.F) {
	var keys Keytab
	var valid []byte
	f.Add([]byte{0x60, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01, 0x00})
	f.Add([]byte{0x60})
	f.Fuzz(func(t *testing.T, token []byte) {
		if valid == nil {
			kdc := krbtest.New(t)
			valid = kdc.Client(krbtest.Ask{}).Token
			var err error
			if keys, err = ReadKeytab(kdc.Keytab); err != nil {
				t.Fatal(err)
			}
		}
		for _, try := range [][]byte{token, overlaid(valid, token)} {
			if c, _, err := keys.Accept("imap", netip.Addr{}, try); err == nil && (c.Name != "jane" || c.Realm != krbtest.Realm) { // some of a token is not protected, and says nothing
				t.Errorf("%x is taken as %s of %s", try, c.Name, c.Realm)
			}
		}
	})
}

// overlaid is a token with another laid over some of it: at the place that its first octets say.
func overlaid(token, over []byte) []byte {
	token = append([]byte(nil), token...)
	if len(over) > 2 {
		copy(token[(int(over[0])<<8+int(over[1]))%len(token):], over[2:])
	}
	return token
}
