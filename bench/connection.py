"""The thinnest HTTP/1.1 client: on a small machine a heavier one would measure itself."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

BLOCK: Final = 1 << 20


class ReplyError(Exception):
    """A server answered with another status than the load needs, so there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers by lower-case name, and the whole body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One kept-alive connection to a server on loopback.

    Every request names the status it expects; another one raises `ReplyError`.
    """

    def __init__(self, port: int) -> None:
        self._host = f"127.0.0.1:{port}"
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=600)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(
        self, method: str, path: str, *, expect: int, body: bytes = b"", media_type: str = ""
    ) -> Reply:
        """Send one request with a body in memory and read the reply."""
        self._socket.sendall(self._head(method, path, len(body), media_type=media_type) + body)
        return self._reply(method, path, expect=expect)

    def send(
        self, method: str, path: str, *, expect: int, blocks: Iterable[bytes], length: int
    ) -> Reply:
        """Send one request whose body of `length` bytes is made on the way."""
        head = self._head(method, path, length, media_type="application/octet-stream")
        self._socket.sendall(head)
        for block in blocks:
            self._socket.sendall(block)
        return self._reply(method, path, expect=expect)

    def drain(self, path: str) -> int:
        """GET `path`, throw the body away, and return its length in bytes."""
        self._socket.sendall(self._head("GET", path, 0))
        reply, rest = self._read_head("GET", path, expect=200)
        length = int(reply.headers["content-length"])
        left = length - len(rest)
        room = memoryview(bytearray(BLOCK))
        while left > 0:
            got = self._socket.recv_into(room, min(left, BLOCK))
            if not got:
                raise ReplyError(f"GET {path}: the body ended {left} bytes early")
            left -= got
        return length

    def _reply(self, method: str, path: str, *, expect: int) -> Reply:
        reply, rest = self._read_head(method, path, expect=None)
        length = 0 if method == "HEAD" else int(reply.headers.get("content-length", "0"))
        parts = [rest]
        missing = length - len(rest)
        while missing > 0:
            parts.append(self._receive(method, path))
            missing -= len(parts[-1])
        body = b"".join(parts)
        _check(reply.status, expect, f"{method} {path}: {body[:300]!r}")
        self._buffer = body[length:]
        return Reply(reply.status, reply.headers, body[:length])

    def _read_head(self, method: str, path: str, *, expect: int | None) -> tuple[Reply, bytes]:
        received, self._buffer = self._buffer, b""
        while b"\r\n\r\n" not in received:
            received += self._receive(method, path)
        head, _, rest = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines[1:])
        }
        status = int(lines[0].split(" ", 2)[1])
        if expect is not None:
            _check(status, expect, f"{method} {path}")
        return Reply(status, headers, b""), rest

    def _head(self, method: str, path: str, length: int, *, media_type: str = "") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {length}"]
        if media_type:
            lines.append(f"Content-Type: {media_type}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _receive(self, method: str, path: str) -> bytes:
        received = self._socket.recv(65536)
        if not received:
            raise ReplyError(f"{method} {path}: the connection was closed")
        return received


def _check(status: int, expect: int, what: str) -> None:
    if status != expect:
        raise ReplyError(f"{what}: status {status}, expected {expect}")
