// Package storetest opens stores for tests: on a fresh database and bucket each,
// from store/storetest/testdb, serving as in production.
package storetest
