"""The world stops at every step of every story: before and after each call to a store, each chunk.

Whatever was going on then neither returns nor cleans up. A registry over the same stores must find
everything that was acknowledged, nothing that is half there, and let the rest go in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

import pytest

from ociappr.descriptor import EMPTY_BYTES
from ociappr.digest import Digest
from ociappr.errors import ManifestUnknown
from ociappr.manifest import Manifest
from ociappr.names import PackageName, Reference, RepositoryName, Tag
from ociappr.registry import Registry, keys
from ociappr.registry.records import ManifestRecord, decode
from ociappr.registry.submissions import examine
from ociappr.releases import Release
from tests.core.stage import Crash, DirectedBlobs, DirectedMetadata
from tests.core.world import (
    LARGE,
    MIDDLE,
    SMALL,
    A,
    B,
    World,
    chunks,
    content,
    finish,
    push_all,
    push_blob,
    push_index,
    push_manifest,
    read,
    tagged,
    upload,
)
from tests.http.appr import tgz
from tests.http.client import image, index

pytestmark = pytest.mark.timeout(300)
_NEVER = 1_000_000
PACKAGE = PackageName("library", "package")


@dataclass(slots=True)
class Told:
    """What the clients of a story were told: this must be there, this must not."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    formats: list[str] = field(default_factory=list)
    gone: list[Digest] = field(default_factory=list)


NewWorld = Callable[[], AbstractAsyncContextManager[World]]
Story = Callable[[World, Registry, Told], Awaitable[None]]


async def small_push(_: World, registry: Registry, told: Told) -> None:
    for data in (EMPTY_BYTES, content(SMALL)):
        told.blobs[await push_blob(registry, data)] = data
    digest = await push_manifest(registry, image(content(SMALL)), "one", "two")
    told.tags |= {"one": digest, "two": digest}


async def large_push(_: World, registry: Registry, told: Told) -> None:
    for data in (EMPTY_BYTES, content(MIDDLE), content(LARGE)):
        told.blobs[await push_blob(registry, data)] = data
    raw = image(content(MIDDLE), content(LARGE), annotations={"large": "x" * MIDDLE})
    told.tags["one"] = await push_manifest(registry, raw, "one")


async def chunked_upload(_: World, registry: Registry, told: Told) -> None:
    pieces = [content(MIDDLE, "1"), content(LARGE, "2"), content(SMALL, "3")]
    data = b"".join(pieces)
    told.blobs[await finish(registry, await upload(registry, *pieces[:2]), data, pieces[2])] = data


async def one_chunk(_: World, registry: Registry, told: Told) -> None:
    data = content(MIDDLE)
    told.blobs[await finish(registry, await upload(registry, data), data)] = data


async def small_chunks(_: World, registry: Registry, told: Told) -> None:
    data = content(SMALL) * 2
    id_ = await upload(registry, data[:SMALL], data[SMALL:])
    told.blobs[await finish(registry, id_, data)] = data


async def many_chunks(world: World, registry: Registry, told: Told) -> None:
    """Enough of them for their parts to be joined; the first ones come without a crash."""
    pieces = [b"%4d" % number * 100 for number in range(64)]
    id_ = await upload(await world.registry(), *pieces)
    data = b"".join(pieces) + content(MIDDLE)
    await registry.uploads.append(A, id_, chunks(content(MIDDLE)))
    told.blobs[await finish(registry, id_, data)] = data


async def refused(_: World, registry: Registry, __: Told) -> None:
    """A wrong digest, a cancelled upload, an interrupted one that nobody goes on with."""
    id_ = await upload(registry, content(MIDDLE))
    with suppress(Exception):
        await registry.uploads.finish(A, id_, Digest.of(b"no"), chunks(content(SMALL)))
    with suppress(Exception):
        await registry.uploads.put(A, Digest.of(b"no"), chunks(content(LARGE)))
    await registry.uploads.cancel(A, await upload(registry, content(MIDDLE), content(SMALL)))
    await upload(registry, content(LARGE))


async def push_twice(_: World, registry: Registry, told: Told) -> None:
    """A second birth loses against the first."""
    data = content(LARGE)
    told.blobs[await push_blob(registry, data)] = data
    await push_blob(registry, data, B)
    await finish(registry, await upload(registry, data), data)


async def mount_and_index(_: World, registry: Registry, told: Told) -> None:
    for data in (EMPTY_BYTES, content(MIDDLE)):
        digest = await push_blob(registry, data, B)
        assert await registry.blobs.mount(A, digest, B, lambda _: True)
        told.blobs[digest] = data
    raw = image(content(MIDDLE))
    told.tags["image"] = await push_manifest(registry, raw, "image")
    told.tags["index"] = await push_index(registry, index(raw), "index")


async def manifest_deletion(_: World, registry: Registry, told: Told) -> None:
    await push_all(registry, [content(MIDDLE)])
    for number in range(2):
        raw = image(content(MIDDLE), annotations={"number": str(number)})
        digest = await push_manifest(registry, raw, f"{number}", f"{number}-again")
        told.tags[f"{number}"] = digest
    doomed = told.tags.pop("0")
    await registry.manifests.delete(A, doomed)
    told.gone.append(doomed)


