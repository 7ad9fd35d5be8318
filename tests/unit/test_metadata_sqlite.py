from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from unittest.mock import patch

import pytest

from ociappr.metadata import MetadataStore, sqlite_file
from ociappr.metadata.sqlite import SQLiteMetadata
from tests.contracts.metadata import Another, LastingMetadataContract, Outage


class TestSQLite(LastingMetadataContract):
    @pytest.fixture
    async def another(self, tmp_path: Path) -> AsyncIterator[Another]:
        async with AsyncExitStack() as opened:
            opened.enter_context(patch.object(sqlite_file, "_BUSY", 0.01))

            async def another() -> SQLiteMetadata:
                store = await SQLiteMetadata.open(tmp_path / "metadata.db")
                opened.push_async_callback(store.close)
                return store

            yield another

    @pytest.fixture
    async def store(self, another: Another) -> MetadataStore:
        return await another()

    @pytest.fixture
    def outage(self, tmp_path: Path) -> Outage:
        @asynccontextmanager
        async def locked() -> AsyncIterator[None]:
            with closing(sqlite3.connect(tmp_path / "metadata.db", isolation_level=None)) as rival:
                rival.execute("BEGIN IMMEDIATE")
                yield

        return locked
