"""Pairs of a metadata and a blob store, each server started once, with fresh places in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from itertools import count
from pathlib import Path

from conformance.backends import etcd, postgres, redis
from conformance.backends.daemon import running
from conformance.backends.s3 import BUCKET, S3Server
from conformance.backends.versitygw import versitygw

Places = Callable[[Path], Mapping[str, str]]
"""Gives the settings of a registry, as environment, for the directory that it may keep data in."""

PAIRS = ("sqlite+file", "sqlite+s3", "postgresql+s3", "redis+file", "etcd+s3")


class Backends:
    """Servers that hold registries; one that nobody asks for is not started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started = ExitStack()
        self._numbers = count()

    def places(self, pair: str) -> Places:
        """Return what gives registries on *pair*; the same directory means the same registry."""
        metadata, blobs = (_KINDS[kind] for kind in pair.split("+"))
        known: dict[Path, Mapping[str, str]] = {}

        def place(data: Path) -> Mapping[str, str]:
            if data not in known:
                number = next(self._numbers)
                known[data] = {**metadata(self, number), **blobs(self, number)}
            return known[data]

        return place

    def close(self) -> None:
        """Stop what runs."""
        self._started.close()

    @cached_property
    def postgresql(self) -> postgres.PostgreSQL:
        """A PostgreSQL server."""
        return self._started.enter_context(postgres.postgresql())

    @cached_property
    def redis(self) -> redis.Server:
        """A Redis server."""
        server = redis.server(self._directory / "redis")
        self._started.enter_context(running(server.daemon))
        return server

    @cached_property
    def etcd(self) -> etcd.Member:
        """A member of etcd, alone."""
        directory = self._directory / "etcd"
        directory.mkdir()
        return self._started.enter_context(etcd.etcd(directory))

    @cached_property
    def s3(self) -> S3Server:
        """An S3 server with an empty bucket."""
        directory = self._directory / "s3"
        directory.mkdir()
        return self._started.enter_context(versitygw(directory))


def _postgresql(backends: Backends, _: int) -> Mapping[str, str]:
    return {"OCIAPPR_METADATA__URL": backends.postgresql.fresh_schema()}


def _redis(backends: Backends, number: int) -> Mapping[str, str]:
    return {"OCIAPPR_METADATA__URL": backends.redis.url(f"registry-{number}")}


def _etcd(backends: Backends, number: int) -> Mapping[str, str]:
    return {"OCIAPPR_METADATA__URL": f"etcd://{backends.etcd.host}/registry-{number}"}


def _s3(backends: Backends, number: int) -> Mapping[str, str]:
    return {
        "OCIAPPR_STORAGE__URL": f"s3://{BUCKET}/registry-{number}",
        **backends.s3.environment,
    }


def _default(_: Backends, __: int) -> Mapping[str, str]:
    return {}


_KINDS: Mapping[str, Callable[[Backends, int], Mapping[str, str]]] = {
    "sqlite": _default,
    "postgresql": _postgresql,
    "redis": _redis,
    "etcd": _etcd,
    "file": _default,
    "s3": _s3,
}
