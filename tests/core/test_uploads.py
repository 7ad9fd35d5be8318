"""Uploads: every way in, interrupted, raced, cancelled, and gone on with by another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from ociappr.blobstore import Locator, Part
from ociappr.digest import Digest
from ociappr.errors import (
    BlobUnknown,
    DigestInvalid,
    RangeInvalid,
    SizeInvalid,
    TooManyRequests,
    UploadUnknown,
)
from ociappr.metadata import MAX_OPERATIONS
from ociappr.registry import Registry, Settings
from ociappr.registry.receiving import _to_join
from ociappr.registry.uploads import Span
from tests.core.world import (
    LARGE,
    MIDDLE,
    SMALL,
    A,
    B,
    World,
    broken,
    chunks,
    content,
    finish,
    push_blob,
    read,
    upload,
)

SIZES = [0, 1, SMALL, 16 * 1024, 16 * 1024 + 1, MIDDLE, 256 * 1024, 256 * 1024 + 1, LARGE]


async def settled(world: World) -> list[str]:
    """Let everything unpinned go, and return what is left that should not be."""
    await world.settle()
    return await world.faults()


# -- in one request


@pytest.mark.parametrize("size", SIZES)
async def test_one_request(world: World, registry: Registry, size: int) -> None:
    data = content(size)
    digest = await push_blob(registry, data)
    assert await read(registry, digest) == data
    record = await world.blob(digest)
    assert record is not None
    assert record.size == size
    assert not record.staged
    assert len(record.parts) == (size > world.settings.inline_limit)
    assert await world.entries("ux") == []
    assert len(await world.objects()) == len(record.parts)
    assert await settled(world) == []


@pytest.mark.parametrize("size", SIZES)
async def test_one_request_of_unknown_length(registry: Registry, size: int) -> None:
    data = content(size)
    digest = Digest.of(data)
    assert await registry.uploads.put(A, digest, chunks(data)) == size
    assert await read(registry, digest) == data


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
async def test_a_mismatch_leaves_nothing(world: World, registry: Registry, size: int) -> None:
    wrong = Digest.of(b"something else")
    with pytest.raises(DigestInvalid):
        await registry.uploads.put(A, wrong, chunks(content(size)), size=size)
    assert await world.objects() == []
    assert await world.entries("biluo") == []
    with pytest.raises(BlobUnknown):
        await registry.blobs.find(A, wrong)


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
async def test_a_mismatch_ends_an_upload(registry: Registry, size: int) -> None:
    data = content(size)
    upload = await registry.uploads.begin(A)
    with pytest.raises(DigestInvalid):
        await registry.uploads.finish(A, upload.id, Digest.of(b"x"), chunks(data), size=size)
    with pytest.raises(UploadUnknown):
        await registry.uploads.finish(A, upload.id, Digest.of(data), chunks(data), size=size)


@pytest.mark.parametrize("size", [0, None])
async def test_closing_again_with_nothing_succeeds_again(
    registry: Registry, size: int | None
) -> None:
    data = content(LARGE)
    upload = await registry.uploads.begin(A)
    await registry.uploads.append(A, upload.id, chunks(data))
    for _ in range(2):
        args = (A, upload.id, Digest.of(data), chunks(b""))
        assert await registry.uploads.finish(*args, size=size) == LARGE


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("said", [-1, 1])
async def test_a_wrong_length(world: World, registry: Registry, size: int, said: int) -> None:
    data = content(size)
    with pytest.raises(SizeInvalid):
        await registry.uploads.put(A, Digest.of(data), chunks(data), size=size + said)
    assert await world.objects() == []
    assert await world.entries("bilu") == []


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("cause", [ConnectionResetError, TimeoutError])
async def test_one_request_that_breaks_off_leaves_nothing(
    world: World, registry: Registry, size: int, cause: type[Exception]
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield content(size)
        raise cause

    with pytest.raises(cause):
        await registry.uploads.put(A, Digest.of(content(size)), broken(), size=size * 2)
    assert await world.objects() == []
    assert await world.entries("bilu") == []


async def test_pushing_again_stores_nothing_twice(world: World, registry: Registry) -> None:
    data = content(LARGE)
    digest = await push_blob(registry, data)
    await push_blob(registry, data, B)
    assert await read(registry, digest, B) == data
    await world.collect(2)
    assert len(await world.objects()) <= 1


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
async def test_sha512(world: World, registry: Registry, size: int) -> None:
    data = content(size)
    digest = Digest.of(data, algorithm="sha512")
    await registry.uploads.put(A, digest, chunks(data), size=size)
    assert await read(registry, digest) == data
    with pytest.raises(BlobUnknown):
        await registry.blobs.find(A, Digest.of(data))
    assert await settled(world) == []


# -- in chunks


@pytest.mark.parametrize("last", [b"", content(SMALL, "last"), content(LARGE, "last")])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [SMALL, MIDDLE])
async def test_chunks(world: World, registry: Registry, last: bytes, count: int, size: int) -> None:
    pieces = [content(size, f"{number}") for number in range(count)]
    id_ = await upload(registry, *pieces)
    assert (await registry.uploads.status(A, id_)).offset == size * count
    data = b"".join(pieces) + last
    digest = await finish(registry, id_, data, *([last] if last else []))
    assert await read(registry, digest) == data
    await world.collect(aged=False)
    record = await world.blob(digest)
    assert record is not None
    assert len(record.parts) == (len(data) > world.settings.inline_limit)
    assert not record.staged
    assert await read(registry, digest) == data
    assert await settled(world) == []


async def test_beginning_writes_nothing(world: World, registry: Registry) -> None:
    before = await world.entries("rtmfpalboiuxhek")
    id_ = await upload(registry)
    assert (await registry.uploads.status(A, id_)).offset == 0
    assert await world.entries("rtmfpalboiuxhek") == before


async def test_a_chunk_out_of_order_hears_the_true_offset(registry: Registry) -> None:
    id_ = await upload(registry, b"first")
    for start in (0, 4, 6):
        with pytest.raises(RangeInvalid) as caught:
            span = Span(start, start + 3)
            await registry.uploads.append(A, id_, chunks(b"next"), span=span)
        assert caught.value.offset == 5
    await registry.uploads.append(A, id_, chunks(b"next"), span=Span(5, 8))
    assert await read(registry, await finish(registry, id_, b"firstnext")) == b"firstnext"


async def test_a_first_chunk_must_begin_at_the_beginning(world: World, registry: Registry) -> None:
    id_ = await upload(registry)
    with pytest.raises(RangeInvalid) as caught:
        await registry.uploads.append(A, id_, chunks(b"x"), span=Span(1, 1))
    assert caught.value.offset == 0
    assert await world.entries("u") == []


async def test_the_last_chunk_may_be_out_of_order_too(registry: Registry) -> None:
    id_ = await upload(registry, b"first")
    digest = Digest.of(b"firstlast")
    with pytest.raises(RangeInvalid):
        await registry.uploads.finish(A, id_, digest, chunks(b"last"), span=Span(4, 7))
    await registry.uploads.finish(A, id_, digest, chunks(b"last"), span=Span(5, 8))
    assert await read(registry, digest) == b"firstlast"


async def test_a_span_of_another_length_than_the_body(registry: Registry) -> None:
    id_ = await upload(registry)
    with pytest.raises(SizeInvalid):
        await registry.uploads.append(A, id_, chunks(b"four"), span=Span(0, 3), size=5)
    with pytest.raises(SizeInvalid):
        await registry.uploads.append(A, id_, chunks(b"four"), span=Span(0, 9))
    assert (await registry.uploads.status(A, id_)).offset == 0


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), TimeoutError("slow")])
async def test_an_interrupted_body_is_kept(registry: Registry, error: Exception) -> None:
    id_ = await upload(registry, b"one")
    with pytest.raises(type(error)):
        await registry.uploads.append(A, id_, broken(b"two", error=error))
    assert (await registry.uploads.status(A, id_)).offset == 6
    await registry.uploads.append(A, id_, chunks(b"three"), span=Span(6, 10))
    digest = await finish(registry, id_, b"onetwothree")
    assert await read(registry, digest) == b"onetwothree"


async def test_an_interrupted_closing_body_is_kept(registry: Registry) -> None:
    id_ = await upload(registry, b"one")
    data = b"onetwothree"
    body = broken(b"two", error=ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError):
        await registry.uploads.finish(A, id_, Digest.of(data), body)
    assert (await registry.uploads.status(A, id_)).offset == 6
    assert await read(registry, await finish(registry, id_, data, b"three")) == data


async def test_another_failure_drops_the_chunk(world: World, registry: Registry) -> None:
    id_ = await upload(registry, b"one")
    with pytest.raises(RuntimeError):
        await registry.uploads.append(A, id_, broken(b"two", error=RuntimeError("ours")))
    assert (await registry.uploads.status(A, id_)).offset == 3
    assert len(await world.objects()) == 1


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_another_process_goes_on(world: World, registry: Registry, algorithm: str) -> None:
    pieces = [content(MIDDLE, f"{number}") for number in range(3)]
    id_ = await upload(registry, pieces[0], algorithm=algorithm)
    other = await world.registry()
    await other.uploads.append(A, id_, chunks(pieces[1]), span=Span(MIDDLE, 2 * MIDDLE - 1))
    third = await world.registry()
    digest = Digest.of(b"".join(pieces), algorithm=algorithm)
    await third.uploads.finish(A, id_, digest, chunks(pieces[2]))
    assert await read(registry, digest) == b"".join(pieces)


async def test_a_running_hash_of_another_past_is_not_believed(
    world: World, registry: Registry
) -> None:
    """This process hashed "one", another added "two"; this one must not go on with its own."""
    id_ = await upload(registry, b"one")
    await (await world.registry()).uploads.append(A, id_, chunks(b"two"))
    digest = await finish(registry, id_, b"onetwothree", b"three")
    assert await read(registry, digest) == b"onetwothree"


async def test_the_digest_may_be_of_another_algorithm_than_announced(registry: Registry) -> None:
    id_ = await upload(registry, b"one", b"two")
    digest = Digest.of(b"onetwo", algorithm="sha512")
    await registry.uploads.finish(A, id_, digest, chunks())
    assert await read(registry, digest) == b"onetwo"


async def test_an_unknown_algorithm(registry: Registry) -> None:
    with pytest.raises(DigestInvalid):
        await registry.uploads.begin(A, algorithm="md5")


@pytest.mark.parametrize("pieces", [(b"one", b"two"), (content(LARGE),)])
@pytest.mark.parametrize("last", [(), (b"three",)])
async def test_a_mismatch_at_the_end_ends_the_upload(
    world: World, registry: Registry, pieces: tuple[bytes, ...], last: tuple[bytes, ...]
) -> None:
    id_ = await upload(registry, *pieces)
    with pytest.raises(DigestInvalid):
        await registry.uploads.finish(A, id_, Digest.of(b"no"), chunks(*last))
    assert await world.objects() == []
    for attempt in (
        registry.uploads.status(A, id_),
        registry.uploads.append(A, id_, chunks(b"more")),
        finish(registry, id_, b"".join((*pieces, *last))),
    ):
        with pytest.raises(UploadUnknown):
            await attempt


async def test_many_chunks_become_few_parts(world: World, registry: Registry) -> None:
    pieces = [b"%3d" % number * 10 for number in range(140)]
    id_ = await upload(registry, *pieces)
    (session,) = await world.sessions()
    assert len(session.parts) < 70
    assert sorted(await world.objects()) == sorted(part.locator for part in session.parts)
    digest = await finish(registry, id_, b"".join(pieces))
    assert await read(registry, digest) == b"".join(pieces)
    assert await settled(world) == []


@pytest.mark.slow
async def test_more_chunks_than_a_commit_could_name(memory: World) -> None:
    registry = await memory.registry()
    pieces = [content(SMALL, f"{number}") for number in range(MAX_OPERATIONS + 100)]
    id_ = await upload(registry, *pieces)
    digest = await finish(registry, id_, b"".join(pieces))
    await memory.collect(aged=False)
    assert await read(registry, digest) == b"".join(pieces)
    assert await settled(memory) == []


@pytest.mark.parametrize(
    ("mebibytes", "joined"),
    [
        ([1] * 63, 0),
        ([1] * 64, 64),
        ([40] + [1] * 64, 64),
        ([1, 40] * 40, 0),
        (([1] * 63 + [4_000]) * 4, 256),
        ([40] * 63, 0),
        ([4_000] + [40] * 64, 64),
    ],
)
def test_which_parts_are_joined(mebibytes: list[int], joined: int) -> None:
    parts = tuple(Part(Locator("x"), size * 1024**2, closed=True) for size in mebibytes)
    assert _to_join(parts) == joined


# -- races


async def test_a_wrong_digest_harms_no_rival_end(registry: Registry) -> None:
    """The rival ends the upload while we hash: its parts are a blob's now."""
    pieces = (content(MIDDLE, "1"), content(MIDDLE, "2"))
    id_ = await upload(registry, *pieces)

    async def overtaken() -> AsyncIterator[bytes]:
        await finish(registry, id_, b"".join(pieces))
        yield b"more"

    with pytest.raises((DigestInvalid, UploadUnknown)):
        await registry.uploads.finish(A, id_, Digest.of(b"no"), overtaken())
    assert await read(registry, Digest.of(b"".join(pieces))) == b"".join(pieces)


