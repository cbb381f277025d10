package imapd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"mailstead.dev/auth"
	"mailstead.dev/store/id"
	"mailstead.dev/store/storetest"
	"mailstead.dev/store/view"
)

// benchMail is a message with the header that mail has after its way through the world.
func benchMail(i int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Return-Path: <sender%d@example.test>\r\n", i%50)
	for hop := range 3 {
		fmt.Fprintf(&b, "Received: from mx%d.example.test (mx%d.example.test [192.0.2.%d])\r\n\tby relay%d.example.test (Postfix) with ESMTPS id %X\r\n\tfor <user@demo.test>; Thu, 1 Jan 2026 10:00:00 +0000 (UTC)\r\n", hop, i%7, i%255, hop, 1<<30+i*31)
	}
	fmt.Fprintf(&b, "From: Somebody Number %d <sender%d@example.test>\r\nTo: A User <user@demo.test>, Other <other%d@demo.test>\r\n", i%50, i%50, i%9)
	fmt.Fprintf(&b, "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= and message number %d about planning\r\nDate: Thu, 1 Jan 2026 10:00:00 +0000\r\nMessage-ID: <%d.abcdef@example.test>\r\n", i, i)
	fmt.Fprintf(&b, "In-Reply-To: <%d.abcdef@example.test>\r\nReferences: <%d.abcdef@example.test>\r\n <%d.abcdef@example.test>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"=_%d\"\r\n\r\n", i-1, i-2, i-1, i)
	text := strings.Repeat(fmt.Sprintf("Some words of message %d, and some more of them.\r\n", i), 20)
	fmt.Fprintf(&b, "--=_%d\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n--=_%d\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>%s</p>\r\n--=_%d--\r\n", i, text, i, text, i)
	return b.Bytes()
}

const benchMessages = 2000

// BenchmarkCommands runs commands on a mailbox of 2,000 messages.
func BenchmarkCommands(b *testing.B) {
	s := storetest.New(b)
	u := storetest.Account(b, s, "bench@bench.test")
	m, err := s.Open(b.Context(), u, "INBOX", 0)
	if err != nil {
		b.Fatal(err)
	}
	for i := range benchMessages {
		content, err := s.Receive(b.Context(), u.Tenant, bytes.NewReader(benchMail(i)))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := m.Append(b.Context(), incoming(content)); err != nil {
			b.Fatal(err)
		}
		content.Close()
	}
	server := New(Options{Store: s, Authenticator: auth.New(s, auth.Options{}), PlaintextLogin: true, Logger: slog.New(slog.DiscardHandler)})
	nc, err := net.Dial("tcp", listen(b, server, server.Serve))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	r := bufio.NewReaderSize(nc, 64<<10)
	do := func(command string) {
		if _, err := io.WriteString(nc, "a "+command+"\r\n"); err != nil {
			b.Fatal(err)
		}
		for {
			line, err := r.ReadSlice('\n')
			if err != nil && err != bufio.ErrBufferFull {
				b.Fatal(err)
			}
			if bytes.HasPrefix(line, []byte("a ")) {
				if !bytes.HasPrefix(line, []byte("a OK")) {
					b.Fatalf("%s: %s", command, line)
				}
				return
			}
		}
	}
	do("LOGIN bench@bench.test " + storetest.Password)
	do("SELECT INBOX")
	for _, bench := range []struct{ name, command string }{
		{"fetch-flags", "FETCH 1:* (UID FLAGS)"},
		{"fetch-envelope", "FETCH 1:* (UID FLAGS ENVELOPE INTERNALDATE RFC822.SIZE BODYSTRUCTURE)"},
		{"fetch-headers", "FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])"},
		{"fetch-body", "FETCH 77 BODY.PEEK[]"},
		{"fetch-all", "FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])"},
		{"search-unseen", "SEARCH UNSEEN"},
		{"search-subject", "SEARCH SUBJECT planning"},
		{"search-absent", "SEARCH SUBJECT absent"},
		{"search-message-id", "SEARCH HEADER Message-ID <1234.abcdef@example.test>"},
		{"search-body", "SEARCH BODY absent"},
		{"store-all", `STORE 1:* +FLAGS (\Flagged)`},
		{"noop", "NOOP"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do(bench.command)
			}
		})
	}
}

// BenchmarkAppendFlags is what FETCH FLAGS does for each message.
func BenchmarkAppendFlags(b *testing.B) {
	m := view.Message{UID: 5, Flags: view.Seen | view.Flagged, Keywords: view.KeywordBit(1)}
	s := selected{recent: view.NewUIDSet(id.UID(7))}
	keywords := []string{"$Work", "$Later"}
	var buf []byte
	for b.Loop() {
		buf = s.appendFlags(buf[:0], &m, keywords)
	}
}
