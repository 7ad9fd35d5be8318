"""The metadata contract on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from conformance.backends.postgres import PostgreSQL
from conformance.stores.conftest import OpenPostgres
from ociappr.metadata import MetadataStore
from tests.contracts.metadata import Another, LastingMetadataContract, Outage


class TestPostgreSQL(LastingMetadataContract):
    @pytest.fixture
    def another(self, postgres_server: PostgreSQL, open_postgres: OpenPostgres) -> Another:
        return partial(open_postgres, postgres_server.fresh_schema())

    @pytest.fixture
    async def store(self, another: Another) -> MetadataStore:
        return await another()

    @pytest.fixture
    def outage(self, postgres_server: PostgreSQL) -> Outage:
        @asynccontextmanager
        async def killed() -> AsyncIterator[None]:
            with postgres_server.daemon.down():
                yield

        return killed
