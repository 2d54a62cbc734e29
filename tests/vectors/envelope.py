#!/usr/bin/env python3
"""Makes envelope.json with OpenSSL's AES-SIV (python3-cryptography), so that our cells are held to code that is not ours.

Run it only when the format gets a new version: cells that exist must open for ever.
"""

import hashlib
import json

from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MODES = {"deterministic": 0x11, "randomized": 0x12}


def some(label: str, length: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(length)


def vector(mode: str, domain: int, version: int, length: int) -> dict:
    data_key = some(f"data key {version}", 64)
    info = b"pgveil cell v1" + domain.to_bytes(2, "big") + bytes([MODES[mode]])
    key = HKDF(SHA256(), 64, None, info).derive(data_key)
    header = bytes([MODES[mode]]) + domain.to_bytes(2, "big") + version.to_bytes(2, "big")
    nonce = some(f"nonce {domain} {length}", 12) if mode == "randomized" else b""
    plaintext = some(f"plaintext {length}", length)
    associated = [header] + ([nonce] if nonce else [])
    envelope = header + nonce + AESSIV(key).encrypt(plaintext, associated)
    return {
        "mode": mode,
        "domain": domain,
        "version": version,
        "data_key": data_key.hex(),
        "nonce": nonce.hex(),
        "plaintext": plaintext.hex(),
        "envelope": envelope.hex(),
    }


VECTORS = [
    vector(mode, domain, version, length)
    for mode in MODES
    for domain, version in [(1, 1), (513, 258), (65535, 65535)]
    for length in [0, 1, 15, 16, 17, 32, 33, 100]
]

if __name__ == "__main__":
    with open(__file__.replace(".py", ".json"), "w") as file:
        json.dump(VECTORS, file, indent=1)
        file.write("\n")
