"""The mail that is sent: real messages, generated ones, and large attachments."""
import base64
import os
import pathlib
import random
import re
import subprocess

CORPUS = pathlib.Path(__file__).resolve().parents[2] / "bench" / "imapload" / "corpus.py"


def crlf(data):
    """The form in which mail travels. NUL cannot be in a literal of APPEND (RFC 3501 section 9)."""
    return re.sub(rb"\r\n|\r|\n", b"\r\n", data.replace(b"\0", b""))


def real(folder):
    """The messages of a folder of real mail: a file each, several in an mbox file."""
    for path in sorted(pathlib.Path(folder, "real").iterdir()):
        data = path.read_bytes()
        if ".mbox" not in path.name:
            yield path.name, crlf(data)
        else:
            for n, message in enumerate(re.split(rb"(?m)^From .*\r?\n", data)[1:]):
                if message.strip():
                    yield f"{path.name}#{n}", crlf(message)


# The words that corpus.py plants, and the names of the messages that have each.
PROBES = {"qorvaxten": set(), "qorvaxhundred": set(), "qorvaxthousand": set()}


def generated(count, work):
    folder, manifest = pathlib.Path(work, "corpus"), pathlib.Path(work, "corpus.tsv")
    made = subprocess.run(["python3", str(CORPUS), "--count", str(count), "--format", "eml", "--out", str(folder), "--crlf",
                           "--manifest", str(manifest)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert made.returncode == 0, f"corpus.py: {made.stdout.decode(errors='replace')}"
    for line in manifest.read_text().splitlines():
        number, *_, probes = line.split("\t")
        for word in PROBES:
            if word in probes:
                PROBES[word].add(f"{int(number):07d}.eml")
    for path in sorted(folder.iterdir()):
        if path.suffix == ".eml":
            yield path.name, crlf(path.read_bytes())


def with_attachment(size):
    content = random.Random(size).randbytes(size)
    body = base64.encodebytes(content).replace(b"\n", b"\r\n")
    head = (f"From: Large <large@example.org>\r\nTo: you@example.org\r\nSubject: {size} octets attached\r\n"
            f"Date: Mon, 5 Jan 2026 10:00:00 +0100\r\nMessage-ID: <large-{size}@example.org>\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/mixed; boundary=\"=_large\"\r\n\r\n--=_large\r\nContent-Type: text/plain\r\n\r\nSee attached.\r\n--=_large\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"{size}.bin\"\r\n"
            "Content-Transfer-Encoding: base64\r\n\r\n").encode()
    return f"attachment of {size}", head + body + b"--=_large--\r\n"


def collect(mail_dir, count, sizes, work):
    """All of it, as a list of (name, octets)."""
    mail = []
    if mail_dir and os.path.isdir(os.path.join(mail_dir, "real")):
        mail += real(mail_dir)
        print(f"{len(mail)} real messages from {mail_dir}")
    else:
        print(f"no real mail in MAIL_DIR={mail_dir}: generated mail only")
    made = list(generated(count, work))
    assert len(made) == count, f"corpus.py made {len(made)} messages"
    mail += made
    mail += [with_attachment(size) for size in sizes for _ in "12"]
    print(f"{len(mail)} messages, {sum(len(data) for _, data in mail) >> 20} MiB, {count} of them generated")
    return mail
