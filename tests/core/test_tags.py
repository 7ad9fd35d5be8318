"""The names in a repository: tags that move, releases that do not, channels that lead."""

from __future__ import annotations

import pytest

from ociappr.digest import Digest
from ociappr.errors import ManifestUnknown, NameUnknown, TagImmutable
from ociappr.names import PackageName, Reference, Tag
from ociappr.registry import Registry, Settings
from ociappr.registry.patterns import TagPattern
from ociappr.registry.records import TagKind
from ociappr.registry.rules import ImmutableRule
from ociappr.registry.submissions import examine
from ociappr.releases import Release
from tests.core.stage import Call, DirectedMetadata, Scenes
from tests.core.world import SMALL, A, B, World, content, push_all, push_manifest, tagged
from tests.http.appr import tgz
from tests.http.client import image

PACKAGE = PackageName("library", "a")


async def publish(registry: Registry, release: str, text: str = "", format_: str = "kpm") -> None:
    """Publish an archive of some text as a release of the package that A is."""
    data = tgz({"file": text.encode() or release.encode()})
    submission = examine(data, format_, limit=SMALL * 100)
    await registry.publishing.push(PACKAGE, Release(release), submission)


async def numbered(registry: Registry, number: int, *names: str) -> Digest:
    """Push an image that is unlike those of other numbers."""
    await push_all(registry, [])
    return await push_manifest(registry, image(annotations={"number": f"{number}"}), *names)


async def test_a_tag_moves(world: World, registry: Registry) -> None:
    first = await numbered(registry, 1, "latest")
    second = await numbered(registry, 2, "latest")
    assert await tagged(registry, "latest") == second
    assert await registry.tags.of_manifest(A, first) == ()
    assert await registry.tags.of_manifest(A, second) == ("latest",)
    await registry.manifests.delete(A, first)
    assert await tagged(registry, "latest") == second
    assert len(await world.entries("h")) == 1


async def test_deleting_a_tag_leaves_the_manifest(registry: Registry) -> None:
    digest = await numbered(registry, 1, "one", "two")
    await registry.tags.delete(A, Tag("one"))
    with pytest.raises(ManifestUnknown):
        await tagged(registry, "one")
    with pytest.raises(ManifestUnknown):
        await registry.tags.delete(A, Tag("one"))
    assert await registry.tags.of_manifest(A, digest) == ("two",)
    assert (await registry.manifests.get(Reference(A, digest))).digest == digest


async def test_pages(registry: Registry) -> None:
    names = sorted(f"tag-{number:02}" for number in range(25))
    await numbered(registry, 1, *reversed(names))
    seen: list[str] = []
    more = True
    while more:
        page = await registry.tags.list(A, after=seen[-1] if seen else "", limit=10)
        seen += page.items
        more = page.more
    assert seen == names
    assert (await registry.tags.list(A, limit=25)).more is False
    assert (await registry.tags.list(A, after="zzz", limit=25)).items == ()
    with pytest.raises(NameUnknown):
        await registry.tags.list(B, limit=10)


async def test_a_published_release_is_immutable(registry: Registry) -> None:
    await publish(registry, "1.0.0")
    before = await tagged(registry, "1.0.0")
    with pytest.raises(TagImmutable):
        await numbered(registry, 1, "1.0.0")
    assert await tagged(registry, "1.0.0") == before
    raw = await registry.manifests.raw(before)
    assert await push_manifest(registry, raw, "1.0.0") == before


async def test_a_channel_leads_to_its_release(registry: Registry) -> None:
    await publish(registry, "1.0.0")
    await publish(registry, "2.0.0")
    await registry.channels.set(PACKAGE, "stable", "1.0.0")
    assert await tagged(registry, "stable") == await tagged(registry, "1.0.0")
    await registry.channels.set(PACKAGE, "stable", "2.0.0")
    assert await tagged(registry, "stable") == await tagged(registry, "2.0.0")


