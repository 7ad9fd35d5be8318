"""Retention at work: rounds over real stores, and rivals that come at the worst moment.

rule taken away                           test
deletion does not promise m               test_a_tag_that_is_put_meanwhile_keeps_its_manifest,
                                          test_an_index_that_is_pushed_meanwhile_keeps_its_child
deletion does not promise its parents     test_a_parent_that_stays_keeps_its_child
deletion does not promise its subject     test_a_subject_that_comes_back_keeps_its_referrer
tag deletion does not promise t           test_a_tag_that_is_pushed_meanwhile_stays
channel does not rewrite t                test_a_release_that_gets_a_channel_meanwhile_stays
a name does not end the time without one  test_a_name_ends_the_time_without_one
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from ociappr.digest import Digest
from ociappr.metadata import Transaction, transact
from ociappr.names import PackageName, Tag
from ociappr.registry import Registry, Settings, keys
from ociappr.registry.patterns import RepositoryPattern, TagPattern
from ociappr.registry.records import ManifestRecord, decode
from ociappr.registry.retiring import Retained
from ociappr.registry.rules import ImmutableRule, RetentionRule
from tests.core.stage import Call, DirectedBlobs, DirectedMetadata, Scenes
from tests.core.test_tags import publish
from tests.core.world import A, B, World, push_all, push_index, push_manifest, tagged
from tests.http.client import image, index

DAY = timedelta(days=1)
WEEK = RetentionRule(delete_untagged_after=7 * DAY)
NEWEST = RetentionRule(keep_newest=2)
PACKAGE = PackageName("library", "a")


def with_rules(*rules: RetentionRule, immutable: tuple[ImmutableRule, ...] = ()) -> Settings:
    return Settings(retention=rules, immutable=immutable)


async def retain(world: World, *rules: RetentionRule) -> Retained:
    """Run a round of a fresh registry with these rules."""
    return await (await world.registry(with_rules(*rules))).retention.run()


def named(name: str, subject: Digest | None = None) -> bytes:
    """Return an image told by its name."""
    return image(annotations={"name": name}, subject=subject)


async def push(registry: Registry, name: str, *tags: str, subject: Digest | None = None) -> Digest:
    """Push an image told by its name."""
    await push_all(registry, [])
    return await push_manifest(registry, named(name, subject), *tags)


async def manifests(world: World) -> set[Digest]:
    """Return the manifests that are anywhere."""
    return {Digest.parse(keys.parts(entry.key)[2]) for entry in await world.entries("m")}


async def untagged(world: World, digest: Digest) -> str:
    """Return since when a manifest of A is known to have no name."""
    value = await world.value(keys.manifest(A, digest))
    assert value is not None
    return decode(ManifestRecord, value).untagged


async def test_without_rules_nothing_goes(world: World, registry: Registry) -> None:
    await push(registry, "one")
    world.clock.advance(1000 * DAY)
    assert await retain(world) == Retained()
    assert len(await world.entries("m")) == 1


async def test_a_life_under_rules(world: World, registry: Registry) -> None:
    """A tag goes; its manifest a week after that was seen; its bytes when the collector comes."""
    pushed = []
    for number in range(4):
        pushed.append(await push(registry, f"{number}", f"v{number}"))
        world.clock.advance(timedelta(hours=1))
    rules = (NEWEST, WEEK)
    assert (await retain(world, *rules)).tags == 2
    assert (await registry.tags.list(A, limit=9)).items == ("v2", "v3")
    assert await manifests(world) == set(pushed)
    assert await retain(world, *rules) == Retained(repositories=1, noted=2)
    world.clock.advance(7 * DAY - timedelta(microseconds=1))
    assert (await retain(world, *rules)).manifests == 0
    world.clock.advance(timedelta(microseconds=1))
    assert await retain(world, *rules) == Retained(repositories=1, manifests=2)
    assert await manifests(world) == set(pushed[2:])
    await world.settle()
    assert await world.faults() == []
    assert await world.blob(pushed[0]) is None
    hinted = {keys.parts(entry.key)[2] for entry in await world.entries("h")}
    assert hinted == {str(one) for one in pushed[2:]}


async def test_trees_go_together_and_from_their_top(world: World, registry: Registry) -> None:
    child = await push(registry, "child")
    signature = await push(registry, "signature", subject=child)
    top = await push_index(registry, index(named("child")))
    kept = await push(registry, "kept")
    tree = await push_index(registry, index(named("kept")), "latest")
    await push(registry, "kept's", subject=kept)
    await retain(world, WEEK)
    world.clock.advance(7 * DAY)
    assert (await retain(world, WEEK)).manifests == 3
    assert (await manifests(world)).isdisjoint({child, signature, top})
    assert len(await manifests(world)) == 3
    assert await tagged(registry, "latest") == tree
    await world.settle()
    assert await world.faults() == []


async def test_only_repositories_of_a_rule_are_touched(world: World, registry: Registry) -> None:
    await push_all(registry, [], B)
    await push_manifest(registry, image(annotations={"in": "b"}), repository=B)
    await push(registry, "a")
    at_once = RetentionRule(
        repositories=(RepositoryPattern("*/a"),), delete_untagged_after=timedelta(0)
    )
    assert await retain(world, at_once) == Retained(repositories=1, manifests=1)
    assert len(await world.entries("m")) == 1


async def test_a_name_ends_the_time_without_one(world: World, registry: Registry) -> None:
    """By a tag, by an index, and by the release that is left when its other format goes."""
    by_tag, by_index = await push(registry, "one"), await push(registry, "two")
    await retain(world, WEEK)
    assert await untagged(world, by_tag)
    assert await untagged(world, by_index)
    await push(registry, "one", "tag")
    top = await push_index(registry, index(named("two")), "top")
    assert not await untagged(world, by_tag)
    assert not await untagged(world, by_index)
    world.clock.advance(30 * DAY)
    await registry.tags.delete(A, Tag("tag"))
    await registry.manifests.delete(A, top)
    assert (await retain(world, WEEK)).manifests == 0
    assert await untagged(world, by_tag)


async def test_a_release_that_is_one_again_is_named_again(world: World, registry: Registry) -> None:
    await publish(registry, "1.0.0", "kpm")
    only = await tagged(registry, "1.0.0")
    await registry.publishing.delete(PACKAGE, "1.0.0", "kpm")
    await retain(world, WEEK)
    assert await untagged(world, only)
    await publish(registry, "1.0.0", "helm", "helm")
    await publish(registry, "1.0.0", "kpm")
    await registry.publishing.delete(PACKAGE, "1.0.0", "helm")
    assert not await untagged(world, await tagged(registry, "1.0.0"))


async def test_releases_of_channels_and_immutable_tags_stay(
    world: World, registry: Registry
) -> None:
    for release in ("1.0.0", "2.0.0", "3.0.0", "4.0.0"):
        await publish(registry, release)
    await registry.channels.set(PACKAGE, "stable", "1.0.0")
    rules = (RetentionRule(keep_tags=(TagPattern("4*"),)),)
    settings = with_rules(*rules, immutable=(ImmutableRule(tags=(TagPattern("2*"),)),))
    done = await (await world.registry(settings)).retention.run()
    assert done.tags == 1
    assert (await registry.tags.list(A, limit=9)).items == ("1.0.0", "2.0.0", "4.0.0", "stable")


async def test_a_preview_changes_nothing(world: World, registry: Registry) -> None:
    digest = await push(registry, "one", "old", "new")
    await registry.tags.delete(A, Tag("new"))
    before = await world.entries("mtegh")
    settings = with_rules(RetentionRule(keep_tags=(TagPattern("new"),)), WEEK)
    retention = (await world.registry(settings)).retention
    assert [(name, str(one.item)) async for name, one in retention.preview()] == [(A, "old")]
    decisions = {str(one.item): one.reason for one in await retention.decisions(A)}
    assert decisions == {
        "old": "retention[0] is about it and keeps others",
        str(digest): "tagged old",
    }
    assert await world.entries("mtegh") == before


# -- rivals --------------------------------------------------------------------------------------


@pytest.fixture
def scenes() -> Scenes:
    return Scenes()


@pytest.fixture
def stage(world: World, scenes: Scenes) -> World:
    """The world as retention sees it; `registry` is the rivals'."""
    metadata = DirectedMetadata(world.metadata, scenes)
    return World(metadata, DirectedBlobs(world.store, scenes), world.clock)


