// Package lmtpd takes mail from an MTA: LMTP (RFC 2033) on emersion/go-smtp,
// with PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8
// (RFC 6531) and ENHANCEDSTATUSCODES (RFC 2034). Who an address stands for and
// what becomes of a message is store's to say.
//
// The rules of a delivery:
//
//   - 250 means committed. Each recipient has a transaction of its own, so that
//     one who is over quota does not fail the others.
//   - 5xx is only said of what can never work. Whatever is in doubt, and be it
//     whether a COMMIT came through, is 4xx: the MTA asks again, and a
//     duplicate is possible, as in every LMTP server.
//   - The content is kept as sent, octet by octet, after two fields that each
//     recipient gets of their own: Return-Path and Delivered-To.
//   - An account gets a message once in a mailbox, however many of the
//     transaction's recipients lead there; all of them get the same answer.
//   - An alias of several accounts is one recipient with one answer. Where some
//     took the message and others never will (over quota, gone), the answer is
//     250 and the log names them: to ask the MTA again would give those who have
//     it another copy with each try. What may still work is 4xx.
//
// go-smtp reads commands and writes replies. What it reads them from is a conn
// of this package, which hands it one line at a time and keeps the octets after
// DATA for itself: go-smtp limits the lines of content, loses octets of some
// (CR CR LF before a dot), and refuses a message of exactly the size announced.
package lmtpd
