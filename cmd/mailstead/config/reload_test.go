package config

import (
	"reflect"
	"slices"
	"testing"
)

func TestReload(t *testing.T) {
	before, next := Default(), Default()
	before.Objects.SecretKey, next.Objects.SecretKey = "old", "new"
	next.Log.Level, next.LMTP.Allow, next.IMAP.Listen, next.Roles = "warn", nil, ":1143", next.Roles[:1]
	next.TLS.CertFile, next.TLS.KeyFile = "cert.pem", "key.pem"
	want := *before
	want.Log.Level, want.LMTP.Allow = "warn", nil
	inForce, taken, restart := before.Reload(next)
	if !reflect.DeepEqual(inForce, &want) {
		t.Errorf("in force: %+v, want %+v", inForce, want)
	}
	if want := []string{"log.level", "lmtp.allow"}; !slices.Equal(taken, want) {
		t.Errorf("taken over: %v, want %v", taken, want)
	}
	if want := []string{"roles", "objects.secret_key", "imap.listen", "tls.cert_file", "tls.key_file"}; !slices.Equal(restart, want) {
		t.Errorf("after a restart: %v, want %v", restart, want)
	}
	if before.Log.Level != "info" {
		t.Error("the configuration before has changed")
	}
	if _, taken, restart := next.Reload(next); len(taken)+len(restart) > 0 {
		t.Errorf("nothing has changed, and %v, %v", taken, restart)
	}
}
