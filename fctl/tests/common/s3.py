"""An object store that speaks as much of S3 as a backup needs: objects in parts, read, looked for, removed. Each request must be signed.

`s3.py FOLDER SECRET` listens on loopback and prints its port. Objects are files in FOLDER/objects. Files in FOLDER named `busy` (a number:
so many parts are refused as if the store had too much to do), `damage` (an object is stored with one wrong byte), `broken` (an object is
sent in half before the connection ends), `stuck` (the part of this number is taken for a minute) and `unwilling` (no object is made of the parts) make it misbehave.
"""

import contextlib
import hashlib
import hmac
import os
import re
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit

FOLDER, SECRET = sys.argv[1], sys.argv[2]
OBJECTS = os.path.join(FOLDER, "objects")
UPLOADS = os.path.join(FOLDER, "uploads")
LOCK = threading.Lock()


def signature(method, url, headers, authorization):
    """What the request should be signed with, by version 4 of the rules."""
    scope, signed = re.search(r"Credential=[^/]+/([^,]+), ?SignedHeaders=([^,]+)", authorization).groups()
    date, region, service, kind = scope.split("/")
    names = signed.split(";")
    query = "&".join(sorted(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in parse_qsl(url.query, keep_blank_values=True)))
    lines = "".join(f"{name}:{' '.join((headers[name] or '').split())}\n" for name in names)
    request = "\n".join([method, url.path, query, lines, signed, headers["x-amz-content-sha256"]])
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + SECRET).encode()
    for part in (date, region, service, kind, text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


def take_fault(name):
    """Whether this one misbehaves; each is counted down."""
    with LOCK:
        path = os.path.join(FOLDER, name)
        left = int(open(path).read()) if os.path.exists(path) else 0
        if left > 0:
            open(path, "w").write(str(left - 1))
        return left > 0


class Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            # Whoever found a wrong byte reads no further.
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(body)

    def refuse(self, status, code):
        self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def handle_any(self):
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = self.headers.get("Authorization", "")
        if not given.endswith("Signature=" + signature(self.command, url, self.headers, given)):
            return self.refuse(403, "SignatureDoesNotMatch")
        payload = self.headers["x-amz-content-sha256"]
        if payload not in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()):
            return self.refuse(400, "XAmzContentSHA256Mismatch")
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        # Buckets are folders; a key may have folders of its own.
        path = os.path.join(OBJECTS, unquote(url.path).lstrip("/"))
        if self.command == "POST" and "uploads" in query:
            upload = uuid.uuid4().hex
            os.makedirs(os.path.join(UPLOADS, upload))
            return self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode())
        if "uploadId" in query:
            return self.part(os.path.join(UPLOADS, query["uploadId"]), query, body, path)
        if not os.path.isfile(path):
            return self.refuse(404, "NoSuchKey")
        if self.command == "DELETE":
            os.remove(path)
            return self.answer(204)
        return self.send_object(open(path, "rb").read())

    def send_object(self, data):
        named = {"ETag": '"x"', "Last_Modified": "Sun, 01 Nov 2026 00:00:00 GMT"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status, first = 200, 0
        if wanted:
            first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
            status, named["Content_Range"] = 206, f"bytes {first}-{last}/{len(data)}"
            data = data[first:last + 1]
        if self.command == "GET" and take_fault("broken"):
            open(os.path.join(FOLDER, "broken-at"), "w").write(str(first + len(data) // 2))
            self.close_connection = True
            return self.answer(status, data[:len(data) // 2], length=len(data), **named)
        if wanted:
            open(os.path.join(FOLDER, "asked-from"), "w").write(str(first))
        return self.answer(status, data, **named)

    def part(self, upload, query, body, path):
        if self.command == "PUT":
            if take_fault("busy"):
                return self.refuse(503, "SlowDown")
            name = f"{int(query['partNumber']):05}"
            stuck = os.path.join(FOLDER, "stuck")
            if os.path.exists(stuck) and int(open(stuck).read()) == int(name):
                open(os.path.join(FOLDER, "stuck-now"), "w").close()
                time.sleep(60)
            open(os.path.join(upload, name), "wb").write(body)
            return self.answer(200, ETag=f'"{name}"')
        if self.command == "POST" and take_fault("unwilling"):
            return self.refuse(400, "InvalidRequest")
        names = sorted(os.listdir(upload))
        data = b"".join(open(os.path.join(upload, name), "rb").read() for name in names)
        for name in names:
            os.remove(os.path.join(upload, name))
        os.rmdir(upload)
        if self.command == "DELETE":
            return self.answer(204)
        if take_fault("damage"):
            data = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").write(data)
        open(os.path.join(FOLDER, "parts"), "w").write(str(len(names)))
        return self.answer(200, b'<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>')

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any


os.makedirs(OBJECTS)
os.makedirs(UPLOADS)
server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
print(server.server_port, flush=True)
server.serve_forever()
