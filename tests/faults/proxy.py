"""An HTTP proxy before a real store that goes wrong at a chosen call: the calls are counted first,
then each is tried.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import re
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

ANSWERS = {"503": (503, "SlowDown"), "403": (403, "AccessDenied"), "404": (404, "NoSuchKey")}
# what any call can meet; 403 from then on for every other, too
EVERY = ("503", "reset", "stall", "403")
READING = ("short", "wrong")  # half an answer; an answer of equal length with other bytes
OBJECT, LISTING = ("404",), ("empty",)  # what was listed is not there; nothing is listed
EMPTY = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{}</Name>'
    "<Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)
# What is named anew in every run, so that a call is found again in the next one.
NAMED_ANEW = (
    (re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6,}"), "ID"),
    (re.compile(r"[0-9A-F]{24}"), "SEGMENT"),
    (re.compile(r"[0-9A-F]{16}/"), "LOG/"),
    (re.compile(r"\d{8}T\d{6}"), "TIME"),
    (re.compile(r"(SEGMENT\.)[0-9A-F]{8}(\.backup)"), r"\1OFFSET\2"),
    (re.compile(r"-[0-9a-f]{12}\.json"), "-PLACE.json"),
    (re.compile(r"-[0-9a-f]{16}\.json"), "-HOLD.json"),
)
TOLD = ("list-type", "prefix", "uploads", "partNumber", "delete")


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """A call by what it asks for, and which of those alike it is, from 1."""

    what: str
    number: int = 1

    @property
    def faults(self) -> tuple[str, ...]:
        """What can happen to it."""
        method, _, rest = self.what.partition(" ")
        if method not in ("GET", "HEAD"):
            return EVERY
        if "?" in rest:
            return (*EVERY, *READING, *LISTING)
        return (*EVERY, *(READING if method == "GET" else ()), *OBJECT)

    def __str__(self) -> str:
        return f"{self.what} #{self.number}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a call, and to every one like it from then on: a client that tries again
    meets it again.
    """

    call: Call
    how: str


class Proxy:
    """Passes everything on to ``endpoint_url``, and notes it; ``met`` is set when the fault came to
    pass.
    """

    def __init__(self, endpoint_url: str, bucket: str, fault: Fault | None = None) -> None:
        self.upstream, self.bucket, self.fault = urlsplit(endpoint_url).netloc, bucket, fault
        self.calls: list[Call] = []
        self.met, self.over = threading.Event(), threading.Event()
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (Handler,), {"proxy": self})
        )
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def note(self, what: str) -> str:
        """Count a call; gives what is to happen to it."""
        with self._lock:
            self._seen[what] += 1
            call = Call(what, self._seen[what])
            self.calls.append(call)
            fault = self.fault
            if fault is None:
                return ""
            alike = call.what == fault.call.what and call.number >= fault.call.number
            if alike:
                self.met.set()
            return fault.how if alike or (fault.how == "403" and self.met.is_set()) else ""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_GET(self) -> None:
        """Any method."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._handle()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _handle(self) -> None:
        body = self._body()
        how = self.proxy.note(self._what())
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif how == "stall":
            self.proxy.over.wait()
            self.close_connection = True
        elif how in ANSWERS:
            status, code = ANSWERS[how]
            self._answer(
                status,
                [("Content-Type", "application/xml")],
                f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode(),
            )
        elif how == "empty":
            self._answer(
                200, [("Content-Type", "application/xml")], EMPTY.format(self.proxy.bucket).encode()
            )
        else:
            self._pass_on(body, how)

    def _pass_on(self, body: bytes, how: str) -> None:
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect", "transfer-encoding"):
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            content = answer.read()
            headers = [
                (name, value)
                for name, value in answer.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "content-length")
            ]
            if how == "wrong" and answer.status < 300:
                content = other_bytes(content)
            if self.command == "HEAD":
                headers.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            self._answer(
                answer.status, headers, content, half=how == "short" and answer.status < 300
            )
        finally:
            upstream.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, half: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name == "Content-Length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = self.close_connection or half

    def _body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _what(self) -> str:
        parts = urlsplit(self.path)
        asked = dict(parse_qsl(parts.query, keep_blank_values=True))
        told = "&".join(f"{name}={within(asked[name])}" for name in TOLD if name in asked)
        key = unquote(parts.path).removeprefix(f"/{self.proxy.bucket}").lstrip("/")
        return f"{self.command} {within(key)}{'' if key and not told else '?' + told}"

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


def within(place: str) -> str:
    """A key without the repository's own folder, and without what is new in every run."""
    place = place.partition("/")[2]
    for pattern, word in NAMED_ANEW:
        place = pattern.sub(word, place)
    return place


def other_bytes(content: bytes) -> bytes:
    """As many, and some of them others: across the middle, where what is worth damaging lies."""
    changed = bytearray(content)
    for at in range(len(content) // 3, 2 * len(content) // 3 + 1, 97):
        if at < len(changed):
            changed[at] ^= 0x55
    return bytes(changed)
