"""Blobs as files of one volume: every object is one file, synced before anyone hears of it.

`staging/` and `blobs/` must be on one volume, which several processes may share. Blocks are written
on the event loop, for the kernel takes them into memory; what may wait for the disk is in a thread.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Self

from ociappr.blobstore import (
    BLOCK,
    Locator,
    Part,
    Reached,
    Stored,
    UploadId,
    is_snapshot_name,
    locators,
    volume,
)
from ociappr.blobstore.blocks import in_blocks
from ociappr.blobstore.shielding import to_the_end
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, StoreUnavailable

_COPIED = 16 * 1024**2  # bytes copied per thread hop: a cancelled copy ends after so many
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EXDEV})


class FilesystemBlobs:
    """Objects as files below one directory; made by `open`."""

    segment: int | None = None

    def __init__(
        self, root: Path, *, threaded: bool, checkpoint: int, nonce: locators.Nonce
    ) -> None:
        self._root = root
        self._threaded = threaded
        self._checkpoint = checkpoint
        self._nonce = nonce
        self._threads = volume.Threads()
        self._links = True
        self._sharded = {"sha256"}

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        threaded: bool = False,
        checkpoint: int = 256 * 1024**2,
        nonce: locators.Nonce = locators.nonce,
    ) -> Self:
        """Open the store in *root*, making what is absent; raise `StoreUnavailable`.

        *threaded* writes in threads, for disks whose plain writes stall (NFS). Every *checkpoint*
        bytes an object being written is synced and `reached` is told, beside the stream.
        """
        store = cls(root, threaded=threaded, checkpoint=checkpoint, nonce=nonce)
        await store._threads.run(volume.make_directories, root)
        return store

    async def stage(
        self,
        upload: UploadId,
        chunks: AsyncIterable[bytes],
        *,
        expected: Digest | None = None,
        reached: Reached | None = None,
    ) -> tuple[Locator, int]:
        """Store *chunks* as one new file."""
        async with (
            self._new_file(upload, reached=reached) as file,
            aclosing(in_blocks(chunks, expected)) as blocks,
        ):
            async for block in blocks:
                await file.write(block)
        if expected is None:
            return file.locator, file.length
        try:
            part = Part(file.locator, file.length, closed=True)
            return await self.promote(upload, [part], expected), file.length
        finally:
            if not file.reported:
                await to_the_end(self.delete(file.locator))

    async def promote(self, upload: UploadId, parts: Sequence[Part], digest: Digest) -> Locator:
        """Link the one closed part, or copy the recorded lengths, under the name of *digest*.

        A part is never renamed: a rival may have committed it under another digest.
        """
        locator = locators.promoted(digest, upload, self._nonce())
        target = self.path(locator)
        if digest.algorithm not in self._sharded:
            await self._threads.run(volume.make_shards, self._root, digest.algorithm)
            self._sharded.add(digest.algorithm)
        if self.cheap(parts) and await self._threads.run(self._link, parts[0], target):
            return locator
        async with self._new_file(upload) as file:
            for part in parts:
                async with self._opened(part.locator) as (source, _):
                    await file.copy(source, part)
        await self._threads.run(volume.publish, self.path(file.locator), target)
        return locator

    def cheap(self, parts: Sequence[Part], /) -> bool:
        """One closed part is linked, where the volume has hard links."""
        return self._links and len(parts) == 1 and parts[0].closed

    @asynccontextmanager
    async def read(
        self, locator: Locator, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a range of one file; deleting it meanwhile does not disturb."""
        async with self._opened(locator) as (source, size):
            end = size if stop is None else min(stop, size)
            async with aclosing(self._blocks(source, start, end)) as blocks:
                yield blocks

    async def delete(self, locator: Locator) -> None:
        """Unlink one file; if a power loss brings it back, it is nobody's, and swept."""
        await self._threads.run(volume.unlink, self.path(locator))

    async def walk(self, after: Locator | None = None) -> AsyncIterator[Stored]:
        """Yield the objects in the order of the locators' text, few directories at a time."""
        first = after.rpartition("/")[0] if after is not None else ""
        directories = iter([name for name in volume.DIRECTORIES if name >= first])
        while page := await self._threads.run(volume.listing, self._root, directories):
            for stored in page:
                if after is None or stored.locator > after:
                    yield stored

    async def put_snapshot(
        self, upload: UploadId, name: str, chunks: AsyncIterable[bytes], /
    ) -> int:
        """Write a staged file, then give it its name."""
        target = self._snapshot(name)
        async with self._new_file(upload) as file, aclosing(in_blocks(chunks, None)) as blocks:
            async for block in blocks:
                await file.write(block)
        await self._threads.run(volume.make_directory, target.parent)
        await self._threads.run(volume.publish, self.path(file.locator), target)
        return file.length

    async def snapshots(self) -> Sequence[tuple[str, int]]:
        """Return name and size of every snapshot."""
        return await self._threads.run(volume.snapshots, self._root / "snapshots")

    @asynccontextmanager
    async def read_snapshot(self, name: str, /) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a snapshot."""
        async with (
            self._opened_path(self._snapshot(name)) as (source, size),
            aclosing(self._blocks(source, 0, size)) as blocks,
        ):
            yield blocks

    async def delete_snapshot(self, name: str, /) -> None:
        """Unlink a snapshot."""
        await self._threads.run(volume.unlink, self._snapshot(name))

    async def close(self) -> None:
        """Wait for the system calls that are under way."""
        await self._threads.close()

    def path(self, locator: Locator) -> Path:
        """Return the file of *locator*; raise `BlobUnknown` for what is no locator."""
        locators.read(locator)
        return self._root / locator

    def _snapshot(self, name: str) -> Path:
        if not is_snapshot_name(name):
            raise BlobUnknown(f"there is no snapshot {name!a}")
        return self._root / "snapshots" / name

    @asynccontextmanager
    async def _new_file(
        self, upload: UploadId, *, reached: Reached | None = None
    ) -> AsyncIterator[_NewFile]:
        """Make a staged file that is durable at the end of the block, and removed if it fails."""
        locator = locators.staged(upload, self._nonce())
        file = _NewFile(
            self._threads,
            locator,
            self.path(locator),
            reached=reached,
            checkpoint=self._checkpoint,
            threaded=self._threaded,
        )
        try:
            await file.create()
            yield file
            await file.finish()
        except BaseException:
            await to_the_end(file.abandon())
            raise

    def _opened(self, locator: Locator) -> AbstractAsyncContextManager[tuple[int, int]]:
        """Open an object's file for reading, and tell its descriptor and size."""
        return self._opened_path(self.path(locator))

    @asynccontextmanager
    async def _opened_path(self, path: Path) -> AsyncIterator[tuple[int, int]]:
        opened = list[int]()
        try:
            size = await self._threads.run(volume.open_for_reading, path, opened)
            yield opened[0], size
        finally:
            for descriptor in opened:
                # the last close of an unlinked file frees its blocks: that may take long
                await self._threads.run(os.close, descriptor)

    async def _blocks(self, source: int, start: int, end: int) -> AsyncGenerator[bytes, None]:
        while start < end:
            block = await self._threads.run(os.pread, source, min(BLOCK, end - start), start)
            if not block:
                raise StoreUnavailable("the blob store's volume: a file has lost bytes")
            yield block
            start += len(block)

    def _link(self, part: Part, target: Path) -> bool:
        """Name a closed part's file *target*, durably; return whether the volume let us."""
        path, opened = self.path(part.locator), list[int]()
        try:
            if volume.open_for_reading(path, opened) != part.length:
                return False
            os.fsync(opened[0])
            os.link(path, target)
        except FileNotFoundError:
            raise volume.gone(path) from None
        except OSError as error:
            if error.errno not in _NO_LINKS | {errno.EMLINK}:
                raise
            self._links = self._links and error.errno not in _NO_LINKS
            return False
        finally:
            for descriptor in opened:
                os.close(descriptor)
        volume.sync_directory(target.parent)
        return True


