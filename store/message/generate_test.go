package message

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// generator makes mail as programs of our time write it, the same for every
// seed: for tests, and to train the dictionary.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 0x6d61696c))} }

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

var genWords = strings.Fields(`the of and to in is you that it for on are with as this be at have from or one had by but what all were when
	we there can an your which their said if do will each about how up out them then she many some so these would other into has more
	two like him see time could no make than first been its who now people my made over did down only way find use may water long little
	very after words called just where most know report meeting invoice order delivery project budget review release server account
	password update tomorrow question thanks regards attached please schedule Monday Friday contract customer support ticket`)

func (g generator) words(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = pick(g, genWords...)
	}
	return strings.Join(list, " ")
}

func (g generator) token(n int) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[g.IntN(len(alphabet))]
	}
	return string(b)
}

func (g generator) digits(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + g.IntN(10))
	}
	return string(b)
}

func (g generator) host() string {
	return pick(g, "gmail.com", "outlook.com", "yahoo.com", "icloud.com", "example.com", "example.org", "example.net",
		strings.ToLower(g.token(7))+".com", strings.ToLower(g.token(9))+".de", strings.ToLower(g.token(6))+".co.uk", "mail."+strings.ToLower(g.token(8))+".io")
}

var genNames = strings.Fields("Anna Ben Clara David Elena Frank Grace Henry Ivan Julia Karl Laura Maria Nina Oscar Paula Quentin Rosa Simon Tina")
var genFamilies = strings.Fields("Smith Müller García Novák Rossi Jensen Kowalski Dubois Tanaka Johnson Brown Williams Weber Fischer Kim Nguyen")

func (g generator) address() string {
	first, family := pick(g, genNames...), pick(g, genFamilies...)
	local := strings.ToLower(first) + pick(g, ".", "", "_") + g.digits(g.IntN(3))
	switch g.IntN(6) {
	case 0:
		return local + "@" + g.host()
	case 1:
		return fmt.Sprintf("<%s@%s>", local, g.host())
	case 2:
		return fmt.Sprintf("%q <%s@%s>", family+", "+first, local, g.host())
	}
	if family[1] >= 0x80 || strings.ContainsAny(family, "üíá") {
		return fmt.Sprintf("=?%s?Q?%s_%s?= <%s@%s>", pick(g, "UTF-8", "utf-8"), first, strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(family, "ü", "=C3=BC"), "í", "=C3=AD"), "á", "=C3=A1"), local, g.host())
	}
	return fmt.Sprintf("%s %s <%s@%s>", first, family, local, g.host())
}

func (g generator) addresses(most int) string {
	n := 1 + g.IntN(most)
	if g.IntN(3) > 0 {
		n = 1
	}
	list := make([]string, n)
	for i := range list {
		list[i] = g.address()
	}
	return strings.Join(list, ",\r\n\t")
}

func (g generator) date() string {
	t := time.Unix(1_600_000_000+g.Int64N(200_000_000), 0).In(time.FixedZone("", 3600*(g.IntN(20)-10)))
	return t.Format(pick(g, "Mon, 2 Jan 2006 15:04:05 -0700", "Mon, 02 Jan 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 -0700 (MST)"))
}

func (g generator) messageID() string {
	return "<" + pick(g, "CA"+g.token(52)+"@mail.gmail.com", g.token(8)+"-"+g.token(4)+"-"+g.token(12)+"@"+g.host(),
		g.digits(14)+"."+g.digits(6)+"@"+g.host(), strings.ToUpper(g.token(30))+"@"+strings.ToUpper(g.token(12))+".eurprd04.prod.outlook.com") + ">"
}

func (g generator) subject() string {
	s := g.words(2 + g.IntN(6))
	if g.IntN(5) == 0 {
		s = "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(s+" – grüße")) + "?="
	}
	return pick(g, "", "", "Re: ", "Re: ", "Fwd: ", "AW: ", "["+g.token(5)+"] ", "Re: [dev] ") + s
}

