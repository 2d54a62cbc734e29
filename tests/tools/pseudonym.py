"""Prints what an audit log calls a person, from FORMAT.md alone; nothing when the log knows no such person.

usage: pseudonym.py FOLDER DATABASE SCHEMA TABLE KEY, the key an integer
"""

import hashlib
import hmac
import sys


def keyed(key, parts):
    message = b"".join(part + b"\0" for part in parts)
    return hmac.new(key, message, hashlib.sha256).digest()[:16]


def main():
    folder, database, schema, table, key = sys.argv[1:]
    with open(folder + "/persons", "rb") as file:
        head, entries = file.read(64), file.read()
    assert head[:32] == b"pgveil persons 1\n".ljust(32, b"\0")
    names = [name.encode() for name in (database, schema, table, "bigint")]
    handle = keyed(head[32:], names + [int(key).to_bytes(8, "big", signed=True)])
    for at in range(0, len(entries) // 32 * 32, 32):
        if entries[at : at + 16] == handle:
            print(keyed(entries[at + 16 : at + 32], [handle]).hex())


main()
