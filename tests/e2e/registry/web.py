# SPDX-License-Identifier: Apache-2.0
"""web.py - HTTP/1.1 over blocking sockets, a thread a connection: plain enough to be broken on purpose.

A listener has an origin, the name by which the application knows it.  The application's answer()
makes an Answer of a Request; what it holds beyond status, headers and body says how it is sent, and
where it breaks off.  sent() of the application is called when it was sent, as far as it was."""
import itertools
import os
import secrets
import select
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from http import HTTPStatus

MAX_HEAD = 64 * 1024
MAX_DRAIN = 64 * 1024 * 1024
PIECE = 256 * 1024


class BadRequest(Exception):
    """Not HTTP, or more than we take: the connection ends."""


@dataclass
class File:
    """Bytes of a file, as a body."""
    path: str
    start: int
    length: int

    def __len__(self):
        return self.length

    def read(self):
        with open(self.path, "rb") as f:
            f.seek(self.start)
            return f.read(self.length)


@dataclass
class Answer:
    status: int = 200
    headers: dict = field(default_factory=dict)
    body: object = b""  # bytes, or a File
    # How it is sent.  `end` at `cut` bytes of the body: "reset", "close", or "stall" for `pause`
    # seconds (None: until the client goes), then on; "trickle": a byte each `pause` seconds.
    delay: float = 0
    byte_seconds: float = 0  # between the bytes of the head
    raw: bytes = None  # instead of all of it, then close
    chunked: bool = False
    cut: int = None
    end: str = None
    pause: float = None


class Request:
    def __init__(self, connection, head):
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise BadRequest(f"request line {lines[0][:80]!r}")
        self.connection, self.origin = connection, connection.origin
        self.method, self.target = parts[:2]
        url = urllib.parse.urlsplit(self.target)
        self.path = urllib.parse.unquote(url.path)
        self.query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        self.headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                self.headers[name.strip().lower()] = value.strip()
        self.keep = (parts[2] != "HTTP/1.0"
                     and self.headers.get("connection", "").lower() != "close")
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        self.left = int(self.headers.get("content-length", 0))
        self.unread = self.chunked or self.left > 0
        self.waits = self.unread and self.headers.get("expect", "").lower() == "100-continue"

    def first(self, name, default=""):
        return self.query.get(name, [default])[0]

    def pieces(self):
        """The body."""
        if self.waits:
            self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waits = False
        while self.unread and self.chunked:
            self.left = int(self.connection.read_line().split(b";")[0], 16)
            last = self.left == 0
            yield from self.counted()
            self.connection.read_line()
            self.unread = not last
        if self.unread:
            yield from self.counted()
            self.unread = False

    def counted(self):
        while self.left:
            piece = self.connection.read_some(min(self.left, PIECE))
            self.left -= len(piece)
            yield piece

    def body(self, limit=MAX_HEAD * 64):
        out = bytearray()
        for piece in self.pieces():
            out += piece
            if len(out) > limit:
                raise BadRequest(f"body over {limit} bytes")
        return bytes(out)

    def drain(self):
        """Takes the rest of the body, so that the next request can be seen.  A client that waits to
        be told to send it is not told: the connection ends instead."""
        if self.waits:
            self.keep = False
            return
        total = 0
        for piece in self.pieces():
            total += len(piece)
            if total > MAX_DRAIN:
                raise BadRequest(f"body over {MAX_DRAIN} bytes")


