package message

import "testing"

func TestDecodeCharset(t *testing.T) {
	for _, test := range []struct{ label, text, want string }{
		{"cp874", "\xca\xc7\xd1\xca\xb4\xd5", "สวัสดี"},
		{"CP932", "\x90\xbf\x8b\x81\x8f\x91", "請求書"},
		{"cp936", "\xc4\xe3\xba\xc3", "你好"},
		{`"cp949"`, "\xc7\xd1\xb1\xdb", "한글"},
		{"cp950", "\xa7A\xa6n", "你好"},
		{"iso-8859-1", "\x80", "€"},
		{"x-nowhere", "gr\xfcn grün", "grün grün"},
	} {
		if got := decodeCharset(test.label, []byte(test.text)); got != test.want {
			t.Errorf("%q in %s is %q, want %q", test.text, test.label, got, test.want)
		}
	}
}
