#!/usr/bin/env python3
"""Has many mail programs read and change mail, each in an account of its own, and looks at what came of it with Python's imaplib.

    programs.py --imaps PORT --ca ca.pem --users user%04d@demo.test --password PASSWORD --work DIR [--only mutt,alpine]

Each begins with the same mail: in INBOX messages 0 to 5, the one of number 3 flagged. Each, as far as it can, reads all of
it, flags message 0, moves message 1 to Junk, deletes message 2, and puts a message into Sent. What a program can do only in
part is stated where it is done.
"""
import argparse
import json
import mailbox
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import clients
from model import Account, Difference, Message
from wire import IMAP

HERE = pathlib.Path(__file__).resolve().parent
NOTE = b"From: me@example.org\r\nTo: you@example.org\r\nSubject: put by a program\r\nMessage-ID: <put@example.org>\r\n\r\nThe last line.\r\n"


def mail(i):
    """Message i: plain ones, one in UTF-8, one with an attachment, one with an empty body."""
    head = f"From: Sender {i} <sender{i}@example.org>\r\nTo: you@example.org\r\nSubject: message {i} of six\r\n" \
           f"Date: Mon, {5 + i} Jan 2026 10:00:00 +0100\r\nMessage-ID: <six.{i}@example.org>\r\n"
    if i == 3:
        return (head + "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n").encode()
    if i == 4:
        return (head + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nSee attached.\r\n"
                "--b\r\nContent-Type: application/octet-stream; name=a.bin\r\nContent-Disposition: attachment; filename=a.bin\r\n"
                "Content-Transfer-Encoding: base64\r\n\r\n" + "QUJD\r\n" * 5000 + "--b--\r\n").encode()
    return (head + "\r\n" + ("" if i == 5 else f"The text of message {i}.\r\n.\r\n..\r\nFrom here on.\r\n")).encode()


def lf(content):
    return content.replace(b"\r\n", b"\n")


def subjects(contents):
    return sorted(re.search(rb"(?mi)^Subject: ([^\r\n]*)", c)[1].decode() for c in contents)


