"""Manifests: what they may name, what they pin, and what putting one writes."""

from __future__ import annotations

import pytest

from ociappr.descriptor import EMPTY, EMPTY_BYTES, Descriptor
from ociappr.digest import ContentDigest, Digest
from ociappr.errors import (
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
)
from ociappr.manifest import build_image, build_index, encode
from ociappr.media import OCI_INDEX, OCI_MANIFEST
from ociappr.names import Reference, Tag
from ociappr.package import CONTENT_DIGEST, content_type, manifest_type
from ociappr.registry import Registry, Settings, Sparse, keys
from tests.core.world import (
    MIDDLE,
    SMALL,
    A,
    B,
    World,
    content,
    push_all,
    push_blob,
    push_index,
    push_manifest,
    tagged,
)
from tests.http.appr import tar, tgz
from tests.http.client import LAYER, image, index

LAYERS = (content(SMALL), content(MIDDLE))


def package(data: bytes, content_digest: str) -> bytes:
    """Return the manifest of an appr package that claims a content digest."""
    layer = Descriptor(content_type("kpm"), Digest.of(data), len(data))
    annotations = {CONTENT_DIGEST: content_digest}
    return build_image(
        config=EMPTY, layers=[layer], artifact_type=manifest_type("kpm"), annotations=annotations
    ).raw


def wide(count: int) -> bytes:
    """Return an index of *count* manifests that nobody has."""
    entries = [
        Descriptor(OCI_MANIFEST, Digest.of(b"%d" % number), SMALL) for number in range(count)
    ]
    return build_index(entries, {}).raw


async def test_a_manifest_pins_itself_and_its_children(world: World, registry: Registry) -> None:
    await push_all(registry, LAYERS)
    raw = image(*LAYERS)
    digest = await push_manifest(registry, raw, "one", "two")
    pinned = {keys.parts(entry.key)[1] for entry in await world.entries("p")}
    assert pinned == {str(Digest.of(data)) for data in (raw, EMPTY_BYTES, *LAYERS)}
    for name in ("one", "two"):
        found = await registry.manifests.get(Reference(A, Tag(name)))
        assert (found.raw, found.digest, found.media_type) == (raw, digest, OCI_MANIFEST)
    await world.collect(5)
    assert await tagged(await world.registry(), "one") == digest


async def test_a_large_manifest(world: World, registry: Registry) -> None:
    await push_all(registry, [])
    raw = image(annotations={"large": "x" * MIDDLE})
    await push_manifest(registry, raw, "large")
    assert (await (await world.registry()).manifests.get(Reference(A, Tag("large")))).raw == raw
    await world.settle()
    assert await world.faults() == []


async def test_putting_again_changes_nothing(world: World, registry: Registry) -> None:
    await push_all(registry, LAYERS)
    await push_manifest(registry, image(*LAYERS), "one")
    before = {entry.key: entry.value for entry in await world.entries("rtmfpalboiux")}
    await push_manifest(registry, image(*LAYERS), "one")
    after = {entry.key: entry.value for entry in await world.entries("rtmfpalboiux")}
    assert after == before


@pytest.mark.parametrize("missing", range(3))
async def test_a_missing_child(world: World, registry: Registry, missing: int) -> None:
    held = (EMPTY_BYTES, *LAYERS)
    for number, data in enumerate(held):
        await push_blob(registry, data, B if number == missing else A)
    with pytest.raises(ManifestBlobUnknown) as caught:
        await push_manifest(registry, image(*LAYERS), "one")
    assert caught.value.detail["digest"] == str(Digest.of(held[missing]))
    assert await world.entries("mpt") == []


@pytest.mark.parametrize(
    ("sparse", "images", "indexes"),
    [(Sparse.NONE, False, False), (Sparse.INDEXES, False, True), (Sparse.ALL, True, True)],
)
async def test_sparse(world: World, sparse: Sparse, *, images: bool, indexes: bool) -> None:
    registry = await world.registry(Settings(sparse=sparse))
    attempts = (
        (images, push_manifest(registry, image(*LAYERS), "image")),
        (indexes, push_index(registry, index(image(*LAYERS)), "index")),
    )
    for allowed, attempt in attempts:
        if allowed:
            await attempt
        else:
            with pytest.raises(ManifestBlobUnknown):
                await attempt


async def test_an_absent_child_is_pinned_before_it_comes(world: World, registry: Registry) -> None:
    raw = image(*LAYERS)
    await push_index(registry, index(raw), "index")
    await push_all(registry, LAYERS)
    await world.collect()
    digest = await push_manifest(registry, raw)
    await registry.manifests.delete(A, digest)
    await world.collect(5)
    assert await world.blob(digest) is not None


async def test_foreign_layers_may_be_absent(registry: Registry) -> None:
    await push_all(registry, [])
    foreign = {
        **Descriptor(LAYER, Digest.of(b"elsewhere"), 9).document(),
        "urls": ["https://elsewhere.example/layer"],
    }
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": EMPTY.document(),
        "layers": [foreign],
    }
    assert await push_manifest(registry, encode(document), "foreign")


