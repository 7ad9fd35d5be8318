"""The original appr server 0.7.4, on each of its stores; ports are built into it, addresses not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from pathlib import Path

from conformance.appr.replay import load, send
from conformance.backends.daemon import Daemon, program, running
from conformance.conftest import Run
from conformance.servers import free_port
from conformance.wire import Server, fetch

PREFIX = "/cnr"
REDIS_PORT, ETCD_PORT, PEER_PORT = 6379, 2379, 2380
_addresses = count(2)


@dataclass(frozen=True, slots=True)
class Original:
    """An original server that runs, and where an import finds its store."""

    server: Server
    source: str
    env: Mapping[str, str]

    def dump(self, run: Run, path: Path) -> None:
        """Let its own code dump its store, which must be files."""
        code = (
            "import sys; from appr.models.kv.filesystem.db import ApprDB;"
            "ApprDB.backup_to_file(sys.argv[1])"
        )
        run(program("appr-server"), "-c", code, path, env=self.env)

    def fill(self) -> None:
        """Send all that changes something in the recorded scenarios."""
        for scenario in load():
            for step in scenario.steps:
                if step["request"]["method"] in ("POST", "DELETE"):
                    send(self.server, step["request"], prefix=PREFIX)


@contextmanager
def original(layout: str, directory: Path) -> Iterator[Original]:
    """Run an original server with an empty store of that *layout*."""
    with ExitStack() as stack:
        source, env = _STORES[layout](directory, stack)
        host = f"127.0.0.1:{free_port()}"
        server = Server(host, f"http://{host}", directory)
        env |= {"APPR_DB_CLASS": layout}
        module = ("-m", "gunicorn.app.wsgiapp", "appr.api.wsgi:app")
        argv = (program("appr-server"), *module, "--bind", host, "--workers", "1")

        def ready() -> bool:
            return fetch(server, "GET", f"{PREFIX}/version").status == HTTPStatus.OK

        stack.enter_context(running(Daemon(argv, _made(directory / "appr"), ready, env=env)))
        yield Original(server, source, env)


def _files(directory: Path, _: ExitStack) -> tuple[str, dict[str, str]]:
    return str(directory / "store"), {"DATABASE_URL": str(directory / "store")}


def _redis(directory: Path, stack: ExitStack) -> tuple[str, dict[str, str]]:
    address = own_address()
    stack.enter_context(running(redis(directory, address)))
    return f"redis://{address}", {"REDIS_HOST": address}


def _etcd(directory: Path, stack: ExitStack) -> tuple[str, dict[str, str]]:
    address = own_address()
    stack.enter_context(running(etcd(directory, address)))
    return f"etcd://{address}:{ETCD_PORT}", {"ETCD_HOST": address}


_STORES = {"filesystem": _files, "redis": _redis, "etcd": _etcd}


def redis(directory: Path, address: str) -> Daemon:
    """Return a Redis that keeps nothing on disk."""
    port = str(REDIS_PORT)
    argv = (program("redis-server"), "--bind", address, "--port", port, "--save", "")

    def ready() -> bool:
        with socket.create_connection((address, REDIS_PORT), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"

    return Daemon(argv, _made(directory / "redis"), ready)


def etcd(directory: Path, address: str) -> Daemon:
    """Return an etcd that still serves its first API."""
    url, peer = f"http://{address}:{ETCD_PORT}", f"http://{address}:{PEER_PORT}"
    argv = (
        program("etcd"),
        "--enable-v2",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--data-dir=data",
    )

    def ready() -> bool:
        server = Server(f"{address}:{ETCD_PORT}", url, directory)
        return fetch(server, "GET", "/health").status == HTTPStatus.OK

    return Daemon(argv, _made(directory / "etcd"), ready)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def own_address() -> str:
    """Return a loopback address of this test run's own: other servers keep to 127.0.0.1."""
    high, low = divmod(os.getpid(), 256)
    return f"127.{next(_addresses)}.{high % 256}.{low}"
