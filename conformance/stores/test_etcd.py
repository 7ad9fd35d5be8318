"""Metadata in etcd: the contract, and what happens to it when etcd does not do as it should."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from conformance.backends.etcd import Member, etcd
from conformance.stores.conftest import require
from ociappr.metadata import MetadataStore
from ociappr.metadata.etcd import EtcdMetadata
from tests.contracts.metadata import Another, LastingMetadataContract, Outage

_prefixes = itertools.count()


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """The etcd that all tests share which do it no harm."""
    require("etcd")
    with etcd(tmp_path_factory.mktemp("etcd")) as started:
        yield started


@pytest.fixture
def url(member: Member) -> str:
    """A prefix of the shared etcd that no other test uses."""
    return f"etcd://{member.host}/test-{next(_prefixes)}"


async def connect(
    url: str, *, password: str = "", ca_file: str | Path = "", seconds: float = 10
) -> EtcdMetadata:
    return await EtcdMetadata.open(
        url,
        password=password,
        ca_file=str(ca_file),
        connections=10,
        patience=timedelta(seconds=seconds),
    )


class TestEtcd(LastingMetadataContract):
    @pytest.fixture
    async def another(self, url: str) -> AsyncIterator[Another]:
        async with AsyncExitStack() as opened:

            async def another() -> EtcdMetadata:
                store = await connect(url)
                opened.push_async_callback(store.close)
                return store

            yield another

    @pytest.fixture
    async def store(self, another: Another) -> MetadataStore:
        return await another()

    @pytest.fixture
    def outage(self, member: Member) -> Outage:
        @asynccontextmanager
        async def down() -> AsyncIterator[None]:
            with member.daemon.down():
                yield

        return down
