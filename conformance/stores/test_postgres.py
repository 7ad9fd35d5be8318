"""The metadata contract on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest

from conformance.backends.postgres import PostgreSQL, postgresql
from conformance.stores.conftest import require
from ociappr.metadata import MetadataStore
from ociappr.metadata.postgres import PostgresMetadata
from tests.contracts.metadata import Another, LastingMetadataContract, Outage


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A server for all tests of the module."""
    require("postgres")
    with postgresql() as server:
        yield server


@pytest.fixture
def url(server: PostgreSQL) -> str:
    """A registry that is not there yet."""
    return server.fresh_schema()


@pytest.fixture
async def another(url: str) -> AsyncIterator[Another]:
    async with AsyncExitStack() as opened:

        async def another() -> PostgresMetadata:
            store = await PostgresMetadata.open(url, connections=4, timeout=timedelta(seconds=5))
            opened.push_async_callback(store.close)
            return store

        yield another


@pytest.fixture
async def store(another: Another) -> MetadataStore:
    return await another()


class TestPostgreSQL(LastingMetadataContract):
    @pytest.fixture
    def outage(self, server: PostgreSQL) -> Outage:
        @asynccontextmanager
        async def killed() -> AsyncIterator[None]:
            with server.daemon.down():
                yield

        return killed
