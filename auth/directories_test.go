package auth

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mailstead.dev/auth/directory"
	"mailstead.dev/auth/directory/slapd"
	"mailstead.dev/store"
)

// replaced is a store in which the tenant's directory is replaced between the first look at a login and the next.
type replaced struct {
	*logins
	by string
}

func (r *replaced) LookupLoginFrom(ctx context.Context, login string, from netip.Addr) (store.Login, error) {
	l, err := r.logins.LookupLoginFrom(ctx, login, from)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.directory = r.by
	return l, err
}

// Who has been taken by a directory that has been replaced meanwhile is not let in: sessions by it have been ended before theirs began.
func TestDirectoryReplaced(t *testing.T) {
	s := slapd.New(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "acme"), []byte(slapd.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := directory.Settings{
		URL: s.URL, CA: s.CA, Base: slapd.Base, Filter: "(uid={user})", Account: slapd.Account, Secret: "acme", Attribute: "mail", Create: true,
	}
	old := settings.String()
	settings.Roles = true
	for name, by := range map[string]string{"another": settings.String(), "none": ""} {
		for _, there := range []bool{true, false} {
			of := &replaced{&logins{directory: old}, old}
			of.set(t, "other@acme.test", "", false)
			if there {
				of.set(t, "joe@acme.test", "", false)
			}
			a := New(of, Options{Secrets: dir, CacheTTL: -1})
			if g, err := a.Login(t.Context(), imapOverTLS, "joe*@acme.test", "right"); err != nil || g.User.Login != "joe@acme.test" {
				t.Errorf("before: %v, %v", g.User, err)
			}
			of.by = by
			if g, err := a.Login(t.Context(), imapOverTLS, "joe*@acme.test", "right"); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s in its place, there is an account %t: %v, %v", name, there, g.User, err)
			}
			a.directories.close()
		}
	}
}

// A change of what is set closes nothing of who asks, and what nobody asks is closed.
func TestDirectoriesOpen(t *testing.T) {
	d := newDirectories("", New(&logins{}, Options{}).log)
	settings := directory.Settings{URL: "ldap://127.0.0.1:1", Filter: "(mail={login})"}
	before := settings.String()
	settings.Roles = true
	after := settings.String()
	old, err := d.of(1, before)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if _, err := d.of(1, after); err != nil {
					t.Error(err)
				}
				if again, err := d.of(1, before); err != nil || again != old {
					t.Errorf("who has looked before the change gets another: %v", err)
				}
				d.giveUp(time.Now())
			}
		})
	}
	all.Wait()
	d.giveUp(time.Now().Add(rested / 2))
	if len(d.open) != 2 {
		t.Errorf("%d are open", len(d.open))
	}
	d.giveUp(time.Now().Add(2 * rested))
	if len(d.open) != 0 {
		t.Errorf("%d are open that nobody asks", len(d.open))
	}
	if _, err := d.of(1, "{"); err == nil {
		t.Error("settings that are none are opened")
	}
	d.close()
	if _, err := d.of(1, after); err == nil {
		t.Error("one is opened that nobody will close")
	}
}