async def test_racing_chunks_of_one_offset(world: World, registry: Registry) -> None:
    pieces = [content(MIDDLE, f"{number}") for number in range(4)]
    id_ = await upload(registry, b"begun")
    results = await asyncio.gather(
        *(
            registry.uploads.append(A, id_, chunks(piece), span=Span(5, 4 + MIDDLE))
            for piece in pieces
        ),
        return_exceptions=True,
    )
    winners = [
        piece
        for piece, result in zip(pieces, results, strict=True)
        if not isinstance(result, BaseException)
    ]
    losers = [result for result in results if isinstance(result, BaseException)]
    assert len(winners) == 1
    assert all(isinstance(one, RangeInvalid) and one.offset == 5 + MIDDLE for one in losers)
    assert len(await world.objects()) == 2
    data = b"begun" + winners[0]
    assert await read(registry, await finish(registry, id_, data)) == data


async def test_racing_first_chunks(world: World, registry: Registry) -> None:
    id_ = await upload(registry)
    other = await world.registry()
    results = await asyncio.gather(
        registry.uploads.append(A, id_, chunks(b"mine"), span=Span(0, 3)),
        other.uploads.append(A, id_, chunks(b"your"), span=Span(0, 3)),
        return_exceptions=True,
    )
    assert sorted(isinstance(result, RangeInvalid) for result in results) == [False, True]
    data = b"your" if isinstance(results[0], RangeInvalid) else b"mine"
    assert await read(registry, await finish(registry, id_, data)) == data


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
async def test_racing_ends_of_one_upload(world: World, registry: Registry, size: int) -> None:
    data = content(size)
    id_ = await upload(registry, data)
    others = [registry, await world.registry(), await world.registry()]
    digests = await asyncio.gather(*(finish(one, id_, data) for one in others))
    assert await read(registry, digests[0]) == data
    await world.collect(aged=False)
    record = await world.blob(digests[0])
    assert record is not None
    assert sorted(await world.objects()) == sorted(place for place, _ in record.parts)


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
async def test_racing_first_pushes(world: World, registry: Registry, size: int) -> None:
    data = content(size)
    others = [registry, await world.registry(), await world.registry()]
    homes = (A, B, A)
    digests = await asyncio.gather(
        *(push_blob(one, data, home) for one, home in zip(others, homes, strict=True))
    )
    assert await read(registry, digests[0]) == await read(registry, digests[0], B) == data
    assert await settled(world) == []


