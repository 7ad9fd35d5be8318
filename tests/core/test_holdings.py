"""Why something is kept, and how much is kept by no tag."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, ManifestUnknown, NameUnknown
from ociappr.names import Reference, Tag
from ociappr.registry import Registry, Settings
from ociappr.registry.patterns import TagPattern
from ociappr.registry.rules import RetentionRule
from tests.core.world import (
    SMALL,
    A,
    B,
    World,
    content,
    push_all,
    push_blob,
    push_index,
    push_manifest,
)
from tests.http.client import image, index

LAYER, OTHER = content(SMALL, "layer"), content(2 * SMALL, "other")
RULES = Settings(
    retention=(RetentionRule(keep_tags=(TagPattern("kept"),), delete_untagged_after=timedelta(0)),)
)


async def why(world: World, target: Tag | Digest) -> list[tuple[str, str]]:
    registry = await world.registry(RULES)
    found = await registry.holdings.of(Reference(A, target))
    mark = "@" if isinstance(target, Digest) else ":"
    assert {one.item for one in found} == {f"{A}{mark}{target}"}
    return [(one.fate, one.reason) for one in found]


async def test_why_a_manifest_is_kept(world: World, registry: Registry) -> None:
    await push_all(registry, [])
    raw = image()
    digest = await push_manifest(registry, raw, "kept", "other")
    top = await push_index(registry, index(raw))
    loose = await push_manifest(registry, image(annotations={"a": "b"}))
    assert await why(world, digest) == [
        ("kept", "tagged kept"),
        ("kept", "tagged other"),
        ("kept", f"{top} names it"),
    ]
    assert await why(world, Tag("kept")) == [("kept", "matches kept: retention[0]")]
    assert await why(world, Tag("other")) == [
        ("deleted", "retention[0] is about it and keeps others")
    ]
    ((fate, reason),) = await why(world, loose)
    assert (fate, reason.split()[-1]) == ("deleted", "retention[0].delete_untagged_after")
    every = await (await world.registry(RULES)).holdings.of_repository(A)
    assert [one.fate for one in every] == ["kept", "deleted", "kept", "deleted", "deleted"]


async def test_why_a_blob_is_kept(world: World, registry: Registry) -> None:
    await push_all(registry, [LAYER])
    digest = await push_manifest(registry, image(LAYER), "kept")
    assert await why(world, Digest.of(LAYER)) == [("kept", f"{A}@{digest} names it")]
    loose = await push_blob(registry, OTHER)
    assert await why(world, loose) == [
        ("kept", "no manifest names it: condemned after 2030-01-02T00:00")
    ]
    world.clock.advance(timedelta(days=1))
    assert await why(world, loose) == [("condemned", "no manifest names it since 2030-01-01T00:00")]
    await registry.collector.run()
    assert await why(world, loose) == [
        ("kept", "no manifest names it: forgotten after 2030-01-03T00:00")
    ]


async def test_what_is_nowhere(world: World, registry: Registry) -> None:
    with pytest.raises(NameUnknown):
        await registry.holdings.of_repository(A)
    with pytest.raises(ManifestUnknown):
        await why(world, Tag("none"))
    with pytest.raises(BlobUnknown):
        await why(world, Digest.of(b"none"))


async def test_how_much_is_kept_by_no_tag(registry: Registry) -> None:
    """Only what nothing else holds: not the shared config, nor what has a tag elsewhere."""
    assert (await registry.holdings.untagged()).manifests == 0
    raw = {name: image(LAYER, annotations={"name": name}) for name in ("tag", "loose")}
    await push_all(registry, [LAYER, OTHER])
    await push_manifest(registry, raw["tag"], "tag")
    await push_manifest(registry, raw["loose"])
    found = await registry.holdings.untagged()
    assert (found.manifests, found.size) == (1, len(raw["loose"]))
    with_other = image(OTHER)
    top = index(with_other)
    await push_manifest(registry, with_other)
    await push_index(registry, top)
    found = await registry.holdings.untagged()
    size = len(raw["loose"]) + len(OTHER) + len(with_other) + len(top)
    assert (found.manifests, found.size) == (3, size)
    await push_all(registry, [OTHER], B)
    await push_manifest(registry, with_other, "tag", repository=B)
    found = await registry.holdings.untagged()
    assert (found.manifests, found.size) == (3, len(raw["loose"]) + len(top))
    await push_index(registry, top, "top")
    assert (await registry.holdings.untagged()).manifests == 1


async def test_a_preview_of_the_collector(world: World, registry: Registry) -> None:
    loose = await push_blob(registry, LAYER)
    before = await world.entries("buxi")
    assert [step async for step in registry.collector.preview()] == []
    for what in ("condemned", "forgotten", "unlinked"):
        world.clock.advance(world.settings.grace)
        steps = [step async for step in registry.collector.preview()]
        assert [(step.what, step.about) for step in steps] == [(what, str(loose))]
        assert all(step.reason for step in steps)
        assert await world.entries("buxi") == before
        await registry.collector.run()
        before = await world.entries("buxi")
    assert before == []
