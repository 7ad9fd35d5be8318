"""Receiving one request's bytes into an upload: a new part, hashed on its way, checkpointed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from itertools import takewhile

from ociappr.blobstore import BlobStore, Locator, Part, UploadId
from ociappr.digest import Hash, new_hash
from ociappr.errors import BlobUnknown, RangeInvalid, SizeInvalid, UploadUnknown
from ociappr.registry.records import UploadRecord
from ociappr.registry.sessions import Sessions, algorithm

_RUNNING = 1_000
_RUN = 64  # small parts at the end that are joined
_SMALL = 32 * 1024 * 1024  # bytes; in a large upload a 64th of it is small, too
_MOST_PARTS = 256  # a commit must be able to move each from one owner to another
_SEGMENTS = 32  # a segment is at least so small a part of what came before it


class RunningDigests:
    """Hashes of uploads under way, kept between requests: an optimisation, never the truth.

    A hash is given out only for exactly the parts that it has seen; else the parts are read back.
    """

    def __init__(self, capacity: int = _RUNNING) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[UploadId, tuple[tuple[Part, ...], Hash]] = OrderedDict()

    def take(self, upload: UploadId, parts: tuple[Part, ...]) -> Hash | None:
        """Return and forget the hash that has seen just *parts*, or None."""
        kept = self._kept.pop(upload, None)
        if not parts:
            return new_hash(algorithm(upload))
        return kept[1] if kept is not None and kept[0] == parts else None

    def keep(self, upload: UploadId, parts: tuple[Part, ...], running: Hash) -> None:
        """Remember that *running* has seen *parts*."""
        self._kept[upload] = (parts, running)
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)


class Receiver:
    """One request's view of an upload: what was committed before it, and the part it adds.

    *committed* is what the session's record names by now, checkpoints of this request included.
    """

    def __init__(
        self,
        sessions: Sessions,
        store: BlobStore,
        digests: RunningDigests,
        upload: UploadId,
        record: UploadRecord,
    ) -> None:
        self._sessions = sessions
        self._store = store
        self._digests = digests
        self._before = record.parts
        self.committed = record.parts
        self._part: Part | None = None
        self._interruption: Exception | None = None
        self.upload = upload
        self.running = digests.take(upload, record.parts)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, the one of this request included."""
        return (*self._before, self._part) if self._part is not None else self._before

    async def join(self) -> None:
        """Replace many small parts at the end by one, so that commits can go on naming all."""
        count = _to_join(self._before)
        if not count:
            return
        kept, small = self._before[:-count], self._before[-count:]
        locator, length = await self._store.stage(self.upload, read_back(self._store, small))
        parts = (*kept, Part(locator, length, closed=True))
        try:
            await self._sessions.extend(self.upload, self._before, parts)
        except (RangeInvalid, UploadUnknown):
            await self._store.delete(locator)
            raise
        self._before = self.committed = parts
        for part in small:
            await self._store.delete(part.locator)

    async def receive(self, chunks: AsyncIterable[bytes]) -> Exception | None:
        """Stage *chunks* as a new part; return what cut them short, if anything did.

        Where nothing is durable before the end of an object, every segment is a part of its own,
        committed as it ends. A `ConnectionError` or `TimeoutError` of *chunks* ends the part early
        and what came is kept; any other exception drops the part and passes on.
        """
        segments = Segments(self._feed(chunks))
        while await segments.more():
            size = self._segment()
            locator, length = await self._store.stage(
                self.upload, segments.next(size), reached=self._checkpoint
            )
            self._part = Part(locator, length, closed=True)
            if size is not None and length >= size:
                await self._settle()
        return self._interruption

    async def _settle(self) -> None:
        """Commit a segment that ended within the request; what follows is another part."""
        await self._extend()
        self._before, self._part = self.committed, None

    def _segment(self) -> int | None:
        """Return how many bytes to stage as one; few enough parts make up even a huge upload."""
        least = self._store.segment
        came = sum(part.length for part in self._before)
        return least and max(least, came // _SEGMENTS)

    async def commit(self) -> UploadRecord:
        """Make the part durable in the session; raise `RangeInvalid` if a rival was quicker."""
        record = await self._extend()
        if self.running is not None:
            self._digests.keep(self.upload, self.parts, self.running)
        return record

    async def drop(self) -> None:
        """Remove the part, unless a checkpoint of it was ever sent: the session may name it."""
        if self._part is not None and self.committed == self._before:
            await self._store.delete(self._part.locator)

    async def _extend(self) -> UploadRecord:
        try:
            record = await self._sessions.extend(self.upload, self.committed, self.parts)
        except (RangeInvalid, UploadUnknown):
            await self.drop()
            raise
        self.committed = self.parts
        return record

    async def _feed(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                if self.running is not None:
                    self.running.update(chunk)
                yield chunk
        except (ConnectionError, TimeoutError) as interruption:
            self._interruption = interruption

    async def _checkpoint(self, locator: Locator, length: int) -> None:
        parts = (*self._before, Part(locator, length, closed=False))
        expected, self.committed = self.committed, parts  # sent is as good as landed
        await self._sessions.extend(self.upload, expected, parts)


class Segments:
    """A stream cut into streams of so many bytes each, and what is left of a chunk."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._ahead = b""

    async def more(self) -> bool:
        """Tell whether any byte is left, waiting for it."""
        while not self._ahead:
            try:
                self._ahead = await anext(self._chunks)
            except StopAsyncIteration:
                return False
        return True

    async def next(self, size: int | None) -> AsyncIterator[bytes]:
        """Yield what comes until it is *size* bytes or more; None: everything."""
        came = 0
        while (size is None or came < size) and await self.more():
            chunk, self._ahead = self._ahead, b""
            came += len(chunk)
            yield chunk


async def read_back(store: BlobStore, parts: Sequence[Part]) -> AsyncIterator[bytes]:
    """Yield the bytes of *parts*; raise `UploadUnknown` when one is gone, and so the session."""
    try:
        for part in parts:
            async with store.read(part.locator, 0, part.length) as blocks:
                async for block in blocks:
                    yield block
    except BlobUnknown:
        raise UploadUnknown("this upload has ended") from None


async def sized(chunks: AsyncIterable[bytes], size: int | None) -> AsyncIterator[bytes]:
    """Yield *chunks*; raise `SizeInvalid` unless they are *size* bytes, if that is known."""
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if size is not None and seen > size:
            raise SizeInvalid(f"more than the announced {size} bytes came")
        yield chunk
    if size is not None and seen != size:
        raise SizeInvalid(f"{seen} bytes came where {size} were announced")


def _to_join(parts: tuple[Part, ...]) -> int:
    """Return how many parts at the end are to become one; each byte is joined a few times only."""
    bound = max(_SMALL, sum(part.length for part in parts) // _RUN)
    run = sum(1 for _ in takewhile(lambda part: part.length < bound, reversed(parts)))
    if run < _RUN:
        return len(parts) if len(parts) >= _MOST_PARTS else 0
    return run
