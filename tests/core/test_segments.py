"""Uploads to a store where nothing is durable before the end of an object: cut into several."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ociappr.blobstore.memory import MemoryBlobs
from ociappr.digest import Digest
from ociappr.errors import RangeInvalid, SizeInvalid
from ociappr.metadata.memory import MemoryMetadata
from ociappr.registry import Registry
from ociappr.registry.records import UploadRecord, decode
from ociappr.registry.uploads import Span
from tests.core.world import A, World, broken, chunks, content, finish, push_blob, read, upload

SEGMENT = 100_000
PIECE = 30_000


@pytest.fixture
def world() -> World:
    return World(MemoryMetadata(), MemoryBlobs(segment=SEGMENT))


@pytest.fixture
async def registry(world: World) -> Registry:
    return await world.registry()


def pieces(data: bytes) -> list[bytes]:
    """Cut *data* as it comes from a connection."""
    return [data[at : at + PIECE] for at in range(0, len(data), PIECE)]


async def lengths(world: World) -> list[int]:
    """Return how long the parts of the one upload are."""
    (session,) = await world.entries("u")
    return [part.length for part in decode(UploadRecord, session.value).parts]


async def test_one_request_becomes_several_parts(world: World, registry: Registry) -> None:
    data = content(5 * SEGMENT)
    id_ = await upload(registry)
    status = await registry.uploads.append(A, id_, chunks(*pieces(data)))
    assert status.offset == len(data)
    assert await lengths(world) == [4 * PIECE] * 4 + [20_000]
    digest = await finish(registry, id_, data)
    assert await read(registry, digest) == data
    await world.collect(aged=False)
    record = await world.blob(digest)
    assert record is not None
    assert len(record.parts) == 1
    assert await read(registry, digest) == data
    await world.settle()
    assert await world.faults() == []


async def test_what_ends_on_a_segment_leaves_no_empty_part(
    world: World, registry: Registry
) -> None:
    data = content(2 * SEGMENT)
    id_ = await upload(registry, data[:SEGMENT], data[SEGMENT:])
    assert await lengths(world) == [SEGMENT, SEGMENT]
    assert await read(registry, await finish(registry, id_, data)) == data
    assert len(await world.objects()) == 2


async def test_each_segment_is_committed_as_it_ends(world: World, registry: Registry) -> None:
    data, seen = content(3 * SEGMENT), list[int]()
    id_ = await upload(registry)

    async def source() -> AsyncIterator[bytes]:
        for piece in pieces(data):
            yield piece
            seen.append((await (await world.registry()).uploads.status(A, id_)).offset)

    await registry.uploads.append(A, id_, source())
    assert sorted(set(seen)) == [0, 4 * PIECE, 8 * PIECE]


async def test_after_a_crash_the_upload_goes_on_behind_the_last_segment(
    world: World, registry: Registry
) -> None:
    data = content(3 * SEGMENT)
    id_ = await upload(registry)
    with pytest.raises(RuntimeError):
        await registry.uploads.append(A, id_, broken(*pieces(data), error=RuntimeError("crash")))
    other = await world.registry()
    offset = (await other.uploads.status(A, id_)).offset
    assert offset == 8 * PIECE
    rest = data[offset:]
    await other.uploads.append(A, id_, chunks(rest), span=Span(offset, len(data) - 1))
    assert await read(other, await finish(other, id_, data)) == data


async def test_an_interrupted_body_is_kept_to_its_last_byte(registry: Registry) -> None:
    data = content(SEGMENT + 3 * PIECE)
    id_ = await upload(registry)
    with pytest.raises(ConnectionResetError):
        await registry.uploads.append(A, id_, broken(*pieces(data), error=ConnectionResetError()))
    assert (await registry.uploads.status(A, id_)).offset == len(data)
    assert await read(registry, await finish(registry, id_, data)) == data


async def test_a_wrong_length_keeps_only_whole_segments(world: World, registry: Registry) -> None:
    data = content(SEGMENT + PIECE)
    id_ = await upload(registry)
    with pytest.raises(SizeInvalid):
        await registry.uploads.append(A, id_, chunks(*pieces(data)), size=len(data) + 1)
    assert await lengths(world) == [4 * PIECE]
    assert len(await world.objects()) == 1


async def test_a_rival_ends_a_request_at_its_next_segment(world: World, registry: Registry) -> None:
    data, other = content(3 * SEGMENT), await world.registry()
    id_ = await upload(registry)

    async def source() -> AsyncIterator[bytes]:
        yield data[:PIECE]
        await other.uploads.append(A, id_, chunks(b"rival"))
        for piece in pieces(data[PIECE:]):
            yield piece

    with pytest.raises(RangeInvalid):
        await registry.uploads.append(A, id_, source())
    assert await lengths(world) == [5]
    assert len(await world.objects()) == 1


async def test_a_closing_body_is_cut_too(world: World, registry: Registry) -> None:
    data = content(3 * SEGMENT)
    id_ = await upload(registry, data[:PIECE])
    digest = await finish(registry, id_, data, *pieces(data[PIECE:]))
    assert await read(registry, digest) == data
    record = await world.blob(digest)
    assert record is not None
    assert [length for _, length in record.parts] == [PIECE, 4 * PIECE, 4 * PIECE, PIECE]


async def test_a_blob_whose_digest_is_known_is_one_object(world: World, registry: Registry) -> None:
    data = content(5 * SEGMENT)
    assert await read(registry, await push_blob(registry, data)) == data
    assert len(await world.objects()) == 1


async def test_segments_grow_so_that_a_huge_upload_has_few(
    world: World, registry: Registry
) -> None:
    size = 200 * SEGMENT
    id_ = await upload(registry)
    piece = bytes(SEGMENT // 2)
    await registry.uploads.append(A, id_, chunks(*[piece] * (2 * size // SEGMENT)))
    found = await lengths(world)
    assert sum(found) == size
    assert found[:32] == [SEGMENT] * 32
    assert len(found) < 100
    assert await finish(registry, id_, bytes(size)) == Digest.of(bytes(size))
