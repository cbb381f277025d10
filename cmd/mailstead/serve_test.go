package main

import (
	"net"
	"strings"
	"testing"
)

// A port that is taken is told with the setting that names it, and nothing is served.
func TestServePortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for _, key := range []string{"imap.listen", "lmtp.listen", "http.listen"} {
		s := newSite(t)
		for _, other := range []string{"MAILSTEAD_IMAP_LISTEN", "MAILSTEAD_LMTP_LISTEN", "MAILSTEAD_HTTP_LISTEN"} {
			s.environ = append(s.environ, other+"=127.0.0.1:0")
		}
		s.environ = append(s.environ, "MAILSTEAD_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))+"="+taken)
		s.refuse("serve", key+": listen tcp "+taken+": bind: address already in use")
	}
}
