"""Snapshots are taken while the registry is in use, and bring it back when metadata are lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ociappr.blobstore import Part, Snapshots, UploadId, is_snapshot_name
from ociappr.digest import Digest
from ociappr.errors import StoreUnavailable
from ociappr.metadata.memory import MemoryMetadata
from ociappr.moving import Stores, kinds
from ociappr.moving.adopting import Adopted
from ociappr.moving.backup import Backed, Backup, trim
from ociappr.moving.restore import Restore, Restored
from ociappr.moving.snapshot import Again, Damaged, End, Frame, Header, Packer, Record, unpack
from ociappr.names import Tag
from ociappr.registry import Registry, Sparse
from ociappr.registry.records import BlobState
from tests.core.stage import Call, Crash, DirectedBlobs, DirectedMetadata, Scenes
from tests.core.world import (
    MIDDLE,
    SMALL,
    A,
    World,
    chunks,
    content,
    push_blob,
    push_manifest,
    tagged,
)
from tests.http.client import image
from tests.moving.house import LAYERS, NESTED, furnish, push_more
from tests.moving.picture import picture


def shelf(world: World) -> Snapshots:
    assert isinstance(world.store, Snapshots)
    return world.store


async def back_up(world: World, registry: Registry) -> Backed:
    grace = world.settings.grace
    backup = Backup(world.metadata, registry.sessions, grace=grace, now=world.clock)
    return await backup.run(shelf(world))


async def restore(world: World, name: str = "") -> Restored:
    stores = Stores(world.metadata, world.store, 16 * 1024)
    bringing = Restore(stores, shelf(world), sparse=Sparse.INDEXES, now=world.clock)
    return await bringing.run(name)


def lost(world: World) -> World:
    """Return what is left of a world whose metadata are lost."""
    return World(MemoryMetadata(), world.store, world.clock, world.settings)


async def assert_sound(world: World) -> None:
    """Assert that nothing is wrong, also when garbage was collected."""
    shown = await picture(world)
    assert [one async for one in (await world.registry()).fsck.run()] == []
    await world.settle()
    assert await world.faults() == []
    for name in shown["catalog"]:
        for part in ("tags", "manifests", "package"):
            assert (await picture(world))[name][part] == shown[name][part]


async def test_there_and_back(world: World) -> None:
    registry = await furnish(world)
    shown = await picture(world)
    backed = await back_up(world, registry)
    for letter in backed.counts:
        assert letter not in kinds.DERIVED
        assert backed.counts[letter] == len(await world.entries(letter))
    assert set(backed.counts) == set("rtmlbie")
    assert not backed.slow
    assert backed.unsettled == ()
    after = lost(world)
    done = await restore(after)
    assert done.findings == []
    assert (done.snapshot, done.counts) == (backed.name, backed.counts)
    assert done.adopted == Adopted()
    assert await picture(after) == shown
    for letter in "opfa":
        before = {(one.key, one.value) for one in await world.entries(letter)}
        assert {(one.key, one.value) for one in await after.entries(letter)} == before
    await after.settle()
    assert await after.faults() == []


async def test_lost_metadata_are_noticed(world: World) -> None:
    """Else a server would begin an empty registry, whose sweeper takes all the blobs."""
    await back_up(world, await furnish(world))
    objects = await world.objects()
    with pytest.raises(StoreUnavailable, match="there are blobs, but the metadata are empty"):
        await lost(world).registry()
    assert await world.objects() == objects


async def test_what_came_after_the_snapshot(world: World) -> None:
    """Bytes that were promoted are adopted, and wait a while to be pushed again."""
    registry = await furnish(world)
    shown = await picture(world)
    await back_up(world, registry)
    newer = content(MIDDLE, "more 1")
    await push_more(registry, 1)
    await registry.uploads.append(
        A, (await registry.uploads.begin(A)).id, chunks(content(MIDDLE, "staged"))
    )
    after = lost(world)
    done = await restore(after)
    assert done.findings == []
    assert done.adopted == Adopted(blobs=1, size=len(newer), staged=1)
    assert await picture(after) == shown
    await after.collect(1, aged=False)
    assert await after.blob(Digest.of(newer)) is not None
    again = await after.registry()
    await push_more(again, 1)
    assert await tagged(again, "more-1")
    await assert_sound(after)


async def test_promoted_after_the_snapshot(world: World) -> None:
    """A blob that was moved since is found again by its digest."""
    registry = await furnish(world)
    await back_up(world, registry)
    await world.collect(2)
    shown = await picture(world)
    after = lost(world)
    done = await restore(after)
    assert done.adopted == Adopted(again=1)
    assert done.findings == []
    assert {name: one for name, one in (await picture(after)).items() if "/" not in name} == {
        name: one for name, one in shown.items() if "/" not in name
    }
    await after.settle()
    assert await after.faults() == []


async def test_deleted_after_the_snapshot(world: World) -> None:
    """For two graces everything comes back; what is unlinked then is told with its tags."""
    registry = await furnish(world)
    await push_more(registry, 1)
    shown = await picture(world)
    await back_up(world, registry)
    layer = Digest.of(content(MIDDLE, "more 1"))
    await registry.manifests.delete(A, await tagged(registry, "more-1"))
    await world.collect(2)
    first = lost(world)
    assert (await restore(first)).findings == []
    assert (await picture(first))[str(A)]["tags"] == shown[str(A)]["tags"]
    await world.collect(2)
    second = lost(world)
    done = await restore(second)
    assert [(one.code, one.about, one.breaks) for one in done.findings] == [
        ("blob-gone", str(layer), (f"{A}:more-1",))
    ]


async def test_a_lost_blob_is_told_with_its_tags(world: World) -> None:
    await back_up(world, await furnish(world))
    digest = Digest.of(LAYERS[1])
    record = await world.blob(digest)
    assert record is not None
    await world.store.delete(record.parts[0][0])
    done = await restore(lost(world))
    breaks = ("deep/er/repository:deep", f"{A}:image", f"{A}:index")
    assert [(one.code, one.about, one.breaks) for one in done.findings] == [
        ("blob-gone", str(digest), breaks)
    ]


async def test_an_object_that_lies_is_not_adopted(world: World) -> None:
    await back_up(world, await furnish(world))
    right, wrong = content(MIDDLE, "right"), content(MIDDLE, "wrong")
    staged, length = await world.store.stage(UploadId("u"), chunks(wrong))
    part = Part(staged, length, closed=True)
    lying = await world.store.promote(UploadId("u"), [part], Digest.of(right))
    after = lost(world)
    done = await restore(after)
    assert [(one.code, one.about) for one in done.findings] == [("object-damaged", lying)]
    assert await after.blob(Digest.of(right)) is None


async def test_condemned_blobs_get_their_grace_again(world: World) -> None:
    registry = await furnish(world)
    digest = await push_blob(registry, content(MIDDLE, "garbage"))
    await world.collect()
    await back_up(world, registry)
    world.clock.advance(world.settings.grace * 10)
    after = lost(world)
    assert (await restore(after)).findings == []
    await after.collect(1, aged=False)
    record = await after.blob(digest)
    assert record is not None
    assert record.state is BlobState.CONDEMNED


# -- which snapshot ------------------------------------------------------------------------------


async def snapshot_bytes(world: World, name: str) -> bytes:
    async with shelf(world).read_snapshot(name) as blocks:
        return b"".join([block async for block in blocks])


async def test_the_newest_that_is_whole(world: World) -> None:
    registry = await furnish(world)
    shown = await picture(world)
    older = await back_up(world, registry)
    world.clock.advance(timedelta(hours=1))
    await push_more(registry, 1)
    newer = await back_up(world, registry)
    whole = await snapshot_bytes(world, newer.name)
    await shelf(world).put_snapshot(UploadId("u"), newer.name, chunks(whole[:-9]))
    after = lost(world)
    done = await restore(after)
    assert done.snapshot == older.name
    assert done.damaged == ((newer.name, "it ends too early"),)
    assert await picture(after) == shown
    with pytest.raises(StoreUnavailable, match=r"no snapshot can be restored: .*ends too early"):
        await restore(lost(world), newer.name)
    await shelf(world).put_snapshot(UploadId("u"), newer.name, chunks(whole))
    assert (await restore(lost(world))).snapshot == newer.name
    assert (await restore(lost(world), older.name)).snapshot == older.name


@pytest.mark.parametrize("name", ["", "20300101T000000Z-00000000.gz", "../metadata.db"])
async def test_there_is_none(world: World, name: str) -> None:
    await furnish(world)
    with pytest.raises(StoreUnavailable, match=r"no snapshot|there is no snapshot"):
        await restore(lost(world), name)


async def test_metadata_in_use_are_refused(world: World) -> None:
    await back_up(world, await furnish(world))
    shown = await picture(world)
    with pytest.raises(StoreUnavailable, match="hold a registry already"):
        await restore(world)
    assert await picture(world) == shown


async def test_old_ones_go(world: World) -> None:
    registry = await furnish(world)
    names = []
    for _ in range(5):
        world.clock.advance(timedelta(days=1))
        names.append((await back_up(world, registry)).name)
    assert await trim(shelf(world), 3) == 2
    assert [name for name, _ in await shelf(world).snapshots()] == names[2:]
    assert all(is_snapshot_name(name) for name in names)


# -- in use --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["x", "r", "t", "m", "l", "b", "e"])
async def test_a_snapshot_of_a_registry_in_use(memory: World, kind: str) -> None:
    """Whatever happens at whatever moment: what a tag names comes back, whole."""
    registry = await furnish(memory)
    await push_more(registry, 1)
    moved = await tagged(registry, "more-1")
    scenes = Scenes()

    async def interfere(_: Call) -> None:
        layer = content(MIDDLE, "moved")
        await push_blob(registry, layer)
        await push_manifest(registry, image(layer), "more-1", "fresh")  # the tag moves on,
        await registry.manifests.delete(A, moved)  # and what it named is deleted
        await push_more(registry, 2)
        await registry.tags.delete(A, Tag("subject"))
        await registry.collector.run()

    scenes.after_next("scan", kind, interfere)
    directed = World(
        DirectedMetadata(memory.metadata, scenes), memory.store, memory.clock, memory.settings
    )
    backed = await back_up(directed, registry)
    assert scenes.played
    assert backed.unsettled == ()
    after = lost(memory)
    done = await restore(after)
    assert done.findings == []
    tags = (await picture(after))[str(A)]["tags"]
    before = {"image", "index", "more-1", "subject"}
    assert set(tags) in (before, before - {"subject"} | {"more-2", "fresh"})
    await assert_sound(after)


async def test_a_repository_that_never_rests(memory: World) -> None:
    """It is told; a tag whose manifest the snapshot missed is left out, and told when restored."""
    registry = await furnish(memory)
    scenes, count = Scenes(), 0

    async def interfere(_: Call) -> None:
        nonlocal count
        count += 1
        scenes.after_next("scan", "t", interfere, about=f"t {NESTED} ")
        doomed = await tagged(registry, "deep", NESTED)
        raw = image(LAYERS[1], annotations={"number": str(count)})
        await push_manifest(registry, raw, "deep", repository=NESTED)
        await registry.manifests.delete(NESTED, doomed)

    scenes.after_next("scan", "t", interfere)
    directed = World(
        DirectedMetadata(memory.metadata, scenes), memory.store, memory.clock, memory.settings
    )
    backed = await back_up(directed, registry)
    assert backed.unsettled == (str(NESTED),)
    after = lost(memory)
    done = await restore(after)
    assert done.unsettled == (str(NESTED),)
    assert [(one.code, one.about) for one in done.findings] == [("tag-dropped", f"{NESTED}:deep")]
    assert (await tagged(await after.registry(), "image")) == await tagged(registry, "image")
    await assert_sound(after)


async def test_a_crash_while_backing_up(world: World) -> None:
    """No half of a snapshot is ever listed, and nothing is left over."""
    registry = await furnish(world)
    for step in range(1, 1_000, 3):
        crash = Crash(step)
        directed = World(
            DirectedMetadata(world.metadata, crash), world.store, world.clock, world.settings
        )
        running = asyncio.create_task(back_up(directed, registry))
        stopped = asyncio.create_task(crash.happened.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        is_over = running.done()
        for task in (running, stopped):
            task.cancel()
        await asyncio.wait([running, stopped])
        if is_over:
            break
    for name, _ in await shelf(world).snapshots():
        assert (await restore(lost(world), name)).findings == []
    await world.settle()
    assert await world.faults() == []


async def test_a_crash_while_restoring(memory: World) -> None:
    """What is half restored is not opened; run again, it begins anew."""
    registry = await furnish(memory)
    shown = await picture(memory)
    await back_up(memory, registry)
    for step in range(3, 10_000, 17):
        after, crash = lost(memory), Crash(step)
        directed = World(
            DirectedMetadata(after.metadata, crash),
            DirectedBlobs(after.store, crash),
            memory.clock,
            memory.settings,
        )
        running = asyncio.create_task(restore(directed))
        stopped = asyncio.create_task(crash.happened.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        is_over = running.done()
        for task in (running, stopped):
            task.cancel()
        await asyncio.wait([running, stopped])
        if is_over:
            return
        if await after.entries("rtmlb"):
            with pytest.raises(StoreUnavailable, match="not whole"):
                await after.registry()
        assert (await restore(after)).findings == []
        assert await picture(after) == shown
    raise AssertionError("the restoration did not end")


async def test_another_snapshot_than_the_run_before(memory: World) -> None:
    """What a run that broke off has filled in does not mix with what the next one brings."""
    registry = await furnish(memory)
    older = await back_up(memory, registry)
    memory.clock.advance(timedelta(days=1))
    await registry.manifests.delete(A, await tagged(registry, "index"))
    await back_up(memory, registry)
    shown = await picture(memory)
    after, scenes = lost(memory), Scenes()

    async def fail(_: Call) -> None:
        raise StoreUnavailable("cut")

    scenes.before_next("commit", "h", fail)
    directed = World(
        DirectedMetadata(after.metadata, scenes), after.store, memory.clock, memory.settings
    )
    with pytest.raises(StoreUnavailable, match="cut"):
        await restore(directed, older.name)
    assert (await restore(after)).findings == []
    assert await picture(after) == shown


# -- the format ----------------------------------------------------------------------------------

HEADER = Header(1, "registry", "2030-01-01T00:00:00.000000Z")
FRAMES: list[Frame] = [HEADER, Record(b"t\0a\0b", b"value"), Again("a"), Record(b"r\0a", b"")]


async def packed(*frames: Frame) -> bytes:
    packer = Packer()
    return await packer.pack(*frames) + await packer.end(("a/b",))


async def unpacked(*pieces: bytes) -> list[Frame]:
    return [frame async for frame in unpack(chunks(*pieces))]


async def test_frames_come_back() -> None:
    *frames, end = await unpacked(await packed(*FRAMES))
    assert frames == FRAMES
    assert isinstance(end, End)
    assert (end.counts, end.unsettled) == ({"t": 1, "r": 1}, ("a/b",))


async def test_every_truncation_is_noticed() -> None:
    data = await packed(*FRAMES)
    for stop in range(len(data)):
        with pytest.raises(Damaged):
            await unpacked(data[:stop])


async def test_every_flipped_byte_is_noticed() -> None:
    data = await packed(*FRAMES)
    for place in range(10, len(data)):  # before it gzip's own header, which says nothing
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(Damaged):
            await unpacked(bytes(damaged))


@pytest.mark.parametrize(
    "frames",
    [[], [Record(b"t", b"")], [HEADER, HEADER], [HEADER, End({}, "0" * 64)]],
    ids=["nothing", "no header", "two headers", "two ends"],
)
async def test_what_is_no_snapshot(frames: list[Frame]) -> None:
    with pytest.raises(Damaged):
        await unpacked(await packed(*frames))


async def test_a_false_sum() -> None:
    """Where gzip's own checksum is right, as in a snapshot that was put together anew."""
    packer = Packer()
    data = await packer.pack(HEADER, End({}, "0" * 64)) + packer._zlib.flush()
    with pytest.raises(Damaged, match="its sum is not that of its content"):
        await unpacked(data)


async def test_something_behind_the_end() -> None:
    data = await packed(*FRAMES)
    with pytest.raises(Damaged):
        await unpacked(data + data)


async def test_a_large_snapshot_comes_in_any_pieces() -> None:
    records = [Record(f"t\0{number}".encode(), content(SMALL * 50)) for number in range(200)]
    data = await packed(HEADER, *records)
    assert len(data) < 200 * SMALL * 5
    pieces = [data[start : start + 777] for start in range(0, len(data), 777)]
    assert (await unpacked(*pieces))[1:-1] == records


async def test_a_snapshot_of_a_newer_schema(memory: World) -> None:
    await furnish(memory)
    newer = await packed(Header(2, "registry", HEADER.created))
    name = "20300101T000000Z-00000000.gz"
    await shelf(memory).put_snapshot(UploadId("u"), name, chunks(newer))
    with pytest.raises(StoreUnavailable, match="have schema 2, this release knows 1"):
        await restore(lost(memory))
