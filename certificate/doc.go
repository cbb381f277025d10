// Package certificate says which certificate of TLS a client is shown (RFC 6066 section 3): of files, and of the database,
// where their private keys lie sealed. What speaks TLS is others'.
package certificate
