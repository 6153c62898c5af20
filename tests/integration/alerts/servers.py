"""Servers that speak the channels' own protocols, on the loopback interface."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answering = Callable[[BaseHTTPRequestHandler, "Received"], None]


@dataclass
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    content: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Listening:
    """A server's address and what it was sent. ``answer`` may be exchanged."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    answer: Answering = lambda handler, _: reply(handler, 202)
    over: threading.Event = field(default_factory=threading.Event)


def reply(
    handler: BaseHTTPRequestHandler, status: int, content: bytes = b"ok", **headers: str
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def in_turn(*answers: Answering) -> Answering:
    """One answer after the other; the last one stays."""
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler, request: Received) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler, request)

    return answer


@contextlib.contextmanager
def listening() -> Iterator[Listening]:
    """Serve until the block ends."""
    found = Listening()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            request = Received(self.path, dict(self.headers.items()), self.rfile.read(length))
            found.requests.append(request)
            with contextlib.suppress(OSError):
                found.answer(self, request)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
