package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/unicode/norm"
)

// language is what the texts of a language are made of.
type language struct {
	words    []string
	letters  []rune // of words that nobody knows
	space    string // between words
	stops    []string
	charsets []charset // which it is written in, besides UTF-8
}

// charset is one by its name in MIME.
type charset struct {
	name     string
	encoding encoding.Encoding // nil: UTF-8
}

var utf8Charset = charset{"utf-8", nil}

// languageOf takes words apart, at spaces, and letters.
func languageOf(words, letters, space, stops string, charsets ...charset) language {
	return language{strings.Fields(words), []rune(letters), space, strings.Fields(stops), charsets}
}

var (
	latin1    = charset{"iso-8859-1", charmap.ISO8859_1}
	latin2    = charset{"ISO-8859-2", charmap.ISO8859_2}
	latin5    = charset{"iso-8859-9", charmap.ISO8859_9}
	latin9    = charset{"iso-8859-15", charmap.ISO8859_15}
	western   = charset{"Windows-1252", charmap.Windows1252}
	central   = charset{"windows-1250", charmap.Windows1250}
	turkish   = charset{"windows-1254", charmap.Windows1254}
	greek     = charset{"iso-8859-7", charmap.ISO8859_7}
	greekWin  = charset{"windows-1253", charmap.Windows1253}
	cyrillic  = charset{"windows-1251", charmap.Windows1251}
	cyrillic5 = charset{"iso-8859-5", charmap.ISO8859_5}
	koi8      = charset{"KOI8-R", charmap.KOI8R}
	koi8u     = charset{"koi8-u", charmap.KOI8U}
	hebrew    = charset{"iso-8859-8", charmap.ISO8859_8}
	hebrewWin = charset{"windows-1255", charmap.Windows1255}
	arabic    = charset{"windows-1256", charmap.Windows1256}
	thai      = charset{"tis-620", charmap.Windows874}
	gb2312    = charset{"gb2312", simplifiedchinese.GBK}
	gbk       = charset{"GBK", simplifiedchinese.GBK}
	gb18030   = charset{"gb18030", simplifiedchinese.GB18030}
	big5      = charset{"Big5", traditionalchinese.Big5}
	shiftJIS  = charset{"Shift_JIS", japanese.ShiftJIS}
	eucJP     = charset{"euc-jp", japanese.EUCJP}
	jis       = charset{"ISO-2022-JP", japanese.ISO2022JP}
	eucKR     = charset{"euc-kr", korean.EUCKR}
	ksc       = charset{"ks_c_5601-1987", korean.EUCKR}
)