def doing(work: Callable[[], Awaitable[object]]) -> Callable[[Call], Awaitable[None]]:
    async def act(_: Call) -> None:
        await work()

    return act


AT_ONCE = RetentionRule(delete_untagged_after=timedelta(0))


@pytest.mark.parametrize("moment", ["scan t", "scan p", "commit M"])
async def test_a_tag_that_is_put_meanwhile_keeps_its_manifest(
    world: World, stage: World, registry: Registry, scenes: Scenes, moment: str
) -> None:
    """At each moment after the manifest was read; another manifest of the same commit goes."""
    one = await push(registry, "one")
    await push(registry, "two")
    name, kinds = moment.split()
    scenes.before_next(name, kinds, doing(lambda: push(registry, "one", "tag")))
    done = await retain(stage, AT_ONCE)
    assert scenes.played
    assert await tagged(registry, "tag") == one
    assert await manifests(world) == {one}
    assert done.contested == (moment != "scan t")
    await world.settle()
    assert await world.faults() == []


@pytest.mark.parametrize("moment", ["scan t", "scan p", "commit M"])
async def test_an_index_that_is_pushed_meanwhile_keeps_its_child(
    world: World, stage: World, registry: Registry, scenes: Scenes, moment: str
) -> None:
    child = await push(registry, "child")
    name, kinds = moment.split()
    scenes.before_next(
        name, kinds, doing(lambda: push_index(registry, index(named("child")), "top"))
    )
    await retain(stage, AT_ONCE)
    assert scenes.played
    assert await manifests(world) == {child, await tagged(registry, "top")}
    await world.settle()
    assert await world.faults() == []


