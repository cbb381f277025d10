// Package blob keeps content: a contract for object storage and its S3
// implementation, the frame format in which content is compressed, and a read
// cache. It knows nothing of mailboxes or SQL; which blob lies where is known by store.
package blob