async def test_a_push_to_a_channel_moves_it_to_the_release(registry: Registry) -> None:
    await publish(registry, "1.0.0")
    await publish(registry, "2.0.0")
    await registry.channels.set(PACKAGE, "stable", "1.0.0")
    raw = await registry.manifests.raw(await tagged(registry, "2.0.0"))
    await push_manifest(registry, raw, "stable")
    record = await registry.tags.read(A, Tag("stable"))
    assert record is not None
    assert record.kind is TagKind.CHANNEL
    assert record.current == "2.0.0"


async def test_a_push_of_no_release_makes_the_channel_a_tag(registry: Registry) -> None:
    await publish(registry, "1.0.0")
    await registry.channels.set(PACKAGE, "stable", "1.0.0")
    digest = await numbered(registry, 1, "stable")
    record = await registry.tags.read(A, Tag("stable"))
    assert record is not None
    assert record.kind is TagKind.TAG
    assert await tagged(registry, "stable") == digest


async def test_a_channel_whose_release_is_gone_is_not_listed(registry: Registry) -> None:
    await publish(registry, "1.0.0")
    await registry.channels.set(PACKAGE, "stable", "1.0.0")
    await registry.publishing.delete(PACKAGE, "1.0.0", "kpm")
    assert (await registry.tags.list(A, limit=10)).items == ()
    with pytest.raises(ManifestUnknown):
        await tagged(registry, "stable")


async def test_two_formats_of_one_release_race(world: World, registry: Registry) -> None:
    other = await world.registry()
    await publish(registry, "1.0.0", "one", "kpm")
    await publish(other, "1.0.0", "two", "helm")
    record = await registry.tags.read(A, Tag("1.0.0"))
    assert record is not None
    assert [found.format for found in record.formats] == ["helm", "kpm"]
    await world.settle()
    assert await world.faults() == []


async def test_a_hint_alone_says_nothing(world: World, registry: Registry) -> None:
    """A hint is put blindly: what it hints at is read, never believed."""
    first = await numbered(registry, 1, "moving")
    await numbered(registry, 2, "moving")
    hints = [entry for entry in await world.entries("h") if str(first).encode() in entry.key]
    assert len(hints) == 1
    assert await registry.tags.of_manifest(A, first) == ()


async def test_repositories(registry: Registry) -> None:
    await push_all(registry, [content(SMALL)], B)
    await push_all(registry, [content(SMALL)])
    assert (await registry.tags.repositories(limit=10)).items == (str(A), str(B))
    page = await registry.tags.repositories(limit=1)
    assert (page.items, page.more) == ((str(A),), True)
    assert (await registry.tags.repositories(after=str(A), limit=10)).items == (str(B),)


async def test_of_two_first_pushes_to_an_immutable_tag_one_wins(world: World) -> None:
    """Both saw that the tag was absent; the one that comes second must not move it."""
    settings = Settings(immutable=(ImmutableRule(tags=(TagPattern("v*"),)),))
    registry, scenes = await world.registry(settings), Scenes()
    stage = World(DirectedMetadata(world.metadata, scenes), world.store, world.clock)
    directed = await stage.registry(settings)

    async def rival(_: Call) -> None:
        await numbered(registry, 1, "v1")

    await push_all(registry, [])
    scenes.before_next("commit", "t", rival)
    with pytest.raises(TagImmutable):
        await numbered(directed, 2, "v1")
    assert scenes.played
    assert await tagged(registry, "v1") == await numbered(registry, 1)


async def test_a_manifest_is_not_deleted_under_a_tag_that_becomes_immutable(world: World) -> None:
    settings = Settings(immutable=(ImmutableRule(tags=(TagPattern("v*"),)),))
    registry, scenes = await world.registry(settings), Scenes()
    stage = World(DirectedMetadata(world.metadata, scenes), world.store, world.clock)
    directed = await stage.registry(settings)
    digest = await numbered(registry, 1, "free")

    async def rival(_: Call) -> None:
        await numbered(registry, 1, "v1")

    scenes.before_next("commit", "T", rival)
    with pytest.raises(TagImmutable):
        await directed.manifests.delete(A, digest)
    assert scenes.played
    assert await tagged(registry, "v1") == digest
