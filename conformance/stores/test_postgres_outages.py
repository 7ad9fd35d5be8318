"""PostgreSQL that dies or stands still: clean errors, whole commits, and recovery by itself."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial

import pytest

from conformance.backends.postgres import PostgreSQL
from conformance.stores.conftest import OpenPostgres
from ociappr.errors import StoreUnavailable
from ociappr.metadata import MetadataStore, Put, Transaction, transact
from tests.contracts.metadata import entry, increment, keys, seed

WRITERS = 5
EACH = 24
CRASHES = 3


async def once(txn: Transaction, name: bytes) -> None:
    """Count and leave a mark, unless the mark tells that this was done."""
    if await txn.get(b"done/" + name) is None:
        txn.put(b"done/" + name, b"")
        await increment(txn)


@dataclass(slots=True)
class Work:
    """Writers that try again until each of their transactions is acknowledged."""

    store: MetadataStore
    up: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    failures: int = 0

    async def write(self, writer: int) -> None:
        """Do everything that one writer has to do."""
        for number in range(EACH):
            name = b"%d/%d" % (writer, number)
            while not await self._lands(name):
                await self.up.wait()
            self.acknowledged.release()

    async def _lands(self, name: bytes) -> bool:
        try:
            await transact(self.store, partial(once, name=name))
        except StoreUnavailable:
            self.failures += 1
            return False
        return True


async def test_a_server_that_dies_amid_commits(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    work = Work(await open_postgres(postgres_server.fresh_schema()))
    work.up.set()
    tasks = [asyncio.create_task(work.write(number)) for number in range(WRITERS)]
    for _ in range(CRASHES):
        for _ in range(WRITERS * EACH // (CRASHES + 1)):
            await work.acknowledged.acquire()
        work.up.clear()
        await asyncio.to_thread(postgres_server.daemon.restart)
        work.up.set()
    await asyncio.gather(*tasks)
    assert work.failures >= CRASHES
    assert len(await keys(work.store, b"done/", b"done0")) == WRITERS * EACH
    assert (await entry(work.store, b"n")).value == b"%d" % (WRITERS * EACH)


async def test_commits_without_a_retry_are_whole_and_those_acknowledged_stay(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    store = await open_postgres(postgres_server.fresh_schema())
    acknowledged: list[bytes] = []
    enough = asyncio.Event()

    async def write(writer: int) -> None:
        for number in range(1_000_000):
            name = b"%d/%d" % (writer, number)
            await store.commit([], [Put(b"a" + name, b""), Put(b"b" + name, b"")])
            acknowledged.append(name)
            if len(acknowledged) > 100:
                enough.set()

    tasks = [asyncio.create_task(write(number)) for number in range(WRITERS)]
    await enough.wait()
    await asyncio.to_thread(postgres_server.daemon.restart)
    outcome = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in outcome] == [StoreUnavailable] * WRITERS
    first, second = await keys(store, b"a", b"b"), await keys(store, b"b", b"c")
    assert [key[1:] for key in first] == [key[1:] for key in second]
    assert set(acknowledged) <= {key[1:] for key in first}


async def test_a_server_that_stands_still(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    """The time-out counts from the question, not from its turn."""
    store = await open_postgres(postgres_server.fresh_schema(), seconds=1)
    await seed(store, b"a")
    began = time.monotonic()
    with postgres_server.daemon.frozen():
        commits = [seed(store, b"b%d" % number, b"c%d" % number) for number in range(9)]
        outcome = await asyncio.gather(
            *commits, store.get([b"a"]), store.scan(b"a", b"b", limit=1), return_exceptions=True
        )
    assert time.monotonic() - began < 2
    assert [type(error) for error in outcome] == [StoreUnavailable] * 11
    assert all("in time" in str(error) for error in outcome)
    await seed(store, b"d")
    found = await keys(store)
    assert {b"a", b"d"} <= set(found)
    assert [key[1:] for key in found if key[:1] == b"b"] == [
        key[1:] for key in found if key[:1] == b"c"
    ]


async def test_closing_does_not_wait_for_a_server_that_stands_still(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    store = await open_postgres(postgres_server.fresh_schema(), seconds=1)
    with postgres_server.daemon.frozen():
        task = asyncio.create_task(seed(store, b"a"))
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(StoreUnavailable):
            await task


async def test_idle_connections_that_were_cut_are_replaced(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    """What was cut unseen costs one answer at most each, and no restart of ours."""
    store = await open_postgres(postgres_server.fresh_schema())
    await asyncio.gather(*(seed(store, b"%d" % number) for number in range(4)))
    postgres_server.run(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = 'ociappr'"
    )
    while True:
        try:
            assert len(await keys(store)) == 4
        except StoreUnavailable:
            continue
        break
    await asyncio.gather(*(seed(store, b"%d" % number) for number in range(4)))
