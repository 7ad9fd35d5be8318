"""How commits take turns in PostgreSQL, shown by rivals that meet between checks and writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from conformance.backends.postgres import PostgreSQL
from conformance.stores.conftest import OpenPostgres
from conformance.stores.postgres_gate import Gate
from ociappr.errors import StoreFull, StoreUnavailable
from ociappr.metadata import Delete, Empty, MetadataStore, Put, Unchanged, postgres_schema
from tests.contracts.metadata import entry, keys, lands, seed

FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_disk AFTER INSERT ON entry EXECUTE FUNCTION full_disk();
"""


@pytest.fixture
def url(postgres_server: PostgreSQL) -> str:
    """A registry that is not there yet."""
    return postgres_server.fresh_schema()


@pytest.fixture
async def store(url: str, open_postgres: OpenPostgres) -> MetadataStore:
    return await open_postgres(url)


@pytest.fixture
async def gate(url: str, store: MetadataStore) -> AsyncIterator[Gate]:  # noqa: ARG001 - makes it
    async with Gate.built(url) as gate:
        yield gate


async def meet(url: str, open_postgres: OpenPostgres) -> list[bool]:
    """Return who wins: a pin of a blob that checks first, or who condemns it while unpinned."""
    pinning, condemning = await open_postgres(url), await open_postgres(url)
    await seed(pinning, b"blob")
    live = Unchanged(b"blob", (await entry(pinning, b"blob")).version)
    async with Gate.built(url) as gate:
        async with gate.shut():
            pin = asyncio.create_task(lands(pinning, [live], [Put(b"pin/m", b"")]))
            await gate.waiting(1)
            condemn = asyncio.create_task(
                lands(condemning, [live, Empty(b"pin/")], [Put(b"blob", b"condemned")])
            )
            await gate.waiting(2)
        return [await pin, await condemn]


async def test_rivals_take_turns(url: str, open_postgres: OpenPostgres) -> None:
    assert await meet(url, open_postgres) == [True, False]


async def test_without_the_lock_both_would_win(
    url: str, open_postgres: OpenPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_schema, "_LOCK", "")
    assert await meet(url, open_postgres) == [True, True]


def unsafe(server: PostgreSQL) -> str:
    """Return the URL of a registry in a database that is set to isolate otherwise, unsynced."""
    name = server.fresh_database()
    server.run(
        f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'",
        f"ALTER DATABASE {name} SET synchronous_commit = off",
    )
    return server.url(name, schema="registry")


async def test_sessions_do_not_take_the_settings_of_the_database(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    url = unsafe(postgres_server)
    assert await meet(url, open_postgres) == [True, False]
    store = await open_postgres(url)
    async with store._pool.acquire() as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "on"


async def test_with_the_isolation_of_the_database_both_would_win(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = postgres_schema._SETTINGS
    monkeypatch.delitem(ours, "default_transaction_isolation")
    assert await meet(unsafe(postgres_server), open_postgres) == [True, True]


async def test_registries_of_one_database_do_not_wait_for_each_other(
    store: MetadataStore, gate: Gate, postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    other = await open_postgres(postgres_server.fresh_schema())
    async with gate.shut():
        task = asyncio.create_task(seed(store, b"a"))
        await gate.waiting(1)
        await seed(other, b"b")
        assert not task.done()
        assert await keys(other) == [b"b"]
    await task


async def test_reads_do_not_wait_for_commits(store: MetadataStore, gate: Gate) -> None:
    await seed(store, b"a")
    async with gate.shut():
        tasks = [asyncio.create_task(seed(store, b"%d" % number)) for number in range(20)]
        await gate.waiting(2)
        assert (await entry(store, b"a")).value == b"value of a"
        assert await keys(store) == [b"a"]
    await asyncio.gather(*tasks)


async def test_cancelled_commits_run_to_their_end(store: MetadataStore, gate: Gate) -> None:
    """Whether they wait for the gate, for their turn at the server, or for a connection."""
    async with gate.shut():
        tasks = [asyncio.create_task(seed(store, b"%d" % number)) for number in range(5)]
        await gate.waiting(2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
    await seed(store, b"a")
    assert await keys(store) == [b"0", b"1", b"2", b"3", b"4", b"a"]
    await gate.settled()


async def test_closing_waits_for_a_commit(store: MetadataStore, gate: Gate) -> None:
    async with gate.shut():
        task = asyncio.create_task(seed(store, b"a"))
        await gate.waiting(1)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.get([b"a"])
        assert not closing.done()
    await asyncio.gather(task, closing)
    assert await gate.connection.fetchval("SELECT count(*) FROM entry") == 1
    with pytest.raises(StoreUnavailable, match="closed"):
        await seed(store, b"b")


async def test_a_connection_cut_in_a_commit(store: MetadataStore, gate: Gate) -> None:
    await seed(store, b"a")
    async with gate.shut():
        tasks = [asyncio.create_task(seed(store, b"%d" % number)) for number in range(2)]
        for pid in await gate.waiting(2):
            await gate.connection.execute("SELECT pg_terminate_backend($1)", pid)
        outcome = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in outcome] == [StoreUnavailable] * 2
    await seed(store, b"b")
    assert await keys(store) == [b"a", b"b"]
    await gate.settled()


async def test_a_commit_that_takes_too_long_gives_way(
    url: str, gate: Gate, open_postgres: OpenPostgres
) -> None:
    """Nobody waits for it any longer, so the server ends it, and the next has its turn."""
    hasty = await open_postgres(url, seconds=1)
    async with gate.shut():
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            await seed(hasty, b"a")
        await gate.waiting(0)
    await seed(hasty, b"b")
    assert await keys(hasty) == [b"b"]


async def test_a_full_disk_is_told_and_loses_nothing(store: MetadataStore, gate: Gate) -> None:
    """No disk is filled here: what the server says then is said by a trigger."""
    await seed(store, b"a")
    await gate.connection.execute(FULL)
    with pytest.raises(StoreFull, match="no room"):
        await seed(store, b"b")
    await gate.connection.execute("DROP TRIGGER full_disk ON entry")
    await seed(store, b"c")
    assert await keys(store) == [b"a", b"c"]


async def test_everything_goes_by_the_primary_key(
    url: str, store: MetadataStore, gate: Gate, open_postgres: OpenPostgres
) -> None:
    """Whatever the statistics say: they would have a small table read whole."""
    names = [b"%03d" % number for number in range(300)]
    await seed(store, *names)
    await gate.connection.execute("ANALYZE entry")
    await store.close()
    before = await gate.scans_of_the_whole_table()
    store = await open_postgres(url)
    found = await store.get(names[:200])
    assert len(await keys(store, b"0", b"1", reverse=True)) == 100
    checks = [Unchanged(key, found[key].version) for key in names[:200]]
    assert await lands(store, [*checks, Empty(b"x")], [Delete(key) for key in names[:150]])
    await store.close()
    assert await gate.scans_of_the_whole_table() == before
