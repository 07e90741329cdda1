"""A server of a folder that answers ranges of bytes, as Python's own does not, and that can fail on demand."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Thread
from typing import Any
from urllib.parse import unquote


class Site(ThreadingHTTPServer):
    """What is served, what was asked for, and what goes wrong.

    Attributes:
        folder: that is served.
        asked: paths and ranges, in the order of their arrival.
        failures: so many requests are answered 503 before one is answered.
        failing: the end of paths that are answered 503.
        lasts: so many ranges are answered before all requests fail.
        ranges: whether they are answered.
        together: if given, requests of ranges wait for each other.
    """

    daemon_threads = True
    block_on_close = False  # connections are kept alive

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.folder = folder
        self.asked: list[tuple[str, str]] = []
        self.connections: list[Any] = []
        self.failures, self.lasts, self.ranges = 0, 0, True
        self.failing = ""
        self.together: Barrier | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no fault."""

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def kill(self) -> None:
        """Stop at once: those who are connected get no answer any more."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "") if self.server.ranges else ""
        self.server.asked.append((self.path.lstrip("/"), wanted))
        if wanted:
            self.server.lasts -= 1
            if self.server.lasts == 0:
                self.server.failures = 1 << 20
        if self.server.failures > 0:
            self.server.failures -= 1
            self._answer(503, b"busy")
            return
        if self.server.failing and self.path.endswith(self.server.failing):
            self._answer(503, b"busy")
            return
        file = self.server.folder / unquote(self.path).lstrip("/")
        if not file.is_file():
            self._answer(404, b"no such file")
            return
        if wanted and self.server.together is not None:
            try:
                self.server.together.wait(timeout=20)
            except BrokenBarrierError:
                self._answer(500, b"alone")
                return
        content = file.read_bytes()
        if not wanted:
            self._answer(200, content)
            return
        first, last = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted).groups()  # type: ignore[union-attr]
        start = int(first) if first else max(0, len(content) - int(last))
        stop = int(last) + 1 if first and last else len(content)
        if start >= len(content):
            self._answer(416, b"")
        else:
            self._answer(206, content[start:stop])

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[Site]:
    """A server of a folder, until the end of the block."""
    site = Site(folder, port)
    Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield site
    finally:
        site.kill()