class _NewFile:
    """A staged file while it is written."""

    def __init__(
        self,
        threads: volume.Threads,
        locator: Locator,
        path: Path,
        *,
        reached: Reached | None,
        checkpoint: int,
        threaded: bool,
    ) -> None:
        self.locator = locator
        self.length = 0
        self.reported = False
        self._threads = threads
        self._path = path
        self._reached = reached
        self._checkpoint = checkpoint
        self._threaded = threaded
        self._opened: list[int] = []
        self._created = False
        self._named = False
        self._synced = 0
        self._syncing: asyncio.Task[None] | None = None

    async def create(self) -> None:
        """Make the file; it must not exist."""
        await self._threads.run(self._create)

    async def write(self, block: bytes) -> None:
        """Append *block*."""
        if self._threaded or self._syncing is not None:
            # beside a sync of its file a write may have to wait for the disk
            await self._threads.run(self._write, block)
        else:
            with volume.translated():
                self._write(block)
        await self._grow(len(block))

    async def copy(self, source: int, part: Part) -> None:
        """Append the recorded length of *part*, which is open as *source*."""
        offset = 0
        while offset < part.length:
            size = min(_COPIED, part.length - offset)
            copied = await self._threads.run(volume.copy, source, self._opened[0], offset, size)
            if not copied:
                raise BlobUnknown("a part has lost bytes", detail={"locator": part.locator})
            offset += copied
            await self._grow(copied)

    async def finish(self) -> None:
        """Make everything durable and close the file."""
        await self._settle()
        await self._threads.run(self._finish)

    async def abandon(self) -> None:
        """Close the file, and remove it unless somebody was told of it."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.gather(self._syncing, return_exceptions=True)
        await self._threads.run(self._abandon)

    async def _grow(self, size: int) -> None:
        """Count *size* bytes; sync beside the stream when it is time, at most one sync behind."""
        self.length += size
        if self._syncing is not None and self._syncing.done():
            await self._settle()
        if self.length - self._synced >= self._checkpoint:
            await self._settle()
            self._synced = self.length
            self._syncing = asyncio.create_task(self._sync(self.length))

    async def _sync(self, length: int) -> None:
        await self._threads.run(self._sync_data)
        if self._reached is not None:
            self.reported = True
            await self._reached(self.locator, length)

    async def _settle(self) -> None:
        """Wait for the sync under way and raise what it met."""
        if self._syncing is not None:
            await self._syncing
            self._syncing = None

    def _create(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._opened.append(os.open(self._path, flags, 0o640))
        self._created = True

    def _write(self, block: bytes) -> None:
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._opened[0], rest) :]

    def _sync_data(self) -> None:
        os.fdatasync(self._opened[0])
        self._sync_name()

    def _sync_name(self) -> None:
        if not self._named:
            volume.sync_directory(self._path.parent)
            self._named = True

    def _finish(self) -> None:
        os.fsync(self._opened[0])
        self._sync_name()
        os.close(self._opened.pop())

    def _abandon(self) -> None:
        if self._opened:
            os.close(self._opened.pop())
        if self._created and not self.reported:
            volume.unlink(self._path)
