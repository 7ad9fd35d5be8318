"""Metadata on a real Redis server: the port's contract, and what happens when things break."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from conformance.backends import redis as backend
from conformance.backends.daemon import running
from conformance.stores.conftest import require
from ociappr.metadata import MetadataStore
from ociappr.metadata.redis import RedisMetadata
from tests.contracts.metadata import Another, LastingMetadataContract, Outage

_names = (f"registry-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[backend.Server]:
    """A server for all tests that leave it as it is."""
    require("redis-server")
    started = backend.server(tmp_path_factory.mktemp("redis"))
    with running(started.daemon):
        yield started


@pytest.fixture
async def another(server: backend.Server) -> AsyncIterator[Another]:
    """What opens stores on the metadata of one new registry."""
    url = server.url(next(_names))
    async with AsyncExitStack() as opened:

        async def another() -> RedisMetadata:
            store = await RedisMetadata.open(url, connections=10, timeout=10)
            opened.push_async_callback(store.close)
            return store

        yield another


@pytest.fixture
async def store(another: Another) -> MetadataStore:
    return await another()


class TestRedis(LastingMetadataContract):
    @pytest.fixture
    def outage(self, server: backend.Server) -> Outage:
        @asynccontextmanager
        async def down() -> AsyncIterator[None]:
            with server.daemon.down():
                yield

        return down
