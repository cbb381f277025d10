package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"mailstead.dev/store"
	"mailstead.dev/store/storetest"
)

// Versions of certificates are in the order of the commits, however many are set at once: who has seen one has seen all before.
func TestCertificatesAtOnce(t *testing.T) {
	s := storetest.New(t)
	storetest.Domain(t, s, "one", "one.test")
	set := func(domain string, names ...string) (int64, error) {
		return s.SetCertificate(t.Context(), store.Certificate{Names: names, Algorithm: "ECDSA", Begins: time.Now(), Ends: time.Now(), Domain: domain, Source: store.SourceAdded},
			store.SealedCertificate{Chain: []byte("chain"), Sealed: []byte("sealed"), SealedBy: "x"})
	}
	var setting sync.WaitGroup
	for range 4 {
		setting.Go(func() {
			for range 10 {
				if _, err := set("One.test", "imap.one.test"); err != nil {
					t.Error(err)
				}
				if _, err := set("", "imap.test"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	setting.Wait()
	version, err := s.CertificateVersion(t.Context())
	if err != nil || version != 80 {
		t.Errorf("version %d, %v", version, err)
	}
	all, err := s.Certificates(t.Context())
	if err != nil || len(all) != 2 || max(all[0].Version, all[1].Version) != version {
		t.Fatalf("%+v, %v, version %d", all, err, version)
	}
	if _, err := set("", "imap.one.test"); !errors.Is(err, store.ErrCertificateTaken) {
		t.Errorf("a domain's taken by the deployment: %v", err)
	}
	if _, err := set("one.test", "imap.test"); err == nil {
		t.Error("the deployment's taken by a domain")
	}
	if err := s.DeleteCertificate(t.Context(), all[0]); err != nil {
		t.Error(err)
	}
	if now, err := s.CertificateVersion(t.Context()); err != nil || now <= version {
		t.Errorf("version %d after one was deleted, %v", now, err)
	}
	if err := s.DeleteDomain(t.Context(), "one.test"); err != nil {
		t.Error(err)
	}
	if all, err := s.Certificates(t.Context()); err != nil || len(all) > 1 {
		t.Errorf("%+v, %v", all, err)
	}
}
