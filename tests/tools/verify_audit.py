"""Verifies an audit log from FORMAT.md alone: its own reading, hashing and tree, and a stock Ed25519 library.

usage: verify_audit.py PUBLIC_KEY.pem FOLDER

Prints "ok RECORDS LINES ROOT" and exits 0, or says what is wrong and exits 1. It shares no code with pgveil, so that both
would have to be wrong alike.
"""

import base64
import gzip
import hashlib
import json
import os
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key


class Wrong(Exception):
    pass


def leaf(line):
    return hashlib.sha256(b"\0" + line).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """Perfect subtrees as (height, hash), the largest first."""

    def __init__(self, size=0, hashes=()):
        heights = [bit for bit in reversed(range(64)) if size >> bit & 1]
        if len(heights) != len(hashes):
            raise Wrong("a header's tree has another number of subtrees than its size")
        self.parts = list(zip(heights, hashes))

    def push(self, hash_):
        part = (0, hash_)
        while self.parts and self.parts[-1][0] == part[0]:
            height, left = self.parts.pop()
            part = (height + 1, node(left, part[1]))
        self.parts.append(part)

    def root(self):
        if not self.parts:
            return hashlib.sha256(b"").digest()
        root = self.parts[-1][1]
        for _, left in reversed(self.parts[:-1]):
            root = node(left, root)
        return root


def raw(key):
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def files(folder):
    sealed = {}
    for name in os.listdir(folder):
        match = re.fullmatch(r"log-(\d{16,})\.jsonl(\.gz)?", name)
        if match and (match[2] is None or int(match[1]) not in sealed):
            sealed[int(match[1])] = name
    return [os.path.join(folder, name) for _, name in sorted(sealed.items())] + [os.path.join(folder, "log.jsonl")]


def lines(folder):
    for path in files(folder):
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    raise Wrong("the last line is torn")
                yield line[:-1]


def spelled(text):
    """A string as FORMAT.md spells it."""
    out = []
    for character in text:
        if character in '"\\':
            out.append("\\" + character)
        elif ord(character) < 0x20 or ord(character) == 0x7F:
            out.append("\\u%04x" % ord(character))
        else:
            out.append(character)
    return '"' + "".join(out) + '"'


def spell(value):
    if value is None:
        return "null"
    if isinstance(value, bool) or isinstance(value, float):
        raise Wrong("a value of a kind that no field has")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return spelled(value)
    if isinstance(value, list):
        return "[" + ",".join(map(spell, value)) + "]"
    return "{" + ",".join(spelled(name) + ":" + spell(inner) for name, inner in value.items()) + "}"


class Log:
    def __init__(self, key):
        self.key = key
        self.next_key = None
        self.size = None
        self.tree = None
        self.previous = None
        self.log = None
        self.records = 0
        self.unsigned = 0
        self.removed = 0
        self.first = 0

    def take(self, line):
        value = json.loads(line.decode("utf-8"))
        if spell(value).encode("utf-8") != line:
            raise Wrong("a line has another spelling than the format's")
        if "pgveil_audit" in value:
            self.header(value)
        elif "checkpoint" in value:
            self.checkpoint(value["checkpoint"])
        else:
            self.record(value)
        self.previous = leaf(line)
        self.tree.push(self.previous)
        self.size += 1

    def follows(self, size, previous):
        if size != self.size or bytes.fromhex(previous) != self.previous:
            raise Wrong("a line does not follow the one before it")

    def header(self, value):
        if value["pgveil_audit"] != 2:
            raise Wrong("another version")
        tree = Tree(value["sequence"], [bytes.fromhex(text) for text in value["tree"]])
        if self.size is None:
            self.size = self.first = value["sequence"]
            self.previous = bytes.fromhex(value["previous"])
            self.tree, self.log = tree, value["log"]
        else:
            self.follows(value["sequence"], value["previous"])
            if tree.parts != self.tree.parts or value["log"] != self.log or self.unsigned:
                raise Wrong("a segment does not continue the one before it")
        if hashlib.sha256(raw(self.key)).hexdigest()[:16] != value["key"]:
            if self.next_key is None:
                raise Wrong("another key")
            self.key, self.next_key = self.next_key, None
            if hashlib.sha256(raw(self.key)).hexdigest()[:16] != value["key"]:
                raise Wrong("another key")
        self.unsigned += 1

    def checkpoint(self, value):
        self.follows(value["size"], value["previous"])
        text, signature = value["note"].rsplit("\n\n", 1)
        origin, size, root, time = text.split("\n")
        if origin != "pgveil/" + self.log or size != str(self.size) or not re.fullmatch(r"time -?\d+", time):
            raise Wrong("a checkpoint is of something else")
        if base64.b64decode(root, validate=True) != self.tree.root():
            raise Wrong("a checkpoint signs another tree")
        dash, name, blob = signature.rstrip("\n").split(" ")
        blob = base64.b64decode(blob, validate=True)
        key_id = hashlib.sha256(origin.encode() + b"\n\1" + raw(self.key)).digest()[:4]
        if dash != "—" or name != origin or blob[:4] != key_id:
            raise Wrong("a checkpoint is signed by another key")
        self.key.verify(blob[4:], (text + "\n").encode("utf-8"))
        self.unsigned = 0

    def record(self, value):
        self.follows(value["sequence"], value["previous"])
        self.records += 1
        self.unsigned += 1
        if value["event"] == "removed":
            self.removed = max(self.removed, value["before"])
        if value["event"] == "key_changed":
            self.next_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(value["key"]))


def main():
    with open(sys.argv[1], "rb") as file:
        log = Log(load_pem_public_key(file.read()))
    try:
        for line in lines(sys.argv[2]):
            log.take(line)
        if log.unsigned:
            raise Wrong("the last lines are under no checkpoint")
        if log.first > log.removed:
            raise Wrong("the first lines are missing")
    except (Wrong, InvalidSignature, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"line {(log.size or 0) + 1}: {error or type(error).__name__}")
        return 1
    print("ok", log.records, log.size, base64.b64encode(log.tree.root()).decode())
    return 0


sys.exit(main())