async def test_nested_indexes(registry: Registry) -> None:
    await push_all(registry, LAYERS)
    raw = image(*LAYERS)
    await push_manifest(registry, raw)
    inner = index(raw)
    await push_index(registry, inner, "inner")
    entry = Descriptor(OCI_INDEX, Digest.of(inner), len(inner))
    outer = build_index([entry], {}).raw
    await push_index(registry, outer, "outer")
    assert await tagged(registry, "outer") == Digest.of(outer)


async def test_an_index_may_list_blobs(world: World) -> None:
    registry = await world.registry(Settings(sparse=Sparse.NONE))
    digest = await push_blob(registry, LAYERS[1])
    raw = build_index([Descriptor(LAYER, digest, MIDDLE)], {}).raw
    await push_index(registry, raw, "cache")
    await world.collect(5)
    assert await world.blob(digest) is not None


async def test_as_many_children_as_a_commit_can_carry(world: World, registry: Registry) -> None:
    digest = await push_index(registry, wide(990), "wide")
    assert await tagged(registry, "wide") == digest
    await registry.manifests.delete(A, digest)
    await world.settle()
    assert await world.faults() == []


@pytest.mark.parametrize("count", [1_000, 3_000])
async def test_more_children_than_a_commit_can_carry(
    world: World, registry: Registry, count: int
) -> None:
    with pytest.raises(ManifestTooLarge):
        await push_index(registry, wide(count), "wide")
    assert await world.entries("mpt") == []


async def test_an_index_of_hundreds_of_present_manifests(world: World, registry: Registry) -> None:
    await push_all(registry, [])
    images = [image(annotations={"number": f"{number}"}) for number in range(420)]
    for raw in images:
        await push_manifest(registry, raw)
    digest = await push_index(registry, index(*images), "wide")
    await world.collect(3)
    assert await tagged(registry, "wide") == digest
    await registry.manifests.delete(A, digest)
    with pytest.raises(ManifestUnknown):
        await tagged(registry, "wide")


async def test_more_bytes_than_the_limit(world: World) -> None:
    registry = await world.registry(Settings(manifest_limit=500))
    with pytest.raises(ManifestTooLarge):
        await push_manifest(registry, image(annotations={"x": "x" * 500}))


async def test_a_wrong_digest(registry: Registry) -> None:
    reference = Reference(A, Digest.of(b"other"))
    with pytest.raises(DigestInvalid):
        await registry.manifests.put(reference, OCI_MANIFEST, image())


async def test_sha512(registry: Registry) -> None:
    await push_all(registry, [])
    digest = Digest.of(image(), algorithm="sha512")
    await registry.manifests.put(Reference(A, digest), OCI_MANIFEST, image())
    assert (await registry.manifests.get(Reference(A, digest))).raw == image()
    with pytest.raises(ManifestUnknown):
        await registry.manifests.get(Reference(A, Digest.of(image())))


async def test_a_content_digest_is_verified(world: World, registry: Registry) -> None:
    files = {"file": b"text"}
    data = tgz(files)
    await push_all(registry, [data])
    true = Digest.of(tar(files)).hex
    with pytest.raises(ManifestInvalid):
        await push_manifest(registry, package(data, Digest.of(b"other").hex), "1.0.0")
    await push_manifest(registry, package(data, true), "1.0.0")
    (alias,) = await world.entries("a")
    assert alias.key.startswith(keys.aliases(A, ContentDigest(true)))
    assert alias.value.decode() == str(Digest.of(data))


async def test_a_content_digest_of_no_archive(registry: Registry) -> None:
    await push_all(registry, [b"no archive"])
    with pytest.raises(ManifestInvalid):
        await push_manifest(registry, package(b"no archive", Digest.of(b"x").hex))


async def test_a_content_digest_of_an_absent_layer(registry: Registry) -> None:
    await push_all(registry, [])
    with pytest.raises(ManifestBlobUnknown):
        await push_manifest(registry, package(b"absent", Digest.of(b"x").hex))


async def test_deleting_takes_the_tags_and_everything_derived(
    world: World, registry: Registry
) -> None:
    await push_all(registry, LAYERS)
    subject = await push_manifest(registry, image(), "subject")
    digest = await push_manifest(registry, image(*LAYERS, subject=subject), "one", "two")
    await registry.manifests.delete(A, digest)
    assert (await registry.tags.list(A, limit=10)).items == ("subject",)
    assert (await registry.referrers.list(A, subject, limit=10)).items == ()
    for target in (digest, Tag("one"), Tag("two")):
        with pytest.raises(ManifestUnknown):
            await registry.manifests.get(Reference(A, target))
    with pytest.raises(ManifestUnknown):
        await registry.manifests.delete(A, digest)
    await world.settle()
    assert await world.faults() == []
    assert await world.blob(Digest.of(LAYERS[1])) is None


async def test_deleting_here_leaves_it_there(world: World, registry: Registry) -> None:
    for home in (A, B):
        await push_all(registry, LAYERS, home)
        digest = await push_manifest(registry, image(*LAYERS), "one", repository=home)
    await registry.manifests.delete(A, digest)
    await world.collect(5)
    assert await tagged(await world.registry(), "one", B) == digest
