package otp

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// RFC 2289 appendix C, of the two algorithms that there are here.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		algorithm    Algorithm
		phrase, seed string
		sequence     int
		hex, words   string
	}{
		{MD5, "This is a test.", "TeSt", 0, "9E87 6134 D904 99DD", "INCH SEA ANNE LONG AHEM TOUR"},
		{MD5, "This is a test.", "TeSt", 1, "7965 E054 36F5 029F", "EASE OIL FUM CURE AWRY AVIS"},
		{MD5, "This is a test.", "TeSt", 99, "50FE 1962 C496 5880", "BAIL TUFT BITS GANG CHEF THY"},
		{MD5, "AbCdEfGhIjK", "alpha1", 0, "8706 6DD9 644B F206", "FULL PEW DOWN ONCE MORT ARC"},
		{MD5, "AbCdEfGhIjK", "alpha1", 1, "7CD3 4C10 40AD D14B", "FACT HOOF AT FIST SITE KENT"},
		{MD5, "AbCdEfGhIjK", "alpha1", 99, "5AA3 7A81 F212 146C", "BODE HOP JAKE STOW JUT RAP"},
		{MD5, "OTP's are good", "correct", 0, "F205 7539 43DE 4CF9", "ULAN NEW ARMY FUSE SUIT EYED"},
		{MD5, "OTP's are good", "correct", 1, "DDCD AC95 6F23 4937", "SKIM CULT LOB SLAM POE HOWL"},
		{MD5, "OTP's are good", "correct", 99, "B203 E28F A525 BE47", "LONG IVY JULY AJAR BOND LEE"},
		{SHA1, "This is a test.", "TeSt", 0, "BB9E 6AE1 979D 8FF4", "MILT VARY MAST OK SEES WENT"},
		{SHA1, "This is a test.", "TeSt", 1, "63D9 3663 9734 385B", "CART OTTO HIVE ODE VAT NUT"},
		{SHA1, "This is a test.", "TeSt", 99, "87FE C776 8B73 CCF9", "GAFF WAIT SKID GIG SKY EYED"},
		{SHA1, "AbCdEfGhIjK", "alpha1", 0, "AD85 F658 EBE3 83C9", "LEST OR HEEL SCOT ROB SUIT"},
		{SHA1, "AbCdEfGhIjK", "alpha1", 1, "D07C E229 B5CF 119B", "RITE TAKE GELD COST TUNE RECK"},
		{SHA1, "AbCdEfGhIjK", "alpha1", 99, "27BC 7103 5AAF 3DC6", "MAY STAR TIN LYON VEDA STAN"},
		{SHA1, "OTP's are good", "correct", 0, "D51F 3E99 BF8E 6F0B", "RUST WELT KICK FELL TAIL FRAU"},
		{SHA1, "OTP's are good", "correct", 1, "82AE B52D 9437 74E4", "FLIT DOSE ALSO MEW DRUM DEFY"},
		{SHA1, "OTP's are good", "correct", 99, "4F29 6A74 FE15 67EC", "AURA ALOE HURL WING BERG WAIT"},
		{MD5, "A_Valid_Pass_Phrase", "AValidSeed", 99, "85c43ee03857765b", "FOWL KID MASH DEAD DUAL OAF"},
		{MD5, "This is a test.", "ke1234", 499, "5bf075d9959d036f", "BOND FOGY DRAB NE RISE MART"}, // RFC 2444 section 5
		{SHA1, "This is a test.", "ke1234", 499, "1ef48366d04873e0", ""},                           // not the RFC's c90fc02cc488df5e, which is without the order of octets of RFC 2289 appendix A
		{MD5, "this is a test", "ke1234", 123, "11d4c147e227c1f1", ""},
	} {
		seed, err := ParseSeed(v.seed)
		if err != nil {
			t.Fatal(err)
		}
		got := Params{v.algorithm, v.sequence, seed}.Password(v.phrase)
		want, err := parseHex(v.hex)
		if err != nil || got != want || v.words != "" && got.Words() != v.words {
			t.Errorf("%s %d %s of %q = %s, %s; want %s, %s", v.algorithm, v.sequence, v.seed, v.phrase, got, got.Words(), v.hex, v.words)
		}
	}
}

func TestDictionary(t *testing.T) {
	if len(dictionary) != 2048 || !slices.IsSorted(dictionary[:shortWords]) || !slices.IsSorted(dictionary[shortWords:]) {
		t.Errorf("the dictionary has %d words, or is not in its order", len(dictionary))
	}
	for i, w := range dictionary {
		if (len(w) == 4) != (i >= shortWords) || len(w) > 4 {
			t.Errorf("%s is number %d", w, i)
		}
		if at, ok := place(w); !ok || at != uint64(i) {
			t.Errorf("%s is found at %d, %v; want %d", w, at, ok, i)
		}
	}
}

// What is written is read as it was, and with one word in the place of another nothing is read, or something else.
func TestWords(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 20_000 {
		var p Password
		switch {
		case n < 64:
			binary.BigEndian.PutUint64(p[:], 1<<n)
		default:
			binary.BigEndian.PutUint64(p[:], random.Uint64())
		}
		words := p.Words()
		if got, err := parseWords(strings.ToLower(words)); err != nil || got != p {
			t.Fatalf("%s is written %s, and read as %s, %v", p, words, got, err)
		}
		if got, err := parseHex(p.String()); err != nil || got != p {
			t.Fatalf("%s is read as %s, %v", p, got, err)
		}
		other := strings.Fields(words)
		other[random.IntN(6)] = dictionary[random.IntN(2048)]
		if got, err := parseWords(strings.Join(other, " ")); err == nil && got == p && strings.Join(other, " ") != words {
			t.Fatalf("%s and %s are both %s", words, other, p)
		}
	}
	for _, last := range []string{"NUT", "O", "OAK"} { // RFC 2289 appendix C
		if _, err := parseWords("FOWL KID MASH DEAD DUAL " + last); !errors.Is(err, errChecksum) {
			t.Errorf("with %s at the end: %v", last, err)
		}
	}
}

