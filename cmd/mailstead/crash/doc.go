// Package crash is a test of `mailstead dev` as a whole: mail is changed through two
// front ends while these, PostgreSQL and the S3 server are killed. It takes
// minutes, so it is built only with the tag crash; run it with `make crash`.
package crash
