"""A registry moves between stores, and both doors show the same before and after."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import pytest

from ociappr.blobstore.memory import MemoryBlobs
from ociappr.digest import Digest
from ociappr.errors import ManifestUnknown, StoreUnavailable
from ociappr.metadata import Entry, Put, scan_all
from ociappr.metadata.memory import MemoryMetadata
from ociappr.moving import Stores, kinds
from ociappr.moving.claim import Claim
from ociappr.moving.migrate import Migrated, Migration
from ociappr.names import Reference, Tag
from ociappr.registry import Sparse, keys
from ociappr.registry.records import BlobRecord, decode, encode
from ociappr.registry.schema import identity
from tests.core.conftest import NewWorld
from tests.core.stage import Call, Crash, DirectedBlobs, DirectedMetadata, Scenes
from tests.core.world import MIDDLE, SMALL, A, World, chunks, content, push_blob, tagged
from tests.moving.house import CHUNKED, LAYERS, furnish, push_more
from tests.moving.picture import picture


def stores(world: World, inline: int = 16 * 1024) -> Stores:
    return Stores(world.metadata, world.store, inline)


def empty(source: World) -> World:
    """Return an empty world with the same clock."""
    return World(MemoryMetadata(), MemoryBlobs(), source.clock, source.settings)


async def migrate(source: World, target: World, *, inline: int = 16 * 1024) -> Migrated:
    migration = Migration(
        stores(source), stores(target, inline), sparse=Sparse.INDEXES, now=source.clock
    )
    return await migration.run()


async def assert_moved(source: World, target: World) -> None:
    """Assert that the target shows the same and is sound, also when housekeeping is done."""
    shown = await picture(source)
    assert await picture(target) == shown
    assert [one async for one in (await target.registry()).fsck.run()] == []
    await source.settle()
    await target.settle()
    assert await picture(target) == await picture(source)
    assert await target.faults() == []


@pytest.mark.parametrize("inline", [0, 16 * 1024, 256 * 1024])
async def test_into_memory(world: World, inline: int) -> None:
    await furnish(world)
    target = empty(world)
    done = await migrate(world, target, inline=inline)
    assert done.complete
    assert done.findings == []
    records = [decode(BlobRecord, entry.value) for entry in await target.entries("b")]
    assert {bool(one.parts) for one in records if one.size > inline} == {True}
    assert not any(one.parts for one in records if one.size <= inline)
    await assert_moved(world, target)


@pytest.mark.slow
async def test_onto_files(memory: World, file_worlds: NewWorld) -> None:
    await furnish(memory)
    async with file_worlds() as target:
        target.clock = memory.clock
        assert (await migrate(memory, target)).complete
        await assert_moved(memory, target)


async def test_only_the_metadata(world: World) -> None:
    """The blobs stay where they are, for a source that is not opened again."""
    await furnish(world)
    target = World(MemoryMetadata(), world.store, world.clock, world.settings)
    objects = await world.objects()
    done = await migrate(world, target, inline=0)
    assert done.complete
    assert done.progress.copied_bytes < MIDDLE  # the inline ones
    assert await world.objects() == objects
    shown = await picture(world)
    assert await picture(target) == shown
    await target.settle()
    assert await target.faults() == []


async def test_while_the_source_is_written(world: World) -> None:
    """Pushes, deletions and the collector come between any two steps of the first pass."""
    registry = await furnish(world)
    scenes = Scenes()
    target = empty(world)

    async def interfere(_: Call) -> None:
        await push_more(registry, 1)
        doomed = await push_more(registry, 2)
        await registry.manifests.delete(A, doomed)
        with suppress(ManifestUnknown):
            await registry.manifests.delete(A, await tagged(registry, "index"))
        await registry.collector.run()
        await push_blob(registry, content(SMALL, "late"))

    for kind in "bmt":
        scenes.before_next("scan", kind, interfere)
    directed = World(
        DirectedMetadata(world.metadata, scenes), world.store, world.clock, world.settings
    )
    done = await migrate(directed, target)
    assert scenes.played
    assert done.complete
    await assert_moved(world, target)


@pytest.mark.parametrize("kind", ["b", "m", "t", "e"])
async def test_a_source_that_changes_in_every_pass(memory: World, kind: str) -> None:
    """A tag that is put behind the place where a pass is does not escape the next one."""
    registry = await furnish(memory)
    target, scenes, count = empty(memory), Scenes(), 0
    subject = await registry.manifests.get(Reference(A, Tag("subject")))

    async def put_tag(_: Call) -> None:
        nonlocal count
        count += 1
        reference = Reference(A, Tag(f"early-{count}"))
        await registry.manifests.put(reference, subject.media_type, subject.raw)
        if count < 6:
            scenes.after_next("scan", kind, put_tag)

    scenes.after_next("scan", kind, put_tag)
    directed = World(
        DirectedMetadata(memory.metadata, scenes), memory.store, memory.clock, memory.settings
    )
    assert (await migrate(directed, target)).complete
    assert count == 6
    await assert_moved(memory, target)


async def test_a_source_that_never_rests(memory: World) -> None:
    """It is told, and nothing can open the target, until a run comes to an end."""
    registry = await furnish(memory)
    target, scenes, count = empty(memory), Scenes(), 0

    async def push(_: Call) -> None:
        nonlocal count
        count += 1
        scenes.after_next("scan", "b", push)
        await push_more(registry, count)

    scenes.after_next("scan", "b", push)
    directed = World(
        DirectedMetadata(memory.metadata, scenes), memory.store, memory.clock, memory.settings
    )
    assert not (await migrate(directed, target)).complete
    with pytest.raises(StoreUnavailable, match="not whole"):
        await target.registry()
    assert (await migrate(memory, target)).complete
    await assert_moved(memory, target)


async def test_condemned_blobs_stay_behind(world: World) -> None:
    """Revived, they come with the next run; the bytes that are there are not sent again."""
    registry, target = await furnish(world), empty(world)
    garbage = content(MIDDLE, "without a manifest")
    await migrate(world, target)
    await world.collect()
    assert (await migrate(world, target)).complete
    assert await target.blob(Digest.of(garbage)) is None
    links = [entry.key for entry in await target.entries("l")]
    assert not [key for key in links if str(Digest.of(garbage)).encode() in key]
    await push_blob(registry, garbage)
    done = await migrate(world, target)
    assert (done.complete, done.progress.copied_bytes) == (True, len(garbage))
    await target.settle()
    assert await target.faults() == []


async def test_a_record_that_changed_moves_without_its_bytes(memory: World) -> None:
    await furnish(memory)
    target = empty(memory)
    await migrate(memory, target)
    digest = Digest.of(LAYERS[1])
    record = await memory.blob(digest)
    assert record is not None
    changed = msgspec.structs.replace(record, since="2031-01-01T00:00:00.000000Z")
    await memory.metadata.commit([], [Put(keys.blob(digest), encode(changed))])
    done = await migrate(memory, target)
    assert (done.progress.blobs, done.progress.copied_bytes) == (1, 0)
    moved = await target.blob(digest)
    assert moved is not None
    assert moved.since == changed.since
    await assert_moved(memory, target)


async def test_again_takes_what_came_meanwhile(world: World) -> None:
    registry, target = await furnish(world), empty(world)
    first = await migrate(world, target)
    await push_more(registry, 1)
    await registry.manifests.delete(A, await tagged(registry, "index"))
    second = await migrate(world, target)
    assert second.complete
    assert second.progress.blobs == 2  # the layer and the manifest: nothing was copied again
    assert first.progress.blobs > 10
    await assert_moved(world, target)


async def test_a_crash_at_any_step(memory: World) -> None:
    """Run again, it goes on where it was: the bytes of a blob that is there are not sent again."""
    await furnish(memory)
    shown = await picture(memory)
    for step in range(0, 10_000, 11):
        target, crash = empty(memory), Crash(step)
        directed = World(
            DirectedMetadata(target.metadata, crash),
            DirectedBlobs(target.store, crash),
            memory.clock,
            memory.settings,
        )
        running = asyncio.create_task(migrate(memory, directed))
        stopped = asyncio.create_task(crash.happened.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        had = len(await target.entries("b"))
        done = await migrate(memory, target)
        assert done.complete
        assert done.progress.blobs + had == len(await target.entries("b"))
        assert await picture(target) == shown
        is_over = running.done()
        for task in (running, stopped):
            task.cancel()
        await asyncio.wait([running, stopped])
        if is_over:
            await target.settle()
            assert await target.faults() == []
            return
        await target.collect(1, aged=False)
        assert await picture(target) == shown
        assert not [one async for one in (await target.registry()).fsck.run()]
    raise AssertionError("the migration did not end")


@pytest.mark.parametrize("kind", ["b", "t"])
async def test_only_the_run_that_began_last_writes(memory: World, kind: str) -> None:
    await furnish(memory)
    target, scenes, had = empty(memory), Scenes(), list[Entry]()

    async def overtake(_: Call) -> None:
        registry = await identity(memory.metadata)
        await Claim.take(target.metadata, by="migrate", source=registry)
        had.extend(await target.entries("bt"))

    scenes.before_next("commit", kind, overtake)
    directed = World(
        DirectedMetadata(target.metadata, scenes), target.store, memory.clock, memory.settings
    )
    with pytest.raises(StoreUnavailable, match="has taken these metadata over"):
        await migrate(memory, directed)
    assert await target.entries("bt") == had
    assert (await migrate(memory, target)).complete
    await assert_moved(memory, target)


async def test_what_is_not_whole_is_not_opened(memory: World) -> None:
    await furnish(memory)
    target, scenes = empty(memory), Scenes()

    async def fail(_: Call) -> None:
        raise StoreUnavailable("cut")

    scenes.before_next("commit", "t", fail)
    directed = World(
        DirectedMetadata(target.metadata, scenes), target.store, memory.clock, memory.settings
    )
    with pytest.raises(StoreUnavailable, match="cut"):
        await migrate(memory, directed)
    with pytest.raises(StoreUnavailable, match="these metadata are not whole"):
        await target.registry()
    assert (await migrate(memory, target)).complete
    await assert_moved(memory, target)


async def test_a_target_in_use_is_refused(memory: World) -> None:
    await furnish(memory)
    target = empty(memory)
    await migrate(memory, target)
    await push_more(await target.registry(), 1)
    shown = await picture(target)
    with pytest.raises(StoreUnavailable, match="hold a registry already"):
        await migrate(memory, World(target.metadata, MemoryBlobs(), memory.clock))
    with pytest.raises(StoreUnavailable, match="storage holds objects already"):
        await migrate(memory, World(MemoryMetadata(), target.store, memory.clock))
    assert await picture(target) == shown


async def test_a_target_of_another_registry_is_refused(memory: World) -> None:
    await furnish(memory)
    target, other = empty(memory), empty(memory)
    await migrate(memory, target)
    await furnish(other)
    with pytest.raises(StoreUnavailable, match="are being filled from"):
        await migrate(other, target)


@pytest.mark.parametrize("state", ["gone", "damaged"])
async def test_what_the_source_has_lost_is_told(world: World, state: str) -> None:
    """Everything else is copied; the tags that are broken are named."""
    await furnish(world)
    digest = Digest.of(LAYERS[1])
    record = await world.blob(digest)
    assert record is not None
    if state == "gone":
        await world.store.delete(record.parts[0][0])
    else:
        other = await world.blob(Digest.of(CHUNKED))
        assert other is not None
        wrong = msgspec.structs.replace(record, parts=other.parts)
        await world.metadata.commit([], [Put(keys.blob(digest), encode(wrong))])
    target = empty(world)
    done = await migrate(world, target)
    assert done.complete
    assert [(one.code, one.about, one.breaks) for one in done.findings] == [
        (f"blob-{state}", str(digest), ("deep/er/repository:deep", f"{A}:image", f"{A}:index"))
    ]
    assert (await target.blob(digest)) is None
    assert len(await target.entries("b")) == len(await world.entries("b")) - 1


async def test_every_kind_of_key_is_accounted_for() -> None:
    """Whoever adds a kind says whether it moves."""
    listed = {
        line.split()[0] for line in (keys.__doc__ or "").splitlines() if line.startswith("    ")
    }
    known = kinds.BLOBS + kinds.CONTENT + kinds.LOOSE + kinds.JOURNAL + kinds.LEFT
    assert listed <= set(known)
    assert len(known) == len(set(known))


async def test_sessions_stay_behind(memory: World) -> None:
    registry = await furnish(memory)
    id_ = (await registry.uploads.begin(A)).id
    await registry.uploads.append(A, id_, chunks(content(MIDDLE)))
    target = empty(memory)
    await migrate(memory, target)
    assert not [entry async for entry in scan_all(target.metadata, keys.kind("u"))]
    await assert_moved(memory, target)