async def publication(_: World, registry: Registry, told: Told) -> None:
    for format_, size in (("kpm", SMALL), ("helm", MIDDLE)):
        data = tgz({"file": content(size, format_)}, level=0)
        submission = examine(data, format_, limit=LARGE)
        await registry.publishing.push(PACKAGE, Release("1.0.0"), submission)
        told.formats.append(format_)
    await registry.channels.set(PACKAGE, "stable", "1.0.0")


async def collection(world: World, registry: Registry, told: Told) -> None:
    """Every step of the collector has something to do: condemn, forget, promote, bin, sweep."""
    for data in (content(SMALL, "old"), content(MIDDLE, "old")):
        await push_blob(registry, data)
    halves = content(MIDDLE, "halves")
    await finish(registry, await upload(registry, halves[:SMALL], halves[SMALL:]), halves)
    kept = content(LARGE, "kept")
    await push_all(registry, [])
    digest = await finish(registry, await upload(registry, kept[:SMALL], kept[SMALL:]), kept)
    told.tags["kept"] = await push_manifest(registry, image(kept), "kept")
    told.blobs[digest] = kept
    await upload(registry, content(MIDDLE, "abandoned"))
    for _ in range(4):
        world.clock.advance(world.settings.grace)
        await registry.collector.run()
        await push_blob(registry, content(SMALL, "old"))
    world.clock.advance(2 * world.settings.session_age)
    await registry.collector.run()


STORIES: list[Story] = [
    small_push,
    large_push,
    chunked_upload,
    one_chunk,
    small_chunks,
    many_chunks,
    refused,
    push_twice,
    mount_and_index,
    manifest_deletion,
    publication,
    collection,
]


class Counter(Crash):
    """Counts the steps and stops at none."""

    def __init__(self) -> None:
        super().__init__(_NEVER)

    @property
    def count(self) -> int:
        return _NEVER - self._left


def directed(world: World, crash: Crash) -> World:
    """Return the world as the story sees it that is to crash."""
    metadata = DirectedMetadata(world.metadata, crash)
    return World(metadata, DirectedBlobs(world.store, crash), world.clock, world.settings)


async def tell(world: World, story: Story, crash: Crash) -> None:
    """Tell *story* up to its end or its crash, and check what is there then."""
    told = Told()

    async def run() -> None:
        await story(world, await directed(world, crash).registry(), told)

    telling = asyncio.create_task(run())
    stopped = asyncio.create_task(crash.happened.wait())
    try:
        await asyncio.wait([telling, stopped], return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            telling.result()
        await judge(world, told)
    finally:
        for task in (telling, stopped):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def judge(world: World, told: Told) -> None:
    """Check all that was told, at once and when everything has settled."""
    registry = await world.registry()
    assert [finding async for finding in registry.fsck.run()] == []
    for digest, data in told.blobs.items():
        assert await read(registry, digest) == data
    await check(world, registry, told)
    await world.settle()
    await check(world, await world.registry(), told)
    assert await world.faults() == []


async def check(world: World, registry: Registry, told: Told) -> None:
    """Check tags, packages and that whatever manifest is there is there with all its blobs."""
    for name, digest in told.tags.items():
        assert await tagged(registry, name) == digest
    for digest in told.gone:
        with pytest.raises(ManifestUnknown):
            await registry.manifests.get(Reference(A, digest))
    for format_ in told.formats:
        package = await registry.packages.find(PACKAGE, "1.0.0", format_)
        archive = await registry.packages.archive(package)
        assert Digest.of(await read(registry, archive.digest, PACKAGE.repository)) == archive.digest
    for entry in await world.entries("m"):
        _, name, text = keys.parts(entry.key)
        await read_whole(registry, RepositoryName(name), Digest.parse(text), entry.value)
    for entry in await world.entries("t"):
        _, name, tag = keys.parts(entry.key)
        await registry.manifests.get(Reference(RepositoryName(name), Tag(tag)))


async def read_whole(
    registry: Registry, repository: RepositoryName, digest: Digest, value: bytes
) -> None:
    """Read a manifest and everything it names."""
    record = decode(ManifestRecord, value)
    manifest = Manifest.parse(await registry.manifests.raw(digest), record.media_type)
    for child in manifest.children:
        if manifest.is_index:
            await registry.manifests.record(repository, child.digest)
        else:
            assert Digest.of(await read(registry, child.digest, repository)) == child.digest


async def crash_everywhere(new_world: NewWorld, story: Story, *, stride: int) -> None:
    """Crash *story* at every *stride*-th step, each time in a new world."""
    counter = Counter()
    async with new_world() as world:
        await tell(world, story, counter)
    assert counter.count > 10
    for step in range(0, counter.count, stride):
        async with new_world() as world:
            crash = Crash(step)
            await tell(world, story, crash)
            assert crash.happened.is_set()


every_story = pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)


@every_story
async def test_a_crash_at_some_steps(memory_worlds: NewWorld, story: Story) -> None:
    await crash_everywhere(memory_worlds, story, stride=13)


@pytest.mark.slow
@every_story
async def test_a_crash_at_any_step(memory_worlds: NewWorld, story: Story) -> None:
    await crash_everywhere(memory_worlds, story, stride=1)


@pytest.mark.slow
@every_story
async def test_a_crash_on_files(file_worlds: NewWorld, story: Story) -> None:
    await crash_everywhere(file_worlds, story, stride=23)
