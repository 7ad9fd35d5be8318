"""Snapshots on their interval, whoever of the replicas writes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from datetime import timedelta

import pytest

from ociappr.blobstore import Snapshots, UploadId, snapshot_name
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.config import Config, load
from ociappr.metadata.memory import MemoryMetadata
from ociappr.moving import Stores
from ociappr.moving.backup import Backup
from ociappr.schedule import upkeep
from ociappr.schedule.backups import Timetable
from ociappr.telemetry import Metrics
from tests.core.world import World, chunks

DAY = timedelta(days=1)


async def timetable(world: World, keep: int = 3) -> Timetable:
    registry = await world.registry()
    backup = Backup(world.metadata, registry.sessions, grace=DAY, now=world.clock)
    assert isinstance(world.store, Snapshots)
    return Timetable(backup, world.store, registry.leases, DAY, keep, world.clock)


async def test_one_each_interval() -> None:
    world = World(MemoryMetadata(), MemoryBlobs())
    plan, rival = await timetable(world), await timetable(world)
    assert await plan.step() == timedelta(hours=1)
    assert await rival.step() == timedelta(hours=1)
    world.clock.advance(DAY - timedelta(minutes=10))
    assert await rival.step() == timedelta(minutes=10)
    assert len(await plan.shelf.snapshots()) == 1
    world.clock.advance(timedelta(minutes=10))
    await rival.step()
    assert len(await plan.shelf.snapshots()) == 2
    await plan.step()
    assert len(await plan.shelf.snapshots()) == 2


class Interrupted(MemoryBlobs):
    """A store in which something happens *meanwhile*, each time a snapshot begins to be kept."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._meanwhile = meanwhile
        self.count = 0

    async def put_snapshot(
        self, upload: UploadId, name: str, chunks_: AsyncIterable[bytes], /
    ) -> int:
        self.count += 1
        await self._meanwhile()
        return await super().put_snapshot(upload, name, chunks_)


async def test_of_two_replicas_that_find_one_due_together_one_writes() -> None:
    async def meanwhile() -> None:
        assert not await store.snapshots()
        assert await rival.step() == timedelta(hours=1)

    store = Interrupted(meanwhile)
    world = World(MemoryMetadata(), store)
    plan, rival = await timetable(world), await timetable(world)
    await plan.step()
    assert store.count == 1
    assert len(await store.snapshots()) == 1


async def test_another_replica_writes_when_the_first_fails() -> None:
    async def meanwhile() -> None:
        if store.count == 1:
            raise OSError("boom")

    store = Interrupted(meanwhile)
    world = World(MemoryMetadata(), store)
    plan, rival = await timetable(world), await timetable(world)
    with pytest.raises(OSError, match="boom"):
        await plan.step()
    world.clock.advance(await rival.step())
    assert not await store.snapshots()
    await rival.step()
    assert len(await store.snapshots()) == 1


async def test_only_the_newest_are_kept() -> None:
    world = World(MemoryMetadata(), MemoryBlobs())
    plan = await timetable(world)
    names = []
    for _ in range(5):
        await plan.step()
        names.append((await plan.shelf.snapshots())[-1][0])
        world.clock.advance(DAY)
    assert [name for name, _ in await plan.shelf.snapshots()] == names[2:]


async def test_a_snapshot_that_is_not_of_one_piece_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(MemoryMetadata(), MemoryBlobs())
    registry = await world.registry()
    moments = iter([world.clock.moment + DAY * day for day in range(100)])
    slow = Backup(world.metadata, registry.sessions, grace=DAY, now=lambda: next(moments))
    assert isinstance(world.store, Snapshots)
    await Timetable(slow, world.store, registry.leases, DAY, 3, world.clock).step()
    assert "it took longer than collector.grace" in caplog.text


class Asked(MemoryBlobs):
    """A store that takes the second snapshot that it is asked to keep, and tells."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.done = asyncio.Event()

    async def put_snapshot(
        self, upload: UploadId, name: str, chunks_: AsyncIterable[bytes], /
    ) -> int:
        self.count += 1
        if self.count == 1:
            raise OSError("boom")
        size = await super().put_snapshot(upload, name, chunks_)
        self.done.set()
        return size


async def test_a_server_writes_them_whatever_fails(caplog: pytest.LogCaptureFixture) -> None:
    config = load(flags={"backup.interval": "1ms"}).config
    store = Asked()
    world = World(MemoryMetadata(), store)
    stores, registry = Stores(world.metadata, store, 0), await world.registry()
    async with upkeep(config, stores, registry, metrics=Metrics(), worker=0):
        await store.done.wait()
    assert len(await store.snapshots()) == 1
    assert caplog.text.count("no snapshot could be written; it tries again") == 1


@pytest.mark.parametrize(("interval", "worker"), [("0ms", 0), ("1d", 1)])
async def test_a_server_that_writes_none(interval: str, worker: int) -> None:
    """Neither with an interval of nothing, nor in any but the first worker."""
    config = load(flags={"backup.interval": interval}).config
    world = World(MemoryMetadata(), MemoryBlobs())
    stores, registry = Stores(world.metadata, world.store, 0), await world.registry()
    async with upkeep(config, stores, registry, metrics=Metrics(), worker=worker):
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "backup"]


async def test_a_store_without_snapshots_is_told(caplog: pytest.LogCaptureFixture) -> None:
    world = World(MemoryMetadata(), MemoryBlobs())
    stores = Stores(world.metadata, object(), 0)  # type: ignore[arg-type]
    registry = await world.registry()
    async with upkeep(Config(), stores, registry, metrics=Metrics(), worker=0):
        pass
    assert "this blob store keeps no snapshots: use `ociappr backup --to`" in caplog.text


async def test_a_name_tells_its_time() -> None:
    world = World(MemoryMetadata(), MemoryBlobs())
    plan = await timetable(world)
    later = snapshot_name(world.clock.moment + DAY)
    await plan.shelf.put_snapshot(UploadId("u"), later, chunks(b""))
    assert await plan.step() == timedelta(hours=1)
    assert [name for name, _ in await plan.shelf.snapshots()] == [later]
