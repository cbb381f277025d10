// Package message parses mail once, on arrival, into all that IMAP asks of a
// message without its content: envelope, structure with the place of every
// part, the header fields that clients list, a preview, sort keys. It also
// extracts the text that SEARCH looks at. It does no I/O beyond the readers
// that it is given, and knows nothing of mailboxes or of where content lies.
//
// RFC 5322, 2045 to 2047, 2231, 6532; what is broken is described as well as
// possible, and never an error.
package message
