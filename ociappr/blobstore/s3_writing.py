"""Writing objects to S3: in one request, or as a multipart upload that shows nothing until its end.

Whatever fails or is cancelled is taken back before the error passes on: both the upload and the
name, for the end of an upload and its abortion may cross, and both succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress

from ociappr.blobstore import Part
from ociappr.blobstore.s3_body import Body, Verifier, gather
from ociappr.blobstore.s3_bucket import Bucket
from ociappr.blobstore.s3_joining import MINIMUM, Range, plan
from ociappr.blobstore.shielding import to_the_end
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, StoreUnavailable

UNIT = 8 * 1024**2
"""Bytes of a part, and of a body that is sent in one request at most."""

_LARGE = 8  # units of a part in an upload so long that there might be too many
_LARGE_FROM = 5_000  # of 10,000
_FILLING = 64  # units that wait for their bytes, over all uploads: clients may be slow
_SENDING = 4  # units of parts that are under way, over all uploads
_COPYING = 4  # ranges that the server copies at once


class Room:
    """So many units of memory; who finds too few waits in line."""

    def __init__(self, units: int) -> None:
        self._units = units
        self._free = asyncio.Semaphore(units)
        self._line = asyncio.Lock()

    async def take(self, units: int) -> Callable[[], None]:
        """Wait for *units*, or all there are, and return what gives them back."""
        with ExitStack() as taken:
            async with self._line:  # one at a time: two might wait for each other's rest
                for _ in range(min(units, self._units)):
                    await self._free.acquire()
                    taken.callback(self._free.release)
            return taken.pop_all().close

    @asynccontextmanager
    async def taken(self, units: int) -> AsyncIterator[None]:
        """Hold *units* within the block."""
        give_back = await self.take(units)
        try:
            yield
        finally:
            give_back()


class Writer:
    """Writes new objects; all that are being written share one bound of memory."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._filling = Room(_FILLING)
        self._sending = Room(_SENDING)
        self._copying = Room(_COPYING)

    async def write(
        self, name: str, blocks: AsyncIterator[bytes], *, expected: Digest | None = None
    ) -> int:
        """Make *blocks* the object *name* and return its size; nothing of it is seen before.

        Raises `DigestInvalid` unless they are *expected*.
        """
        verifier = Verifier(expected)
        async with aclosing(self._parts(blocks)) as parts:
            part = await anext(parts)
            if part.size < UNIT:
                await self._put(name, part, verifier)
                return part.size
            async with self._multipart(name) as upload:
                await upload.send(part, verifier)
                async for part in parts:
                    await upload.send(part, verifier)
                verifier.verify()
                await upload.complete()
            return upload.size

    async def join(self, name: str, parts: Sequence[Part]) -> None:
        """Make the bytes of *parts*, which are there, the object *name*; raise `BlobUnknown`."""
        if sum(part.length for part in parts) < UNIT:
            ranges = [Range(part.locator, 0, part.length) for part in parts]
            async with aclosing(self._read_back(ranges)) as blocks:
                await self.write(name, blocks)
            return
        async with self._multipart(name) as upload:
            for piece in plan(parts):
                if len(piece) == 1 and piece[0].size >= MINIMUM:
                    await upload.copy(piece[0])
                else:
                    await self._send_again(piece, upload)
            await upload.complete()

    async def _send_again(self, piece: Sequence[Range], upload: Multipart) -> None:
        """Send as one part what the server would not copy, for it is too short."""
        size = sum(one.size for one in piece)
        async with self._filling.taken(_units(size)), aclosing(self._read_back(piece)) as blocks:
            body = Body()
            async for block in blocks:
                body.append(block)
            await upload.send(body, Verifier(None))

    async def _read_back(self, ranges: Sequence[Range]) -> AsyncGenerator[bytes, None]:
        for one in ranges:
            seen = 0
            blocks = self._bucket.read(one.locator, one.start, one.stop)
            async with aclosing(blocks):
                async for block in blocks:
                    seen += len(block)
                    yield block
            if seen != one.size:
                raise BlobUnknown("a part has lost bytes", detail={"locator": one.locator})

    @asynccontextmanager
    async def _multipart(self, name: str) -> AsyncIterator[Multipart]:
        """Begin a multipart upload, which is aborted unless the block ends well."""
        begun = asyncio.ensure_future(self._bucket.begin(name))
        upload: Multipart | None = None
        try:
            id_ = await to_the_end(begun)
            upload = Multipart(
                self._bucket, name, id_, sending=self._sending, copying=self._copying
            )
            yield upload
        except BaseException:
            if upload is not None:
                await to_the_end(upload.cancel())
            if begun.done() and not begun.cancelled() and begun.exception() is None:
                await to_the_end(self._take_back(name, begun.result()))
            raise

    async def _parts(self, blocks: AsyncIterator[bytes]) -> AsyncGenerator[Body, None]:
        """Cut *blocks* into parts, of which only the last is shorter; at least one, if empty.

        The room that a part fills is its own until the next one is asked for.
        """
        rest, number, is_last = b"", 0, False
        while not is_last:
            units = _LARGE if number >= _LARGE_FROM else 1
            async with self._filling.taken(units):
                part = Body()
                if rest:
                    part.append(rest)
                rest = await gather(blocks, part, units * UNIT)
                is_last = part.size < units * UNIT
                if part.size or not number:
                    yield part
            number += 1

    async def _put(self, name: str, part: Body, verifier: Verifier) -> None:
        sha256 = await part.sha256(verifier)
        verifier.verify()
        try:
            await self._bucket.put(name, part, sha256=sha256)
        except BaseException:
            await to_the_end(self._take_back(name))
            raise

    async def _take_back(self, name: str, upload: str | None = None) -> None:
        """Remove what may have come of a failed write; the sweeper gets what cannot be removed."""
        with suppress(StoreUnavailable):
            if upload is not None:
                await self._bucket.abort(name, upload)
            await self._bucket.delete(name)


