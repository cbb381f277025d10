"""What the mailboxes must hold, and how it is compared with what a client sees."""
import collections
import hashlib

SYSTEM = {r"\Seen", r"\Answered", r"\Flagged", r"\Deleted", r"\Draft"}


class Message:
    def __init__(self, name, content, flags=()):
        self.name, self.content, self.flags = name, content, set(flags)


class Difference(Exception):
    pass


def digest(content):
    return hashlib.sha256(content).hexdigest()


class Account:
    """The mailboxes of one user: name -> list of Message."""

    def __init__(self, login, password):
        self.login, self.password = login, password
        self.boxes = collections.defaultdict(list)

    def __str__(self):
        return self.login

    def count(self):
        return sum(map(len, self.boxes.values()))

    def check(self, client, seen, flags=True, boxes=None, change=lambda content: content):
        """Compares {box: [(content, flags)]} that a client saw. change is what the client is known to do to a message."""
        for box in boxes if boxes is not None else sorted(self.boxes):
            want = collections.Counter((digest(change(m.content)), kept(m.flags, flags)) for m in self.boxes[box])
            got = collections.Counter((digest(content), kept(f, flags)) for content, f in seen.get(box, []))
            if want != got:
                self.explain(client, box, seen.get(box, []), want, got, flags, change)
        print(f"  {client}: {self} as sent, {sum(len(self.boxes[b]) for b in (boxes if boxes is not None else self.boxes))} messages")

    def explain(self, client, box, seen, want, got, flags, change):
        lines = [f"{client}: {self} {box}: {sum(got.values())} messages, want {sum(want.values())}"]
        names = {digest(change(m.content)): m for m in self.boxes[box]}
        for (sum_, f), n in (want - got).items():
            m = names[sum_]
            lines.append(f"  missing {n}: {m.name} {sorted(f)}, {len(m.content)} octets")
            near = max((c for c, _ in seen), key=lambda c: common(c, change(m.content)), default=b"")
            at = common(near, change(m.content))
            lines.append(f"    nearest differs at octet {at}: got {near[max(0, at - 30):at + 50]!r}, want {change(m.content)[max(0, at - 30):at + 50]!r}")
        for (sum_, f), n in (got - want).items():
            content = next(c for c, _ in seen if digest(c) == sum_)
            lines.append(f"  not expected {n}: {names[sum_].name if sum_ in names else content[:60]!r} {sorted(f)}, {len(content)} octets")
        raise Difference("\n".join(lines[:40]))


def kept(flags, compare):
    """The flags that are compared: True all, False none, "system" those that a Maildir has."""
    if compare == "system":
        return frozenset(flags & (SYSTEM - {r"\Deleted"}))
    return frozenset(flags - {r"\Recent"}) if compare else frozenset()


def common(a, b):
    """How many octets two messages have in common at their beginning."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