// languages, each with what is peculiar to it.
var languages = []language{
	languageOf("the meeting report invoice Quarterly budget o'clock re-entry electrofishing fishing state-of-the-art McDonald naïve rôle Internet e-mail ﬁnance ½ µm №7 ①",
		"abcdefghijklmnopqrstuvwxyz", " ", ". , ; ! ?", latin1, western),
	languageOf("Straße Grüße Übergröße Weiß MASSE Maße Größenverhältnis Donaudampfschifffahrtsgesellschaft STRAẞE Ärger öffnen für Fuß",
		"abcdefghijklmnopqrstuvwxyzäöüß", " ", ". , : –", latin1, latin9, western),
	languageOf("café élève naïve œuvre garçon où été Noël à côté aujourd'hui l'été ÿ «oui»",
		"abcdefghilmnopqrstuvéèêëàâîïôùûç", " ", ". , ; …", latin9, western),
	languageOf("zażółć gęślą jaźń Łódź święto źródło Příliš žluťoučký kůň úpěl ďábelské ódy őrült tükörfúró",
		"abcdefghijklmnopqrstuwyząćęłńóśźžřěů", " ", ". , !", latin2, central),
	languageOf("ısı İstanbul IŞIK ışık sıcak iğne İğne DİYARBAKIR diyarbakır çığ göğüs",
		"abcçdefgğhıijklmnoöprsştuüvyz", " ", ". ,", latin5, turkish),
	languageOf("Οδυσσεύς σοφός ΣΟΦΟΣ Ἀθῆναι λόγος ΛΟΓΟΣ ῥόδον ᾳ Ἅγιος ΐ καφές ΚΑΦΕΣ τέλος Ωmega",
		"αβγδεζηθικλμνξοπρστυφχψωάέήίόύώς", " ", ". , · ;", greek, greekWin),
	languageOf("Привет мир Ёжик ёлка щука Съешь ещё этих мягких французских булок їжак Ґанок подъезд",
		"абвгдежзийклмнопрстуфхцчшщъыьэюяё", " ", ". , — !", cyrillic, cyrillic5, koi8, koi8u),
	languageOf("مرحبا العالم كتاب مُحَمَّد السلام عليكم الإنترنت ﻻ لا آخر ٣٤٥ هٰذا",
		"ابتثجحخدذرزسشصضطظعغفقكلمنهويءة", " ", "، ؟ .", arabic),
	languageOf("שלום עולם בְּרֵאשִׁית ספר ירושלים צה״ל ך ם ץ",
		"אבגדהוזחטיכלמנסעפצקרשתםןץףך", " ", ". , ־", hebrew, hebrewWin),
	languageOf("नमस्ते दुनिया किताब हिन्दी में क़लम क्षत्रिय श्रीमान् संस्कृतम् १२३",
		"अआइईउऊएऐओऔकखगघचछजझटठडढतथदधनपफबभमयरलवशषसहािीुूेैोौ्ं", " ", "। ,"),
	languageOf("สวัสดี ชาวโลก หนังสือ ประเทศไทย น้ำ กำลัง ผู้ใหญ่ ๑๒๓",
		"กขคงจฉชซญดตถทธนบปผพฟภมยรลวสหอะาิีึืุูเแโใไ่้", "", " ๆ ฯ", thai),
	languageOf("你好 世界 汉字 简体 电子邮件 会议 北京 图书馆 搜索 测试 发票 二〇二六年 ＡＢＣ 𠀀𠀁",
		"的一是不了人我在有他这中大来上国和地到说时要就出会可也你对生能而子那得于着下自之年过发后作里", "", "。 ， ！", gb2312, gbk, gb18030),
	languageOf("你好 世界 漢字 繁體 電子郵件 會議 臺北 圖書館 搜尋 測試 發票 龜",
		"的一是不了人我在有他這中大來上國和地到說時要就出會可也你對生能而子那得於著下自之年過發後作裡", "", "。 ， ！", big5, gb18030),
	languageOf("こんにちは 世界 カタカナ ひらがな 東京都 ガギグゲゴ ﾊﾝｶｸ ぱぴぷ メール 検索 請求書 ㍿ ㌔ゝ々",
		"あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをんアイウエオカキクケコ", "", "。 、 ！", shiftJIS, eucJP, jis),
	languageOf("안녕하세요 세계 한글 대한민국 서울특별시 검색 회의 청구서 뷁 값 닭",
		"가나다라마바사아자차카타파하강남달람맘밥삿앙잦찾캌탙팦핳", " ", ". , !", eucKR, ksc),
	languageOf("Tiếng Việt phở Hà Nội đường Nguyễn ước quốc ngữ Ữ Ỗ",
		"abcdđeghiklmnopqrstuvxyăâêôơưếộữỗ", " ", ". ,"),
	languageOf("😀 👩‍👩‍👧‍👦 🇩🇪 ☕️ ❤️ 👍🏽 ✈️ 1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 party🎉 🤷‍♀️ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ｆｕｌｌ Ⅳ ǆep ǅep Ǆep",
		"😀😁😂🤣😃😄😅😆😉😊☕✈❤👍", " ", "! ‼ …"),
}

