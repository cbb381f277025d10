package auth

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

func TestSecret(t *testing.T) {
	text, err := Secret("A@one.test", "secret")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(text)
	if len(words) != 3 || !strings.HasPrefix(words[0], "$argon2id$v=19$m=19456,t=2,p=1$") ||
		!strings.HasPrefix(words[1], "SCRAM-SHA-256$50000:") || !strings.HasPrefix(words[2], "SCRAM-SHA-1$50000:") {
		t.Errorf("Secret = %q", text)
	}
	s := parseSecret(text)
	for i, p := range []proof{s.proof, s.verifiers[0], s.verifiers[1]} {
		if !p.matches(newPassword("secret")) || p.matches(newPassword("Secret")) {
			t.Errorf("word %d matches another password than its own", i)
		}
	}
	if s.outdated() {
		t.Error("a new secret is outdated")
	}
	again, _ := Secret("a@ONE.test", "secret")
	if words := strings.Fields(again); words[0] == strings.Fields(text)[0] || words[1] != strings.Fields(text)[1] {
		t.Errorf("the same password again: %q, and before %q; want another argon2id hash, and the same verifiers", again, text)
	}
	for _, wrong := range []string{"", strings.Repeat("x", maxPassword+1)} {
		if _, err := Secret("a@one.test", wrong); err == nil {
			t.Errorf("a password of %d octets was taken", len(wrong))
		}
	}
}

// imported are hashes of "correct horse", but for the last ones.
var imported = map[string]string{
	// argon2 somesalt -id -t 2 -k 65536 -p 1, password "password"
	"argon2id": "{ARGON2ID}$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
	// Perl's crypt
	"bcrypt":             "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
	"bcrypt of PHP":      "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
	"bcrypt of Dovecot":  "{BLF-CRYPT}$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
	"SHA512-CRYPT":       "$6$saltstring$.r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/", // openssl passwd -6
	"SHA512-CRYPT, long": "{SHA512-CRYPT}$6$rounds=10000$saltstring$RSYX800PBUlPFzt5jRv2um1cURoaxGG39HgaJQWZRCbrFkEiv0mjfWp5SP56VAr33R/Th91SsTRNAtZHhoQFt1",
	"SSHA":               "{SSHA}n0MgpE49UOlYSAptYLeZPpSboiVzYWx0eQ==", // openssl dgst -sha1
	// RFC 7677 section 3, RFC 5802 section 5: password "pencil"
	"SCRAM-SHA-256":            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
	"SCRAM-SHA-256 of Dovecot": "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
	"SCRAM-SHA-1":              "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
}

func passwordOf(name string) string {
	switch {
	case name == "argon2id":
		return "password"
	case strings.HasPrefix(name, "SCRAM"):
		return "pencil"
	}
	return "correct horse"
}

func TestImported(t *testing.T) {
	for name, hash := range imported {
		text, err := ParseSecret(hash)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := parseSecret(text)
		if !s.proof.matches(newPassword(passwordOf(name))) || s.proof.matches(newPassword("wrong")) {
			t.Errorf("%s, kept as %q: another password is right than should be", name, text)
		}
		if !s.outdated() {
			t.Errorf("%s, kept as %q: it is as good as new", name, text)
		}
	}
}

// What another system has kept is kept as a new password is once its user has logged in.
func TestUpgrade(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "", false)
	text, err := ParseSecret(imported["SSHA"])
	if err != nil {
		t.Fatal(err)
	}
	account := dir.accounts["a@one.test"]
	account.Password = text
	dir.accounts["a@one.test"] = account
	a := New(&dir, Options{})
	if _, err := a.Login(t.Context(), imapOverTLS, "a@one.test", "wrong"); !errors.Is(err, store.ErrAuth) {
		t.Errorf("wrong password: %v", err)
	}
	if kept := dir.accounts["a@one.test"].Password; kept != text {
		t.Errorf("after a wrong password it is kept as %q", kept)
	}
	for range 2 {
		if _, err := a.Login(t.Context(), imapOverTLS, "a@one.test", "correct horse"); err != nil {
			t.Errorf("right password: %v", err)
		}
	}
	if s := parseSecret(dir.accounts["a@one.test"].Password); s.outdated() || len(s.verifiers) != len(scramHashes) {
		t.Errorf("after the login it is kept as %q", dir.accounts["a@one.test"].Password)
	}
}