# -- the life of a session


async def test_a_repeated_end_succeeds_again(world: World, registry: Registry) -> None:
    data = content(MIDDLE)
    for pieces in ((), (data,)):
        id_ = await upload(registry, *pieces)
        last = () if pieces else (data,)
        digest = await finish(registry, id_, data, *last)
        await finish(registry, id_, data)
        await finish(await world.registry(), id_, data, *last)
        assert await read(registry, digest) == data


async def test_a_repeated_end_of_another_digest(registry: Registry) -> None:
    id_ = await upload(registry, b"data")
    await finish(registry, id_, b"data")
    with pytest.raises(DigestInvalid):
        await finish(registry, id_, b"other")


async def test_a_cancelled_upload(world: World, registry: Registry) -> None:
    for pieces in ((), (content(MIDDLE), content(SMALL))):
        id_ = await upload(registry, *pieces)
        await registry.uploads.cancel(A, id_)
        assert await world.objects() == []
        for attempt in (
            registry.uploads.status(A, id_),
            registry.uploads.append(A, id_, chunks(b"more")),
            registry.uploads.cancel(A, id_),
            finish(registry, id_, b"".join(pieces)),
        ):
            with pytest.raises(UploadUnknown):
                await attempt
    await world.settle()
    assert await world.entries("u") == []