// message makes a whole message, CRLF.
func (g generator) message() []byte {
	var h strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&h, format+"\r\n", args...) }
	from := g.address()
	for range g.IntN(4) {
		add("Received: from %s (%s [192.0.2.%d])\r\n\tby mx.%s with ESMTPS id %s\r\n\tfor <%s>; %s", g.host(), g.host(), g.IntN(255), g.host(), g.token(14), g.address(), g.date())
	}
	if g.IntN(2) == 0 {
		add("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%s; s=%s;\r\n\th=from:to:subject:date:message-id;\r\n\tbh=%s=;\r\n\tb=%s", g.host(), g.token(8), g.token(43), g.token(172))
	}
	references := func() {
		if g.IntN(2) == 0 {
			return
		}
		id := g.messageID()
		add("In-Reply-To: %s", id)
		ids := []string{id}
		for range g.IntN(4) {
			ids = append(ids, g.messageID())
		}
		add("References: %s", strings.Join(ids, "\r\n "))
	}
	switch g.IntN(8) {
	case 0: // Gmail
		add("MIME-Version: 1.0")
		references()
		add("From: %s\r\nDate: %s\r\nMessage-ID: %s\r\nSubject: %s\r\nTo: %s", from, g.date(), g.messageID(), g.subject(), g.addresses(6))
		if g.IntN(3) == 0 {
			add("Cc: %s", g.addresses(6))
		}
	case 1: // Outlook
		add("From: %s\r\nTo: %s\r\nSubject: %s\r\nThread-Topic: %s\r\nThread-Index: %s==\r\nDate: %s\r\nMessage-ID: %s", from, g.addresses(8), g.subject(), g.words(4), g.token(30), g.date(), g.messageID())
		references()
		add("Accept-Language: en-US, de-DE\r\nContent-Language: en-US\r\nX-MS-Has-Attach:\r\nX-MS-TNEF-Correlator:\r\nMIME-Version: 1.0")
	case 2: // Apple Mail
		add("From: %s\r\nContent-Transfer-Encoding: quoted-printable\r\nMime-Version: 1.0 (Mac OS X Mail 16.0 \\(3774.200.91\\.1.1\\))\r\nSubject: %s\r\nDate: %s", from, g.subject(), g.date())
		references()
		add("To: %s\r\nMessage-Id: %s\r\nX-Mailer: Apple Mail (2.3774.200.91)", g.addresses(4), g.messageID())
	case 3: // Thunderbird
		add("Message-ID: %s\r\nDate: %s\r\nMIME-Version: 1.0\r\nUser-Agent: Mozilla Thunderbird\r\nSubject: %s\r\nTo: %s", g.messageID(), g.date(), g.subject(), g.addresses(4))
		references()
		add("From: %s\r\nContent-Language: en-US\r\nOrganization: %s", from, g.words(2))
	case 4: // a newsletter
		add("Date: %s\r\nFrom: %s\r\nReply-To: %s\r\nTo: %s\r\nMessage-ID: %s\r\nSubject: %s\r\nMIME-Version: 1.0", g.date(), from, g.address(), g.address(), g.messageID(), g.subject())
		add("List-Unsubscribe: <https://%s/unsubscribe?u=%s&id=%s>,\r\n <mailto:unsubscribe-%s@%s>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nPrecedence: bulk\r\nX-Mailer: %s", g.host(), g.token(24), g.token(10), g.token(12), g.host(), g.words(1))
	case 5: // a mailing list
		add("Return-Path: <bounces@%s>\r\nTo: %s\r\nDate: %s\r\nMessage-ID: %s\r\nMIME-Version: 1.0", g.host(), g.address(), g.date(), g.messageID())
		references()
		add("Subject: %s\r\nList-Id: Discussion of %s <%s.lists.example.org>\r\nList-Archive: <https://lists.example.org/archives/list/%s/>\r\nList-Help: <mailto:request@lists.example.org?subject=help>\r\nList-Post: <mailto:%s@lists.example.org>\r\nList-Subscribe: <mailto:join@lists.example.org>\r\nList-Unsubscribe: <mailto:leave@lists.example.org>\r\nFrom: %s\r\nReply-To: %s\r\nX-Mailman-Version: 3.3.8\r\nPrecedence: list\r\nSender: %s", g.subject(), g.words(2), g.token(6), g.token(6), g.token(6), from, g.address(), g.address())
	case 6: // a notice of a machine
		add("Date: %s\r\nFrom: %s\r\nTo: %s\r\nMessage-ID: %s\r\nIn-Reply-To: %s\r\nReferences: %s\r\nSubject: %s\r\nMime-Version: 1.0\r\nPrecedence: list\r\nAuto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\nList-Unsubscribe: <https://%s/%s>", g.date(), from, g.address(), g.messageID(), g.messageID(), g.messageID(), g.subject(), g.host(), g.token(60))
	case 7: // mutt, or a script
		add("Date: %s\r\nFrom: %s\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: %s", g.date(), from, g.addresses(3), g.subject(), g.messageID())
		references()
		add("MIME-Version: 1.0\r\nContent-Disposition: inline\r\nUser-Agent: Mutt/2.2.9 (2022-11-12)\r\nX-Priority: 3\r\nImportance: normal")
	}
	if g.IntN(4) == 0 {
		add("X-Spam-Status: No, score=-%d.%d required=5.0 tests=BAYES_00,DKIM_SIGNED,\r\n\tDKIM_VALID,SPF_PASS autolearn=ham autolearn_force=no version=3.4.6\r\nX-Spam-Level:", g.IntN(9), g.IntN(9))
	}
	return []byte(h.String() + g.entity(3))
}

