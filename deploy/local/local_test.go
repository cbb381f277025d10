package local

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// tempDir is a folder with a short name that the user postgres can reach.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mailstead-local-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A server that was killed starts again, with its roles, its data and what makes it durable.
func TestPostgresAfterSIGKILL(t *testing.T) {
	ctx := t.Context()
	o := PostgresOptions{Dir: tempDir(t), SharedBuffers: "32MB", MaxConnections: 20, Temporary: true}
	p, err := StartPostgres(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := StartPostgres(ctx, o); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second server on the same folder: %v, want that it is in use", err)
	}
	query(t, p, OwnerRole, `CREATE TABLE kept (n int)`)
	query(t, p, OwnerRole, `INSERT INTO kept VALUES (42)`)
	// A session that is busy does not notice at once that the server is gone, and keeps a new one from starting.
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		conn, err := pgx.Connect(ctx, p.DSN(SuperRole, "postgres"))
		if err != nil {
			return
		}
		defer conn.Close(context.Background())
		_, _ = conn.Exec(ctx, `SELECT count(*) FROM generate_series(1, 1000000000)`) // ends by the kill
	}()
	for query(t, p, SuperRole, `SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()`) == int64(0) {
		time.Sleep(5 * time.Millisecond)
	}
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	p.Release()
	if p, err = StartPostgres(ctx, o); err != nil {
		t.Fatal(err)
	}
	<-busy
	defer p.Stop(context.Background())
	if n := query(t, p, OwnerRole, `SELECT n FROM kept`); n != int32(42) {
		t.Errorf("after SIGKILL the table has %v, want 42", n)
	}
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if got := query(t, p, OwnerRole, `SHOW `+setting); got != "on" {
			t.Errorf("%s = %v, want on", setting, got)
		}
	}
}

func query(t *testing.T, p *Postgres, role, statement string) any {
	t.Helper()
	database := Database
	if role == SuperRole {
		database = "postgres"
	}
	conn, err := pgx.Connect(t.Context(), p.DSN(role, database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return nil
	}
	values, err := rows.Values()
	if err != nil {
		t.Fatal(err)
	}
	return values[0]
}

// What the store asks of S3, and that nothing acknowledged is lost by SIGKILL.
func TestS3(t *testing.T) {
	ctx := t.Context()
	o := S3Options{Dir: tempDir(t), Listen: "127.0.0.1:0", Status: "127.0.0.1:0", Buckets: []string{"mail"}, Access: "key", Secret: "secret-secret"}
	s, err := StartS3(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Listen, o.Status = s.Endpoint, s.Status
	client, err := minio.New(s.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(o.Access, o.Secret, ""), Region: Region})
	if err != nil {
		t.Fatal(err)
	}
	small, large := bytes.Repeat([]byte("mail"), 1000), bytes.Repeat([]byte("0123456789abcdef"), 700_000)
	for key, content := range map[string][]byte{"t1/packs/small": small, "t1/large": large} {
		// 5 MiB is the least that a part may have: the large object is a multipart upload.
		if _, err := client.PutObject(ctx, "mail", key, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{PartSize: 5 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	once := minio.PutObjectOptions{}
	once.SetMatchETagExcept("*")
	if _, err := client.PutObject(ctx, "mail", "t1/packs/small", bytes.NewReader(large), 10, once); err == nil {
		t.Error("If-None-Match: * replaced an object")
	}
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if s, err = StartS3(ctx, o); err != nil {
		t.Fatal(err)
	}
	defer s.Stop(context.Background())
	for key, content := range map[string][]byte{"t1/packs/small": small, "t1/large": large} {
		var get minio.GetObjectOptions
		if err := get.SetRange(100, 1099); err != nil {
			t.Fatal(err)
		}
		object, err := client.GetObject(ctx, "mail", key, get)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(object)
		if err != nil || !bytes.Equal(got, content[100:1100]) {
			t.Errorf("%s after SIGKILL: %d octets, %v; want the 1000 that were put", key, len(got), err)
		}
	}
	if err := MakeBucket(ctx, s.Status, "another"); err != nil {
		t.Error(err)
	}
	answer, err := http.Get("http://" + s.Status + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || !strings.Contains(string(text), "devs3_get_requests_total 2") {
		t.Errorf("metrics: %s, %v; want 2 GETs", text, err)
	}
}

// What cannot be started is an error, not a wait.
func TestMissingServers(t *testing.T) {
	t.Setenv("MAILSTEAD_DEVS3", "/nowhere/devs3")
	if _, err := StartS3(t.Context(), S3Options{Dir: tempDir(t), Listen: "127.0.0.1:0", Status: "127.0.0.1:0"}); err == nil {
		t.Error("started a devs3 that is not there")
	}
	t.Setenv("MAILSTEAD_POSTGRES_BIN", "/nowhere")
	if _, err := StartPostgres(t.Context(), PostgresOptions{Dir: tempDir(t)}); err == nil {
		t.Error("started a PostgreSQL that is not there")
	}
}
