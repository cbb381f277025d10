#!/usr/bin/env python3
"""Makes flushes.json: a session's commands, as they are sent, and how zlib compresses them by all ways to flush."""
import base64
import json
import zlib

MESSAGE = "".join(f"From: sender{i * i % 89}@example.org\r\nSubject: message {i}\r\n\r\n{(i * 7919) % 10007:b} and so on, {'x' * (i % 40)}\r\n" for i in range(60))
COMMANDS = [
    "1 NOOP\r\n", "2 SELECT INBOX\r\n", f"3 APPEND INBOX {{{len(MESSAGE)}}}\r\n", MESSAGE + "\r\n", "4 UID FETCH 1 (BODY.PEEK[])\r\n", "5 IDLE\r\n", "DONE\r\n",
    "6 NOOP\r\n7 NOOP\r\n", *(f"{i} NOOP\r\n" for i in range(8, 100)), "100 LOGOUT\r\n"]
PARTIAL, SYNC, FULL, FINISH = zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH
WAYS = {
    "partial": ([PARTIAL], {}),
    "partial, at the least": ([PARTIAL], {"level": 1, "wbits": -9, "memLevel": 1}),
    "partial, at the most": ([PARTIAL], {"level": 9, "memLevel": 9}),
    "partial, fixed codes": ([PARTIAL], {"strategy": zlib.Z_FIXED}),
    "partial, without matches": ([PARTIAL], {"strategy": zlib.Z_HUFFMAN_ONLY}),
    "partial, stored": ([PARTIAL], {"level": 0}),
    "sync": ([SYNC], {}),
    "full": ([FULL], {}),
    "in turn": ([PARTIAL, SYNC, PARTIAL, PARTIAL, FULL], {}),
}

sent = {}
for way, (flushes, options) in WAYS.items():
    z = zlib.compressobj(**{"wbits": -15, **options})
    sent[way] = []
    for i, command in enumerate(COMMANDS):
        flush = FINISH if i == len(COMMANDS) - 1 else flushes[i % len(flushes)]
        sent[way].append(base64.b64encode(z.compress(command.encode()) + z.flush(flush)).decode())
with open("flushes.json", "w") as out:
    json.dump({"commands": COMMANDS, "ways": sent}, out, indent=0)
    out.write("\n")
