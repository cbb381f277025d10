// Package index answers the text criteria of SEARCH: which emails hold a
// string in a header field, in their body or anywhere (RFC 9051 section
// 6.4.4). It scans the texts of each email, as message.Texts gives them, and so
// is exact by itself; header fields that are kept with an email are answered
// without its content. It keeps nothing between searches. What else SEARCH asks
// (flags, dates, sizes, and how criteria are combined) is the caller's.
package index
