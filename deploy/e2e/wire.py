"""Python's imaplib and smtplib, for what is sent and for the first reading back."""
import base64
import imaplib
import re
import smtplib
import socket
import ssl

imaplib._MAXLINE = 10_000_000  # it has a limit of its own on lines, which the line with all flags of a mailbox can pass


def utf7(name):
    """A mailbox name in modified UTF-7 (RFC 3501 section 5.1.3)."""
    def shifted(match):
        return b"&" + base64.b64encode(match[0].encode("utf-16-be")).rstrip(b"=").replace(b"/", b",") + b"-"
    out = b"".join(p.replace("&", "&-").encode() if p.isascii() else shifted([p]) for p in re.split(r"([^\x20-\x7e]+)", name))
    return out.decode()


def from_utf7(name):
    def shifted(match):
        if not match[1]:
            return "&"
        code = match[1].replace(",", "/")
        return base64.b64decode(code + "=" * (-len(code) % 4)).decode("utf-16-be")
    return re.sub(r"&([^-]*)-", shifted, name)


def quoted(box):
    return '"' + utf7(box) + '"'


class LMTP(smtplib.LMTP):
    """A connection to one LMTP server, host:port or a socket's path."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        super().__init__(address if address.startswith("/") else host, 0 if address.startswith("/") else int(port), local_hostname="client.example.org")
        code, text = self.ehlo()
        assert code == 250, (code, text)

    def deliver(self, sender, recipients, content):
        """Delivers, and demands a 250 for each recipient."""
        self.demand(250, self.mail(sender, [f"SIZE={len(content)}", "BODY=8BITMIME"]))
        for r in recipients:
            self.demand(250, self.rcpt(r))
        self.putcmd("data")
        self.demand(354, self.getreply())
        stuffed = re.sub(rb"(?m)^\.", b"..", content)
        self.send(stuffed + (b"" if stuffed.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        for _ in recipients:
            self.demand(250, self.getreply())

    def demand(self, want, reply):
        if reply[0] != want:
            raise AssertionError(f"LMTP: {reply}, want {want}")


class IMAP(imaplib.IMAP4_SSL):
    """A session with its answers checked."""

    def __init__(self, port, ca, account):
        super().__init__("localhost", port, ssl_context=ssl.create_default_context(cafile=ca), timeout=120)
        self.ok(self.login(account.login, account.password))

    def ok(self, answer):
        kind, data = answer
        if kind != "OK":
            raise AssertionError(f"IMAP: {kind} {data}")
        return data

    def put(self, box, content, flags=(), date=None):
        """APPEND; returns the UID."""
        data = self.ok(self.append(quoted(box), "(" + " ".join(flags) + ")", date, content))
        return int(re.search(rb"\[APPENDUID \d+ (\d+)\]", data[0])[1])

    def boxes(self):
        lines = self.ok(self.list())
        return [from_utf7(re.search(rb'"/" "?([^"]+)"?$', line)[1].decode()) for line in lines if b"\\Noselect" not in line]

    def messages(self, box):
        """The messages of a mailbox: [(content, flags, uid)]. SIZE and the parts of each are compared with its whole."""
        self.ok(self.select(quoted(box), readonly=True))
        uids = self.ok(self.uid("SEARCH", None, "ALL"))[0].split()
        found = []
        for i in range(0, len(uids), 50):
            data = self.ok(self.uid("FETCH", b",".join(uids[i:i + 50]).decode(), "(UID FLAGS RFC822.SIZE BODY.PEEK[])"))
            for item in data:
                if not isinstance(item, tuple):
                    continue
                head, content = item
                # Flags may stand before the literal only: we ask for the body last.
                flags = {f.decode() for f in re.search(rb"FLAGS \(([^)]*)\)", head)[1].split()}
                size = int(re.search(rb"RFC822.SIZE (\d+)", head)[1])
                assert size == len(content), f"RFC822.SIZE {size} of {len(content)} octets"
                found.append((content, flags, int(re.search(rb"UID (\d+)", head)[1])))
        assert len(found) == len(uids), f"{box}: {len(found)} of {len(uids)} messages fetched"
        return found

    def read_parts(self, box, messages):
        """Header, text, their ranges and the first part of messages, against the whole."""
        self.ok(self.select(quoted(box), readonly=True))
        for content, _, uid in messages:
            parts = {}
            for section in ("HEADER", "TEXT", "1", "1.MIME"):
                data = self.ok(self.uid("FETCH", str(uid), f"(BODY.PEEK[{section}])"))
                parts[section] = next((item[1] for item in data if isinstance(item, tuple)), b"")
            assert parts["HEADER"] + parts["TEXT"] == content, f"{box} {uid}: HEADER and TEXT are not the message"
            assert parts["1"] in content and parts["1.MIME"] in content, f"{box} {uid}: part 1 is not of the message"
            data = self.ok(self.uid("FETCH", str(uid), "(BODY.PEEK[]<10.100>)"))
            piece = next((item[1] for item in data if isinstance(item, tuple)), b"")
            assert piece == content[10:110], f"{box} {uid}: <10.100> is {piece!r}"
            data = self.ok(self.uid("FETCH", str(uid), "(ENVELOPE BODYSTRUCTURE)"))
            assert b"BODYSTRUCTURE" in b"".join(b"".join(d) if isinstance(d, tuple) else d for d in data)

    def leave(self):
        try:
            self.logout()
        except (imaplib.IMAP4.error, socket.error):
            pass
