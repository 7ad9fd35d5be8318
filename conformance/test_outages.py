"""Stores that go away, refuse or dawdle under pushes: clean errors, nothing lost, and recovery."""

from __future__ import annotations

import hashlib
import http.client
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from conformance.backends.bad_network import bad_network
from conformance.backends.daemon import Daemon
from conformance.backends.pairs import Backends
from conformance.pushing import Acknowledged, check, in_threads, pushing
from conformance.servers import Servers
from conformance.wire import Server, digest_of, fetch, push_blob

LIVES = 3
LARGE = 20_000_000
REPOSITORY = "outages/downloads"

DAEMONS: dict[str, tuple[str, Callable[[Backends], Daemon]]] = {
    "postgresql": ("postgresql+s3", lambda backends: backends.postgresql.daemon),
    "redis": ("redis+file", lambda backends: backends.redis.daemon),
    "etcd": ("etcd+s3", lambda backends: backends.etcd.daemon),
    "s3": ("sqlite+s3", lambda backends: backends.s3.daemon),
}


@contextmanager
def started(folder: Path, backends: Backends, pair: str) -> Iterator[Servers]:
    """A factory of servers on *pair*, whatever the session's is."""
    servers = Servers(folder, backends.places(pair))
    try:
        yield servers
    finally:
        servers.stop_all()


@contextmanager
def downloading(server: Server, content: bytes) -> Iterator[list[str]]:
    """Have a client download all the time; what it saw: the whole, a clean refusal, a cut."""
    ended, seen = threading.Event(), list[str]()
    path = f"/v2/{REPOSITORY}/blobs/{digest_of(content)}"

    def download() -> None:
        while not ended.is_set():
            try:
                reply = fetch(server, "GET", path)
            except (OSError, http.client.HTTPException):
                seen.append("cut")
                continue
            if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
                seen.append("refused")
                continue
            assert reply.status == HTTPStatus.OK
            assert hashlib.sha256(reply.body).digest() == hashlib.sha256(content).digest()
            seen.append("whole")

    with in_threads([download]):
        try:
            yield seen
        finally:
            ended.set()


@pytest.mark.parametrize("name", DAEMONS)
def test_a_store_is_killed_and_comes_back(name: str, backends: Backends, tmp_path: Path) -> None:
    pair, find = DAEMONS[name]
    told, content = Acknowledged(), os.urandom(LARGE)
    with started(tmp_path, backends, pair) as servers:
        server = servers()
        push_blob(server, REPOSITORY, content)
        for life in range(LIVES):
            with (
                pushing(server, told, seed=f"{name}-{life}"),
                downloading(server, content) as seen,
            ):
                told.wait_for(10)
                with find(backends).down():
                    refused = fetch(server, "POST", _small_upload(), body=b"{}")
                told.wait_for(10)
            assert "whole" in seen
            if name != "s3":  # small blobs need no S3 server
                assert refused.status == HTTPStatus.SERVICE_UNAVAILABLE
                assert refused.headers["Retry-After"]
        told.verify(server)
        check(servers, server.data)


@pytest.mark.parametrize(
    ("delay", "refused"), [(2.0, 0.0), (0.0, 0.5)], ids=["2 s latency", "503 storm"]
)
def test_s3_through_a_bad_network(
    delay: float, refused: float, backends: Backends, tmp_path: Path
) -> None:
    told, content = Acknowledged(), os.urandom(LARGE)
    with (
        bad_network(urlsplit(backends.s3.endpoint).netloc) as network,
        started(tmp_path, backends, "sqlite+s3") as servers,
    ):
        server = servers(env={"OCIAPPR_STORAGE__S3__ENDPOINT": f"http://{network.host}"})
        push_blob(server, REPOSITORY, content)
        with pushing(server, told, seed="network"), downloading(server, content) as seen:
            told.wait_for(10)
            with network.worse(delay=delay, refused=refused):
                told.wait_for(10)
            told.wait_for(10)
        assert "whole" in seen
        told.verify(server)
        check(servers, server.data)


def _small_upload() -> str:
    return f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(b'{}')}"
