"""Stands before OpenSearch with what it has no plugin for here: TLS, a password, AWS's signatures.

gate.py PORT TARGET_PORT CERTIFICATE KEY AUTHORITY, with USER and PASSWORD or REGION, ACCESS_KEY and SECRET_KEY
in the environment. With an AUTHORITY a client must have a certificate of it.
"""

import hashlib
import hmac
import http.client
import http.server
import os
import ssl
import sys
import urllib.parse
import base64

PORT, TARGET, CERTIFICATE, KEY, AUTHORITY = sys.argv[1:]


def keyed(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(method, path, headers, body):
    """Signature Version 4, from its definition."""
    signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
    where, _, query = path.partition("?")
    pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
    quote = lambda text: urllib.parse.quote(text, safe="-_.~")
    query = "&".join(f"{quote(k)}={quote(v)}" for k, v in pairs)
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed.split(";"))
    digest = hashlib.sha256(body).hexdigest()
    where = urllib.parse.quote(where, safe="/-_.~")
    request = "\n".join([method, where, query, lines, signed, digest])
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/{os.environ['REGION']}/es/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + os.environ["SECRET_KEY"]).encode()
    for part in scope.split("/"):
        key = keyed(key, part)
    found = keyed(key, text).hex()
    credential = f"{os.environ['ACCESS_KEY']}/{scope}"
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={found}"


def may(method, path, headers, body):
    given = headers.get("authorization", "")
    if "REGION" in os.environ:
        return given.startswith("AWS4") and given == signature(method, path, headers, body)
    pair = f"{os.environ['USER']}:{os.environ['PASSWORD']}"
    return given == "Basic " + base64.b64encode(pair.encode()).decode()


class Gate(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not may(self.command, self.path, headers, body):
            self.send(401, b'{"error":"no"}')
            return
        target = http.client.HTTPConnection("127.0.0.1", int(TARGET), timeout=60)
        passed = {n: v for n, v in headers.items() if n in ("content-type", "content-encoding")}
        target.request(self.command, self.path, body, passed)
        got = target.getresponse()
        self.send(got.status, got.read())

    do_GET = do_HEAD = do_PUT = do_POST = answer

    def send(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
if AUTHORITY:
    context.load_verify_locations(AUTHORITY)
    context.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Gate)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
