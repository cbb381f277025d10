package main

import (
	"encoding/json"
	"strings"
	"testing"

	"mailstead.dev/auth/otp"
)

func TestOTPCommand(t *testing.T) {
	s := newSite(t)
	s.want("tenant create acme", "Tenant acme made.")
	s.want("domain create acme.test --tenant acme", "Domain acme.test")
	s.want("account create a@acme.test --no-password", "Account a@acme.test made.")
	s.refuse("account otp a@acme.test --show", "one-time passwords of a@acme.test: no such one-time password")
	s.refuse("account otp a@acme.test --delete", "no such one-time password")

	var made otpView
	if err := json.Unmarshal([]byte(s.want("account otp a@acme.test --json", "pass_phrase")), &made); err != nil {
		t.Fatal(err)
	}
	if made.Algorithm != "md5" || made.Sequence != 499 || made.Left != 498 || len(made.Phrase) < 10 {
		t.Errorf("it is %+v", made)
	}
	s.want("account otp a@acme.test --show", "Next for a@acme.test is otp-md5 499 "+made.Seed+", and 498 logins are left since")
	var shown otpView
	if err := json.Unmarshal([]byte(s.want("account otp a@acme.test --show --json", "seed")), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Phrase != "" || shown.Set == nil || shown.Seed != made.Seed {
		t.Errorf("shown is %+v", shown)
	}

	if out, err := s.run("This is a test.\n", "account otp a@acme.test --phrase-stdin --algorithm sha1 --sequence 11"); err != nil || !strings.Contains(out, "first otp-sha1 10 ") || strings.Contains(out, "This is") {
		t.Fatalf("with a pass phrase: %s, %v", out, err)
	}
	if out := s.want("account otp a@acme.test --show", "9 logins are left"); !strings.Contains(out, "it is time to begin another sequence") {
		t.Errorf("with few left: %s", out)
	}
	login, err := s.store.LookupLogin(t.Context(), "a@acme.test")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := s.store.OTP(t.Context(), login.User)
	if err != nil {
		t.Fatal(err)
	}
	if want := (otp.Params{Algorithm: otp.SHA1, Sequence: 11, Seed: kept.Seed}).Password("This is a test."); string(kept.Last) != string(want[:]) {
		t.Errorf("kept is %x, want %s", kept.Last, want)
	}
	spent := kept
	spent.Sequence = 1
	if used, err := s.store.UseOTP(t.Context(), login.User, kept, spent); err != nil || !used {
		t.Fatalf("used is %t, %v", used, err)
	}
	if out := s.want("account otp a@acme.test --show", "The one-time passwords of a@acme.test are used up: begin another sequence."); strings.Contains(out, "Next") {
		t.Errorf("with none: %s", out)
	}
	if out, err := s.run("Too_short\n", "account otp a@acme.test --phrase-stdin"); err == nil || !strings.Contains(err.Error(), "the pass phrase is shorter than 10 characters") {
		t.Errorf("a short phrase: %s, %v", out, err)
	}
	s.refuse("account otp a@acme.test --algorithm md4", "--algorithm md4: want md5 or sha1")
	s.refuse("account otp a@acme.test --sequence 1", "the sequence number is not one of 2 to 9999")
	s.refuse("account otp a@acme.test --show --sequence 2", "if any flags in the group")
	s.refuse("account otp nobody@acme.test", "no such account")
	s.want("account otp a@acme.test --delete", "The one-time passwords of a@acme.test are gone.")
}