func TestParseSecretRefuses(t *testing.T) {
	good := cheap("x")
	argon, _, _ := strings.Cut(good, " ")
	for _, hash := range []string{
		"", "x", "$", good, argon + " ", "{PLAIN}x", "$1$salt$x", "$5$salt$x", "{SSHA}", "{SSHA}AAAA", "{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
		"$2b$16$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", "$2b$05$short",
		"$6$rounds=9999999$saltstring$" + strings.Repeat("x", 86), "$6$rounds=1$saltstring$" + strings.Repeat("x", 86), "$6$saltstring$x",
		"$6$" + strings.Repeat("s", 17) + "$" + strings.Repeat("x", 86),
		"SCRAM-SHA-256$0:c2FsdA==$AAAA:AAAA", "SCRAM-SHA-512$4096:c2FsdA==$AAAA:AAAA", "{SCRAM-SHA-256}4096,c2FsdA==",
		"$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		strings.Replace(argon, "v=19", "v=16", 1),
		strings.Replace(argon, "m=64", "m=4", 1),
		strings.Replace(argon, "m=64", "m=4000000000", 1),
		strings.Replace(argon, "t=1", "t=0", 1),
		strings.Replace(argon, "t=1", "t=1000", 1),
		strings.Replace(argon, "p=1", "p=0", 1),
		strings.Replace(argon, "p=1", "p=1,x=1", 1),
		argon + "=", argon[:len(argon)-30], argon + "$",
	} {
		if text, err := ParseSecret(hash); err == nil {
			t.Errorf("ParseSecret(%q) = %q", hash, text)
		}
	}
}

// An app password lets a program in where it is meant to, and not as an admin.
func TestAppPasswords(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "right", false)
	a := New(&dir, Options{})
	account := dir.accounts["a@one.test"]
	account.User.Role = store.RoleTenantAdmin
	var passwords []string
	for n, scope := range []store.LoginAppPassword{{Protocols: Protocols, Stale: true}, {Protocols: Protocols, ReadOnly: true}, {Protocols: []string{"other"}}} {
		password, text, err := AppSecret("a@one.test")
		if err != nil {
			t.Fatal(err)
		}
		scope.ID, scope.Secret = id.AppPassword(n+1), text
		passwords = append(passwords, password)
		account.AppPasswords = append(account.AppPasswords, scope)
	}
	dir.accounts["a@one.test"] = account
	for n, want := range []error{nil, nil, store.ErrAuth} {
		g, err := a.Login(t.Context(), imapOverTLS, "a@one.test", passwords[n])
		if !errors.Is(err, want) {
			t.Errorf("app password %d: %v, want %v", n+1, err, want)
		}
		if err == nil && (g.User.Role != store.RoleNone || g.User.ReadOnly != (n == 1) || g.rests[0].AppPassword != id.AppPassword(n+1)) {
			t.Errorf("app password %d lets in as %+v", n+1, g)
		}
	}
	if !slices.Equal(dir.used, []id.AppPassword{1}) {
		t.Errorf("noted as used: %v, want the one for which it was time", dir.used)
	}
	if _, err := a.LoginAs(t.Context(), imapOverTLS, "", "a@one.test", "right"); err != nil {
		t.Errorf("the user's own password: %v", err)
	}
	if _, err := a.Login(t.Context(), imapOverTLS, "a@one.test", passwords[0][:23]); !errors.Is(err, store.ErrAuth) {
		t.Errorf("part of an app password: %v", err)
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(cheap("x"))
	for _, hash := range imported {
		f.Add(hash)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, v := range parseSecret(text).verifiers {
			if again, err := parseVerifier(v.String()); err != nil || again.String() != v.String() {
				t.Errorf("%q is a verifier, and then not: %v", v, err)
			}
		}
		if h, err := parseArgon2id(text); err == nil && h.String() != text {
			t.Errorf("parseArgon2id(%q).String() = %q", text, h.String())
		}
	})
}
