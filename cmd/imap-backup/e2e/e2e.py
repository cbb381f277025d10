"""make e2e-backup: imap-backup against one server after the other. See run for what is started."""
import argparse
import base64
import collections
import datetime
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

import cutter
import mailset
import plain
import wire

parser = argparse.ArgumentParser()
parser.add_argument("--binary", required=True)
parser.add_argument("--work", required=True, type=pathlib.Path)
parser.add_argument("--server", action="append", required=True, help="name:port:user, with %%d for its number")
parser.add_argument("--mail-dir", default="")
parser.add_argument("--count", type=int, default=20000)
parser.add_argument("--mailboxes", type=int, default=50)
parser.add_argument("--kills", type=int, default=100)
parser.add_argument("--seed", type=int, default=7)
parser.add_argument("--only", default="fill,login,cold,format,show,changes,kill,disk,cut,restore,speed,large")
options = parser.parse_args()
os.environ["IMAP_PASSWORD"] = "pass"
only = options.only.split(",")


def say(*words):
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def url(port, user):
    return f"imap://{user.replace('@', '%40')}@127.0.0.1:{port}/"


def command(port, user, folder, *flags):
    return [options.binary, "--json", "--insecure-plaintext", *flags, url(port, user), str(folder)]


class Run:
    """A run to its end: its result, problems, time and memory."""

    def __init__(self, argv, ok=(0,)):
        started = time.monotonic()
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.memory = 0
        watcher = threading.Thread(target=self.watch, args=(process.pid,))
        watcher.start()
        events = [json.loads(line) for line in process.stdout]
        errors = process.stderr.read()
        watcher.join()
        self.status = process.wait()
        self.seconds = time.monotonic() - started
        self.problems = [e for e in events if e["event"] == "problem"]
        assert self.status in ok, f"{argv}: status {self.status}: {errors} {self.problems[:5]} {events[-1:]}"
        self.result = events[-1]["result"]

    def watch(self, pid):
        """The most memory that the process had. What wait4 says counts ours from before exec as well."""
        while True:
            try:
                peak = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
            except OSError:
                return
            if not peak:  # it has ended
                return
            self.memory = int(peak[1]) / 1024
            time.sleep(0.02)


def same(a, b, what):
    if a == b:
        return
    for key in sorted(set(a) | set(b)):
        if a.get(key) != b.get(key):
            left, right = a.get(key), b.get(key)
            if isinstance(left, list) and isinstance(right, list):
                left, right = [x for x in left if x not in right][:3], [x for x in right if x not in left][:3]
            print(f"  {key}: {left} / {right}", file=sys.stderr)
    raise AssertionError(what)


def instant(text):
    return datetime.datetime.strptime(text, "%d-%b-%Y %H:%M:%S %z").timestamp()


def on_server(port, user):
    """What an independent client finds."""
    client = wire.Client(port, user)
    return {decoded(name): sorted((s, f, instant(d)) for s, f, d in messages) for name, messages in client.contents().items()}


def decoded(name):
    def run(match):
        if not match[1]:
            return "&"
        text = match[1].replace(",", "/")
        return base64.b64decode(text + "=" * (-len(text) % 4)).decode("utf-16-be")
    return re.sub(r"&([^-]*)-", run, name)


def moment(text):
    return datetime.datetime.fromisoformat(text).timestamp()


def in_files(folder):
    return {m: sorted((s, f, moment(d)) for s, f, d in messages) for m, messages in plain.contents(folder).items()}


