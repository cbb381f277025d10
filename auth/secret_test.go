package auth

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"mailstead.dev/store"
	"mailstead.dev/store/id"
)

// scramOn are the mechanisms that verifiers are kept for.
var scramOn = []string{"SCRAM-SHA-256", "SCRAM-SHA-1"}

func TestSecret(t *testing.T) {
	text, err := NewSecret(store.Login{}, "secret", scramOn)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(text)
	if len(words) != 3 || !strings.HasPrefix(words[0], "$argon2id$v=19$m=19456,t=2,p=1$") ||
		!strings.HasPrefix(words[1], "SCRAM-SHA-256$100000:") || !strings.HasPrefix(words[2], "SCRAM-SHA-1$100000:") {
		t.Errorf("NewSecret = %q", text)
	}
	s := parseSecret(text)
	for i, p := range []proof{s.proof, s.verifiers[0], s.verifiers[1]} {
		if !p.matches(newPassword("secret")) || p.matches(newPassword("Secret")) {
			t.Errorf("word %d matches another password than its own", i)
		}
	}
	if s.outdated(scramHashes) {
		t.Error("a new secret is outdated")
	}
	again, _ := NewSecret(store.Login{Password: text}, "secret", scramOn)
	for i, word := range strings.Fields(again) {
		if word == words[i] {
			t.Errorf("the same password again is kept as %q as well", word)
		}
	}
	if text, err := NewSecret(store.Login{}, "secret", DefaultMechanisms); err != nil || strings.Contains(text, " ") {
		t.Errorf("without SCRAM it is kept as %q, %v", text, err)
	}
	for _, wrong := range []string{"", strings.Repeat("x", maxPassword+1)} {
		if _, err := NewSecret(store.Login{}, wrong, nil); err == nil {
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
		if s.outdated(nil) == (name == "argon2id") || !s.outdated(scramHashes) {
			t.Errorf("%s, kept as %q: outdated %t", name, text, s.outdated(nil))
		}
	}
}

// keeps gives an account a secret.
func (l *logins) keeps(login, secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	account := l.accounts[login]
	account.Password = secret
	l.accounts[login] = account
}

// What another system has kept is kept as a new password is once its user has logged in, and nothing becomes weaker by it.
func TestUpgrade(t *testing.T) {
	for _, test := range []struct{ name, wants string }{
		{"SSHA", "$argon2id$v=19$m=19456,t=2,p=1$"},
		{"SCRAM-SHA-256", "$argon2id$v=19$m=19456,t=2,p=1$"},
		{"argon2id", strings.TrimPrefix(imported["argon2id"], "{ARGON2ID}")},
	} {
		var dir logins
		dir.set(t, "a@one.test", "", false)
		text, err := ParseSecret(imported[test.name])
		if err != nil {
			t.Fatal(err)
		}
		dir.keeps("a@one.test", text)
		a := New(&dir, Options{Mechanisms: append(scramOn, "PLAIN")})
		if _, err := a.Login(t.Context(), imapOverTLS, "a@one.test", "wrong"); !errors.Is(err, store.ErrAuth) {
			t.Errorf("%s, wrong password: %v", test.name, err)
		}
		if kept := dir.accounts["a@one.test"].Password; kept != text {
			t.Errorf("%s: after a wrong password it is kept as %q", test.name, kept)
		}
		for range 2 {
			if _, err := a.Login(t.Context(), imapOverTLS, "a@one.test", passwordOf(test.name)); err != nil {
				t.Errorf("%s, right password: %v", test.name, err)
			}
		}
		kept := dir.accounts["a@one.test"].Password
		if s := parseSecret(kept); s.outdated(scramHashes) || !strings.HasPrefix(kept, test.wants) {
			t.Errorf("%s: after the login it is kept as %q", test.name, kept)
		}
	}
}

// bcrypt has not looked at what is behind 72 octets, so that is not kept as what is right.
func TestUpgradeOfLongBcrypt(t *testing.T) {
	long := strings.Repeat("x", bcryptOctets)
	hash, err := bcrypt.GenerateFromPassword([]byte(long), 4)
	if err != nil {
		t.Fatal(err)
	}
	var dir logins
	dir.set(t, "a@one.test", "", false)
	dir.keeps("a@one.test", string(hash))
	a := New(&dir, Options{})
	for _, password := range []string{long + "y", long} {
		if _, err := a.Login(t.Context(), imapOverTLS, "a@one.test", password); err != nil {
			t.Errorf("%d octets: %v", len(password), err)
		}
	}
	if !parseSecret(dir.accounts["a@one.test"].Password).proof.matches(newPassword(long)) {
		t.Errorf("it is kept as %q", dir.accounts["a@one.test"].Password)
	}
}

// Of an account whose password has come with a slow hash one login at a time is verified, and what is right is upgraded once.
func TestUpgradeOnce(t *testing.T) {
	var dir logins
	dir.set(t, "a@one.test", "", false)
	dir.keeps("a@one.test", imported["SSHA"])
	a := New(&dir, Options{})
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if _, err := a.Login(t.Context(), imapOverTLS, "a@one.test", "correct horse"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if dir.upgrades != 1 || len(a.turns.busy) > 0 {
		t.Errorf("%d upgrades, %d turns left", dir.upgrades, len(a.turns.busy))
	}
}

func TestParseSecretRefuses(t *testing.T) {
	good := cheap("x")
	argon, _, _ := strings.Cut(good, " ")
	for _, hash := range []string{
		"", "x", "$", good, argon + " ", "{PLAIN}x", "$1$salt$x", "$5$salt$x", "{SSHA}", "{SSHA}AAAA", "{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
		"$2b$14$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", "$2x$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", "$2b$05$short",
		"$6$rounds=9999999$saltstring$" + strings.Repeat("x", 86), "$6$rounds=1$saltstring$" + strings.Repeat("x", 86), "$6$saltstring$x",
		"$6$" + strings.Repeat("s", 17) + "$" + strings.Repeat("x", 86),
		"SCRAM-SHA-256$0:c2FsdA==$AAAA:AAAA", "SCRAM-SHA-512$4096:c2FsdA==$AAAA:AAAA", "{SCRAM-SHA-256}4096,c2FsdA==",
		"$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		strings.Replace(argon, "v=19", "v=16", 1),
		strings.Replace(argon, "m=64", "m=4", 1),
		strings.Replace(argon, "m=64", "m=4000000000", 1),
		strings.Replace(argon, "m=64", "m=131072", 1),
		strings.Replace(argon, "m=64,t=1", "m=65536,t=5", 1),
		strings.Replace(argon, "t=1", "t=0", 1),
		strings.Replace(argon, "t=1", "t=5000", 1),
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
		password, text, err := NewAppSecret(store.Login{}, DefaultMechanisms)
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