class Connection:
    def __init__(self, sock, origin, number, secure):
        self.sock, self.origin, self.number, self.secure = sock, origin, number, secure
        self.buffer = b""
        self.body_sent = 0
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fill(self):
        piece = self.sock.recv(PIECE)
        if not piece:
            raise ConnectionError("closed by the client")
        self.buffer += piece

    def read_some(self, limit):
        if not self.buffer:
            self.fill()
        piece, self.buffer = self.buffer[:limit], self.buffer[limit:]
        return piece

    def read_until(self, mark):
        while mark not in self.buffer:
            if len(self.buffer) > MAX_HEAD:
                raise BadRequest(f"head over {MAX_HEAD} bytes")
            self.fill()
        out, _, self.buffer = self.buffer.partition(mark)
        return out

    def read_line(self):
        return self.read_until(b"\r\n")

    def read_request(self):
        return Request(self, self.read_until(b"\r\n\r\n"))

    def send(self, data, more=False):
        if self.secure:
            self.sock.sendall(data)
        else:
            self.sock.sendall(data, socket.MSG_MORE if more else 0)

    def send_body(self, body, start, end, chunked):
        """Bytes start to end of the body."""
        if isinstance(body, File) and not self.secure and not chunked:
            self.send_file(body, start, end)
        elif isinstance(body, File):
            with open(body.path, "rb") as f:
                f.seek(body.start + start)
                for at in range(start, end, PIECE):
                    self.send_piece(f.read(min(PIECE, end - at)), chunked)
        elif start < end:
            self.send_piece(body[start:end], chunked)

    def send_piece(self, piece, chunked):
        self.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        self.body_sent += len(piece)

    def send_file(self, body, start, end):
        with open(body.path, "rb") as f:
            while start < end:
                n = os.sendfile(self.sock.fileno(), f.fileno(), body.start + start, end - start)
                if n == 0:
                    raise ConnectionError(f"{body.path} shrank")
                self.body_sent += n
                start += n

    def send_head(self, answer, more):
        status = answer.status
        phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "Unknown"
        lines = [f"HTTP/1.1 {status} {phrase}"]
        for name, value in answer.headers.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"{name}: {v}" for v in values]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if not answer.byte_seconds:
            return self.send(head, more)
        for i in range(len(head)):
            self.send(head[i:i + 1])
            time.sleep(answer.byte_seconds)

    def send_answer(self, request, answer):
        """Whether the connection can go on."""
        self.body_sent = 0
        if answer.delay:
            self.wait(answer.delay)
        request.drain()
        if answer.raw is not None:
            self.send(answer.raw)
            return False
        size = len(answer.body)
        if answer.chunked:
            answer.headers["Transfer-Encoding"] = "chunked"
        elif answer.status not in (204, 304):
            answer.headers.setdefault("Content-Length", str(size))
        if not request.keep:
            answer.headers["Connection"] = "close"
        if request.method == "HEAD":
            size = 0
        cut = size if answer.cut is None else max(0, min(answer.cut, size))
        self.send_head(answer, cut > 0)
        self.send_body(answer.body, 0, cut, answer.chunked)
        if answer.end == "stall":
            self.wait(answer.pause)
            self.send_body(answer.body, cut, size, answer.chunked)
        elif answer.end == "trickle":
            for at in range(cut, size):
                self.wait(answer.pause)
                self.send_body(answer.body, at, at + 1, answer.chunked)
        elif answer.end == "reset":
            self.reset()
        if answer.end in ("reset", "close"):
            return False
        if answer.chunked and request.method != "HEAD":
            self.send(b"0\r\n\r\n")
        return request.keep

    def wait(self, seconds):
        """Until the client goes, at most so long (None: for ever)."""
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLRDHUP)
        if poll.poll(None if seconds is None else seconds * 1000):
            raise ConnectionError("closed by the client")

    def reset(self):
        """What the client has not yet read may be lost: that is what a reset does."""
        time.sleep(0.01)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self):
        self.sock.close()


class Server:
    """Serves the application, which has answer(request), sent(request, answer, bytes), opened(origin)
    and closed(origin); opened() says whether to serve this connection at all."""

    def __init__(self, application):
        self.application = application
        self.numbers = itertools.count(1)
        self.ports = {}  # by origin
        threading.stack_size(512 * 1024)

    def listen(self, origin, port=None, path=None, tls=None):
        if path:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
        else:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            self.ports[origin] = sock.getsockname()[1]
        sock.listen(1024)
        threading.Thread(target=self.accept, args=(sock, origin, tls), daemon=True).start()

    def accept(self, listener, origin, tls):
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=self.run, args=(sock, origin, tls), daemon=True).start()

    def run(self, sock, origin, tls):
        try:
            if not self.application.opened(origin):
                if tls:
                    sock.recv(MAX_HEAD)
                sock.close()
                return
            if tls:
                sock = tls.wrap_socket(sock, server_side=True)
            connection = Connection(sock, origin, next(self.numbers), tls is not None)
            while self.one_request(connection):
                pass
        except (BadRequest, OSError, ValueError):
            pass  # the client's loss
        finally:
            sock.close()
            self.application.closed(origin)

    def one_request(self, connection):
        request = connection.read_request()
        answer = self.application.answer(request)
        try:
            return connection.send_answer(request, answer)
        finally:
            self.application.sent(request, answer, connection.body_sent)


def tls_context(certificate, key, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


def write_file(path, text):
    """All at once: who waits for the file to appear finds it whole."""
    part = f"{path}.{secrets.token_hex(4)}"
    with open(part, "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(part, path)
