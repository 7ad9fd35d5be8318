"""etcd on loopback: one member, or a cluster of three."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path

import msgspec

from conformance.backends.daemon import Daemon, program, running
from conformance.servers import free_port
from ociappr.metadata.etcd import EtcdMetadata

NEEDED = ("--max-txn-ops", "1024", "--max-request-bytes", "2097152")
"""What the registry asks of etcd; docs/stores/etcd.md says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One server, and how it is spoken to."""

    daemon: Daemon
    host: str
    """Address and port for clients."""

    def call(self, path: str, message: Mapping[str, object], *, token: str = "") -> bytes:
        """Ask its JSON gateway, bytes becoming base64; raise `OSError` for what is not 200."""
        url = f"http://{self.host}/v3/{path}"
        headers = {"Authorization": token} if token else {}
        request = urllib.request.Request(url, msgspec.json.encode(message), headers)
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - loopback
            answer: bytes = response.read()
        return answer


@dataclass(frozen=True, slots=True)
class _Ports:
    """What a member listens on; health is told in plain HTTP even where clients speak TLS."""

    client: int
    peer: int
    health: int

    @classmethod
    def free(cls) -> _Ports:
        return cls(free_port(), free_port(), free_port())


@contextmanager
def etcd(
    directory: Path, *flags: str, scheme: str = "http", needed: Sequence[str] = NEEDED
) -> Iterator[Member]:
    """Have one member run within the block; *flags* are added to those that it needs."""
    (member,) = _members(directory, [_Ports.free()], (*needed, *flags), scheme)
    with running(member.daemon):
        yield member


@contextmanager
def cluster(directory: Path, *flags: str) -> Iterator[list[Member]]:
    """Have three members run within the block; each waits for another one to be ready."""
    ports = [_Ports.free() for _ in range(3)]
    members = _members(directory, ports, (*NEEDED, *flags), "http")
    with ExitStack() as started, ThreadPoolExecutor(len(members)) as starting:
        for one in [starting.submit(_start, member.daemon, started) for member in members]:
            one.result()
        yield members


def authenticate(member: Member, *, user: str, password: str, prefix: str) -> None:
    """Have *member* ask for passwords, and let *user* read and write below *prefix*."""
    start, stop = f"{prefix}/".encode(), f"{prefix}0".encode()  # "0" comes after "/"
    grant = {"permType": "READWRITE", "key": start, "range_end": stop}
    for path, message in (
        ("auth/user/add", {"name": "root", "password": "root"}),
        ("auth/role/add", {"name": "root"}),
        ("auth/user/grant", {"user": "root", "role": "root"}),
        ("auth/user/add", {"name": user, "password": password}),
        ("auth/role/add", {"name": "registry"}),
        ("auth/role/grant", {"name": "registry", "perm": grant}),
        ("auth/user/grant", {"user": user, "role": "registry"}),
        ("auth/enable", {}),
    ):
        member.call(path, message)


async def connect(
    url: str, *, password: str = "", ca_file: str | Path = "", seconds: float = 10
) -> EtcdMetadata:
    """Return an open store."""
    return await EtcdMetadata.open(
        url,
        password=password,
        ca_file=str(ca_file),
        connections=10,
        patience=timedelta(seconds=seconds),
    )


def _start(daemon: Daemon, started: ExitStack) -> None:
    started.enter_context(running(daemon))


def _members(
    directory: Path, ports: Sequence[_Ports], flags: Sequence[str], scheme: str
) -> list[Member]:
    peers = ",".join(f"m{one.peer}=http://127.0.0.1:{one.peer}" for one in ports)
    members = []
    for one in ports:
        host = f"127.0.0.1:{one.client}"
        health = f"http://127.0.0.1:{one.health}"
        home = directory / f"m{one.peer}"
        home.mkdir()
        own: Mapping[str, str | Path] = {
            "--name": f"m{one.peer}",
            "--data-dir": home / "data",
            "--listen-client-urls": f"{scheme}://{host}",
            "--advertise-client-urls": f"{scheme}://{host}",
            "--listen-peer-urls": f"http://127.0.0.1:{one.peer}",
            "--initial-advertise-peer-urls": f"http://127.0.0.1:{one.peer}",
            "--initial-cluster": peers,
            "--listen-metrics-urls": health,
        }
        words = [word for pair in own.items() for word in pair]
        argv = [program("etcd"), *words, *flags]
        members.append(Member(Daemon(argv, home, partial(_is_healthy, health)), host))
    return members


def _is_healthy(address: str) -> bool:
    with urllib.request.urlopen(f"{address}/health", timeout=5) as response:  # noqa: S310 - loopback
        return bool(response.status == HTTPStatus.OK)
