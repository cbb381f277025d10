// Package order sorts and threads messages (RFC 5256, RFC 5957). What an email says that this goes by never
// changes; a Table keeps it of an account's emails, packed in columns of numbers, so that nothing is read twice. Where emails
// come from, and which messages are to be sorted, is the caller's. No I/O.
package order
