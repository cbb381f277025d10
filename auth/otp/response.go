package otp

import (
	"errors"
	"fmt"
	"strings"
)

// Response is what a client answers a challenge with.
type Response struct {
	Password Password

	Renews  bool   // it begins another sequence (RFC 2243 section 4)
	Params  Params // of that
	First   Password
	Unclear error // why Params and First say nothing; the password counts nevertheless (section 4.3)
}

// maxResponse bounds a response, whatever white space there is in it.
const maxResponse = 1024

// ParseResponse reads an extended response (RFC 2243 sections 3 and 4), which are the only ones of SASL; ErrPassword where it is one but for what it has to show:
//
//	hex:<password>
//	word:<password>
//	init-hex:<password>:<params>:<password>
//	init-word:<password>:<params>:<password>
func ParseResponse(octets []byte) (r Response, err error) {
	if len(octets) > maxResponse {
		return r, errors.New("the response is too long")
	}
	parts := strings.Split(string(octets), ":")
	kind := strings.ToLower(strings.TrimSpace(parts[0]))
	form, renews := strings.CutPrefix(kind, "init-")
	var parse func(text string) (Password, error)
	switch form {
	case "hex":
		parse = parseHex
	case "word":
		parse = parseWords
	default:
		return r, fmt.Errorf("%.20q is no type of response", kind)
	}
	if len(parts) == 1 || !renews && len(parts) > 2 {
		return r, fmt.Errorf("a response of the type %s has another number of arguments", kind)
	}
	if r.Password, err = parse(parts[1]); err != nil {
		return r, err
	}
	if r.Renews = renews; !renews {
		return r, nil
	}
	if len(parts) != 4 {
		r.Unclear = fmt.Errorf("a response of the type %s has three arguments", kind)
		return r, nil
	}
	if r.Params, r.Unclear = ParseParams(parts[2]); r.Unclear == nil {
		r.First, r.Unclear = parse(parts[3])
	}
	return r, nil
}