async def test_a_parent_that_stays_keeps_its_child(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    """Both were to go; the parent gets a name of a kind that writes its own record alone."""
    child = await push(registry, "child")
    top = await push_index(registry, index(named("child")))

    async def touch() -> None:
        async def body(txn: Transaction) -> None:
            txn.put(keys.manifest(A, top), await txn.get(keys.manifest(A, top)) or b"")

        await transact(world.metadata, body)

    scenes.before_next("commit", "M", doing(touch), about=top)
    done = await retain(stage, AT_ONCE)
    assert scenes.played
    assert done.contested == 2
    assert await manifests(world) == {child, top}


async def test_a_subject_that_comes_back_keeps_its_referrer(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    subject = await push(registry, "subject")
    signature = await push(registry, "signature", subject=subject)
    await registry.manifests.delete(A, subject)
    scenes.before_next("commit", "M", doing(lambda: push(registry, "subject", "back")))
    await retain(stage, AT_ONCE)
    assert scenes.played
    assert await manifests(world) == {subject, signature}


async def test_a_tag_that_is_pushed_meanwhile_stays(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    await push(registry, "one", "old", "older")
    world.clock.advance(DAY)
    scenes.before_next("commit", "T", doing(lambda: push(registry, "one", "old")))
    rule = RetentionRule(keep_tags=(TagPattern("x"),))
    assert await retain(stage, rule) == Retained(repositories=1, tags=1, contested=1)
    assert (await registry.tags.list(A, limit=9)).items == ("old",)


async def test_a_release_that_gets_a_channel_meanwhile_stays(
    stage: World, registry: Registry, scenes: Scenes
) -> None:
    await publish(registry, "1.0.0")
    scenes.before_next(
        "commit", "T", doing(lambda: registry.channels.set(PACKAGE, "stable", "1.0.0"))
    )
    rule = RetentionRule(keep_tags=(TagPattern("x"),))
    assert (await retain(stage, rule)).contested == 1
    assert (await registry.tags.list(A, limit=9)).items == ("1.0.0", "stable")


async def test_two_rounds_at_once_do_no_harm(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    for number in range(5):
        await push(registry, f"{number}")
    kept = await push(registry, "kept", "latest")
    scenes.before_next("commit", "M", doing(lambda: retain(world, AT_ONCE)))
    done = await retain(stage, AT_ONCE)
    assert scenes.played
    assert (done.manifests, done.contested) == (0, 5)
    assert await manifests(world) == {kept}
    await world.settle()
    assert await world.faults() == []


async def test_what_relies_on_more_than_fits_waits_a_round(
    world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ociappr.registry.retiring._PROMISES", 2)
    child, other = await push(registry, "child"), await push(registry, "other")
    for number in range(3):
        raw = index(named("child"), *([named("other")] if number else []))
        await push_index(registry, raw[:-1] + b" " * number + raw[-1:])
    assert len(await manifests(world)) == 5
    assert (await retain(world, AT_ONCE)).manifests == 4
    assert await manifests(world) == {child}
    assert (await retain(world, AT_ONCE)).manifests == 1
    assert other not in await manifests(world)
    await world.settle()
    assert await world.faults() == []


async def test_many_go_in_few_commits(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    """Those that name others are committed before the others, which promise that they are gone."""
    for number in range(100):
        await push(registry, f"{number}")
    await push_index(registry, index(*(named(f"{number}") for number in range(100))))
    assert (await retain(stage, AT_ONCE)).manifests == 101
    assert len([call for call in scenes.calls if call.name == "commit"]) <= 5
    await world.settle()
    assert await world.entries("mpb") == []
