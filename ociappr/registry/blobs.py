"""Blobs of a repository: find, read, mount, delete."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ociappr.blobstore import BlobStore, Files, Locator, Redirects
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown
from ociappr.metadata import MetadataStore, Transaction, scan_all, transact
from ociappr.names import RepositoryName
from ociappr.registry import keys, naming
from ociappr.registry.records import BlobRecord, BlobState, Event, decode, stamp

_BLOCK = 256 * 1024
_MOUNT_CANDIDATES = 100
_URL_AGE = timedelta(minutes=20)  # bytes rest longer than that before they are unlinked


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that may be read: its bytes, or where they lie."""

    digest: Digest
    size: int
    inline: bytes | None
    parts: tuple[tuple[Locator, int], ...]


class Blobs:
    """The blobs that each repository shows; knowing a digest is no right to its bytes."""

    def __init__(
        self, metadata: MetadataStore, store: BlobStore, *, now: Callable[[], datetime]
    ) -> None:
        self._metadata = metadata
        self._store = store
        self._files = store if isinstance(store, Files) else None
        self._redirects = store if isinstance(store, Redirects) else None
        self._now = now

    async def find(self, repository: RepositoryName, digest: Digest) -> Blob:
        """Return the blob if *repository* shows it; raise `BlobUnknown`."""
        link_key, blob_key = keys.link(digest, repository), keys.blob(digest)
        found = await self._metadata.get([link_key, blob_key])
        if link_key in found and blob_key in found:
            record = decode(BlobRecord, found[blob_key].value)
            if is_visible(record, found[link_key].value):
                return await self.load(digest, record)
        raise BlobUnknown(f"{repository} holds no blob {digest}", detail={"digest": str(digest)})

    async def load(self, digest: Digest, record: BlobRecord) -> Blob:
        """Return the blob of *record* whatever repository may see it; raise `BlobUnknown`."""
        data = None
        if not record.parts:
            key = keys.inline(digest, record.birth)
            entry = (await self._metadata.get([key])).get(key)
            if entry is None:
                raise BlobUnknown(f"{digest} was deleted meanwhile")
            data = entry.value
        return Blob(digest=digest, size=record.size, inline=data, parts=record.parts)

    @asynccontextmanager
    async def read(
        self, blob: Blob, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open bytes *start* to *stop* (exclusive) as a stream of blocks of at most 256 KiB.

        Raises `BlobUnknown` when the bytes were deleted meanwhile, at once or while streaming.
        """
        end = blob.size if stop is None else min(stop, blob.size)
        opened = self._stored if blob.inline is None else self._inline
        stream = opened(blob, start, end)
        try:
            yield stream
        finally:
            await stream.aclose()

    def file(self, blob: Blob) -> Path | None:
        """Return a file that begins with exactly this blob, or None when there is no single one."""
        if len(blob.parts) == 1 and self._files is not None:
            return self._files.path(blob.parts[0][0])
        return None

    async def url(self, blob: Blob, headers: Mapping[str, str]) -> str | None:
        """Return where a client can GET exactly this blob with *headers*, or None to send it."""
        if len(blob.parts) == 1 and blob.size and self._redirects is not None:
            return await self._redirects.url(blob.parts[0][0], _URL_AGE, headers)
        return None

    async def mount(
        self,
        repository: RepositoryName,
        digest: Digest,
        origin: RepositoryName | None,
        readable: Callable[[RepositoryName], bool],
    ) -> bool:
        """Link the blob here if *origin* (None: any repository) shows it and is *readable*.

        Returns whether it did; only live blobs are mounted.
        """
        now = stamp(self._now())
        source = origin if origin is not None else await self._holder(digest, readable)
        if source is None or not readable(source):
            return False

        async def body(txn: Transaction) -> bool:
            record = await naming.read_blob(txn, digest)
            birth = await txn.peek(keys.link(digest, source))
            if record is None or birth is None or not is_visible(record, birth):
                return False
            await naming.link(txn, repository, digest, record.birth, now=now)
            event = Event("mount", str(repository), digest=str(digest), size=record.size)
            naming.journal(txn, event, now=now)
            return True

        return await transact(self._metadata, body)

    async def delete(self, repository: RepositoryName, digest: Digest) -> None:
        """Take the blob out of *repository*; raise `BlobUnknown`.

        Its bytes stay while anything pins them and for the collector's grace.
        """
        now = stamp(self._now())

        async def body(txn: Transaction) -> None:
            key = keys.link(digest, repository)
            birth = await txn.get(key)
            value = await txn.peek(keys.blob(digest))
            if birth is None or value is None or not is_visible(decode(BlobRecord, value), birth):
                message = f"{repository} holds no blob {digest}"
                raise BlobUnknown(message, detail={"digest": str(digest)})
            txn.delete(key)
            event = Event("delete-blob", str(repository), digest=str(digest))
            naming.journal(txn, event, now=now)

        await transact(self._metadata, body)

    async def _holder(
        self, digest: Digest, readable: Callable[[RepositoryName], bool]
    ) -> RepositoryName | None:
        """Return a readable repository among the first that link the blob."""
        candidates = 0
        async for entry in scan_all(self._metadata, keys.links(digest), page=_MOUNT_CANDIDATES):
            name = RepositoryName(keys.parts(entry.key)[2])
            if readable(name):
                return name
            candidates += 1
            if candidates == _MOUNT_CANDIDATES:
                break
        return None

    async def _inline(self, blob: Blob, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        data = blob.inline or b""
        for offset in range(start, stop, _BLOCK):
            yield data[offset : min(offset + _BLOCK, stop)]

    async def _stored(self, blob: Blob, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield over the list of objects, each up to its recorded length: one may still grow."""
        offset = 0
        for locator, length in blob.parts:
            first, last = max(start - offset, 0), min(stop - offset, length)
            if first < last:
                async with self._store.read(locator, first, last) as blocks:
                    async for block in blocks:
                        yield block
            offset += length


def is_visible(record: BlobRecord, birth: bytes) -> bool:
    """Tell whether a link of *birth* shows the blob: one of another birth is void."""
    return record.state is BlobState.LIVE and record.birth.encode() == birth
