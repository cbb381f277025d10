// Package index answers the text criteria of SEARCH: which emails hold a string
// in a header field, in their body or anywhere (RFC 9051 section 6.4.4). What
// else SEARCH asks (flags, dates, sizes, and how criteria are combined) is the
// caller's, and so is what an account's mail is.
//
// A Matcher says what a match is: it looks at the texts of one email, as
// message.Texts gives them, normalised. An Account answers the same for many: an
// index on local disk, of one account's emails, that finds strings by the
// dictionary of all words, and keeps the texts, so that they decide where words
// alone do not. It answers as of an email up to which it is complete; it can
// always be made again.
package index
