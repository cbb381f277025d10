package remote

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
)

// Mechanisms are those that can be asked for; LOGIN is also the command of this name.
var Mechanisms = []string{"SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"}

// login takes the best mechanism that the server has, or the one that is asked for.
func (s *Session) login(o Options) error {
	if s.client.State() == imap.ConnStateAuthenticated {
		return nil // PREAUTH
	}
	mechanism, err := s.choose(o)
	if err != nil {
		return &LoginError{err}
	}
	if mechanism == "" {
		err = s.client.Login(o.User, o.Password).Wait()
	} else {
		var client sasl.Client
		client, err = saslClient(mechanism, o)
		if err == nil {
			err = s.client.Authenticate(client)
		}
		if c, ok := client.(*scramClient); ok && err == nil && !c.conversation.Valid() {
			return &LoginError{errors.New("the server did not show that it knows the password")} // RFC 5802 section 3
		}
	}
	var status *imap.Error
	if errors.As(err, &status) {
		return &LoginError{errors.New(strings.TrimSpace("the server says: " + status.Text))}
	}
	return err
}

// choose returns a mechanism, or "" for the command LOGIN.
func (s *Session) choose(o Options) (string, error) {
	offered := s.caps.AuthMechanisms()
	has := func(m string) bool {
		return slices.ContainsFunc(offered, func(o string) bool { return strings.EqualFold(o, m) })
	}
	if o.Mechanism != "" {
		if strings.EqualFold(o.Mechanism, "LOGIN") && !has("LOGIN") {
			return "", nil
		}
		return strings.ToUpper(o.Mechanism), nil
	}
	if o.Token != "" {
		if !has("OAUTHBEARER") && has("XOAUTH2") {
			return "XOAUTH2", nil
		}
		return "OAUTHBEARER", nil
	}
	for _, m := range []string{"SCRAM-SHA-256", "SCRAM-SHA-1"} {
		if has(m) {
			return m, nil
		}
	}
	if o.Plaintext && has("CRAM-MD5") {
		return "CRAM-MD5", nil // the password at least does not go over the wire
	}
	for _, m := range []string{"PLAIN", "LOGIN"} {
		if has(m) {
			return m, nil
		}
	}
	if s.caps.Has(imap.CapLoginDisabled) {
		return "", fmt.Errorf("the server takes none of our ways: it has %s", strings.Join(offered, ", "))
	}
	return "", nil
}

func saslClient(mechanism string, o Options) (sasl.Client, error) {
	switch mechanism {
	case "PLAIN":
		return sasl.NewPlainClient("", o.User, o.Password), nil
	case "LOGIN":
		return sasl.NewLoginClient(o.User, o.Password), nil
	case "OAUTHBEARER":
		return sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: o.User, Token: o.Token}), nil
	case "XOAUTH2":
		return &xoauth2{o.User, o.Token}, nil
	case "CRAM-MD5":
		return &cramMD5{o.User, o.Password}, nil
	case "SCRAM-SHA-256":
		return newSCRAM(mechanism, scram.SHA256, o)
	case "SCRAM-SHA-1":
		return newSCRAM(mechanism, scram.SHA1, o)
	}
	return nil, fmt.Errorf("what is the mechanism %q? There are %s", mechanism, strings.Join(Mechanisms, ", "))
}

// cramMD5 is RFC 2195.
type cramMD5 struct{ user, password string }

func (c *cramMD5) Start() (string, []byte, error) { return "CRAM-MD5", nil, nil }

func (c *cramMD5) Next(challenge []byte) ([]byte, error) {
	mac := hmac.New(md5.New, []byte(c.password))
	mac.Write(challenge)
	return []byte(c.user + " " + hex.EncodeToString(mac.Sum(nil))), nil
}

// xoauth2 is what OAUTHBEARER was before it had an RFC.
type xoauth2 struct{ user, token string }

func (x *xoauth2) Start() (string, []byte, error) {
	return "XOAUTH2", []byte("user=" + x.user + "\x01auth=Bearer " + x.token + "\x01\x01"), nil
}

// Next answers a challenge, which tells of an error, with nothing; then the server says NO.
func (x *xoauth2) Next([]byte) ([]byte, error) { return []byte{}, nil }

// scramClient is RFC 5802 by xdg-go/scram.
type scramClient struct {
	mechanism    string
	conversation *scram.ClientConversation
}

func newSCRAM(mechanism string, hash scram.HashGeneratorFcn, o Options) (sasl.Client, error) {
	client, err := hash.NewClient(o.User, o.Password, "")
	if err != nil {
		return nil, err
	}
	return &scramClient{mechanism, client.NewConversation()}, nil
}

func (c *scramClient) Start() (string, []byte, error) {
	first, err := c.conversation.Step("")
	return c.mechanism, []byte(first), err
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	answer, err := c.conversation.Step(string(challenge))
	return []byte(answer), err
}
