"""Real ``ociappr serve`` processes on loopback, and what their tests ask them with."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.servers import Servers, clean_environment
from conformance.wire import Server, digest_of

WITHIN = 20.0  # seconds


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """A factory of servers, each with fresh data; all are stopped after the test."""
    started = Servers(tmp_path)
    yield started
    started.stop_all()


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Return as soon as something holds that another process does; fail when it never does."""
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline, f"{what}, not within {WITHIN} s"
        time.sleep(0.02)


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a server that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "ociappr", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
        env=clean_environment(),
    )


def connect(server: Server) -> socket.socket:
    """Return a connection to the server."""
    host, _, port = server.host.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=WITHIN)


def refuses(server: Server) -> bool:
    """Tell whether nobody listens."""
    try:
        connect(server).close()
    except ConnectionRefusedError:
        return True
    return False


def ends(connection: socket.socket) -> bytes:
    """Return what comes until the server ends the connection, and close it."""
    received = b""
    with connection:
        while True:
            try:
                block = connection.recv(65536)
            except ConnectionResetError:
                return received
            if not block:
                return received
            received += block


def begin_upload(server: Server, body: bytes, sent: int) -> socket.socket:
    """Send the head and the first bytes of an upload, and return when the server reads it."""
    connection = connect(server)
    head = f"POST /v2/a/b/blobs/uploads/?digest={digest_of(body)} HTTP/1.1\r\n"
    head += f"Host: registry\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(body[:sent])
    return connection


def lines(server_log: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON log; each must be one."""
    return [json.loads(line) for line in server_log.read_text().splitlines()]


def access(server_log: Path) -> list[dict[str, Any]]:
    """Return the lines of the access log, but for those of the start."""
    return [
        line
        for line in lines(server_log)
        if line["logger"] == "ociappr.access" and line["path"] != "/readyz"
    ]


def children(pid: int) -> set[int]:
    """Return the processes that a process has begun and not reaped."""
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def runs(pid: int) -> bool:
    """Tell whether a process exists that is no zombie."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
