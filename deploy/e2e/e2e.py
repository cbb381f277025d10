#!/usr/bin/env python3
"""Delivers mail, half by LMTP and half by APPEND, to users of two tenants, and reads it back with the mail programs of Debian.

    e2e.py --imaps 14301[,14311] --lmtp 127.0.0.1:14302[,/run/lmtp] --ca ca.pem --user LOGIN:PASSWORD --user LOGIN:PASSWORD
           [--mail-dir DIR] [--count 500] [--attachments 1,5,20] [--work DIR]

Every message is compared octet for octet with what was sent, in CRLF form. The exceptions are stated where they are made:

  * LMTP: Return-Path and Delivered-To come before the message, and a last line without an end gets one, since DATA cannot do without
    (mailset.py also drops NULs from the real mail, which no literal of APPEND can hold).
  * mbsync and mutt write LF; mbsync adds X-TUID; mutt takes out Status, X-Status, Content-Length and Lines (clients.py).

With several front ends, deliveries and sessions take turns at them.
"""
import argparse
import imaplib
import itertools
import pathlib
import re
import shutil
import sys
import tempfile
import time

import clients
import mailset
from model import Account, Difference, Message
from wire import IMAP, LMTP, quoted

FOLDER = "e2e/Größe & Kürze"
FLAGS = [(), (r"\Seen",), (r"\Flagged", "$Forwarded"), (r"\Answered", r"\Seen"), (r"\Draft",), (), ("$Label1", "e2e")]
SENDER = "sender@example.org"


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--imaps", required=True)
    p.add_argument("--lmtp", required=True)
    p.add_argument("--ca", required=True)
    p.add_argument("--user", action="append", required=True)
    p.add_argument("--mail-dir", default="")
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--attachments", default="1,5,20", help="MiB each")
    p.add_argument("--work")
    return p.parse_args()