class Programs:
    def __init__(self, o):
        self.port, self.ca = o.imaps, pathlib.Path(o.ca).resolve()
        self.users, self.password, self.work = o.users, o.password, pathlib.Path(o.work)
        self.used = 0

    def account(self):
        """An account with the mail that each program begins with."""
        self.used += 1
        a = Account(self.users % self.used, self.password)
        s = IMAP(self.port, self.ca, a)
        a.boxes["Junk"], a.boxes["Sent"] = [], []
        for i in range(6):
            flags = {r"\Flagged"} if i == 3 else set()
            s.put("INBOX", mail(i), flags, f'"{5 + i:02d}-Jan-2026 10:00:00 +0100"')
            a.boxes["INBOX"].append(Message(f"message {i}", mail(i), flags))
        s.leave()
        return a

    def look(self, name, a, seen=None):
        """Compares what is there with what should be. seen: the numbers of the messages of INBOX that the program has marked as read."""
        for m in a.boxes["INBOX"] + a.boxes["Junk"]:
            if seen is not None and int(m.name.split()[1]) in seen:
                m.flags.add(r"\Seen")
        s = IMAP(self.port, self.ca, a)
        a.check(f"after {name}", {box: [(c, f) for c, f, _ in s.messages(box)] for box in ("INBOX", "Junk", "Sent")})
        s.leave()

    @staticmethod
    def changed(a, flag=True, move=True, delete=True):
        """Makes the changes that a program was told to make."""
        inbox = {m.name: m for m in a.boxes["INBOX"]}
        if flag:
            inbox["message 0"].flags.add(r"\Flagged")
        if move:
            a.boxes["INBOX"].remove(inbox["message 1"])
            a.boxes["Junk"].append(inbox["message 1"])
        if delete:
            a.boxes["INBOX"].remove(inbox["message 2"])

    def folder(self, name):
        folder = self.work / name
        folder.mkdir()
        return folder

    # The programs.

    def mutt(self, kind=clients.Mutt):
        a = self.account()
        m = kind(self.port, self.ca, a, self.work)
        a.check(kind.__name__, {"INBOX": m.read("INBOX")}, flags=False, boxes=["INBOX"], change=m.changed)
        m.press("INBOX", "<first-entry><set-flag>!<jump>2<enter><save-message>=Junk<enter><jump>3<enter><delete-message><sync-mailbox><quit>")
        self.changed(a)
        self.look(kind.__name__, a)

    def neomutt(self):
        self.mutt(clients.NeoMutt)

    def alpine(self):
        """Alpine on a terminal: it flags, saves and expunges; it also marks what it has shown as read."""
        a, home = self.account(), self.folder("alpine")
        (home / "pinerc").write_text(
            f"personal-name=Me\nuser-domain=example.org\ninbox-path={{localhost:{self.port}/ssl/novalidate-cert/user={a.login}}}INBOX\n"
            f"folder-collections=Mail {{localhost:{self.port}/ssl/novalidate-cert/user={a.login}}}[]\n"
            "feature-list=enable-flag-cmd,enable-aggregate-command-set,expunge-without-confirm,quit-without-confirm,enable-jump-command,"
            "no-enable-msg-view-urls\nnntp-server=\ndefault-fcc=\"\"\nlast-version-used=6.26\n")
        clients.dialogue(["alpine", "-p", str(home / "pinerc"), "-i", "-sort", "arrival"], [
            (r"(?i)password", f"{a.password}\r"),
            (r"(?i)preserve password", "n"),
            (r"message 5", "1\r"),  # jump to the first
            (r".", "*"),            # flag
            (r"(?i)flag", "\r"),
            (r".", "2\r"),
            (r".", "s"),            # save, which deletes it here
            (r"(?i)save", "Junk\r"),
            (r".", "3\r"),
            (r".", "d"),
            (r".", "q"),
        ], HOME=str(home), TERM="vt100", LC_ALL="C.UTF-8", LINES="24", COLUMNS="80")
        self.changed(a)
        self.look("alpine", a)

    def mbsync(self):
        a = self.account()
        m = clients.Mbsync(self.port, self.ca, a, self.work)
        m.sync()
        a.check("mbsync", m.read(), flags="system", boxes=["INBOX"], change=m.changed)
        files = {re.search(rb"message (\d)", path.read_bytes())[1]: path for box, path in m.files() if box == "INBOX"}
        m.flag(files[b"0"], "F")
        files[b"2"].unlink()
        m.sync()
        assert m.sync() == [(0, 0, 0), (0, 0, 0)], "a last run transfers something"
        assert m.compresses(), "mbsync does not compress"
        self.changed(a, move=False)
        self.look("mbsync", a)

    def offlineimap(self):
        """OfflineIMAP mirrors to a Maildir, with LF."""
        a, home = self.account(), self.folder("offlineimap")
        local = home / "mail"
        (home / "rc").write_text(f"""[general]
accounts = a
metadata = {home}/metadata
ui = basic
[Account a]
localrepository = local
remoterepository = remote
[Repository local]
type = Maildir
localfolders = {local}
[Repository remote]
type = IMAP
remotehost = localhost
remoteport = {self.port}
remoteuser = {a.login}
remotepass = {a.password}
ssl = yes
sslcacertfile = {self.ca}
usecompression = yes
""")

        def sync():
            return clients.run(["offlineimap", "-o", "-c", str(home / "rc")], timeout=300, env=dict(os.environ, HOME=str(home)))

        def files():
            return {re.search(rb"message (\d)", p.read_bytes())[1]: p for p in sorted((local / "INBOX").rglob("*")) if p.is_file() and p.parent.name in ("cur", "new")}

        sync()
        a.check("offlineimap", {"INBOX": [(p.read_bytes().replace(b"\n", b"\r\n"), set()) for p in files().values()]}, flags=False, boxes=["INBOX"])
        path = files()[b"0"]
        base, _, marks = path.name.partition(":2,")
        path.rename(local / "INBOX" / "cur" / f"{base}:2,{''.join(sorted(set(marks) | {'F'}))}")
        files()[b"2"].unlink()
        sync()
        self.changed(a, move=False)
        self.look("offlineimap", a)

    def fetchmail(self):
        """fetchmail hands all mail over, and marks it as read; it puts a Received field of its own before it."""
        a, home = self.account(), self.folder("fetchmail")
        rc, got = home / "rc", home / "got"
        got.mkdir()
        rc.write_text(f"""poll localhost service {self.port} protocol IMAP user "{a.login}" password "{a.password}"
  ssl sslcertck sslcertfile "{self.ca}" sslcommonname localhost fetchall keep no rewrite
  mda "cat > {got}/$$.$(date +%N)"
""")
        rc.chmod(0o600)
        clients.run(["fetchmail", "--fetchmailrc", str(rc), "--pidfile", str(home / "pid")], timeout=120, env=dict(os.environ, HOME=str(home), FETCHMAILHOME=str(home)))
        contents = [re.sub(rb"\A(?:(?:Received|Delivered-To|Return-Path|X-[^:]*):[^\n]*\n(?:[ \t][^\n]*\n)*)*", b"", p.read_bytes()).replace(b"\n", b"\r\n") for p in got.iterdir()]
        a.check("fetchmail", {"INBOX": [(c, set()) for c in contents]}, flags=False, boxes=["INBOX"])
        self.look("fetchmail", a, seen=range(6))

    def getmail(self):
        """getmail takes all mail away. It writes no mail as root, but as a user that root names."""
        a, home = self.account(), self.folder("getmail")
        box = mailbox.Maildir(home / "mail", create=True)
        user = ""
        if os.geteuid() == 0:
            user = "user = nobody"
            for folder in (home / "mail", *(home / "mail").iterdir()):
                shutil.chown(folder, "nobody")
        (home / "rc").write_text(f"""[retriever]
type = SimpleIMAPSSLRetriever
server = localhost
port = {self.port}
username = {a.login}
password = {a.password}
ca_certs = {self.ca}
[destination]
type = Maildir
path = {home}/mail/
{user}
[options]
delete = true
read_all = true
delivered_to = false
received = false
""")
        for last in (False, False, True):  # it waits for ever for a child of its own that has ended too soon
            try:
                clients.run(["getmail", "--getmaildir", str(home), "--rcfile", str(home / "rc")], timeout=30, stdin=subprocess.DEVNULL)
                break
            except subprocess.TimeoutExpired:
                if last:
                    raise
                box.clear()
        contents = [box.get_bytes(key).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for key in box.keys()]
        contents = [re.sub(rb"(?m)^(Return-Path|X-getmail-retrieved-from-mailbox): [^\r\n]*\r\n", b"", c) for c in contents]
        a.check("getmail", {"INBOX": [(c, set()) for c in contents]}, flags=False, boxes=["INBOX"])
        a.boxes["INBOX"].clear()
        self.look("getmail", a)

    def imapfilter(self):
        a, home = self.account(), self.folder("imapfilter")
        (home / "config.lua").write_text(f"""
options.timeout = 60
options.certificates = true
local a = IMAP {{ server = 'localhost', port = {self.port}, username = '{a.login}', password = '{a.password}', ssl = 'auto' }}
local function about(n) return a.INBOX:contain_subject('message ' .. n .. ' of six') end
about(0):mark_flagged()
about(1):move_messages(a.Junk)
about(2):delete_messages()
local n = #a.INBOX:is_flagged()
if n ~= 2 then error(n .. ' flagged') end
""")
        clients.run(["imapfilter", "-c", str(home / "config.lua"), "-t", str(self.ca)], timeout=120, env=dict(os.environ, HOME=str(home)))
        self.changed(a)
        self.look("imapfilter", a)

    def curl(self):
        """curl reads, which marks as read, and puts; its -X runs any command."""
        a = self.account()
        c = clients.Curl(self.port, self.ca, a, self.work)
        a.check("curl", {"INBOX": c.read("INBOX", 6)}, flags=False, boxes=["INBOX"])
        for command in (r"STORE 1 +FLAGS (\Flagged)", "MOVE 2 Junk", r"STORE 2 +FLAGS (\Deleted)", "EXPUNGE"):
            clients.run(c.base + [c.place("INBOX"), "--request", command])
        c.upload("Sent", NOTE)
        a.boxes["Sent"].append(Message("note", NOTE, {r"\Seen"}))
        self.look("curl", self.after(a), seen=range(6))

    def after(self, a):
        self.changed(a)
        return a

    def simple(self):
        """Net::IMAP::Simple; it has no MOVE."""
        a = self.account()
        p = clients.Simple(self.port, self.ca, a, self.work)
        a.check("Net::IMAP::Simple", {"INBOX": p.read("INBOX")}, flags=False, boxes=["INBOX"])
        p.change("INBOX", "Sent", NOTE)
        a.boxes["Sent"].append(Message("note", NOTE, {r"\Flagged"}))
        self.look("Net::IMAP::Simple", a, seen=range(6))

    def mailimapclient(self):
        a, home = self.account(), self.folder("mailimapclient")
        clients.run(["perl", str(HERE / "client.pl"), f"localhost:{self.port}", str(self.ca), a.login, a.password, str(home)], input=NOTE)
        a.check("Mail::IMAPClient", {"INBOX": [(p.read_bytes(), set()) for p in home.iterdir()]}, flags=False, boxes=["INBOX"])
        self.changed(a)
        a.boxes["Sent"].append(Message("note", NOTE, {r"\Seen"}))
        self.look("Mail::IMAPClient", a)

    def imapflow(self):
        """imapflow from npm, which also idles and is told of a message that comes meanwhile."""
        a, home = self.account(), self.folder("imapflow")
        shutil.copy(HERE / "imapflow.mjs", home)
        (home / "package.json").write_text('{"private": true, "type": "module"}\n')
        clients.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "imapflow@1"], cwd=home, timeout=300)
        p = subprocess.Popen(["node", "imapflow.mjs", "localhost", str(self.port), str(self.ca), a.login, a.password], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             stdin=subprocess.PIPE, text=True)
        lines = []
        for line in p.stdout:
            lines.append(line)
            if line == "idling\n":
                s = IMAP(self.port, self.ca, a)
                s.put("INBOX", mail(2))
                s.leave()
        assert p.wait(timeout=60) == 0, "".join(lines)[-3000:]
        got = json.loads(lines[-1])
        a.check("imapflow", {"INBOX": [(c.encode("latin-1"), set()) for c in got]}, flags=False, boxes=["INBOX"])
        self.changed(a)
        a.boxes["INBOX"].append(Message("message 2", mail(2)))
        a.boxes["Sent"].append(Message("note", NOTE, {r"\Seen"}))
        self.look("imapflow", a)

    ALL = ["mutt", "neomutt", "alpine", "mbsync", "offlineimap", "fetchmail", "getmail", "imapfilter", "curl", "simple", "mailimapclient", "imapflow"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--imaps", required=True, type=int)
    for name in ("ca", "users", "password", "work"):
        p.add_argument(f"--{name}", required=True)
    p.add_argument("--only", default="")
    o = p.parse_args()
    programs, failed = Programs(o), []
    for name in o.only.split(",") if o.only else Programs.ALL:
        print(name, flush=True)
        began = time.monotonic()
        try:
            getattr(programs, name)()
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
        except Exception as problem:  # whatever it is, the other programs have their turn
            print(f"  FAILED: {type(problem).__name__} {problem} {str(getattr(problem, 'output', ''))[-3000:]}", flush=True)
            failed.append(name)
    if failed:
        sys.exit(f"e2e-clients: FAILED: {', '.join(failed)}")
    print("e2e-clients: all that the programs did is what another client sees")


if __name__ == "__main__":
    main()