// word makes one of the language's own.
func (l language) word(r *rand.Rand) string {
	if r.IntN(3) > 0 {
		w := pick(r, l.words)
		switch r.IntN(12) {
		case 0:
			return strings.ToUpper(w)
		case 1:
			return strings.ToLower(w)
		case 2:
			return w + pick(r, l.words) // a compound
		}
		return w
	}
	n := 1 + r.IntN(9)
	if r.IntN(60) == 0 {
		n = 40 + r.IntN(400)
	}
	if l.space == "" {
		n = 1 + n/3
	}
	var w strings.Builder
	for range n {
		w.WriteRune(pick(r, l.letters))
	}
	return w.String()
}

// oddity makes what is in texts of every language.
func oddity(r *rand.Rand) string {
	switch r.IntN(9) {
	case 0:
		return fmt.Sprint(r.IntN(100000))
	case 1:
		return fmt.Sprintf("%d.%02d €", r.IntN(10000), r.IntN(100))
	case 2:
		return fmt.Sprintf("%x-%x", r.Uint32(), r.Uint32())
	case 3:
		return address(r)
	case 4:
		return link(r)
	case 5:
		return fmt.Sprintf("+%d (%d) %d-%d", r.IntN(99), r.IntN(999), r.IntN(9999), r.IntN(99))
	case 6:
		return fmt.Sprintf("C:\\dir\\%x.txt", r.IntN(4096))
	case 7:
		return fmt.Sprintf("<%x&%x>", r.IntN(256), r.IntN(256))
	}
	return fmt.Sprintf("v%d.%d.%d_rc%d", r.IntN(9), r.IntN(30), r.IntN(30), r.IntN(9))
}

func address(r *rand.Rand) string {
	return fmt.Sprintf("%s.%s@%s.example.%s", pick(r, languages[0].words[:4]), asciiWord(r), asciiWord(r), pick(r, []string{"org", "com", "test"}))
}

func link(r *rand.Rand) string {
	return fmt.Sprintf("https://www.%s.example.org/%s/%s?id=%d&x=%%C3%%A4#%s", asciiWord(r), asciiWord(r), asciiWord(r), r.IntN(1000), asciiWord(r))
}

func asciiWord(r *rand.Rand) string {
	w := make([]byte, 2+r.IntN(7))
	for i := range w {
		w[i] = 'a' + byte(r.IntN(26))
	}
	return string(w)
}

// sentence makes some words with what stands between them, in one line.
func (l language) sentence(r *rand.Rand, words int) string {
	var s strings.Builder
	for i := range words {
		if i > 0 {
			s.WriteString(l.space)
		}
		switch r.IntN(14) {
		case 0:
			if l.space == "" && i > 0 {
				s.WriteString(" ")
			}
			s.WriteString(oddity(r))
		case 1:
			s.WriteString(l.word(r) + pick(r, l.stops))
		case 2:
			s.WriteString(pick(r, []string{"(", "„", "\"", "[", "'", "*", "--"}) + l.word(r) + pick(r, []string{")", "“", "\"", "]", "'", "*", "/"}))
		default:
			s.WriteString(l.word(r))
		}
	}
	text := s.String()
	switch r.IntN(8) { // however it is composed
	case 0:
		return norm.NFD.String(text)
	case 1:
		return norm.NFC.String(text)
	}
	return text
}

// encode returns text in one of the language's charsets, or UTF-8 where it is not all in that.
func (l language) encode(r *rand.Rand, text string) (charset, []byte) {
	if len(l.charsets) > 0 && r.IntN(4) > 0 {
		c := pick(r, l.charsets)
		if b, ok := c.encode(text); ok {
			return c, b
		}
	}
	return utf8Charset, []byte(text)
}

// encode returns text in a charset, if it can be told in it and read again.
func (c charset) encode(text string) ([]byte, bool) {
	if c.encoding == nil {
		return []byte(text), true
	}
	b, err := c.encoding.NewEncoder().Bytes([]byte(text))
	if err != nil {
		return nil, false
	}
	back, err := c.encoding.NewDecoder().Bytes(b)
	return b, err == nil && string(back) == text
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }
