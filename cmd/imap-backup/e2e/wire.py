"""A plain IMAP client, as the second opinion on what a server has, and to fill it fast."""
import base64
import hashlib
import re
import socket
import ssl


def utf7(name):
    """Modified UTF-7 (RFC 3501 section 5.1.3)."""
    out, run = [], ""
    for c in name + "\0":
        if c != "\0" and not " " <= c <= "~":
            run += c
            continue
        if run:
            out.append("&" + base64.b64encode(run.encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + "-")
            run = ""
        if c != "\0":
            out.append("&-" if c == "&" else c)
    return "".join(out)


def quoted(name):
    return '"' + utf7(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


class Refused(Exception):
    pass


class Client:
    def __init__(self, port, user, password="pass", timeout=120):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.file = self.socket.makefile("rb")
        self.number = 0
        assert self.file.readline().startswith(b"* OK")
        self.before = self.command("CAPABILITY")
        capabilities = b"".join(self.before).upper()
        if b"STARTTLS" in capabilities and b"LOGINDISABLED" in capabilities:
            self.command("STARTTLS")
            context = ssl._create_unverified_context()
            self.socket = context.wrap_socket(self.socket)
            self.file = self.socket.makefile("rb")
        self.command(f'LOGIN "{user}" "{password}"')
        self.capabilities = b"".join(self.command("CAPABILITY")).upper().split()

    def line(self):
        """A response with its literals."""
        whole = b""
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError("the server closed the connection")
            whole += line
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if not literal:
                return whole
            whole += self.file.read(int(literal[1]))

    def send(self, text):
        self.number += 1
        tag = f"t{self.number}"
        self.socket.sendall(f"{tag} ".encode() + (text if isinstance(text, bytes) else text.encode()) + b"\r\n")
        return tag

    def wait(self, tag):
        lines = []
        while True:
            line = self.line()
            if line.startswith(tag.encode() + b" "):
                if not line.startswith(tag.encode() + b" OK"):
                    raise Refused(line.decode(errors="replace").strip())
                return lines
            lines.append(line)

    def command(self, text):
        return self.wait(self.send(text))

    def append(self, mailbox, messages):
        """Appends (flags, date, text), many in one command where the server can."""
        many = 40 if b"MULTIAPPEND" in self.capabilities else 1
        waiting = []
        for at in range(0, len(messages), many):
            parts = [f"APPEND {quoted(mailbox)}".encode()]
            for flags, date, text in messages[at:at + many]:
                parts.append(f' ({" ".join(flags)}) "{date}" {{{len(text)}+}}\r\n'.encode() + text)
            waiting.append(self.send(b"".join(parts)))
            while len(waiting) > 4:
                self.wait(waiting.pop(0))
        for tag in waiting:
            self.wait(tag)

    def mailboxes(self):
        names = []
        for line in self.command('LIST "" "*"'):
            match = re.match(rb'\* LIST \(([^)]*)\) (?:"(?:\\.|[^"])*"|NIL) (.*)\r\n$', line, re.S | re.I)
            if match and b"\\noselect" not in match[1].lower() and b"\\nonexistent" not in match[1].lower():
                name = match[2]
                if name.startswith(b"{"):
                    name = name.split(b"\r\n", 1)[1]
                elif name.startswith(b'"'):
                    name = re.sub(rb"\\(.)", rb"\1", name[1:-1])
                names.append(name.decode())
        return names

    def examine(self, raw):
        """By the name as LIST has it."""
        name = raw.replace("\\", "\\\\").replace('"', '\\"')
        lines = self.command(f'EXAMINE "{name}"')
        return next(int(line.split()[1]) for line in lines if re.match(rb"\* \d+ EXISTS", line, re.I))

    def messages(self, raw):
        """Yields (UID, flags, date, text) of all messages of a mailbox."""
        if not self.examine(raw):
            return
        tag = self.send("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])")
        while True:
            line = self.line()
            if line.startswith(tag.encode()):
                assert line.startswith(tag.encode() + b" OK"), line
                return
            body = re.search(rb"BODY\[\] (?:\{(\d+)\}\r\n|\"\")", line)
            if not body:
                continue
            size = int(body[1] or 0)
            text = line[body.end():body.end() + size]
            around = line[:body.start()] + line[body.end() + size:]
            flags = re.search(rb"FLAGS \(([^)]*)\)", around)[1].decode().split()
            yield (int(re.search(rb"UID (\d+)", around)[1]), sorted(f for f in flags if f.lower() != "\\recent"),
                   re.search(rb'INTERNALDATE "([^"]*)"', around)[1].decode().strip(), text)

    def contents(self):
        """What the server has: for each mailbox a sorted list of (SHA-256, flags, date)."""
        return {name: sorted((hashlib.sha256(text).hexdigest(), tuple(flags), date) for _, flags, date, text in self.messages(name))
                for name in self.mailboxes()}