class Multipart:
    """A multipart upload: parts are sent side by side, and `complete` gives them the name."""

    def __init__(
        self, bucket: Bucket, name: str, upload: str, *, sending: Room, copying: Room
    ) -> None:
        self._bucket = bucket
        self._name = name
        self._id = upload
        self._sending = sending
        self._copying = copying
        self._tasks: list[asyncio.Task[str]] = []
        self._error: BaseException | None = None
        self.size = 0

    async def send(self, body: Body, verifier: Verifier) -> None:
        """Send *body* as the next part, in the background; *verifier* sees its bytes.

        Raises what an earlier part met.
        """
        self._check()
        crc32 = await body.crc32(verifier)
        number = len(self._tasks) + 1

        async def sending() -> str:
            try:
                return await self._bucket.send_part(self._name, self._id, number, body, crc32=crc32)
            finally:
                body.clear()

        self._start(sending, body.size, await self._sending.take(_units(body.size)))

    async def copy(self, source: Range) -> None:
        """Make a range of another object the next part, in the background, as `send` does."""
        self._check()
        number = len(self._tasks) + 1

        async def copying() -> str:
            return await self._bucket.copy_part(self._name, self._id, number, source)

        self._start(copying, source.size, await self._copying.take(1))

    def _start(
        self, call: Callable[[], Coroutine[None, None, str]], size: int, done: Callable[[], None]
    ) -> None:
        def ended(task: asyncio.Task[str]) -> None:
            self._error = self._error or (None if task.cancelled() else task.exception())
            done()

        task = asyncio.create_task(call())
        task.add_done_callback(ended)
        self._tasks.append(task)
        self.size += size

    def _check(self) -> None:
        """Raise what an earlier part met."""
        if self._error is not None:
            raise self._error

    async def complete(self) -> None:
        """Wait for the parts and give the name to the whole."""
        tags = await asyncio.gather(*self._tasks)
        await self._bucket.complete(self._name, self._id, tags, size=self.size)

    async def cancel(self) -> None:
        """End what is under way: a part must not arrive behind the abortion."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _units(size: int) -> int:
    return -(-size // UNIT)