class Run:
    def __init__(self, o):
        self.ca = pathlib.Path(o.ca).resolve()
        self.ports = itertools.cycle(map(int, o.imaps.split(",")))
        self.lmtps = [LMTP(a) for a in o.lmtp.split(",")]
        self.accounts = [Account(*u.rsplit(":", 1)) for u in o.user]
        self.work = pathlib.Path(o.work or tempfile.mkdtemp(prefix="mailstead-e2e-"))
        sizes = [int(float(s) * (1 << 20)) for s in o.attachments.split(",") if s]
        self.mail = mailset.collect(o.mail_dir, o.count, sizes, self.work)

    def session(self, account):
        return IMAP(next(self.ports), self.ca, account)

    def client(self, kind, account):
        return kind(next(self.ports), self.ca, account, self.work)

    # Delivery.

    def prefix(self, recipient):
        return f"Return-Path: <{SENDER}>\r\nDelivered-To: {recipient}\r\n".encode()

    def send(self):
        began = time.monotonic()
        sessions = [self.session(a) for a in self.accounts]
        for a, s in zip(self.accounts, sessions):
            s.ok(s.create(quoted(FOLDER)))
            s.ok(s.subscribe(quoted(FOLDER)))
            for box in s.boxes():
                a.boxes[box] = [Message("before", content, flags) for content, flags, _ in s.messages(box)]
                assert not a.boxes[box], f"{a}: {box} is not empty"
        by = {"LMTP": 0, "APPEND": 0}
        for i, (name, content) in enumerate(self.mail):
            k = i % len(self.accounts)
            if i // len(self.accounts) % 2 == 0:
                self.deliver(i, k, name, content)
                by["LMTP"] += 1
            else:
                self.append(i, self.accounts[k], sessions[k], name, content)
                by["APPEND"] += 1
        for s in sessions:
            s.leave()
        print(f"sent by {by}, {sum(a.count() for a in self.accounts)} copies, in {time.monotonic() - began:.0f} s")

    def deliver(self, i, k, name, content):
        """One in ten goes to all users at once, one in ten to a folder by its sub-address."""
        to, box = [self.accounts[k]], "INBOX"
        if i % 10 in (0, 1):
            to = self.accounts
        addresses = [a.login for a in to]
        if i % 10 in (4, 5):
            box = "Archive"
            addresses = [a.login.replace("@", "+Archive@") for a in to]
        self.lmtps[i % len(self.lmtps)].deliver(SENDER, addresses, content)
        whole = content if content.endswith(b"\r\n") else content + b"\r\n"
        for a, address in zip(to, addresses):
            a.boxes[box].append(Message(name, self.prefix(address) + whole))

    def append(self, i, account, session, name, content):
        flags = FLAGS[i % len(FLAGS)]
        box = ("INBOX", "INBOX", FOLDER, "Archive")[i // 4 % 4]
        session.put(box, content, flags, imaplib.Time2Internaldate(1_700_000_000 + i * 3600))
        account.boxes[box].append(Message(name, content, flags))

    # Reading back.

    def check_all(self, title):
        """A new session for each account sees exactly what must be there."""
        print(title)
        for a in self.accounts:
            s = self.session(a)
            a.check("imaplib", {box: [(c, f) for c, f, _ in s.messages(box)] for box in s.boxes()})
            s.leave()

    def search(self):
        """SEARCH BODY finds what corpus.py has planted, whatever charset and encoding it is in, and nothing else."""
        hits = 0
        for a in self.accounts:
            s = self.session(a)
            for box in s.boxes():
                seen = s.messages(box)
                names = {uid: m.name for (_, _, uid), m in zip(seen, self.in_order(a, box, seen))}
                for word, having in mailset.PROBES.items():
                    found = set(map(int, s.ok(s.uid("SEARCH", "CHARSET", "UTF-8", "BODY", word.upper()))[0].split()))
                    want = {uid for uid, name in names.items() if name in having}
                    assert found == want, f"{a} {box}: BODY {word} finds {[names.get(u) for u in found - want]} too, and not {[names[u] for u in want - found]}"
                    hits += len(found)
            s.leave()
        print(f"SEARCH BODY: {hits} hits, all of those that were planted")

    def change(self):
        """Flags, moves, copies and expunges through imaplib."""
        for a in self.accounts:
            s = self.session(a)
            uids = [uid for _, _, uid in s.messages("INBOX")]
            s.read_parts("INBOX", [m for m in s.messages("INBOX") if len(m[0]) < 1 << 20][::7])
            by_uid = dict(zip(uids, self.in_order(a, "INBOX", s.messages("INBOX"))))
            s.ok(s.select("INBOX"))
            every = lambda first, step: ",".join(map(str, uids[first::step]))
            s.ok(s.uid("STORE", every(0, 5), "+FLAGS.SILENT", r"(\Seen $Important)"))
            s.ok(s.uid("STORE", every(1, 5), "-FLAGS", r"(\Seen)"))
            s.ok(s.uid("STORE", every(2, 5), "FLAGS", r"(\Answered)"))
            s.ok(s.uid("COPY", every(3, 20), quoted(FOLDER)))
            s.ok(s.uid("MOVE", every(4, 10), quoted("Archive")))
            s.ok(s.uid("STORE", every(9, 30), "+FLAGS", r"(\Deleted)"))
            s.ok(s.expunge())
            for uid in uids[0::5]:
                by_uid[uid].flags |= {r"\Seen", "$Important"}
            for uid in uids[1::5]:
                by_uid[uid].flags -= {r"\Seen"}
            for uid in uids[2::5]:
                by_uid[uid].flags = {r"\Answered"}
            a.boxes[FOLDER] += [Message(by_uid[u].name, by_uid[u].content, by_uid[u].flags) for u in uids[3::20]]
            moved = set(uids[4::10])
            a.boxes["Archive"] += [by_uid[u] for u in moved]
            a.boxes["INBOX"] = [by_uid[u] for u in uids if u not in moved and u not in uids[9::30]]
            s.leave()
        self.check_all("after flags, copies, moves and expunges")

    @staticmethod
    def in_order(account, box, seen):
        """The model's messages in the order in which the server has them."""
        waiting = {}
        for m in account.boxes[box]:
            waiting.setdefault((m.content, frozenset(m.flags)), []).append(m)
        return [waiting[content, frozenset(flags - {r"\Recent"})].pop() for content, flags, _ in seen]

    def mbsync(self):
        print("mbsync")
        for a in self.accounts:
            m = self.client(clients.Mbsync, a)
            m.sync()
            a.check("mbsync", m.read(), flags="system", change=m.changed)
            done = m.sync()
            assert done == [(0, 0, 0), (0, 0, 0)], f"the second run transferred {done}"
            print("  a second run transfers nothing")
            # What changes on this side arrives on the other.
            box, path = next((b, p) for b, p in m.files() if b == "INBOX" and "F" not in p.name.partition(":2,")[2])
            content = next(c for c, _ in m.read()["INBOX"] if c == re.sub(rb"(?m)^X-TUID: [^\n]*\n", b"", path.read_bytes(), count=1).replace(b"\n", b"\r\n"))
            next(x for x in a.boxes[box] if m.changed(x.content) == content and self.marks(x) == set(path.name.partition(":2,")[2])).flags.add(r"\Flagged")
            m.flag(path, "F")
            note = b"From: me@example.org\r\nSubject: written offline\r\nMessage-ID: <offline@example.org>\r\n\r\nHello.\r\n"
            m.add("Drafts", note)
            m.sync()
            s = self.session(a)
            drafts = s.messages("Drafts")
            s.leave()
            # mbsync marks what it uploads, and leaves the mark.
            assert len(drafts) == 1 and re.sub(rb"X-TUID: [^\r\n]*\r\n", b"", drafts[0][0]) == note, drafts
            a.boxes["Drafts"].append(Message("offline", drafts[0][0], drafts[0][1] - {r"\Recent"}))
            assert m.sync() == [(0, 0, 0), (0, 0, 0)], "a run after the upload transfers something"
        self.check_all("after changes through mbsync")

    @staticmethod
    def marks(message):
        return {mark for mark, flag in clients.Mbsync.FLAGS.items() if flag in message.flags}

    def curl(self):
        print("curl")
        for a in self.accounts:
            c = self.client(clients.Curl, a)
            for box in ("INBOX", FOLDER):
                a.check("curl", {box: c.read(box, len(a.boxes[box]))}, flags=False, boxes=[box])
                for m in a.boxes[box]:
                    m.flags.add(r"\Seen")
            name, content = next((n, d) for n, d in self.mail if 1 << 20 < len(d) or len(self.mail) < 100)
            c.upload("Sent", content)
            a.boxes["Sent"].append(Message(name, content, {r"\Seen"}))
        self.check_all("after curl, which sets \\Seen and has uploaded")

    def mutt(self):
        print("mutt")
        for a in self.accounts:
            m = self.client(clients.Mutt, a)
            a.check("mutt", {"Archive": m.read("Archive")}, flags=False, boxes=["Archive"], change=m.changed)
            s = self.session(a)
            first, second = self.in_order(a, "Archive", s.messages("Archive"))[:2]
            s.leave()
            m.press("Archive", "<first-entry><set-flag>!<jump>2<enter><save-message>=Junk<enter><sync-mailbox><quit>")
            first.flags.add(r"\Flagged")
            a.boxes["Archive"].remove(second)
            a.boxes["Junk"].append(second)
        self.check_all("after a flag and a move by mutt")

    def simple(self):
        print("Net::IMAP::Simple")
        for a in self.accounts:
            p = self.client(clients.Simple, a)
            a.check("Net::IMAP::Simple", {"INBOX": p.read("INBOX")}, flags=False, boxes=["INBOX"])
            for m in a.boxes["INBOX"]:
                m.flags.add(r"\Seen")
            note = b"Subject: from Perl\r\n\r\nThe last line.\r\n"
            p.change("INBOX", "Trash", note)
            a.boxes["Trash"].append(Message("from Perl", note, {r"\Flagged"}))
        self.check_all("after changes through Net::IMAP::Simple")


def main():
    o = arguments()
    run = Run(o)
    run.send()
    run.check_all("as sent")
    run.search()
    run.change()
    run.mbsync()
    run.curl()
    run.mutt()
    run.simple()
    if not o.work:
        shutil.rmtree(run.work)
    print("e2e: all messages as sent, all flags and moves as set")


if __name__ == "__main__":
    try:
        main()
    except (Difference, AssertionError) as problem:
        sys.exit(f"e2e: FAILED: {problem}")
