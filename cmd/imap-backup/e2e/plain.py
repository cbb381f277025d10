"""Reads the plain files without imap-backup's help, from what is written about their form."""
import hashlib
import pathlib
import re

HEAD = re.compile(rb"From imap-backup .{24}\nStatus: (..)\nX-Status: (..)\nX-Imap-Backup: (\d+) (crlf|raw)\n")


def mbox(path):
    """Yields the messages of an mbox file, octet by octet."""
    data = path.read_bytes()
    starts = [m.start() for m in re.finditer(rb"(?m)^From ", data)]
    for start, end in zip(starts, starts[1:] + [len(data)]):
        head = HEAD.match(data, start)
        assert head, f"{path} at {start}: {data[start:start + 200]!r}"
        text = re.sub(rb"(?m)^>(>*From )", rb"\1", data[head.end():end])
        if head[4] == b"crlf":
            text = text.replace(b"\n", b"\r\n")
        text, rest = text[:int(head[3])], text[int(head[3]):]
        assert rest.replace(b"\r", b"") in (b"\n", b"\n\n"), f"{path} at {start}: {rest!r} behind the message"
        yield text


def states(folder):
    """Yields (mailbox, state file, lines of messages)."""
    for path in sorted(pathlib.Path(folder).glob("*.state")):
        head, _, body = path.read_text().partition("\n\n")
        header = dict(line.partition(" ")[::2] for line in head.splitlines())
        mailbox = re.sub(r"%(..)", lambda m: chr(int(m[1], 16)), header["mailbox"])
        yield mailbox, path, [line.split(" ") for line in body.splitlines()]


def contents(folder):
    """What is in the mbox files and, in the same order, what the state files say: sums, flags and dates."""
    found = {}
    for mailbox, path, lines in states(folder):
        texts = [hashlib.sha256(text).hexdigest() for text in mbox(path.with_suffix(".mbox"))]
        lines.sort(key=lambda line: int(line[2]))
        assert texts == [line[5] for line in lines], f"{path}: the sums are not those of the messages"
        found[mailbox] = sorted((line[5], tuple(sorted(line[8:])), line[6]) for line in lines if line[0] == "message")
    return found


def digest(folder):
    """What all files have in them, by name."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(pathlib.Path(folder).rglob("*")) if p.is_file()}
