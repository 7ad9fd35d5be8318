"""Last pulls: written together and seldom, only of what is there, gone with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from ociappr.digest import Digest
from ociappr.errors import StoreUnavailable
from ociappr.names import Tag
from ociappr.registry import Registry, Settings
from ociappr.registry.pulls import EVERY, GAP, Pulls
from ociappr.registry.retiring import Retained
from ociappr.registry.rules import RetentionRule
from tests.core.stage import Call, DirectedBlobs, DirectedMetadata, Scenes
from tests.core.world import A, World, content, push_all, push_blob, push_manifest
from tests.http.client import image

MOMENT = timedelta(microseconds=1)
DAY = timedelta(days=1)


async def push(registry: Registry, *tags: str) -> Digest:
    await push_all(registry, [])
    return await push_manifest(registry, image(annotations={"tags": " ".join(tags)}), *tags)


async def test_tags_and_manifests_are_written_and_nothing_else(
    world: World, registry: Registry
) -> None:
    digest = await push(registry, "latest")
    blob = await push_blob(registry, content(10))
    for target in (Tag("latest"), Tag("latest"), Tag("gone"), digest, blob, Digest.of(b"none")):
        registry.pulls.record(A, target)
    assert await registry.pulls.flush() == 2
    found = await registry.pulls.of(A)
    assert found == {"latest": world.clock(), str(digest): world.clock()}
    assert await registry.pulls.flush() == 0


async def test_an_item_is_written_once_an_hour(world: World, registry: Registry) -> None:
    await push(registry, "latest")
    other = (await world.registry()).pulls
    for pulls, passed, written in (
        (registry.pulls, timedelta(0), 1),
        (other, EVERY - MOMENT, 0),
        (registry.pulls, MOMENT, 1),
    ):
        world.clock.advance(passed)
        pulls.record(A, Tag("latest"))
        assert await pulls.flush() == written


async def test_they_go_with_what_was_pulled(world: World, registry: Registry) -> None:
    digest = await push(registry, "one", "two")
    for target in (Tag("one"), Tag("two"), digest):
        registry.pulls.record(A, target)
    await registry.pulls.flush()
    await registry.tags.delete(A, Tag("one"))
    assert set(await registry.pulls.of(A)) == {"two", str(digest)}
    await registry.manifests.delete(A, digest)
    assert await world.entries("g") == []


async def test_memory_is_bounded(world: World, registry: Registry) -> None:
    await push(registry, "one", "two", "three")
    pulls = Pulls(world.metadata, now=world.clock, capacity=2)
    for name in ("one", "one", "two", "three"):
        pulls.record(A, Tag(name))
    await pulls.full()
    assert await pulls.flush() == 2
    pulls.record(A, Tag("three"))
    assert await pulls.flush() == 1


@pytest.fixture
def scenes() -> Scenes:
    return Scenes()


@pytest.fixture
async def directed(world: World, scenes: Scenes) -> Registry:
    metadata = DirectedMetadata(world.metadata, scenes)
    return await World(metadata, DirectedBlobs(world.store, scenes), world.clock).registry()


def doing(work: Callable[[], Awaitable[object]]) -> Callable[[Call], Awaitable[None]]:
    async def act(_: Call) -> None:
        await work()

    return act


async def test_what_is_deleted_meanwhile_leaves_nothing(
    world: World, registry: Registry, directed: Registry, scenes: Scenes
) -> None:
    digest = await push(registry, "latest")
    directed.pulls.record(A, Tag("latest"))
    directed.pulls.record(A, digest)
    scenes.before_next("commit", "g", doing(lambda: registry.manifests.delete(A, digest)))
    assert await directed.pulls.flush() == 0
    assert await directed.pulls.flush() == 0
    assert scenes.played
    assert await world.entries("g") == []


async def test_what_could_not_be_written_is_kept(
    registry: Registry, directed: Registry, scenes: Scenes
) -> None:
    await push(registry, "latest")
    directed.pulls.record(A, Tag("latest"))

    async def fail(_: Call) -> None:
        raise StoreUnavailable("not now")

    scenes.before_next("commit", "g", fail)
    with pytest.raises(StoreUnavailable):
        await directed.pulls.flush()
    assert await directed.pulls.flush() == 1


async def test_a_gap_begins_the_record_anew(world: World, registry: Registry) -> None:
    assert await registry.pulls.recorded() is None
    await registry.pulls.flush()
    begun = world.clock()
    world.clock.advance(GAP)
    await registry.pulls.flush()
    assert await registry.pulls.recorded() == begun
    world.clock.advance(GAP + MOMENT)
    assert await registry.pulls.recorded() is None
    await registry.pulls.flush()
    assert await registry.pulls.recorded() == world.clock()


async def test_retention_asks_for_the_last_pull(world: World, registry: Registry) -> None:
    """Until pulls are known for long enough, nothing counts as not pulled."""
    await push(registry, "pulled")
    await push(registry, "never")
    settings = Settings(retention=(RetentionRule(keep_pulled_within=3 * DAY),))
    retention = (await world.registry(settings)).retention
    assert await retention.run() == Retained(repositories=1)
    for _ in range(3):
        registry.pulls.record(A, Tag("pulled"))
        await registry.pulls.flush()
        assert await retention.run() == Retained(repositories=1)
        world.clock.advance(DAY)
    await registry.pulls.flush()
    assert (await retention.run()).tags == 1
    assert (await registry.tags.list(A, limit=9)).items == ("pulled",)