// entity makes the rest of a header, the empty line and a body.
func (g generator) entity(depth int) string {
	k := g.IntN(8)
	if depth == 0 {
		k = g.IntN(3)
	}
	switch k {
	case 0, 1:
		return g.text("plain")
	case 2:
		return g.text("html")
	case 3, 4:
		return g.multipart("alternative", "", g.text("plain"), g.text("html"))
	case 5:
		image := fmt.Sprintf("Content-Type: image/%s; name=\"%s.png\"\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <%s@%s>\r\nContent-Disposition: inline; filename=\"image001.png\"; size=%s;\r\n\tcreation-date=\"%s\"\r\n\r\n%s",
			pick(g, "png", "jpeg", "gif"), g.words(1), g.token(12), g.token(8), g.digits(5), g.date(), g.base64(2000))
		return g.multipart("related", "; type=\"multipart/alternative\"", g.multipart("alternative", "", g.text("plain"), g.text("html")), image)
	case 6:
		file := fmt.Sprintf("Content-Type: %s; name=\"%s.pdf\"\r\nContent-Disposition: attachment; filename=\"%s.pdf\"\r\nContent-Transfer-Encoding: base64\r\nX-Attachment-Id: f_%s\r\n\r\n%s",
			pick(g, "application/pdf", "application/octet-stream", "application/zip", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"), g.words(2), g.words(2), g.token(10), g.base64(4000))
		return g.multipart("mixed", "", g.entity(depth-1), file)
	default:
		inner := "Content-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n" + string(g.message())
		return g.multipart("mixed", "", g.text("plain"), inner)
	}
}

func (g generator) multipart(subtype, params string, parts ...string) string {
	boundary := pick(g, "000000000000"+strings.ToLower(g.token(16)), "_000_"+strings.ToUpper(g.token(40))+"_", "----=_Part_"+g.digits(6)+"_"+g.digits(10), "Apple-Mail=_"+g.token(32), "------------"+g.token(24))
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/%s; boundary=\"%s\"%s\r\n\r\n", subtype, boundary, params)
	b.WriteString(pick(g, "", "This is a multi-part message in MIME format.\r\n"))
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\r\n%s\r\n", boundary, p)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.String()
}

func (g generator) text(subtype string) string {
	encoding := pick(g, "7bit", "quoted-printable", "base64", "8bit")
	charset := pick(g, "utf-8", "UTF-8", "\"UTF-8\"", "us-ascii", "iso-8859-1", "\"utf-8\"")
	var body strings.Builder
	for range 1 + g.IntN(20) {
		line := g.words(4 + g.IntN(10))
		if subtype == "html" {
			line = pick(g, "<p>", "<div dir=\"ltr\">", "<br>") + line + " <a href=\"https://" + g.host() + "/" + g.token(6) + "\">link</a>"
		}
		body.WriteString(line + "\r\n")
	}
	text := body.String()
	switch encoding {
	case "base64":
		text = wrap(base64.StdEncoding.EncodeToString([]byte(text)))
	case "quoted-printable":
		text = strings.ReplaceAll(text, "=", "=3D")
	}
	format := ""
	if subtype == "plain" {
		format = pick(g, "", "; format=flowed", "; format=flowed; delsp=yes")
	}
	return fmt.Sprintf("Content-Type: text/%s; charset=%s%s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s", subtype, charset, format, encoding, text)
}

func (g generator) base64(n int) string {
	b := make([]byte, g.IntN(n)+1)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return wrap(base64.StdEncoding.EncodeToString(b))
}

func wrap(s string) string {
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return out.String() + s + "\r\n"
}
