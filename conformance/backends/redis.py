"""A Redis server that keeps what it has acknowledged, as the documents ask for."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis

from conformance.backends.daemon import Daemon, program
from conformance.servers import free_port
from ociappr.metadata.redis import RedisMetadata

_SAFE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
}
_ALIVE = (b"+PONG", b"-NOAUTH")


@dataclass(frozen=True, slots=True)
class Server:
    """A server and where it listens."""

    daemon: Daemon
    port: int

    def url(self, name: str) -> str:
        """Return the URL of the metadata of a registry in it."""
        return f"redis://127.0.0.1:{self.port}?name={name}"

    def ask(self, *command: str | bytes) -> Any:  # noqa: ANN401 - each command answers in its own way
        """Return what it answers to who administers it."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            return client.execute_command(*command)

    def clients(self) -> list[str]:
        """Return a line for each connection but the one that asks."""
        lines = self.ask("CLIENT", "LIST", "TYPE", "normal").splitlines()
        return [line for line in lines if "cmd=client" not in line]


@asynccontextmanager
async def opened(
    url: str,
    *,
    password: str = "",
    ca_file: str = "",
    connections: int = 10,
    seconds: float = 10,
) -> AsyncIterator[RedisMetadata]:
    """Have a store open within the block, with the defaults of the settings."""
    store = await RedisMetadata.open(
        url,
        password=password,
        ca_file=ca_file,
        connections=connections,
        patience=timedelta(seconds=seconds),
    )
    try:
        yield store
    finally:
        await store.close()


def server(directory: Path, **settings: str) -> Server:
    """Return a server on a free port, not started; *settings* change or add to the safe ones."""
    port = free_port()
    directory.mkdir(exist_ok=True)
    effective = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(directory),
        **_SAFE,
        **{name.replace("_", "-"): value for name, value in settings.items()},
    }
    argv: list[str | Path] = [program("redis-server")]
    for name, value in effective.items():
        argv += [f"--{name}", value]
    return Server(Daemon(argv, directory, lambda: _answers(port)), port)


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(_ALIVE)
