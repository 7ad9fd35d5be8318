"""What every blob store must keep, as tests; the promises are in ``ociappr/blobstore/__init__.py``.

A driver's test class inherits `BlobStoreContract` and offers the fixture `store`: an empty store.
One that tells `reached` about every `CHECKPOINT` bytes inherits `CheckpointContract` too, any other
`SegmentContract`. One whose bytes outlive it inherits `DurableContract` and offers `reopen`: a
function that closes `store` and opens its bytes again.
"""

from __future__ import annotations

import asyncio
import errno
import random
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import pytest

from ociappr.blobstore import BLOCK, BlobStore, Locator, Part, Stored, UploadId
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, DigestInvalid, StoreUnavailable

CHECKPOINT = 1024**2
UPLOAD = UploadId("20260101.a_b.sha256.0123")
RIVAL = UploadId("rival")

Reopen = Callable[[], Awaitable[BlobStore]]

_SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * CHECKPOINT + 7)
_FOREIGN = (
    "",
    "staging",
    "staging/",
    "staging/..",
    "../staging/a-00",
    "staging/../../a-00",
    "/staging/a-00",
    "/etc/passwd",
    "staging/a/b-00",
    "staging/a-00\n",
    "blobs/sha256/00/../a-00",
    f"blobs/sha256/aa/{'b' * 64}.a-00",
    f"blobs/sha256/aa/{'a' * 128}.a-00",
)


