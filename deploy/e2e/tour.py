#!/usr/bin/env python3
"""Types the tour of the README, as it stands there, at a fresh `mailstead dev`.

    tour.py --readme README.md --data DIR --port-base N --work DIR
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

import clients
from model import Account
from wire import IMAP

# What a newcomer answers: to what mutt shows, what is typed.
MUTT = [
    ("Password for", "{password}\r"),
    ("Hello", "F"),
    ("!", "s"),
    ("Save", "=Archive\r"),
    ("Append", "\r"),
    ("D", "q"),  # the mark of what is deleted here, since it is there now
    ("Purge", "\r"),
]


def blocks(readme):
    """The commands of the tour, a text for each block."""
    section = re.search(r"(?ms)^## Five minutes with a real client\n(.*?)^## ", readme)[1]
    return [re.sub(r"(?m)^ {7}", "", block) for block in re.findall(r"(?m)(?:^ {7}.*\n)+", section)]


def main():
    p = argparse.ArgumentParser()
    for name in ("readme", "data", "work"):
        p.add_argument(f"--{name}", required=True, type=pathlib.Path)
    p.add_argument("--port-base", required=True, type=int)
    o = p.parse_args()
    passwords = json.loads((o.data / "dev.json").read_text())["Passwords"]
    home = o.work / "tour"
    home.mkdir()

    def here(command):
        """A command with this server's data, ports and password in the place of those of `make run`."""
        command = re.sub(r"\bdata/", f"{o.data}/", command).replace("bin/mailstead", f"{o.readme.resolve().parent}/bin/mailstead").replace("PASSWORD", passwords["demo1@demo.test"])
        return re.sub(r"\b1430([0-9])\b", lambda m: str(o.port_base + int(m[1])), command)

    def shell(command):
        done = subprocess.run(["bash", "-euc", here(command)], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"{here(command)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    put, mutt, lmtp, operator = blocks(o.readme.read_text())
    assert "It works." in shell(put), "what was put in is not read back"
    steps = [(seen, typed.format(password=passwords["demo1@demo.test"])) for seen, typed in MUTT]
    clients.dialogue(["bash", "-c", here(mutt)], steps, HOME=str(home), TERM="xterm", LC_ALL="C.UTF-8")
    shell(lmtp)
    assert re.search(r"STORAGE +[1-9]", shell(operator)), "the operator sees no use of the quota"
    assert "mailstead_" in shell(f"curl -sf http://127.0.0.1:14303/metrics"), "no metrics"

    want = {
        "demo1@demo.test": {"INBOX": [(b"By LMTP", False)], "Archive": [(b"Hello", True)]},
        "demo2@demo.test": {"INBOX": [(b"By LMTP", False)]},
    }
    for login, boxes in want.items():
        s = IMAP(o.port_base + 1, o.data / "tls" / "ca.pem", Account(login, passwords[login]))
        for box, messages in boxes.items():
            got = [(re.search(rb"Subject: ([^\r]*)", content)[1], r"\Flagged" in flags) for content, flags, _ in s.messages(box)]
            assert got == messages, f"{login} {box}: {got}, want {messages}"
        s.leave()
    print("tour: as the README says")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as problem:
        sys.exit(f"tour: FAILED: {problem}")
