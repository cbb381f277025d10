// Package imapd is the IMAP engine: connections, sessions and the commands.
// What is mail, and how it changes, is store's.
//
// RFC 3501 and, where a client enables it, RFC 9051 (rev2.go), with the extensions named in capability.go.
//
// # The rules of the engine
//
// One goroutine owns a session: it reads a command, runs it, answers, and reads
// the next; what a client pipelines waits in the socket. Only commands that have come
// together and change nothing run at the same time, in goroutines for which it waits (pipeline.go). While
// it waits for a command a connection keeps no buffers.
//
// A command is a row of the table in command.go. It is read to the end of its line
// before anything of it is run. Only APPEND and REPLACE, whose literals stream,
// SETMETADATA, and the commands that talk to the client by continuation requests go on reading.
//
// A connection that ends, because the server is drained or its user is let in no more, does so
// between two commands, whatever the client has sent behind the one that runs: that is neither run nor answered.
// Before the login it ends at once.
//
// A client is told what other sessions did
//   - before the data of a FETCH or SEARCH, as part of them, so that
//     nothing stands between its last literal and the tagged OK: simple
//     clients take the line before the OK for the end of the message;
//   - by NOOP and CHECK (tellsAfter), and with what they do by STORE, EXPUNGE and
//     MOVE, and by what puts messages into the selected mailbox itself;
//   - at once, during IDLE.
//
// By others it is not, for it would cost a look at the database each time. Nor does a
// FETCH look when it asks only for what never changes, of messages that the client has been told of,
// and somebody has looked just before (recently).
//
// What is in another cell is told by that (remote_pass.go): as it comes, while one of its commands runs.
//
// Never is an EXPUNGE or VANISHED told during FETCH, STORE and SEARCH by message
// number (keepsSeqs; RFC 9051 section 7.5.1). While one is withheld, a tagged answer
// behind a higher MODSEQ carries [HIGHESTMODSEQ] with the one up to which the client
// knows all (RFC 7162 section 6). To commands that run at the same time what others did is told once, before they begin. In what order: FLAGS, EXPUNGE or VANISHED, EXISTS and
// RECENT, FETCH.
//
// A tagged OK of a change is sent after it is durable. Nothing that holds a
// lock or a transaction waits for a client: what is told while one is held is told beside it (INPROGRESS). An error of which errors.go knows nothing
// is ours: the log gets it, once, and the client an apology.
package imapd
