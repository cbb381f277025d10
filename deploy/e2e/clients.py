"""The other programs that read the mail back: mbsync, curl, mutt, Net::IMAP::Simple."""
import os
import pathlib
import pty
import re
import select
import subprocess
import time
import urllib.parse

from wire import from_utf7, utf7

HERE = pathlib.Path(__file__).resolve().parent


def run(args, **more):
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, args))}: {done.returncode}\n{done.stdout.decode(errors='replace')[-2000:]}")
    return done.stdout.decode(errors="replace")


def on_terminal(args, timeout=300, **environment):
    """Runs a program on a terminal of its own, and returns what it wrote last."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment)
        os.execvp(args[0], args)
    screen, end = b"", time.monotonic() + timeout
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                got = os.read(terminal, 65536)
            except OSError:  # the terminal has gone with the program
                break
            if not got:
                break
            screen = (screen + got)[-4000:]
    else:
        os.kill(pid, 9)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"{args[0]}: status {status}; its screen: {screen[-1500:]!r}"
    return screen.decode(errors="replace")


def dialogue(args, steps, timeout=60, **environment):
    """Runs a program on a terminal of its own. steps: what it must show, a regular expression, and what is typed then."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment)
        os.execvp(args[0], args)
    screen, steps, end = "", list(steps), time.monotonic() + timeout
    while time.monotonic() < end:
        if steps and re.search(steps[0][0], screen):
            time.sleep(0.3)  # it may still be writing, and throw away what is typed meanwhile
            os.write(terminal, steps.pop(0)[1].encode())
            screen = ""
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                screen += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the terminal has gone with the program
                break
    else:
        os.kill(pid, 9)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert status == 0 and not steps, f"{args[0]}: status {status}, never showed {[seen for seen, _ in steps]}; its screen: {screen[-1500:]!r}"


class Mbsync:
    """One account mirrored as Maildirs.

    mbsync writes Maildir files with LF, and puts a line X-TUID into the header of what it copies, by which it finds
    its own copies again; both are undone here. It does not know keywords.
    """
    FLAGS = {"S": r"\Seen", "R": r"\Answered", "F": r"\Flagged", "D": r"\Draft"}

    def __init__(self, port, ca, account, work):
        self.folder = pathlib.Path(work, "mbsync", account.login)
        self.mail = self.folder / "mail"
        self.mail.mkdir(parents=True)
        (self.folder / "state").mkdir()
        self.config = self.folder / "mbsyncrc"
        self.config.write_text(f"""IMAPAccount it
Host localhost
Port {port}
User {account.login}
Pass {account.password}
SSLType IMAPS
SystemCertificates no
CertificateFile {ca}

IMAPStore far
Account it

MaildirStore near
Path {self.mail}/
Inbox {self.mail}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Sync All
SyncState {self.folder}/state/
MaxMessages 0
""")

    def sync(self):
        """Returns what it has done: for the far and the near side, the numbers of messages added, flagged and trashed."""
        out = on_terminal(["mbsync", "-c", str(self.config), "-a"])  # it tells its figures to terminals only
        found = re.findall(r"([FN]): \+(\d+)/\d+ \*(\d+)/\d+ #(\d+)/\d+", out)
        assert found, f"mbsync says nothing of what it did: {out[-1000:]}"
        last = {side: tuple(map(int, numbers)) for side, *numbers in found}
        return [last["F"], last["N"]]

    def compresses(self):
        """Whether it compresses what it says, as it does where it can."""
        return "OK DEFLATE active" in run(["mbsync", "-Dn", "-c", str(self.config), "-a"])

    def files(self):
        for path in sorted(self.mail.rglob("*")):
            if path.is_file() and path.parent.name in ("cur", "new"):
                box = from_utf7(str(path.parent.parent.relative_to(self.mail)))
                yield box, path

    def read(self):
        seen = {}
        for box, path in self.files():
            content = re.sub(rb"(?m)^X-TUID: [^\n]*\n", b"", path.read_bytes(), count=1)
            marks = path.name.partition(":2,")[2]
            seen.setdefault(box, []).append((content.replace(b"\n", b"\r\n"), {self.FLAGS[c] for c in marks if c in self.FLAGS}))
        return seen

    @staticmethod
    def changed(content):
        """mbsync 1.4 keeps what it is sent but for the CR of each line end, which it cannot tell from others."""
        return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def flag(self, path, mark):
        base, _, marks = path.name.partition(":2,")
        path.rename(path.parent.parent / "cur" / f"{base}:2,{''.join(sorted(set(marks) | {mark}))}")

    def add(self, box, content):
        """A new file without a UID; mbsync's own naming is "base:2,flags"."""
        (self.mail / utf7(box) / "new" / f"{time.time_ns()}.e2e.local").write_bytes(content.replace(b"\r\n", b"\n"))


