"""The mail that the servers are filled with: 20,000 messages in 50 mailboxes with odd names."""
import pathlib
import random
import re

ODD = ["Entwürfe & Co", "日本語/メール", "Archive/2024/May", "Archive/2024/June", "v1.2", "quote\"d", "per cent 50 off", "~tilde", "-rf", "From x",
       "trailing dot.", "a&b-c", "emoji 😀", "Ελληνικά/Ω", "name:colon", "pipe|pipe", "a..b", "x" * 60, "tab less", "(brackets)", "semi;colon",
       "it's", "état civil", "level/" * 8 + "deep"]


def names(count):
    plain = (f"Folder {n:02d}" for n in range(count))
    return ["INBOX"] + ODD + [next(plain) for _ in range(count - 1 - len(ODD))]


def message(rng, number, size):
    """Generated mail, with what is hard for an mbox file in it."""
    lines = []
    length = 0
    while length < size:
        kind = rng.random()
        if kind < 0.01:
            line = rng.choice(["From somebody Thu Jan  1 00:00:00 1970", ">From quoted", ">>>From thrice", "From ", "From", "Status: RO", ".", "", ">"])
        else:
            line = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 14)))
        lines.append(line)
        length += len(line) + 2
    ending = "" if rng.random() < 0.05 else "\r\n"
    identity = "" if rng.random() < 0.02 else f"Message-ID: <{number}.{rng.randrange(1 << 40)}@example.org>\r\n"
    return (f"From: Person {number % 97} <p{number % 97}@example.org>\r\nTo: you@example.org\r\nSubject: number {number}\r\n"
            f"Date: Mon, 5 Jan 2026 10:00:00 +0100\r\n{identity}\r\n" + "\r\n".join(lines) + ending).encode()


WORDS = [f"{a}{b}" for a in ("ba", "ke", "lo", "mi", "nu", "sa", "te", "vo", "zi", "ra") for b in ("ton", "mel", "rik", "s", "lun", "per", "dax", "o")]
FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$Forwarded", "work"]
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def date(rng):
    return (f"{rng.randrange(1, 29):02d}-{rng.choice(MONTHS)}-{rng.randrange(2005, 2026)} "
            f"{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d} {rng.choice(['+0000', '+0100', '-0500', '+0530'])}")


def flags(rng):
    return [f for f in FLAGS if rng.random() < (0.6 if f == "\\Seen" else 0.08)]


def real(folder):
    """Real mail, a file each or several in an mbox file. NUL cannot be in an APPEND (RFC 3501 section 9)."""
    root = pathlib.Path(folder, "real")
    if not root.is_dir():
        return
    for path in sorted(root.iterdir()):
        data = path.read_bytes()
        parts = [data] if ".mbox" not in path.name else re.split(rb"(?m)^From .*\r?\n", data)[1:]
        for part in parts:
            if part.strip():
                yield re.sub(rb"\r\n|\r|\n", b"\r\n", part.replace(b"\0", b""))


def generate(seed, count, boxes, mail_dir):
    """Returns mailboxes with what is in each: (flags, date, text)."""
    rng = random.Random(seed)
    everything = {name: [] for name in names(boxes)}
    order = list(everything)
    for text in real(mail_dir):
        everything["INBOX"].append((flags(rng), date(rng), text))
    number = len(everything["INBOX"])
    while number < count:
        size = min(int(rng.lognormvariate(8.3, 1.1)), 2_000_000)
        everything[order[number % len(order)]].append((flags(rng), date(rng), message(rng, number, size)))
        number += 1
    return everything
