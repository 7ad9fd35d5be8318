"""The collector: each step at its time and not before, and revival at each."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest

from ociappr.blobstore import UploadId
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown
from ociappr.registry import Registry, Settings, keys
from ociappr.registry.records import BlobState
from tests.core.world import (
    LARGE,
    MIDDLE,
    SMALL,
    A,
    World,
    chunks,
    content,
    finish,
    push_all,
    push_blob,
    push_manifest,
    read,
    upload,
)
from tests.http.client import image

MOMENT = timedelta(microseconds=1)
sizes = pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])


async def steps(world: World, digest: Digest) -> tuple[str, int, int]:
    """Return the state of a blob, how many entries the bin has, and how many objects there are."""
    record = await world.blob(digest)
    state = record.state.value if record is not None else "forgotten"
    return state, len(await world.entries("x")), len(await world.objects())


@sizes
async def test_each_step_takes_a_grace_period(world: World, registry: Registry, size: int) -> None:
    digest = await push_blob(registry, content(size))
    stored = int(size > world.settings.inline_limit)
    life = [("live", 0, stored), ("condemned", 0, stored), ("forgotten", 1, stored)]
    life.append(("forgotten", 0, 0))
    for before, after in itertools.pairwise(life):
        world.clock.advance(world.settings.grace - MOMENT)
        await world.collect(3, aged=False)
        assert await steps(world, digest) == before
        world.clock.advance(MOMENT)
        await world.collect(3, aged=False)
        assert await steps(world, digest) == after
    assert await world.faults() == []


@sizes
async def test_a_condemned_blob_is_hidden(world: World, registry: Registry, size: int) -> None:
    digest = await push_blob(registry, content(size))
    await world.collect()
    with pytest.raises(BlobUnknown):
        await registry.blobs.find(A, digest)
    with pytest.raises(BlobUnknown):
        await registry.blobs.delete(A, digest)


@sizes
@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("by", ["push", "chunks", "manifest"])
async def test_revival(world: World, registry: Registry, size: int, rounds: int, by: str) -> None:
    """At each step: condemned, forgotten (so born again), gone."""
    data = content(size)
    digest = await push_blob(registry, data)
    await world.collect(rounds)
    await push_all(registry, [])
    if by == "push" or (by == "manifest" and rounds > 1):
        await push_blob(registry, data)
    elif by == "chunks":
        await finish(registry, await upload(registry, data[:9], data[9:]), data)
    await push_manifest(registry, image(data), "kept")
    record = await world.blob(digest)
    assert record is not None
    assert record.state is BlobState.LIVE
    assert await read(registry, digest) == data
    await world.settle()
    assert await read(registry, digest) == data
    assert await world.faults() == []


async def test_the_rate_is_kept(world: World) -> None:
    settings = Settings(rate=1_000)
    registry = await world.registry(settings)
    for number in range(30):
        await push_blob(registry, content(SMALL, f"{number}"))
    world.clock.advance(settings.grace)
    begun = asyncio.get_running_loop().time()
    assert (await registry.collector.run()).condemned == 30
    world.clock.advance(settings.grace)
    assert (await registry.collector.run()).forgotten == 30
    assert asyncio.get_running_loop().time() - begun >= 0.03


async def test_a_revived_blob_rests_again_before_it_is_condemned(
    world: World, registry: Registry
) -> None:
    digest = await push_blob(registry, content(SMALL))
    await world.collect()
    await push_blob(registry, content(SMALL))
    world.clock.advance(world.settings.grace - MOMENT)
    await world.collect(aged=False)
    assert (await steps(world, digest))[0] == "live"


async def test_parts_are_joined(world: World, registry: Registry) -> None:
    data = content(LARGE)
    digest = await finish(registry, await upload(registry, data[:MIDDLE], data[MIDDLE:]), data)
    record = await world.blob(digest)
    assert record is not None
    assert (record.staged, len(record.parts)) == (True, 2)
    assert (await world.collect(aged=False)).promoted == 1
    joined = await world.blob(digest)
    assert joined is not None
    assert (joined.staged, len(joined.parts)) == (False, 1)
    assert (joined.birth, joined.since) == (record.birth, record.since)
    assert await read(registry, digest) == data
    assert len(await world.objects()) == 3
    assert (await world.collect(aged=False)).promoted == 0
    await world.collect()
    assert len(await world.objects()) == 1
    assert await world.entries("ux") == []
    assert len(await world.entries("o")) == 1


async def test_parts_that_are_gone_stop_nobody(world: World, registry: Registry) -> None:
    data = content(LARGE)
    digest = await finish(registry, await upload(registry, data[:MIDDLE], data[MIDDLE:]), data)
    await world.store.delete((await world.objects())[0])
    other = await push_blob(registry, content(MIDDLE, "other"))
    await world.collect(3)
    assert await world.blob(digest) is None
    assert await world.blob(other) is None


async def test_the_sweeper_takes_what_nobody_owns(world: World, registry: Registry) -> None:
    orphan, _ = await world.store.stage(UploadId("nobody"), chunks(content(SMALL)))
    id_ = await upload(registry, content(MIDDLE))
    digest = await push_blob(registry, content(LARGE))
    owned = set(await world.objects()) - {orphan}
    done = await world.collect(aged=False)
    assert (done.swept, done.freed) == (1, SMALL)
    assert set(await world.objects()) == owned
    assert await read(registry, digest) == content(LARGE)
    assert (await registry.uploads.status(A, id_)).offset == MIDDLE


async def test_an_ended_session_owns_nothing(world: World, registry: Registry) -> None:
    id_ = await upload(registry, b"once")
    await registry.uploads.cancel(A, id_)
    await world.store.stage(UploadId(id_), chunks(content(SMALL)))
    assert (await world.collect(aged=False)).swept == 1
    assert len(await world.entries("u")) == 1, "its id must not be fresh again"


async def test_sessions_expire_a_week_after_their_last_commit(
    world: World, registry: Registry
) -> None:
    begun = world.settings.session_age
    id_ = await upload(registry, b"one")
    world.clock.advance(begun / 2)
    await registry.uploads.append(A, id_, chunks(b"two"))
    world.clock.advance(begun / 2 + timedelta(seconds=2))
    assert (await world.collect(aged=False)).expired == 0
    world.clock.advance(begun / 2)
    assert (await world.collect(aged=False)).expired == 1
    assert await world.objects() == []


async def test_the_journal_is_trimmed(world: World, registry: Registry) -> None:
    await push_blob(registry, content(SMALL))
    world.clock.advance(world.settings.journal_age)
    await push_blob(registry, content(SMALL, "later"))
    assert (await world.collect(aged=False)).journal == 0
    world.clock.advance(timedelta(seconds=1))
    assert (await world.collect(aged=False)).journal == 1
    assert len(await world.entries("e")) == 1


async def test_many_links_are_void_at_once_and_deleted_in_time(
    world: World, registry: Registry
) -> None:
    digest = await push_blob(registry, content(SMALL))
    key = keys.link(digest, A)
    birth = await world.value(key)
    assert birth is not None
    for number in range(30):
        await registry.blobs.mount(type(A)(f"other/{number}"), digest, A, lambda _: True)
    await world.collect(2)
    assert len(await world.entries("l")) == 31
    await world.collect()
    assert await world.entries("lx") == []