class Server:
    def __init__(self, text):
        self.name, port, self.users = text.split(":")
        self.port = int(port)
        self.user = self.users % 1
        self.work = options.work / self.name
        self.work.mkdir(parents=True, exist_ok=True)

    def say(self, *words):
        say(f"{self.name}:", *words)

    def fill(self):
        everything = mailset.generate(options.seed, options.count, options.mailboxes, options.mail_dir)
        client = wire.Client(self.port, self.user)
        assert client.examine("INBOX") == 0, "the account is not empty"
        started = time.monotonic()
        total = 0
        for n, (name, messages) in enumerate(everything.items()):
            if name != "INBOX":
                try:
                    client.command(f"CREATE {wire.quoted(name)}")
                except wire.Refused as refused:
                    self.say(f"{name!r} is refused ({refused}), so it is called Odd {n}")
                    name = f"Odd {n}"
                    client.command(f'CREATE "{name}"')
            try:
                client.append(name, messages)
                total += len(messages)
            except wire.Refused:  # one by one, to see which
                for one in messages:
                    try:
                        client.append(name, [one])
                        total += 1
                    except wire.Refused as refused:
                        self.say("a message is refused:", str(refused)[:100])
        self.say(f"filled with {total} messages in {time.monotonic() - started:.0f} s")

    def login(self):
        """Every mechanism that the server has, and STARTTLS."""
        capabilities = b" ".join(wire.Client(self.port, self.user).before).decode().upper().split()
        known = [c[5:] for c in capabilities if c.startswith("AUTH=")]
        known = [m for m in known if m in ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")]
        for mechanism in known:
            subprocess.run([options.binary, "-q", "--insecure-plaintext", "--auth", mechanism, "--mailbox", "INBOX", url(self.port, self.user),
                            str(self.work / "login")], check=True)
        if "STARTTLS" in capabilities:
            subprocess.run([options.binary, "-q", "--insecure-any-certificate", "--mailbox", "INBOX", url(self.port, self.user), str(self.work / "login")], check=True)
            refused = subprocess.run([options.binary, "-q", url(self.port, self.user), str(self.work / "login")], stderr=subprocess.PIPE)
            assert refused.returncode == 3 and b"certificate" in refused.stderr, refused
        wrong = subprocess.run([options.binary, "-q", "--insecure-plaintext", url(self.port, self.user), str(self.work / "login")], stderr=subprocess.PIPE,
                               env={**os.environ, "IMAP_PASSWORD": "wrong"})
        assert wrong.returncode == 4, wrong
        shutil.rmtree(self.work / "login")
        self.say("log in by", ", ".join(known), "and STARTTLS" if "STARTTLS" in capabilities else "")

    def cold(self):
        """It shows 1: every message octet by octet; a second run transfers nothing."""
        folder = self.work / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        run = Run(command(self.port, self.user, folder))
        assert not run.problems, run.problems[:5]
        there = on_server(self.port, self.user)
        same(there, in_files(folder), "the files are not what is on the server")
        messages = sum(len(m) for m in there.values())
        self.say(f"cold: {messages} messages of {len(there)} mailboxes, {run.result['bytes'] >> 20} MiB in {run.seconds:.1f} s, "
                 f"{run.memory:.0f} MiB of memory; every one is octet by octet in the mbox files")
        again = Run(command(self.port, self.user, folder))
        assert again.result["new"] == 0 and again.result["reflagged"] == 0 and again.result["removed"] == 0, again.result
        self.say(f"again: 0 messages in {again.seconds:.2f} s")
        subprocess.run([options.binary, "-q", "verify", str(folder)], check=True)

    def format(self):
        """Maildir and .eml have the same, and mutt opens mbox and Maildir."""
        for form in ("maildir", "eml"):
            folder = self.work / form
            shutil.rmtree(folder, ignore_errors=True)
            Run(command(self.port, self.user, folder, "--format", form))
            subprocess.run([options.binary, "-q", "verify", str(folder)], check=True)
        self.mutt()
        shutil.rmtree(self.work / "eml")

    def mutt(self):
        """It shows 5: counts, read and flagged state as mutt shows them."""
        states = {mailbox: lines for mailbox, _, lines in plain.states(self.work / "copy")}
        for folder, ext in ((self.work / "copy", ".mbox"), (self.work / "maildir", ".maildir")):
            for mailbox, path, _ in list(plain.states(folder))[::3]:
                lines = [line for line in states[mailbox] if line[0] == "message"]
                want = (len(lines), sum("\\Seen" not in line[8:] for line in lines), sum("\\Flagged" in line[8:] for line in lines))
                got = mutt_counts(path.with_suffix(ext), self.work)
                assert got == want, f"mutt on {path.with_suffix(ext)}: messages, unread, flagged {got}, want {want}"
        self.say("mutt opens mbox and Maildir: messages, unread and flagged ones as on the server")

    def show(self):
        """A bar on a terminal, lines elsewhere; what SIGINT and a second run at the same time give."""
        folder = self.work / "show"
        shutil.rmtree(folder, ignore_errors=True)
        plain_argv = [options.binary, "--insecure-plaintext", url(self.port, self.user), str(folder)]
        bar = subprocess.run(["script", "-qec", "stty cols 120 rows 30; " + " ".join([*plain_argv, "--bandwidth", "20M"]), "/dev/null"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             env={**os.environ, "TERM": "xterm"})
        assert bar.returncode == 0 and re.search(rb"\d+/\d+ messages, [\d.]+ [KM]?i?B, [\d.]+ [KM]?i?B/s", bar.stdout), bar.stdout[-2000:]
        shutil.rmtree(folder)
        lines = subprocess.run(plain_argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert lines.returncode == 0 and not lines.stderr and re.search(r"^INBOX: \d+ messages fetched", lines.stdout, re.M), lines
        assert "\r" not in lines.stdout, lines.stdout
        shutil.rmtree(folder)
        first = subprocess.Popen(plain_argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        second = subprocess.run(plain_argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert second.returncode == 5 and "another run" in second.stderr, second
        first.send_signal(signal.SIGINT)
        assert first.wait() == 130, first.returncode
        subprocess.run([*plain_argv, "-q"], check=True)
        same(self.undisturbed()[0], plain.digest(folder), "after SIGINT")
        listed = subprocess.run([options.binary, "--json", "--insecure-plaintext", "list", url(self.port, self.user), str(folder)], stdout=subprocess.PIPE, check=True)
        rows = [json.loads(line) for line in listed.stdout.splitlines() if b'"here"' in line]
        assert len(rows) >= options.mailboxes and all(row["here"] == row["server"] and row["to_fetch"] == 0 for row in rows), rows
        shutil.rmtree(folder)
        self.say("a bar on a terminal, lines elsewhere; 5 for a second run at the same time, 130 after SIGINT, and then on to the end")

    def disk(self):
        """It shows 2, with a disk that is full."""
        if os.geteuid():
            self.say("a full disk is tried by root only")
            return
        want, _ = self.undisturbed()
        mount = self.work / "small"
        mount.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], check=True)
        try:
            folder = mount / "copy"
            runs = 0
            for megabytes in range(4, 4000, max(4, options.count // 200)):
                subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(mount)], check=True)
                run = Run(command(self.port, self.user, folder), ok=(0, 3))
                runs += 1
                if run.status == 0:
                    break
            same(want, plain.digest(folder), "after full disks")
            self.say(f"the disk was full {runs - 1} times: status 3, and at last files and state as after an undisturbed run")
        finally:
            subprocess.run(["umount", str(mount)], check=True)

    def changes(self):
        """It shows 1: after 500 new, 200 removed and 1,000 re-flagged messages exactly those are transferred."""
        folder = self.work / "copy"
        before = plain.digest(folder)
        client = wire.Client(self.port, self.user)
        rng = random.Random(options.seed + int(time.time()))
        names = [name for name in client.mailboxes()]
        boxes = {name: client.examine(name) for name in names}
        new, removed, reflagged = 500, 200, 1000
        if options.count < 20000:
            new, removed, reflagged = 50, 20, 100
        full = [name for name in names if boxes[name] > (removed + reflagged) // 10]
        for part, name in enumerate(rng.sample(full, 10)):
            raw = name.replace("\\", "\\\\").replace('"', '\\"')
            client.command(f'SELECT "{raw}"')
            uids = [int(u) for line in client.command("UID SEARCH ALL") if b"SEARCH" in line for u in line.split()[2:]]
            chosen = rng.sample(uids, (removed + reflagged) // 10)
            gone, changed = chosen[:removed // 10], chosen[removed // 10:]
            client.command(f"UID STORE {','.join(map(str, sorted(changed)))} +FLAGS.SILENT (changed{int(time.time()) % 100000})")
            for uid in sorted(gone):
                client.command(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
            deleted = [int(u) for line in client.command("UID SEARCH DELETED") if b"SEARCH" in line for u in line.split()[2:]]
            for uid in deleted:
                if uid not in gone:  # they were so before
                    client.command(f"UID STORE {uid} -FLAGS.SILENT (\\Deleted)")
            client.command("EXPUNGE")
            for uid in deleted:
                if uid not in gone:
                    client.command(f"UID STORE {uid} +FLAGS.SILENT (\\Deleted)")
            client.append(decoded(name), [(["\\Seen"], mailset.date(rng), mailset.message(rng, 10**6 + part * 1000 + n, 3000)) for n in range(new // 10)])
        run = Run(command(self.port, self.user, folder))
        got = (run.result["new"], run.result["removed"])
        assert got == (new, removed), run.result
        assert run.result["reflagged"] == reflagged, run.result
        same(on_server(self.port, self.user), in_files(folder), "after changes")
        touched = sum(before.get(name) != digest for name, digest in plain.digest(folder).items())
        self.say(f"{new} new, {removed} removed, {reflagged} re-flagged: exactly those, in {run.seconds:.2f} s; {touched} files of {len(before)} changed")
        dropped = Run(command(self.port, self.user, folder, "--removed", "drop"))
        assert dropped.result["kept"] == 0, dropped.result
        same(on_server(self.port, self.user), in_files(folder), "after dropping")
        subprocess.run([options.binary, "-q", "verify", str(folder)], check=True)

    def undisturbed(self, *flags):
        folder = self.work / "undisturbed"
        shutil.rmtree(folder, ignore_errors=True)
        run = Run(command(self.port, self.user, folder, *flags))
        return plain.digest(folder), run.seconds

    def kill(self):
        """It shows 2: SIGKILL at random points; files and state are as after an undisturbed run."""
        rng = random.Random(options.seed)
        for form in ("mbox", "maildir", "eml"):
            flags = ("--format", form)
            want, seconds = self.undisturbed(*flags)
            kills, copies = self.killed(rng, flags, want, seconds * 0.1, options.kills if form != "eml" else options.kills // 10)
            self.say(f"{form}: SIGKILL at {kills} random points in {copies} copies: files and state are octet by octet those of an undisturbed run")
            # And while messages are re-flagged and dropped.
            base = self.work / "undisturbed"
            self.shake(rng)
            folder = self.work / "changed"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(base, folder)
            flags = (*flags, "--removed", "drop")
            seconds = Run(command(self.port, self.user, folder, *flags)).seconds
            kills, copies = self.killed(rng, flags, plain.digest(folder), seconds * 0.5, max(10, options.kills // 4), base)
            self.say(f"{form}, changes and drops: SIGKILL at {kills} random points in {copies} copies: the same")
            shutil.rmtree(folder)
            shutil.rmtree(base)

    def killed(self, rng, flags, want, longest, goal, base=None):
        """Makes copies, or brings ones of base up to date, until so many runs were killed; the last one comes to its end."""
        kills = copies = 0
        folder = self.work / "killed"
        while kills < goal:
            shutil.rmtree(folder, ignore_errors=True)
            if base:
                shutil.copytree(base, folder)
            copies += 1
            while True:
                process = subprocess.Popen(command(self.port, self.user, folder, *flags), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    process.wait(timeout=rng.random() * longest if kills < goal else None)
                    assert process.returncode == 0, process.returncode
                    break
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
            same(want, plain.digest(folder), f"after {kills} kills")
        shutil.rmtree(folder)
        return kills, copies

    def shake(self, rng):
        client = wire.Client(self.port, self.user)
        for name in client.mailboxes():
            if client.examine(name) < 50:
                continue
            raw = name.replace("\\", "\\\\").replace('"', '\\"')
            client.command(f'SELECT "{raw}"')
            uids = [int(u) for line in client.command("UID SEARCH UNDELETED") if b"SEARCH" in line for u in line.split()[2:]]
            chosen = rng.sample(uids, min(20, len(uids)))
            client.command(f"UID STORE {','.join(map(str, sorted(chosen)))} +FLAGS.SILENT (\\Seen \\Flagged)")
            client.command(f"UID STORE {','.join(map(str, sorted(chosen[:3])))} +FLAGS.SILENT (\\Deleted)")
            client.command("EXPUNGE")
            client.append(decoded(name), [(["\\Seen"], mailset.date(rng), mailset.message(rng, 2 * 10**6 + n, 3000)) for n in range(5)])

    def cut(self):
        """It shows 2: a proxy that cuts, delays and truncates."""
        for form in ("mbox", "maildir"):
            want, _ = self.undisturbed("--format", form)
            size = sum(p.stat().st_size for p in (self.work / "undisturbed").rglob("*"))
            proxy = cutter.Cutter(self.port, options.seed, max(size / 30, 4_000_000))
            folder = self.work / "cut"
            copies = runs = 0
            while proxy.cuts < 40:
                shutil.rmtree(folder, ignore_errors=True)
                copies += 1
                while True:
                    runs += 1
                    if Run(command(proxy.port, self.user, folder, "--format", form), ok=(0, 1, 3, 4)).status == 0:
                        break
                Run(command(self.port, self.user, folder, "--format", form))
                same(want, plain.digest(folder), "after cuts")
            proxy.stop()
            self.say(f"{form}: a proxy cut the connection {proxy.cuts} times in {runs} runs for {copies} copies: files and state are those of an undisturbed run")
            shutil.rmtree(folder)

    def speed(self):
        """It shows 4: against mbsync and offlineimap, from cold."""
        ours = min(self.undisturbed()[1] for _ in range(2))
        mbsync = mbsync_seconds(self)
        offlineimap = offlineimap_seconds(self)
        self.say(f"from cold: imap-backup {ours:.1f} s, mbsync {mbsync:.1f} s ({mbsync / ours:.1f} times), offlineimap {offlineimap:.1f} s ({offlineimap / ours:.1f} times)")
        assert ours < mbsync and ours < offlineimap

    def large(self):
        """It shows 4: 64 MiB of memory at most, also with a message of 200 MB."""
        user = self.users % 2
        client = wire.Client(self.port, user, timeout=600)
        client.command("CREATE Large")
        line = b"0123456789abcdef" * 4 + b"\r\n"
        text = b"Subject: large\r\nMessage-ID: <large@example.org>\r\n\r\n" + line * (200_000_000 // len(line))
        client.append("Large", [([], "05-Jan-2026 10:00:00 +0000", text)])
        folder = self.work / "large"
        shutil.rmtree(folder, ignore_errors=True)
        run = Run(command(self.port, user, folder))
        assert run.memory <= 64, f"{run.memory} MiB"
        subprocess.run([options.binary, "-q", "verify", str(folder)], check=True)
        self.say(f"a message of 200 MB: {run.memory:.0f} MiB of memory, {run.seconds:.1f} s")
        shutil.rmtree(folder)
        client.command("DELETE Large")


def mutt_counts(path, work):
    """What mutt counts in a mailbox, by its own limits, pattern by pattern."""
    counts = []
    for pattern in ("~A", "~U", "~F"):
        rc = work / "muttrc"
        rc.write_text(f'set folder="{work}"\nset read_only\nset move=no\nset quit=yes\nset header_cache=""\n'
                      'set status_format="COUNT %m %M END"\nset wait_key=no\nset abort_nosubject=no\n')
        mutt = shlex.join(["mutt", "-R", "-n", "-F", str(rc), "-f", str(path), "-e", f'push "<limit>{pattern}<enter><quit>"'])
        out = subprocess.run(["script", "-qec", mutt, "/dev/null"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, "TERM": "xterm", "LINES": "24", "COLUMNS": "100"}, timeout=60)
        seen = re.findall(rb"COUNT (\d+) (\d*) ?END", out.stdout)
        assert seen, f"mutt on {path}: {out.stdout[-500:]!r}"
        counts.append(0 if b"No messages matched" in out.stdout else int(seen[-1][1] or seen[-1][0]))
    return tuple(counts)


def mbsync_seconds(server):
    folder = server.work / "mbsync"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rc = server.work / "mbsyncrc"
    rc.write_text(f"""IMAPAccount a
Host 127.0.0.1
Port {server.port}
User "{server.user}"
Pass pass
{tls_off()}
AuthMechs LOGIN

IMAPStore far
Account a

MaildirStore near
Path {folder}/
Inbox {folder}/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Near
Sync Pull
SyncState *
""")
    started = time.monotonic()
    run = subprocess.run(["mbsync", "-q", "-c", str(rc), "-a"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
    seconds = time.monotonic() - started
    files = sum(1 for p in folder.rglob("*") if p.is_file() and p.parent.name in ("cur", "new"))
    if run.returncode:
        server.say("mbsync:", run.stdout.decode(errors="replace")[-200:], f"({files} messages)")
    server.say(f"mbsync: {files} messages in {seconds:.1f} s")
    shutil.rmtree(folder)
    return seconds


def tls_off():
    out = subprocess.run(["mbsync", "--version"], stdout=subprocess.PIPE).stdout.decode()
    major, minor = re.search(r"(\d+)\.(\d+)", out).groups()
    return "TLSType None" if (int(major), int(minor)) >= (1, 5) else "SSLType None"


def offlineimap_seconds(server):
    folder = server.work / "offlineimap"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(server.work / "offlineimap-meta", ignore_errors=True)
    rc = server.work / "offlineimaprc"
    rc.write_text(f"""[general]
accounts = a
metadata = {server.work}/offlineimap-meta
maxsyncaccounts = 1
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {folder}
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {server.port}
remoteuser = {server.user.replace('%', '%%')}
remotepass = pass
ssl = no
starttls = no
auth_mechanisms = LOGIN
maxconnections = 4
readonly = True
""")
    started = time.monotonic()
    run = subprocess.run(["offlineimap", "-c", str(rc), "-o", "-u", "quiet"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1800)
    seconds = time.monotonic() - started
    files = sum(1 for p in folder.rglob("*") if p.is_file() and p.parent.name in ("cur", "new"))
    if run.returncode:
        server.say("offlineimap:", run.stdout.decode(errors="replace")[-300:])
    server.say(f"offlineimap: {files} messages in {seconds:.1f} s")
    shutil.rmtree(folder, ignore_errors=True)
    return seconds


def after_refusals(want, problems):
    """What is on the server when it has refused what the problems name, and nothing else."""
    want = {mailbox: dict(messages) for mailbox, messages in want.items()}
    for problem in problems:
        messages, text = want[problem["mailbox"]], problem["text"]
        if text.startswith("create the mailbox: "):
            del want[problem["mailbox"]]
        elif refused := re.match(r"message UID (\d+): the server refuses it: ", text):
            del messages[refused[1]]
        elif bare := re.match(r"message UID (\d+): the server takes it without its keywords only ", text):
            digest, flags, date = messages[bare[1]]
            messages[bare[1]] = (digest, tuple(f for f in flags if f.startswith("\\")), date)
        else:
            raise AssertionError(problem)
    return {mailbox: sorted(messages.values()) for mailbox, messages in want.items()}


def restore(source, target, user, cut_user):
    """It shows 3: into an empty account on another server; run again, nothing changes. Then into another, through a proxy that cuts."""
    folder = source.work / "copy"
    want = {mailbox: {line[1]: (line[5], tuple(sorted(line[8:])), moment(line[6])) for line in lines if line[0] == "message"}
            for mailbox, _, lines in plain.states(folder)}

    def run(port, user):
        return Run([options.binary, "--json", "--insecure-plaintext", "restore", str(folder), url(port, user)], ok=(0, 1, 3, 4))

    def there(user):
        """But for the mailboxes that an account is born with."""
        return {name: messages for name, messages in on_server(target.port, user).items() if name in want or messages}

    first = run(target.port, user)
    for text, n in collections.Counter(re.sub(r"UID \d+", "UID ...", p["text"]) for p in first.problems).items():
        target.say(f"restore: {n} times: {text}")
    expected = after_refusals(want, first.problems)
    same(expected, there(user), "what was restored is not what was there")
    again = run(target.port, user)
    assert again.result["new"] == 0, again.result
    same(expected, there(user), "the second restore changed something")
    proxy = cutter.Cutter(target.port, options.seed, max(first.result["bytes"] / 20, 4_000_000))
    while run(proxy.port, cut_user).status > 1:
        pass
    proxy.stop()
    run(target.port, cut_user)
    same(expected, there(cut_user), "what was restored through cuts is not what was there")
    say(f"restore {source.name} to {target.name}: {first.result['new']} messages in {first.seconds:.0f} s, {len(first.problems)} refusals, each named; all else equal: "
        f"mailboxes, counts, flags, dates and SHA-256; again: 0 messages, nothing changed; through a proxy that cut {proxy.cuts} times: the same")


servers = [Server(text) for text in options.server]
for server in servers:
    for step in ("fill", "login", "cold", "format", "show", "changes", "kill", "disk", "cut", "speed", "large"):
        if step in only:
            getattr(server, step)()
if "restore" in only:
    for n, source in enumerate(servers):
        for target in servers:
            if target is not source:
                restore(source, target, target.users % (3 + n), target.users % (6 + n))
say("all is well")
