package admin_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"mailstead.dev/admin"
	"mailstead.dev/store/storetest"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestServer(t *testing.T) {
	s := storetest.New(t)
	a := admin.New(s, admin.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- a.Serve(l) }()
	base := "http://" + l.Addr().String()

	for _, test := range []struct {
		path   string
		status int
		has    string
	}{
		{"/livez", 200, "ok"},
		{"/readyz", 200, "ok"},
		{"/metrics", 200, "mailstead_database_connections_max 16"},
		{"/metrics", 200, "go_goroutines"},
		{"/metrics", 200, "mailstead_staged_bytes 0"},
		{"/metrics", 200, "mailstead_packs_total 0"},
		{"/nowhere", 404, ""},
	} {
		if status, body := get(t, base+test.path); status != test.status || !strings.Contains(body, test.has) {
			t.Errorf("%s = %d, want %d and %q in\n%s", test.path, status, test.status, test.has, body)
		}
	}
	a.Drain()
	if status, body := get(t, base+"/readyz"); status != 503 || !strings.Contains(body, "draining") {
		t.Errorf("draining: /readyz = %d %s", status, body)
	}
	if err := a.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve = %v after Shutdown", err)
	}
}

// Whoever cannot reach the database should get no clients, but need not be restarted.
func TestDatabaseAway(t *testing.T) {
	s := storetest.New(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := admin.New(s, admin.Options{})
	go a.Serve(l)
	defer a.Shutdown(t.Context())
	if status, _ := get(t, "http://"+l.Addr().String()+"/readyz"); status != 503 {
		t.Errorf("/readyz = %d without the database, want 503", status)
	}
	if status, body := get(t, "http://"+l.Addr().String()+"/metrics"); status != 200 || !strings.Contains(body, "mailstead_packs_total") {
		t.Errorf("/metrics = %d without the database, want what the process knows\n%s", status, body)
	}
	if status, _ := get(t, "http://"+l.Addr().String()+"/livez"); status != 200 {
		t.Errorf("/livez = %d without the database, want 200", status)
	}
}
