// Package testdb gives a test a fresh PostgreSQL database of the newest schema,
// with the roles of production, and an empty S3 bucket. `make test` starts the
// servers once for all packages; a bare `go test` starts its own, which end
// with the test process. It knows nothing of store, so that store's own tests can use it.
package testdb