class Curl:
    """Reads by message number, which sets \\Seen; uploads with \\Seen set."""

    def __init__(self, port, ca, account, work):
        self.base = ["curl", "--silent", "--show-error", "--fail", "--cacert", str(ca), "--user", f"{account.login}:{account.password}"]
        self.url = f"imaps://localhost:{port}/"
        self.out = pathlib.Path(work, "curl", account.login)

    def place(self, box):
        return self.url + urllib.parse.quote(utf7(box), safe="")

    def read(self, box, count):
        folder = self.out / utf7(box).replace("/", "_")
        folder.mkdir(parents=True)
        if count:
            run(self.base + ["--output", f"{folder}/#1", f"{self.place(box)};MAILINDEX=[1-{count}]"])
        return [((folder / str(i)).read_bytes(), set()) for i in range(1, count + 1)]

    def upload(self, box, content):
        source = self.out / "upload"
        self.out.mkdir(parents=True, exist_ok=True)
        source.write_bytes(content)
        run(self.base + ["--upload-file", str(source), self.place(box)])


class Mutt:
    """Mutt on a terminal of its own, told what keys are pressed.

    Copied to a Maildir, messages have LF, and mutt takes out the fields Status, X-Status, Content-Length and Lines, or
    writes its own: these are left out on both sides. A line in the header that is no field ends it for mutt, which puts
    an empty line before it.
    """

    program = "mutt"

    def __init__(self, port, ca, account, work):
        self.folder = pathlib.Path(work, self.program, account.login)
        self.folder.mkdir(parents=True)
        self.url = f"imaps://localhost:{port}/"
        self.rc = self.folder / "muttrc"
        self.rc.write_text(f"""set imap_user="{account.login}" imap_pass="{account.password}"
set folder="{self.url}" spoolfile="{self.url}INBOX"
set ssl_ca_certificates_file="{ca}" certificate_file="" ssl_verify_host=yes
set mbox_type=Maildir sort=mailbox-order header_cache="" message_cachedir=""
set confirmcreate=no confirmappend=no quit=yes delete=yes move=no mark_old=no
set wait_key=no beep=no read_inc=0 write_inc=0 net_inc=0 imap_check_subscribed=no imap_peek=yes copy=no
""")

    def press(self, box, keys):
        on_terminal([self.program, "-n", "-F", str(self.rc), "-f", self.url + utf7(box), "-e", f"push '{keys}'"],
                    TERM="xterm", HOME=str(self.folder), LC_ALL="C.UTF-8")

    def read(self, box):
        out = self.folder / "copy"
        self.press(box, f"<tag-pattern>~A<enter><tag-prefix-cond><copy-message>{out}<enter><end-cond><quit>")
        seen = []
        for path in sorted(out.rglob("*")):
            if path.is_file():
                content = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                seen.append((self.changed(content), set()))
        return seen

    @staticmethod
    def changed(content):
        head, gap, body = content.partition(b"\r\n\r\n")
        lines = (head + b"\r\n").splitlines(keepends=True)
        for i, line in enumerate(lines):
            if not re.match(rb"[^\s:]+[ \t]*:|[ \t]", line):  # no field: mutt ends the header there
                return Mutt.without_own(b"".join(lines[:i])) + b"\r\n" + b"".join(lines[i:]).removesuffix(b"\r\n") + gap + body
        return Mutt.without_own(head + b"\r\n").removesuffix(b"\r\n") + gap + body

    @staticmethod
    def without_own(head):
        return re.sub(rb"(?mi)^(Status|X-Status|Content-Length|Lines):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", b"", head)


class NeoMutt(Mutt):
    """NeoMutt, which does as Mutt does."""

    program = "neomutt"


class Simple:
    """Perl's Net::IMAP::Simple, which reads line by line and sets \\Seen."""

    def __init__(self, port, ca, account, work):
        self.args = ["perl", str(HERE / "simple.pl"), f"localhost:{port}", str(ca), account.login, account.password]
        self.out = pathlib.Path(work, "simple", account.login)

    def read(self, box):
        folder = self.out / utf7(box).replace("/", "_")
        folder.mkdir(parents=True)
        run(self.args + ["read", utf7(box), str(folder)])
        return [(path.read_bytes(), set()) for path in sorted(folder.iterdir())]

    def change(self, box, other, content):
        """Puts content into box, copies it to other, and deletes it in box again."""
        run(self.args + ["change", utf7(box), utf7(other)], input=content)
