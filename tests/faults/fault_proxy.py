"""A proxy between a client and an S3 server that breaks what passes through it, by plan or by chance."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Literal

Fault = Literal["500", "503", "reset", "half", "silence", "lost"]
#: An answer of the server's own trouble · a request to slow down · the connection cut before the work ·
#: the connection cut within the reply's body · no answer ever · the work done, and the reply lost.
FAULTS: Final[tuple[Fault, ...]] = ("500", "503", "reset", "half", "silence", "lost")

KINDS: Final = ("list", "read", "look", "write", "publish", "delete")

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "host"})
_PATIENCE = 60.0


@dataclass(frozen=True)
class Request:
    """What passes through: its method, its path in the bucket, and whether it asks for a range or sets a condition."""

    method: str
    path: str
    is_conditional: bool

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        if self.method == "GET":
            return "list" if "list-type=" in self.path else "read"
        if self.method in ("PUT", "POST"):
            return "publish" if self.is_conditional else "write"
        return {"HEAD": "look", "DELETE": "delete"}.get(self.method, self.method)


Plan = Callable[[Request], Fault | None]


def nth(kind: str, number: int, fault: Fault, times: int = 1) -> Plan:
    """A plan: the requests of a kind from `number` on, counted from 0, fail so many times."""
    lock, seen = threading.Lock(), 0

    def decide(request: Request) -> Fault | None:
        nonlocal seen
        if request.kind != kind:
            return None
        with lock:
            seen += 1
            return fault if number < seen <= number + times else None

    return decide


def by_chance(seed: int, share: float) -> Plan:
    """A plan: so large a share of all requests fails, each fault as often as the others."""
    lock, dice = threading.Lock(), random.Random(seed)

    def decide(_: Request) -> Fault | None:
        with lock:
            return dice.choice(FAULTS) if dice.random() < share else None

    return decide


class FaultProxy:
    """Runs in threads of this process, on a port of 127.0.0.1.

    Parameters
    ----------
    upstream : str
        ``http://host:port`` of the server.

    Attributes
    ----------
    url : str
    done : list of (kind, fault)
        The faults that there were.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removeprefix("http://")
        self.done: list[tuple[str, Fault]] = []
        self.requests: dict[str, int] = {}
        self._plan: Plan | None = None
        self._lock = threading.Lock()
        self._released = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @contextlib.contextmanager
    def breaking(self, plan: Plan) -> Iterator[None]:
        """Follow a plan for a while; then let everything pass."""
        self.done, self.requests, self._released = [], {}, threading.Event()
        self._plan = plan
        try:
            yield
        finally:
            self._plan = None
            self._released.set()  # those that never answer go

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def decide(self, request: Request) -> Fault | None:
        plan = self._plan
        fault = plan(request) if plan else None
        with self._lock:
            self.requests[request.kind] = self.requests.get(request.kind, 0) + 1
            if fault is not None:
                self.done.append((request.kind, fault))
        return fault

    def wait_for_release(self) -> None:
        self._released.wait(_PATIENCE)


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    disable_nagle_algorithm = True  # or a body waits 40 ms for its head's receipt

    def log_message(self, *_: object) -> None:
        pass

    def _pass(self) -> None:
        body = self._body()
        fault = self.proxy.decide(Request(self.command, self.path, "If-None-Match" in self.headers))
        if fault == "500":
            self._answer(500, b"<Error><Code>InternalError</Code><Message>We failed</Message></Error>")
        elif fault == "503":
            self._answer(
                503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
            )
        elif fault == "reset":
            self._reset()
        elif fault == "silence":
            self.proxy.wait_for_release()
            self._reset()
        else:
            self._forward(body, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    def _forward(self, body: bytes, fault: Fault | None) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=_PATIENCE)
        try:
            upstream.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
            reply = upstream.getresponse()
            payload = reply.read()
        finally:
            upstream.close()
        if fault == "lost":
            self._reset()
            return
        self.send_response_only(reply.status, reply.reason)
        for name, value in reply.getheaders():
            if name.lower() not in _HOP_BY_HOP or (name.lower() == "content-length" and self.command == "HEAD"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if fault == "half":
            self.wfile.write(payload[: len(payload) // 2])
            self.wfile.flush()
            self._reset()
        elif self.command != "HEAD":
            self.wfile.write(payload)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, payload: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    def _reset(self) -> None:
        """Cut the connection without a word more."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)
