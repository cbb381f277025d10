// Reads and changes mail with imapflow, as programs.py says:
//   node imapflow.mjs HOST PORT CA LOGIN PASSWORD
// It writes the messages of INBOX as JSON, octets as Latin-1, on its last line.
import { readFileSync } from 'node:fs';
import { ImapFlow } from 'imapflow';

const [host, port, ca, user, pass] = process.argv.slice(2);
const note = 'From: me@example.org\r\nTo: you@example.org\r\nSubject: put by a program\r\nMessage-ID: <put@example.org>\r\n\r\nThe last line.\r\n';
const client = new ImapFlow({ host, port: Number(port), secure: true, auth: { user, pass }, tls: { ca: readFileSync(ca) }, logger: false });

function demand(what, done) {
  if (!done) throw new Error(`${what} failed`);
  return done;
}

await client.connect();
const names = (await client.list()).map((mailbox) => mailbox.specialUse).sort();
demand('the special uses', ['\\Archive', '\\Drafts', '\\Inbox', '\\Junk', '\\Sent', '\\Trash'].every((use) => names.includes(use)));
const lock = await client.getMailboxLock('INBOX');
const contents = [];
try {
  for await (const message of client.fetch('1:*', { source: true, envelope: true, bodyStructure: true, flags: true, uid: true })) {
    demand('the envelope', message.envelope.subject === `message ${contents.length} of six`);
    contents.push(message.source.toString('latin1'));
  }
  demand('flag', await client.messageFlagsAdd('1', ['\\Flagged']));
  demand('move', await client.messageMove({ subject: 'message 1 of six' }, 'Junk'));
  demand('delete', await client.messageDelete({ subject: 'message 2 of six' }));
  demand('append', await client.append('Sent', Buffer.from(note), ['\\Seen']));
  const arrived = new Promise((resolve) => client.once('exists', resolve));
  const idle = client.idle();
  setTimeout(() => console.log('idling'), 1000);
  const data = await Promise.race([arrived, new Promise((_, reject) => setTimeout(() => reject(new Error('nothing came')), 20000))]);
  demand('the count', data.count === 5);
  await client.noop();
  await idle;
} finally {
  lock.release();
}
await client.logout();
console.log(JSON.stringify(contents));
