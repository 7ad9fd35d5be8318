"""Blobs of a repository: knowing a digest is no right to its bytes."""

from __future__ import annotations

import pytest

from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, ManifestBlobUnknown
from ociappr.names import RepositoryName
from ociappr.registry import Registry
from tests.core.world import (
    LARGE,
    MIDDLE,
    SMALL,
    A,
    B,
    World,
    content,
    finish,
    push_all,
    push_blob,
    push_manifest,
    read,
    upload,
)
from tests.http.client import image

DATA = content(MIDDLE)
DIGEST = Digest.of(DATA)


def everyone(_: RepositoryName) -> bool:
    return True


def nobody(_: RepositoryName) -> bool:
    return False


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (0, 1), (999, 1_000), (500, 900), (100, 10**9), (10**9, None)]
)
async def test_ranges(
    registry: Registry, pieces: int, size: int, start: int, stop: int | None
) -> None:
    data = content(size)
    step = size // pieces + 1
    cut = [data[begin : begin + step] for begin in range(0, size, step)]
    digest = await finish(registry, await upload(registry, *cut), data)
    blob = await registry.blobs.find(A, digest)
    async with registry.blobs.read(blob, start, stop) as blocks:
        assert b"".join([block async for block in blocks]) == data[start:stop]


async def test_a_blob_is_seen_only_where_it_was_pushed(registry: Registry) -> None:
    await push_blob(registry, DATA)
    with pytest.raises(BlobUnknown):
        await registry.blobs.find(B, DIGEST)
    with pytest.raises(BlobUnknown):
        await registry.blobs.delete(B, DIGEST)
    await push_all(registry, [], B)
    with pytest.raises(ManifestBlobUnknown):
        await push_manifest(registry, image(DATA), repository=B)


@pytest.mark.parametrize("origin", [A, None])
async def test_a_mount(world: World, registry: Registry, origin: RepositoryName | None) -> None:
    await push_blob(registry, DATA)
    assert await registry.blobs.mount(B, DIGEST, origin, everyone)
    assert await read(registry, DIGEST, B) == DATA
    await registry.blobs.delete(A, DIGEST)
    assert await read(registry, DIGEST, B) == DATA
    assert len(await world.entries("b")) == 1


@pytest.mark.parametrize("origin", [A, None])
async def test_what_may_not_be_read_is_not_mounted(
    registry: Registry, origin: RepositoryName | None
) -> None:
    await push_blob(registry, DATA)
    assert not await registry.blobs.mount(B, DIGEST, origin, nobody)
    with pytest.raises(BlobUnknown):
        await registry.blobs.find(B, DIGEST)


async def test_a_mount_looks_for_a_repository_that_may_be_read(registry: Registry) -> None:
    await push_blob(registry, DATA)
    await push_blob(registry, DATA, B)
    third = RepositoryName("third")
    assert not await registry.blobs.mount(third, DIGEST, None, lambda name: name == third)
    assert await registry.blobs.mount(third, DIGEST, None, lambda name: name == B)


async def test_a_mount_from_where_the_blob_is_not(registry: Registry) -> None:
    await push_blob(registry, DATA)
    assert not await registry.blobs.mount(B, DIGEST, RepositoryName("third"), everyone)
    assert not await registry.blobs.mount(B, Digest.of(b"never"), None, everyone)


async def test_only_live_blobs_are_mounted(world: World, registry: Registry) -> None:
    await push_blob(registry, DATA)
    await world.collect()
    assert not await registry.blobs.mount(B, DIGEST, A, everyone)


async def test_deleting_hides_the_blob_and_keeps_what_pins_it(
    world: World, registry: Registry
) -> None:
    await push_all(registry, [DATA])
    await push_manifest(registry, image(DATA), "kept")
    await registry.blobs.delete(A, DIGEST)
    with pytest.raises(BlobUnknown):
        await registry.blobs.find(A, DIGEST)
    with pytest.raises(BlobUnknown):
        await registry.blobs.delete(A, DIGEST)
    await world.collect(4)
    assert await world.blob(DIGEST) is not None
    await push_blob(registry, DATA)
    assert await read(registry, DIGEST) == DATA
    assert len(await world.objects()) == 1
