package index

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"mime/quotedprintable"
	"strings"
)

// mailer writes ordinary mail: a vocabulary in which few words are common and
// most are rare, sentences that people write again and again, names and numbers
// that are new in each message, every twentieth message Chinese, and the forms in
// which programs send. zstd packs its text about as it packs English.
type mailer struct {
	*rand.Rand
	words []string
	stock []string // sentences
}

const (
	mailWords = 150_000
)

// mailSyllables make the words, so that they are as like each other as words are.
var mailSyllables = strings.Fields(`e er in an re on at en es or te ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne ea ra ce li ch ll
	be ma si om ur ing ent ion tion for per con com pro pre ment able ness ous est ver ter der ber ful less ship land man out over under work time day way
	th sh ph qu ck x y z j k w v p g b m`)

func newMailer(seed uint64) *mailer {
	m := &mailer{Rand: rand.New(rand.NewPCG(seed, 9))}
	words := rand.New(rand.NewPCG(1, 1)) // the same for all
	m.words = make([]string, mailWords)
	for i := range m.words {
		n := 1 + int(math.Pow(float64(i), 0.1)) + words.IntN(2)
		for range n {
			m.words[i] += mailSyllables[int(math.Exp(words.Float64()*math.Log(float64(len(mailSyllables)))))]
		}
		if i%200 == 199 {
			m.words[i] = strings.NewReplacer("a", "ä", "o", "ö", "e", "é").Replace(m.words[i])
		}
	}
	stock := &mailer{Rand: words, words: m.words}
	for range 2000 {
		var b strings.Builder
		stock.sentence(&b, 4+words.IntN(10))
		m.stock = append(m.stock, b.String())
	}
	return m
}

// word is one of the vocabulary, the k-th as often as 1/k.
func (m *mailer) word() string {
	return m.words[min(mailWords-1, int(math.Exp(m.Float64()*math.Log(mailWords))))]
}

func (m *mailer) token(n int) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[m.IntN(len(alphabet))]
	}
	return string(b)
}

func (m *mailer) sentence(b *strings.Builder, words int) {
	for i := range words {
		w := m.word()
		switch {
		case i == 0:
			w = strings.ToUpper(w[:1]) + w[1:]
		case m.IntN(150) == 0:
			w = fmt.Sprint(m.IntN(1_000_000))
		case m.IntN(400) == 0:
			w = "https://" + m.word() + ".example/" + m.word() + "/" + m.token(8)
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w)
	}
	b.WriteString(".")
}

func (m *mailer) body(size int) string {
	var b strings.Builder
	han := m.IntN(20) == 0
	for b.Len() < size {
		if han {
			for range 5 + m.IntN(30) {
				b.WriteRune(rune(0x4e00 + int(math.Exp(m.Float64()*math.Log(3000)))))
			}
			b.WriteString("。")
		} else if m.IntN(5) == 0 {
			b.WriteString(m.stock[int(math.Exp(m.Float64()*math.Log(float64(len(m.stock)))))])
		} else {
			m.sentence(&b, 4+m.IntN(16))
		}
		if m.IntN(5) == 0 {
			b.WriteString("\r\n\r\n")
		} else {
			b.WriteString("\r\n")
		}
	}
	return b.String()
}

func (m *mailer) address() string {
	name, family := m.words[m.IntN(3000)], m.words[m.IntN(9000)]
	local := strings.Map(func(r rune) rune { return min(r, 'z') }, name+"."+family)
	return fmt.Sprintf("%s %s <%s@%s.example>", name, family, local, m.words[m.IntN(500)])
}

func encodeQuoted(s string) string {
	var b strings.Builder
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(s)) // a Builder takes all
	_ = w.Close()
	return b.String()
}

func encodeLines(s string) string {
	e := base64.StdEncoding.EncodeToString([]byte(s))
	var b strings.Builder
	for len(e) > 76 {
		b.WriteString(e[:76] + "\r\n")
		e = e[76:]
	}
	return b.String() + e + "\r\n"
}

// message is a whole one.
func (m *mailer) message() []byte {
	var b strings.Builder
	from, id := m.address(), m.token(20)
	fmt.Fprintf(&b, "Received: from mx%d.%s.example ([192.0.2.%d]) by mail.example with ESMTPS id %s;\r\n\tThu, 26 Nov 2026 %02d:%02d:%02d +0000\r\n",
		m.IntN(9), m.word(), m.IntN(256), m.token(12), m.IntN(24), m.IntN(60), m.IntN(60))
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\n", from, m.address())
	if m.IntN(4) == 0 {
		fmt.Fprintf(&b, "Cc: %s, %s\r\n", m.address(), m.address())
	}
	var subject strings.Builder
	m.sentence(&subject, 3+m.IntN(6))
	fmt.Fprintf(&b, "Subject: =?utf-8?B?%s?=\r\n", base64.StdEncoding.EncodeToString([]byte(subject.String())))
	fmt.Fprintf(&b, "Date: Thu, %d Nov 2026 %02d:%02d:%02d +0000\r\nMessage-ID: <%s@%s.example>\r\nMIME-Version: 1.0\r\nX-Mailer: %s %d.%d\r\n",
		1+m.IntN(28), m.IntN(24), m.IntN(60), m.IntN(60), id, m.word(), m.words[m.IntN(30)], m.IntN(9), m.IntN(9))
	body := m.body(int(800 * math.Exp(m.Float64()*2.2)))
	switch m.IntN(5) {
	case 0:
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n%s", encodeLines(body))
	case 1:
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%s", encodeQuoted(body))
	case 2:
		part := "Content-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%s\r\n"
		half := body[:strings.LastIndexByte(body[:len(body)/2+1], '\n')+1]
		fmt.Fprintf(&b, "Content-Type: multipart/alternative; boundary=%q\r\n\r\n--%s\r\n", id, id)
		fmt.Fprintf(&b, part, "plain", encodeQuoted(half))
		html := "<html><body><div class=3D\"m\"><p>" + strings.ReplaceAll(half, "\r\n", "</p>\r\n<p style=3D\"margin:0\">") + "<a href=\"https://" + m.word() + ".example/" + m.token(9) + "\">" + m.word() + "</a></p></div></body></html>"
		fmt.Fprintf(&b, "--%s\r\n"+part+"--%s--\r\n", id, "html", encodeQuoted(html), id)
	default:
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s", body)
	}
	return []byte(b.String())
}
