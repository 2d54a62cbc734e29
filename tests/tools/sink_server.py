"""A server that takes an audit log's records and appends them to a file, one a line.

usage: sink_server.py http|syslog PORT OUT [CERTIFICATE KEY]

HTTP: the body of each POST whose Authorization is "Bearer sesame" (others get 401; the first of all gets 503, as from a server that
is not ready). Syslog: octet-counted messages of RFC 6587. With a certificate it speaks TLS.
"""

import http.server
import socketserver
import ssl
import sys

kind, port, out = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "ab", buffering=0)
refused_once = False


class Http(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global refused_once
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["authorization"] != "Bearer sesame":
            return self.answer(401)
        if not refused_once:
            refused_once = True
            return self.answer(503)
        assert self.path == "/in?x=1" and self.headers["content-type"] == "application/x-ndjson"
        out.write(body)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Syslog(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            length = b""
            while (byte := self.rfile.read(1)) not in (b" ", b""):
                length += byte
            if not length:
                return
            out.write(self.rfile.read(int(length)) + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


server = Server(("127.0.0.1", port), Http if kind == "http" else Syslog)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
