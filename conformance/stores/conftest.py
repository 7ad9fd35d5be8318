"""What the tests of stores can ask for: a program of somebody else's, or a visible reason."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Protocol

import pytest

from conformance.backends.daemon import program
from conformance.backends.postgres import PostgreSQL, postgresql
from ociappr.metadata.postgres import PostgresMetadata


class OpenPostgres(Protocol):
    """Open a store that is closed behind the test."""

    async def __call__(
        self, url: str, *, password: str = "", ca_file: str = "", seconds: float = 5
    ) -> PostgresMetadata: ...


def require(name: str) -> None:
    """Return if the tool *name* is installed; without it fail in CI, else skip with the hint."""
    try:
        program(name)
    except LookupError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgreSQL]:
    """A PostgreSQL for all tests; each takes a schema or a database of its own."""
    require("postgres")
    with postgresql() as server:
        yield server


@pytest.fixture
async def open_postgres() -> AsyncIterator[OpenPostgres]:
    """A function that opens stores."""
    async with AsyncExitStack() as opened:

        async def open_store(
            url: str, *, password: str = "", ca_file: str = "", seconds: float = 5
        ) -> PostgresMetadata:
            store = await PostgresMetadata.open(
                url,
                password=password,
                ca_file=ca_file,
                connections=4,
                patience=timedelta(seconds=seconds),
            )
            opened.push_async_callback(store.close)
            return store

        yield open_store