async def test_an_upload_that_is_not_ours(registry: Registry) -> None:
    id_ = await upload(registry, b"data")
    forged = f"{id_[:-1]}{'1' if id_[-1] == '0' else '0'}"
    for repository, name in ((B, id_), (A, forged), (A, "nonsense"), (A, "a.b.c.d"), (A, "\udce9")):
        with pytest.raises(UploadUnknown):
            await registry.uploads.status(repository, name)


async def test_an_idle_session_expires(world: World, registry: Registry) -> None:
    id_ = await upload(registry, content(MIDDLE))
    world.clock.advance(world.settings.session_age)
    await world.collect(aged=False)
    assert (await registry.uploads.status(A, id_)).offset == MIDDLE
    world.clock.advance(timedelta(seconds=2))
    assert (await world.collect(aged=False)).expired == 1
    assert await world.objects() == []
    with pytest.raises(UploadUnknown):
        await registry.uploads.status(A, id_)


async def test_a_session_that_goes_on_does_not_expire(world: World, registry: Registry) -> None:
    id_ = await upload(registry, b"one")
    for _ in range(4):
        world.clock.advance(world.settings.session_age / 2)
        await registry.uploads.append(A, id_, chunks(b"more"))
        await world.collect(aged=False)
    assert await read(registry, await finish(registry, id_, b"one" + b"more" * 4))


async def test_a_fresh_id_expires_too(world: World, registry: Registry) -> None:
    id_ = await upload(registry)
    world.clock.advance(world.settings.session_age + timedelta(seconds=2))
    with pytest.raises(UploadUnknown):
        await registry.uploads.append(A, id_, chunks(b"late"))


async def test_only_so_many_uploads_receive_at_once(world: World) -> None:
    registry = await world.registry(Settings(open_uploads=1))
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"one"
        entered.set()
        await leave.wait()
        yield b"two"

    id_ = await upload(registry)
    first = asyncio.create_task(registry.uploads.append(A, id_, slow()))
    await entered.wait()
    with pytest.raises(TooManyRequests):
        await push_blob(registry, b"data")
    leave.set()
    assert (await first).offset == 6
    await push_blob(registry, b"data")