@lru_cache(maxsize=32)
def content(size: int, seed: int = 0) -> bytes:
    """Return *size* bytes that only *seed* gives."""
    return random.Random(seed).randbytes(size)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield *chunks*."""
    for chunk in chunks:
        yield chunk


async def cut(chunks: Iterable[bytes], error: BaseException) -> AsyncIterator[bytes]:
    """Yield *chunks*, letting others run, and then break."""
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk
    raise error


async def held(
    chunks: Iterable[bytes], arrived: asyncio.Event, gate: asyncio.Event
) -> AsyncIterator[bytes]:
    """Yield *chunks*, set *arrived*, and end when *gate* opens."""
    for chunk in chunks:
        yield chunk
    arrived.set()
    await gate.wait()


async def read(
    store: BlobStore, locator: Locator, start: int = 0, stop: int | None = None
) -> bytes:
    """Return a range of an object, whose blocks must have a proper size."""
    blocks: list[bytes] = []
    async with store.read(locator, start, stop) as source:
        async for block in source:
            assert 0 < len(block) <= BLOCK
            blocks.append(block)
    return b"".join(blocks)


async def every(store: BlobStore, after: Locator | None = None) -> list[Stored]:
    """Return what `walk` yields."""
    return [stored async for stored in store.walk(after)]


async def staged(store: BlobStore, data: bytes, upload: UploadId = UPLOAD) -> Part:
    """Stage *data* and return it as a closed part."""
    locator, length = await store.stage(upload, stream(data))
    return Part(locator, length, closed=True)


class Told:
    """A `reached` that notes what it was told, and then raises *error*."""

    def __init__(self, error: Exception | None = None) -> None:
        self.parts: list[Part] = []
        self.first = asyncio.Event()
        self._error = error
        self._inside = False

    async def __call__(self, locator: Locator, length: int) -> None:
        assert not self._inside
        self._inside = True
        await asyncio.sleep(0)
        self._inside = False
        self.parts.append(Part(locator, length, closed=False))
        self.first.set()
        if self._error is not None:
            raise self._error


class BlobStoreContract:
    """The promises of the port."""

    # -- round trips ---------------------------------------------------------------------------

    @pytest.mark.parametrize("size", _SIZES)
    async def test_what_is_staged_is_read_back(self, store: BlobStore, size: int) -> None:
        data = content(size)
        locator, length = await store.stage(UPLOAD, stream(data))
        assert length == size
        assert await read(store, locator) == data

    @pytest.mark.parametrize("size", _SIZES)
    async def test_what_is_staged_with_its_digest_is_promoted_at_once(
        self, store: BlobStore, size: int
    ) -> None:
        data = content(size)
        locator, length = await store.stage(UPLOAD, stream(data), expected=Digest.of(data))
        assert length == size
        assert await read(store, locator) == data
        assert await every(store) == [Stored(locator, UPLOAD, Digest.of(data), size)]

    @pytest.mark.parametrize("size", _SIZES)
    async def test_what_is_promoted_is_read_back(self, store: BlobStore, size: int) -> None:
        data = content(size)
        part = await staged(store, data)
        assert await read(store, await store.promote(UPLOAD, [part], Digest.of(data))) == data

    @pytest.mark.parametrize("step", [1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK])
    async def test_how_the_stream_is_cut_makes_no_difference(
        self, store: BlobStore, step: int
    ) -> None:
        data = content(3 * BLOCK + 5 if step > 1 else 999)
        chunks = [data[at : at + step] for at in range(0, len(data), step)]
        locator, length = await store.stage(UPLOAD, stream(b"", *chunks, b""))
        assert length == len(data)
        assert await read(store, locator) == data

    async def test_sha512_is_as_good(self, store: BlobStore) -> None:
        data = content(1000)
        digest = Digest.of(data, algorithm="sha512")
        locator, _ = await store.stage(UPLOAD, stream(data), expected=digest)
        other = await store.promote(RIVAL, [await staged(store, data)], digest)
        assert [await read(store, locator), await read(store, other)] == [data, data]
        assert [stored.digest for stored in await every(store)] == [digest, digest, None]

    # -- reading -------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("start", "stop"),
        [
            (0, 0),
            (0, 1),
            (5, 5),
            (BLOCK - 1, BLOCK + 1),
            (BLOCK, 2 * BLOCK),
            (1, 2 * BLOCK + 3),
            (2 * BLOCK + 9, None),
            (2 * BLOCK + 10, None),
            (7, None),
            (3, 10 * BLOCK),
            (10 * BLOCK, 11 * BLOCK),
        ],
    )
    async def test_a_range_is_read(self, store: BlobStore, start: int, stop: int | None) -> None:
        data = content(2 * BLOCK + 10)
        part = await staged(store, data)
        assert await read(store, part.locator, start, stop) == data[start:stop]

    async def test_a_reader_may_leave_early(self, store: BlobStore) -> None:
        data = content(4 * BLOCK)
        part = await staged(store, data)
        async with store.read(part.locator) as blocks:
            assert data.startswith(await anext(blocks))
        async with store.read(part.locator):
            pass
        assert await read(store, part.locator) == data

    async def test_readers_do_not_disturb_each_other(self, store: BlobStore) -> None:
        data = content(4 * BLOCK)
        part = await staged(store, data)
        found = await asyncio.gather(*(read(store, part.locator, at) for at in range(5)))
        assert found == [data[at:] for at in range(5)]

    @pytest.mark.parametrize(
        "error", [ConnectionResetError("peer"), OSError(errno.ENOSPC, "theirs"), KeyError("x")]
    )
    async def test_an_error_of_the_reader_passes_on_as_it_is(
        self, store: BlobStore, error: Exception
    ) -> None:
        part = await staged(store, content(4 * BLOCK))

        async def reader() -> None:
            async with store.read(part.locator) as blocks:
                await anext(blocks)
                raise error

        with pytest.raises(type(error)) as caught:
            await reader()
        assert caught.value is error

    async def test_a_cancelled_reader_lets_go(self, store: BlobStore) -> None:
        data = content(4 * BLOCK)
        part = await staged(store, data)

        async def reader() -> None:
            async with store.read(part.locator) as blocks:
                await anext(blocks)
                reading.set()
                while True:
                    await anext(blocks)
                    await asyncio.Event().wait()

        reading = asyncio.Event()
        task = asyncio.create_task(reader())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read(store, part.locator) == data

    async def test_what_is_gone_is_unknown(self, store: BlobStore) -> None:
        part = await staged(store, content(10))
        await store.delete(part.locator)
        with pytest.raises(BlobUnknown):
            await read(store, part.locator)

    @pytest.mark.parametrize("locator", _FOREIGN)
    async def test_what_is_no_locator_is_refused(self, store: BlobStore, locator: str) -> None:
        part = await staged(store, content(10))
        with pytest.raises(BlobUnknown):
            await read(store, Locator(locator))
        with pytest.raises(BlobUnknown):
            await store.delete(Locator(locator))
        foreign = Part(Locator(locator), 1, closed=True)
        with pytest.raises(BlobUnknown):
            await store.promote(UPLOAD, [foreign], Digest.of(b""))
        assert [stored.locator for stored in await every(store)] == [part.locator]

    @pytest.mark.parametrize("upload", ["", "a-b", "../a", "a/b", "a\n", "é"])
    async def test_what_is_no_upload_id_is_refused(self, store: BlobStore, upload: str) -> None:
        with pytest.raises(ValueError, match="upload id"):
            await store.stage(UploadId(upload), stream(b"x"))
        with pytest.raises(ValueError, match="upload id"):
            await store.promote(UploadId(upload), [await staged(store, b"x")], Digest.of(b"x"))
        assert len(await every(store)) == 1

    # -- fresh names ---------------------------------------------------------------------------

    async def test_no_locator_is_ever_made_twice(self, store: BlobStore) -> None:
        data = content(100)
        digest = Digest.of(data)
        seen: list[Locator] = []
        for _ in range(3):
            parts = await asyncio.gather(*(staged(store, data) for _ in range(8)))
            named = await asyncio.gather(
                *(store.promote(UPLOAD, [part], digest) for part in parts),
                *(store.promote(UPLOAD, [parts[0]], digest) for _ in range(8)),
            )
            direct = await asyncio.gather(
                *(store.stage(UPLOAD, stream(data), expected=digest) for _ in range(8))
            )
            made = [part.locator for part in parts] + named + [locator for locator, _ in direct]
            seen += made
            for locator in made:
                await store.delete(locator)
        assert len(set(seen)) == len(seen) == 96

    async def test_racing_parts_of_one_upload_do_not_mix(self, store: BlobStore) -> None:
        contents = [content(3 * BLOCK + seed, seed) for seed in range(4)]
        chunks = [[data[at : at + 9999] for at in range(0, len(data), 9999)] for data in contents]
        made = await asyncio.gather(*(store.stage(UPLOAD, stream(*some)) for some in chunks))
        assert [await read(store, locator) for locator, _ in made] == contents

    # -- promoting -----------------------------------------------------------------------------

    async def test_promoting_leaves_the_part(self, store: BlobStore) -> None:
        data = content(BLOCK + 1)
        part = await staged(store, data)
        named = await store.promote(UPLOAD, [part], Digest.of(data))
        assert await read(store, part.locator) == data
        await store.delete(part.locator)
        assert await read(store, named) == data

    async def test_a_part_outlives_what_was_promoted_from_it(self, store: BlobStore) -> None:
        data = content(BLOCK + 1)
        part = await staged(store, data)
        first, second = await asyncio.gather(
            *(store.promote(upload, [part], Digest.of(data)) for upload in (UPLOAD, RIVAL))
        )
        await store.delete(first)
        assert await read(store, part.locator) == data
        assert await read(store, second) == data

    async def test_one_part_may_get_several_digests(self, store: BlobStore) -> None:
        data = content(100)
        part = await staged(store, data)
        digests = [Digest.of(data), Digest.of(data, algorithm="sha512")]
        named = await asyncio.gather(*(store.promote(UPLOAD, [part], one) for one in digests))
        assert [await read(store, locator) for locator in named] == [data, data]

    @pytest.mark.parametrize("lengths", [(), (0,), (0, 0), (1, 0, 2), (BLOCK, BLOCK + 1), (5,) * 9])
    async def test_parts_are_joined_in_order(
        self, store: BlobStore, lengths: Sequence[int]
    ) -> None:
        contents = [content(length, seed) for seed, length in enumerate(lengths)]
        parts = [await staged(store, data) for data in contents]
        whole = b"".join(contents)
        named = await store.promote(UPLOAD, parts, Digest.of(whole))
        assert await read(store, named) == whole
        assert [await read(store, part.locator) for part in parts] == contents

    async def test_only_the_recorded_length_of_a_part_counts(self, store: BlobStore) -> None:
        data = content(2 * BLOCK)
        part = await staged(store, data)
        for parts, whole in (
            ([Part(part.locator, 9, closed=False)], data[:9]),
            ([Part(part.locator, 9, closed=True)], data[:9]),
            ([Part(part.locator, BLOCK + 3, closed=False), part], data[: BLOCK + 3] + data),
        ):
            named = await store.promote(UPLOAD, parts, Digest.of(whole))
            assert await read(store, named) == whole

    async def test_only_one_closed_part_is_cheap(self, store: BlobStore) -> None:
        part = await staged(store, content(10))
        assert store.cheap([part])
        assert not store.cheap([part, part])
        assert not store.cheap([Part(part.locator, part.length, closed=False)])

    @pytest.mark.parametrize("others", [0, 1])
    async def test_a_part_that_is_gone_leaves_nothing(self, store: BlobStore, others: int) -> None:
        kept = [await staged(store, content(BLOCK)) for _ in range(others)]
        gone = await staged(store, content(10))
        await store.delete(gone.locator)
        with pytest.raises(BlobUnknown):
            await store.promote(UPLOAD, [*kept, gone], Digest.of(b""))
        assert [stored.locator for stored in await every(store)] == [one.locator for one in kept]

    @pytest.mark.parametrize("closed", [True, False])
    async def test_a_part_that_lost_bytes_is_no_part(
        self, store: BlobStore, *, closed: bool
    ) -> None:
        part = await staged(store, content(10))
        with pytest.raises(BlobUnknown):
            await store.promote(UPLOAD, [Part(part.locator, 11, closed=closed)], Digest.of(b""))
        assert [stored.locator for stored in await every(store)] == [part.locator]

    # -- failing -------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, BLOCK + 1, 3 * BLOCK])
    async def test_other_bytes_than_expected_leave_nothing(
        self, store: BlobStore, size: int
    ) -> None:
        data = content(size)
        for chunks in ([data, b"x"], [data[:-1]] if data else [b"y"]):
            with pytest.raises(DigestInvalid):
                await store.stage(UPLOAD, stream(*chunks), expected=Digest.of(data))
        assert await every(store) == []

    @pytest.mark.parametrize(
        "error",
        [
            ConnectionResetError("peer"),
            TimeoutError("slow"),
            OSError(errno.ENOSPC, "theirs"),
            DigestInvalid("theirs"),
            asyncio.CancelledError(),
        ],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("promoted", [False, True])
    @pytest.mark.parametrize("blocks", [0, 1, 3])
    async def test_a_source_that_breaks_leaves_nothing(
        self, store: BlobStore, error: BaseException, blocks: int, *, promoted: bool
    ) -> None:
        other = await staged(store, content(10))
        data = content(BLOCK)
        expected = Digest.of(data * blocks) if promoted else None
        with pytest.raises(type(error)) as caught:
            await store.stage(UPLOAD, cut([data] * blocks, error), expected=expected)
        assert caught.value is error
        assert [stored.locator for stored in await every(store)] == [other.locator]

    @pytest.mark.parametrize("promoted", [False, True])
    async def test_cancelling_leaves_nothing(self, store: BlobStore, *, promoted: bool) -> None:
        data, arrived = content(3 * BLOCK), asyncio.Event()
        expected = Digest.of(data) if promoted else None
        source = held([data], arrived, asyncio.Event())
        task = asyncio.create_task(store.stage(UPLOAD, source, expected=expected))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await every(store) == []

    async def test_cancelling_anywhere_never_leaves_a_torn_object(self, store: BlobStore) -> None:
        data = content(BLOCK + 1)
        digest = Digest.of(data)
        for turns in range(40):
            task = asyncio.create_task(store.stage(UPLOAD, stream(data), expected=digest))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for stored in await every(store):
                assert stored.digest == digest
                assert await read(store, stored.locator) == data
                await store.delete(stored.locator)

    # -- deleting ------------------------------------------------------------------------------

    async def test_many_may_delete_one_object_at_once(self, store: BlobStore) -> None:
        for _ in range(5):
            locator, _ = await store.stage(UPLOAD, stream(b"content"))
            await asyncio.gather(*(store.delete(locator) for _ in range(8)))
        assert [one async for one in store.walk()] == []

    async def test_deleting_what_is_gone_is_no_error(self, store: BlobStore) -> None:
        data = content(10)
        part = await staged(store, data)
        named = await store.promote(UPLOAD, [part], Digest.of(data))
        for locator in (part.locator, named) * 2:
            await store.delete(locator)
        assert await every(store) == []

    async def test_deleting_one_leaves_its_twins(self, store: BlobStore) -> None:
        data = content(10)
        parts = [await staged(store, data) for _ in range(3)]
        named = [await store.promote(UPLOAD, [part], Digest.of(data)) for part in parts]
        await store.delete(parts[1].locator)
        await store.delete(named[1])
        left = [parts[0].locator, parts[2].locator, named[0], named[2]]
        assert {stored.locator for stored in await every(store)} == set(left)
        assert [await read(store, locator) for locator in left] == [data] * 4

    async def test_deleting_under_a_reader_never_shows_other_bytes(self, store: BlobStore) -> None:
        data, other = content(6 * BLOCK), content(6 * BLOCK, seed=1)
        part = await staged(store, data)
        found = b""
        try:
            async with store.read(part.locator) as blocks:
                async for block in blocks:
                    if not found:
                        await store.delete(part.locator)
                        await staged(store, other)
                    found += block
        except (BlobUnknown, StoreUnavailable):
            assert data.startswith(found)
        else:
            assert found == data

    # -- walking -------------------------------------------------------------------------------

    async def test_walking_finds_everything_in_order(self, store: BlobStore) -> None:
        made: list[Stored] = []
        for seed in range(12):
            upload, data = UploadId(f"u{seed % 3}.x"), content(seed, seed)
            algorithm = ("sha256", "sha512")[seed % 2]
            digest = Digest.of(data, algorithm=algorithm)
            part = await staged(store, data, upload)
            named = await store.promote(upload, [part], digest)
            made.append(Stored(part.locator, upload, None, seed))
            made.append(Stored(named, upload, digest, seed))
        found = await every(store)
        assert sorted(found, key=lambda stored: stored.locator) == sorted(
            made, key=lambda stored: stored.locator
        )
        assert await every(store) == found
        for at, stored in enumerate(found):
            assert await every(store, stored.locator) == found[at + 1 :]

    async def test_a_walk_goes_on_behind_what_is_gone(self, store: BlobStore) -> None:
        for seed in range(9):
            data = content(10, seed)
            await store.stage(UPLOAD, stream(data), expected=Digest.of(data))
            await staged(store, data)
        found = await every(store)
        for stored in found[::2]:
            await store.delete(stored.locator)
        for at in range(0, len(found), 2):
            assert await every(store, found[at].locator) == found[at + 1 :: 2]

    async def test_deleting_under_a_walk_does_not_disturb_it(self, store: BlobStore) -> None:
        for seed in range(9):
            data = content(10, seed)
            await store.stage(UPLOAD, stream(data), expected=Digest.of(data))
            await staged(store, data)
        before = await every(store)
        found: list[Stored] = []
        async for stored in store.walk():
            found.append(stored)
            await store.delete(stored.locator)
            await staged(store, b"later")
        assert [one for one in found if one in before] == before

    async def test_an_empty_store_has_nothing(self, store: BlobStore) -> None:
        assert await every(store) == []


class CheckpointContract:
    """What a store promises that tells `reached` about every `CHECKPOINT` bytes."""

    async def test_nothing_need_be_cut_for_it(self, store: BlobStore) -> None:
        assert store.segment is None

    async def test_an_open_part_is_promoted_while_its_writer_goes_on(
        self, store: BlobStore
    ) -> None:
        data = content(5 * CHECKPOINT)
        told, arrived, gate = Told(), asyncio.Event(), asyncio.Event()
        chunks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]

        async def source() -> AsyncIterator[bytes]:
            for chunk in chunks[:5]:
                yield chunk
            arrived.set()
            await gate.wait()
            for chunk in chunks[5:]:
                yield chunk

        writer = asyncio.create_task(store.stage(UPLOAD, source(), reached=told))
        await asyncio.gather(arrived.wait(), told.first.wait())
        part = told.parts[0]
        prefix = data[: part.length]
        named = await store.promote(RIVAL, [part], Digest.of(prefix))
        assert await read(store, named) == prefix
        gate.set()
        locator, length = await writer
        assert (locator, length) == (part.locator, len(data))
        assert await read(store, named) == prefix
        assert await read(store, locator) == data

    @pytest.mark.parametrize("promoted", [False, True])
    async def test_reached_tells_what_is_durable(self, store: BlobStore, *, promoted: bool) -> None:
        data, told = content(5 * CHECKPOINT + 1), Told()
        expected = Digest.of(data) if promoted else None
        found: list[bool] = []

        async def reached(locator: Locator, length: int) -> None:
            await told(locator, length)
            found.append(await read(store, locator, 0, length) == data[:length])

        chunks = [data[at : at + 70_001] for at in range(0, len(data), 70_001)]
        locator, _ = await store.stage(UPLOAD, stream(*chunks), expected=expected, reached=reached)
        assert found == [True] * len(told.parts)
        lengths = [part.length for part in told.parts]
        assert lengths[0] >= CHECKPOINT
        assert lengths[-1] <= len(data)
        assert all(later - sooner >= CHECKPOINT for sooner, later in pairwise(lengths))
        assert len({part.locator for part in told.parts}) == 1
        assert (told.parts[0].locator == locator) is not promoted
        assert await read(store, told.parts[0].locator) == data

    async def test_nothing_is_reached_below_the_checkpoint(self, store: BlobStore) -> None:
        told = Told()
        await store.stage(UPLOAD, stream(content(CHECKPOINT - 1)), reached=told)
        assert told.parts == []

    @pytest.mark.parametrize(
        "error", [ConnectionResetError("peer"), asyncio.CancelledError()], ids=["cut", "cancelled"]
    )
    @pytest.mark.parametrize("promoted", [False, True])
    async def test_what_was_reached_stays_when_the_source_breaks(
        self, store: BlobStore, error: BaseException, *, promoted: bool
    ) -> None:
        data, told = content(2 * CHECKPOINT), Told()
        expected = Digest.of(data) if promoted else None

        async def source() -> AsyncIterator[bytes]:
            yield data
            await told.first.wait()
            raise error

        with pytest.raises(type(error)) as caught:
            await store.stage(UPLOAD, source(), expected=expected, reached=told)
        assert caught.value is error
        part = told.parts[-1]
        assert await read(store, part.locator, 0, part.length) == data[: part.length]
        assert [stored.locator for stored in await every(store)] == [part.locator]

    async def test_what_was_reached_stays_when_its_caller_is_cancelled(
        self, store: BlobStore
    ) -> None:
        data, told, arrived = content(2 * CHECKPOINT), Told(), asyncio.Event()
        source = held([data], arrived, asyncio.Event())
        task = asyncio.create_task(store.stage(UPLOAD, source, reached=told))
        await asyncio.gather(arrived.wait(), told.first.wait())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        part = told.parts[0]
        assert await read(store, part.locator, 0, part.length) == data[: part.length]

    async def test_an_error_of_reached_ends_the_stream_and_keeps_what_it_was_told(
        self, store: BlobStore
    ) -> None:
        error = ConnectionResetError("no metadata")
        told, asked = Told(error), 0

        async def source() -> AsyncIterator[bytes]:
            nonlocal asked
            for asked in range(100):
                if asked == 2 * CHECKPOINT // BLOCK:
                    await told.first.wait()
                yield content(BLOCK)

        with pytest.raises(ConnectionResetError) as caught:
            await store.stage(UPLOAD, source(), reached=told)
        assert caught.value is error
        assert asked < 99
        assert len(told.parts) == 1
        part = told.parts[0]
        assert await read(store, part.locator, 0, BLOCK) == content(BLOCK)
        assert len(await read(store, part.locator, 0, part.length)) == part.length


class SegmentContract:
    """What a store promises where nothing of an object is durable before its end."""

    async def test_it_says_how_to_cut_and_reports_nothing(self, store: BlobStore) -> None:
        told = Told()
        await store.stage(UPLOAD, stream(content(3 * CHECKPOINT)), reached=told)
        assert store.segment
        assert told.parts == []


class DurableContract:
    """What a store promises whose bytes outlive it, and *memory*, the bytes it may take."""

    memory: ClassVar[int] = 3 * CHECKPOINT

    async def test_what_was_returned_or_reached_outlives_the_store(
        self, store: BlobStore, reopen: Reopen
    ) -> None:
        data, told = content(2 * CHECKPOINT), Told()
        part = await staged(store, data)
        direct, _ = await store.stage(UPLOAD, stream(data), expected=Digest.of(data))
        linked = await store.promote(UPLOAD, [part], Digest.of(data))
        joined = await store.promote(UPLOAD, [part, part], Digest.of(data * 2))
        source = cut([data, data], ConnectionResetError())
        with pytest.raises(ConnectionResetError):
            await store.stage(UPLOAD, source, reached=told)
        before = await every(store)
        again = await reopen()
        assert await every(again) == before
        for locator in (part.locator, direct, linked):
            assert await read(again, locator) == data
        assert await read(again, joined) == data * 2
        for open_part in told.parts:
            found = await read(again, open_part.locator, 0, open_part.length)
            assert found == (data * 2)[: open_part.length]

    @pytest.mark.parametrize(
        ("size", "step"), [(8 * CHECKPOINT, 4096), (64 * CHECKPOINT, CHECKPOINT)]
    )
    async def test_memory_is_bounded(self, store: BlobStore, size: int, step: int) -> None:
        allowed = self.memory + 3 * step

        async def source() -> AsyncIterator[bytes]:
            for _ in range(size // step):
                yield bytes(step)

        tracemalloc.start()
        try:
            locator, length = await store.stage(UPLOAD, source())
            async with store.read(locator) as blocks:
                seen = [len(block) async for block in blocks]
            part = Part(locator, length, closed=False)
            await store.promote(UPLOAD, [part], Digest.of(b"not looked at"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert sum(seen) == length == size
        assert peak < allowed
