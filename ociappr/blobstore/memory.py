"""Blobs in memory: for tests and for registries that may forget."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from ociappr.blobstore import (
    BLOCK,
    Locator,
    Part,
    Reached,
    Stored,
    UploadId,
    is_snapshot_name,
    locators,
)
from ociappr.blobstore.blocks import in_blocks
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown


class MemoryBlobs:
    """Objects in a dict; *reached* is told every *checkpoint* bytes."""

    def __init__(
        self,
        *,
        checkpoint: int = 256 * 1024**2,
        segment: int | None = None,
        nonce: locators.Nonce = locators.nonce,
    ) -> None:
        self.segment = segment
        self._objects: dict[Locator, bytearray] = {}
        self._snapshots: dict[str, bytearray] = {}
        self._checkpoint = checkpoint
        self._nonce = nonce

    async def stage(
        self,
        upload: UploadId,
        chunks: AsyncIterable[bytes],
        *,
        expected: Digest | None = None,
        reached: Reached | None = None,
    ) -> tuple[Locator, int]:
        """Store *chunks* as one new object."""
        locator = locators.staged(upload, self._nonce())
        content, told, reported = bytearray(), 0, False
        self._objects[locator] = content
        try:
            async with aclosing(in_blocks(chunks, expected)) as blocks:
                async for block in blocks:
                    content += block
                    if reached is not None and len(content) - told >= self._checkpoint:
                        told, reported = len(content), True
                        await reached(locator, told)
        except BaseException:
            if not reported:
                self._objects.pop(locator, None)
            raise
        if expected is None:
            return locator, len(content)
        named = await self.promote(upload, [Part(locator, len(content), closed=True)], expected)
        if not reported:
            await self.delete(locator)
        return named, len(content)

    async def promote(self, upload: UploadId, parts: Sequence[Part], digest: Digest) -> Locator:
        """Give the joined bytes of *parts* a new object named by *digest*."""
        joined = bytearray()
        for part in parts:
            content = self._content(part.locator)[: part.length]
            if len(content) < part.length:
                raise BlobUnknown("a part has lost bytes", detail={"locator": part.locator})
            joined += content
        locator = locators.promoted(digest, upload, self._nonce())
        self._objects[locator] = joined
        return locator

    def cheap(self, parts: Sequence[Part], /) -> bool:
        """Tell that one closed part is named without moving bytes that others might wait for."""
        return len(parts) == 1 and parts[0].closed

    @asynccontextmanager
    async def read(
        self, locator: Locator, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a range of one object; deleting it meanwhile does not disturb."""
        async with aclosing(_blocks(self._content(locator), start, stop)) as blocks:
            yield blocks

    async def delete(self, locator: Locator) -> None:
        """Remove one object."""
        locators.read(locator)
        self._objects.pop(locator, None)

    async def walk(self, after: Locator | None = None) -> AsyncIterator[Stored]:
        """Yield what is there now in the order of the locators' text."""
        for locator in sorted(self._objects):
            content = self._objects.get(locator)
            if content is not None and (after is None or locator > after):
                yield Stored(locator, *locators.read(locator), len(content))

    async def put_snapshot(self, _: UploadId, name: str, chunks: AsyncIterable[bytes], /) -> int:
        """Keep *chunks* under *name*."""
        content = bytearray()
        async for chunk in chunks:
            content += chunk
        self._snapshots[name] = content
        return len(content)

    async def snapshots(self) -> Sequence[tuple[str, int]]:
        """Return name and size of every snapshot."""
        return [(name, len(content)) for name, content in sorted(self._snapshots.items())]

    @asynccontextmanager
    async def read_snapshot(self, name: str, /) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a snapshot."""
        if not is_snapshot_name(name) or name not in self._snapshots:
            raise BlobUnknown(f"there is no snapshot {name!a}")
        async with aclosing(_blocks(self._snapshots[name], 0, None)) as blocks:
            yield blocks

    async def delete_snapshot(self, name: str, /) -> None:
        """Forget a snapshot."""
        self._snapshots.pop(name, None)

    async def close(self) -> None:
        """Forget everything."""
        self._objects.clear()
        self._snapshots.clear()

    def _content(self, locator: Locator) -> bytearray:
        try:
            return self._objects[locator]
        except KeyError:
            raise BlobUnknown("the object is gone", detail={"locator": locator}) from None


async def _blocks(content: bytearray, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
    end = len(content) if stop is None else min(stop, len(content))
    for offset in range(start, end, BLOCK):
        yield bytes(content[offset : min(offset + BLOCK, end)])
