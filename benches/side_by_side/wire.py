"""A client of our own, for what neither pgbench nor psql does: a thousand idle connections, and a reader that dawdles."""
import base64, functools, hashlib, hmac, os, socket, struct

from .stage import fail


class Client:
    def __init__(self, way, database="shop"):
        self.socket = socket.create_connection(("127.0.0.1", way.port))
        self.file = self.socket.makefile("rb")
        words = b"".join(word.encode() + b"\0" for word in ("user", way.user, "database", database))
        self.socket.sendall(struct.pack("!ii", len(words) + 9, 196608) + words + b"\0")
        self.log_in(way.user)

    def message(self):
        head = self.file.read(5)
        if len(head) < 5:
            fail("the other side closed the connection")
        kind, length = struct.unpack("!ci", head)
        body = self.file.read(length - 4)
        if kind == b"E":
            fail(f"the server said {body.decode(errors='replace')!r}")
        return kind, body

    def tell(self, kind, body):
        self.socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def until_ready(self):
        while self.message()[0] != b"Z":
            pass

    def query(self, sql):
        self.ask(sql)
        self.until_ready()

    def ask(self, sql):
        self.tell(b"Q", sql.encode() + b"\0")

    def close(self):
        self.file.close()
        self.socket.close()

    def log_in(self, password):
        """SCRAM-SHA-256 (RFC 5802). The user's password is its name."""
        first = f"n=,r={base64.b64encode(os.urandom(18)).decode()}"
        self.expect(10)
        self.tell(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first) + 3) + f"n,,{first}".encode())
        answer = self.expect(11)
        nonce, salt, times = (part[2:] for part in answer.split(","))
        key = client_key(password, salt, int(times))
        last = f"c=biws,r={nonce}"
        signature = hmac.digest(hashlib.sha256(key).digest(), f"{first},{answer},{last}".encode(), "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        self.tell(b"p", f"{last},p={proof}".encode())
        self.expect(12)
        self.until_ready()

    def expect(self, step):
        kind, body = self.message()
        if kind != b"R" or struct.unpack("!i", body[:4])[0] != step:
            fail(f"log-in went another way: {kind} {body!r}")
        return body[4:].decode()


@functools.lru_cache
def client_key(password, salt, times):
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), times)
    return hmac.digest(salted, b"Client Key", "sha256")
