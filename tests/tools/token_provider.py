"""An OpenID provider, as far as log-in needs one: keys, the tokens that they sign, and the address where the keys are.

usage: token_provider.py make FOLDER < JSON     keys and tokens
       token_provider.py serve FOLDER PORT CERTIFICATE KEY

make: {"publish": [[kid, alg] …], "tokens": {name: {"header": {…}, "claims": {…}, "signer": kid | "none" | "public key of kid"}}}. Keys are
made when missing and kept in FOLDER; those to publish are put into FOLDER/jwks.json. Prints {name: token}.
serve: GET /jwks over TLS answers FOLDER/jwks.json.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import ssl
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

what, folder = sys.argv[1], pathlib.Path(sys.argv[2])


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value, size):
    return encoded(value.to_bytes(size, "big"))


def key(kid, alg):
    path = folder / f"{kid}.pem"
    if not path.exists():
        made = {
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }[alg]()
        clear = serialization.NoEncryption()
        path.write_bytes(made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear))
    return serialization.load_pem_private_key(path.read_bytes(), None)


def public_pem(kid, alg):
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return key(kid, alg).public_key().public_bytes(serialization.Encoding.PEM, info)


def published(kid, alg):
    public = key(kid, alg).public_key()
    common = {"kid": kid, "use": "sig", "alg": alg}
    if alg == "RS256":
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": number(numbers.n, 256), "e": number(numbers.e, 3), **common}
    if alg == "ES256":
        numbers = public.public_numbers()
        return {"kty": "EC", "crv": "P-256", "x": number(numbers.x, 32), "y": number(numbers.y, 32), **common}
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": encoded(raw), **common}


def signature(message, signer):
    if signer == "none":
        return b""
    kid, alg, *confused = signer
    if confused:
        return hmac.new(public_pem(kid, alg), message, hashlib.sha256).digest()
    private = key(kid, alg)
    if alg == "RS256":
        return private.sign(message, padding.PKCS1v15(), hashes.SHA256())
    if alg == "ES256":
        r, s = utils.decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return private.sign(message)


def token(wanted):
    parts = [encoded(json.dumps(wanted[part]).encode()) for part in ("header", "claims")]
    message = ".".join(parts)
    return message + "." + encoded(signature(message.encode(), wanted["signer"]))


def make():
    wanted = json.load(sys.stdin)
    if "publish" in wanted:
        keys = [published(kid, alg) for kid, alg in wanted["publish"]]
        # Replaced whole, as whoever keeps such a file does.
        (folder / "jwks.new").write_text(json.dumps({"keys": keys}))
        os.replace(folder / "jwks.new", folder / "jwks.json")
    print(json.dumps({name: token(one) for name, one in wanted["tokens"].items()}))


class Keys(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (folder / "jwks.json").read_bytes() if self.path == "/jwks" else b"no"
        self.send_response(200 if self.path == "/jwks" else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Keys)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


make() if what == "make" else serve()