func TestParseResponse(t *testing.T) {
	first := Params{MD5, 499, "ke1234"}.Password("This is a test.")
	second := Params{MD5, 499, "ke1235"}.Password("This is a test.")
	again := Params{MD5, 499, "ke1235"}
	for text, want := range map[string]Response{
		"hex:5bf075d9959d036f":                                                                    {Password: first},
		"HEX: 5B F075D 9959d036f \r\n":                                                            {Password: first},
		"word:BOND FOGY DRAB NE RISE MART":                                                        {Password: first},
		"Word:  bond\tfogy drab  ne rise\r\n mart\n":                                              {Password: first},
		"init-hex:5bf075d9959d036f:md5 499 ke1235:3712dcb4aa5316c1":                               {Password: first, Renews: true, Params: again, First: second},
		"INIT-HEX:5bf0 75d9 959d 036f: MD5  499 KE1235 :3712dcb4aa5316c1\n":                       {Password: first, Renews: true, Params: again, First: second},
		"init-word:BOND FOGY DRAB NE RISE MART:md5 499 ke1235:" + strings.ToLower(second.Words()): {Password: first, Renews: true, Params: again, First: second},
	} {
		if got, err := ParseResponse([]byte(text)); err != nil || got != want {
			t.Errorf("ParseResponse(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	const renewed = "init-hex:5bf075d9959d036f"
	for _, text := range []string{
		renewed, renewed + ":", renewed + ":md5 499 ke1235", renewed + ":md5 499 ke1235:", renewed + ":md5 499 ke1235:3712", renewed + ":md5 499 ke1235:3712dcb4aa5316c1:",
		renewed + ":md4 499 ke1235:3712dcb4aa5316c1", renewed + ":md5 10000 ke1235:3712dcb4aa5316c1", renewed + ":md5 -1 ke1235:3712dcb4aa5316c1",
		renewed + ":md5 499 Length_Okay:3712dcb4aa5316c1", renewed + ":md5 499 LengthOfSeventeen:3712dcb4aa5316c1", renewed + ":md5 499 A Seed:3712dcb4aa5316c1",
		renewed + ":md5 499 ke1235:BOND FOGY DRAB NE RISE MART",
	} {
		if got, err := ParseResponse([]byte(text)); err != nil || got.Password != first || !got.Renews || got.Unclear == nil {
			t.Errorf("ParseResponse(%q) = %+v, %v; want the password, and that the rest is unclear", text, got, err)
		}
	}
	for _, text := range []string{
		"", ":", "hex", "hex:", "hex:5bf075d9959d036", "hex:5bf075d9959d036ff", "hex:5bf075d9959d036g", "hex:5bf075d9959d036f:", "word:BOND FOGY DRAB NE RISE",
		"word:BOND FOGY DRAB NE RISE MART MART", "word:BOND FOGY DRAB NE RISE MARTS", "word:BOND FOGY DRAB NE RISE MARK", "5bf075d9959d036f", "BOND FOGY DRAB NE RISE MART",
		"init-hex:md5 499 ke1235:3712dcb4aa5316c1", "init:5bf075d9959d036f", "hex:" + strings.Repeat(" ", maxResponse) + "5bf075d9959d036f",
	} {
		if got, err := ParseResponse([]byte(text)); err == nil {
			t.Errorf("ParseResponse(%.60q) = %+v; want an error", text, got)
		}
	}
}

func TestChallenge(t *testing.T) {
	if got := (Params{SHA1, 499, "ke1234"}).Challenge(); got != "otp-sha1 499 ke1234 ext" {
		t.Errorf("Challenge = %q", got)
	}
}

// What is read can be written, and is then read as the same.
func FuzzParseResponse(f *testing.F) {
	for _, text := range []string{
		"hex:5bf075d9959d036f", "word:BOND FOGY DRAB NE RISE MART", "init-hex:5bf075d9959d036f:md5 499 ke1235:3712dcb4aa5316c1",
		"init-word:END KERN BALM NICK EROS WAVY:sha1 499 ke1235:BABY FAIN OILY NIL TIDY DADE", "init-hex:5bf075d9959d036f:md4 1", "HEX: 5 b\tf075d9959d036f\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		r, err := ParseResponse(octets)
		if err != nil || r.Unclear != nil {
			return
		}
		text := "hex:" + r.Password.String()
		words := "word:" + r.Password.Words()
		if r.Renews {
			params := strings.TrimSuffix(strings.TrimPrefix(r.Params.Challenge(), "otp-"), " ext")
			text = "init-" + text + ":" + params + ":" + r.First.String()
			words = "init-" + words + ":" + params + ":" + r.First.Words()
		}
		for _, again := range []string{text, words} {
			if got, err := ParseResponse([]byte(again)); err != nil || got != r {
				t.Errorf("%q is %+v, written %q, which is %+v, %v", octets, r, again, got, err)
			}
		}
	})
}
