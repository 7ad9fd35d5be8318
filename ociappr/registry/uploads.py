"""Uploads: from the first chunk to a committed blob.

The order is a law: bytes before their name. Every byte that is staged belongs to a session whose
record was committed before; the commit that names the bytes consumes it. A request unlinks what it
staged only when it knows that no record names it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from ociappr.blobstore import BlobStore, Part, UploadId
from ociappr.digest import Digest, new_hash, verified
from ociappr.errors import (
    BlobUnknown,
    DigestInvalid,
    RangeInvalid,
    SizeInvalid,
    TooManyRequests,
    UploadUnknown,
)
from ociappr.metadata import MetadataStore, Transaction, transact
from ociappr.names import RepositoryName
from ociappr.registry import keys, naming
from ociappr.registry.blobs import is_visible
from ociappr.registry.naming import Staged
from ociappr.registry.receiving import Receiver, RunningDigests, read_back, sized
from ociappr.registry.records import BlobRecord, Event, UploadRecord, decode, stamp
from ociappr.registry.sessions import Sessions, algorithm
from ociappr.registry.settings import Settings


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes of a chunk within its blob, both ends included (``Content-Range: start-stop``)."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """An upload; *offset* is how many bytes are stored, so where the client goes on."""

    id: UploadId
    offset: int


class Uploads:
    """Receives blobs, in one request or many; any replica can go on with any upload."""

    def __init__(
        self,
        metadata: MetadataStore,
        store: BlobStore,
        sessions: Sessions,
        settings: Settings,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._store = store
        self._sessions = sessions
        self._settings = settings
        self._now = now
        self._digests = RunningDigests()
        self._receiving = 0

    async def begin(self, repository: RepositoryName, *, algorithm: str = "sha256") -> UploadStatus:
        """Return a fresh upload; nothing is written. Raises `DigestInvalid` for the algorithm."""
        return UploadStatus(self._sessions.begin(repository, algorithm), 0)

    async def status(self, repository: RepositoryName, upload: str) -> UploadStatus:
        """Return where *upload* stands; raise `UploadUnknown`."""
        id_ = self._sessions.check(repository, upload)
        record = await self._sessions.load(id_)
        return UploadStatus(id_, record.offset if record else 0)

    async def append(
        self,
        repository: RepositoryName,
        upload: str,
        chunks: AsyncIterable[bytes],
        *,
        span: Span | None = None,
        size: int | None = None,
    ) -> UploadStatus:
        """Store *chunks* behind what is there and return the new state.

        When *chunks* raises `ConnectionError` or `TimeoutError`, what came is kept, the upload can
        go on there, and the exception passes on. Raises `RangeInvalid` with the true offset when
        *span* does not fit or a rival chunk was quicker, `SizeInvalid`, `UploadUnknown`.
        """
        id_ = self._sessions.check(repository, upload)
        record = await self._sessions.load(id_)
        expected = _fit(span, record, size)
        with self._slot():
            record = record or await self._sessions.create(repository, id_)
            receiver = self._receiver(id_, record)
            await receiver.join()
            interruption = await receiver.receive(sized(chunks, expected))
            record = await receiver.commit()
        if interruption is not None:
            raise interruption
        return UploadStatus(id_, record.offset)

    async def finish(
        self,
        repository: RepositoryName,
        upload: str,
        digest: Digest,
        chunks: AsyncIterable[bytes],
        *,
        span: Span | None = None,
        size: int | None = None,
    ) -> int:
        """Close *upload* with the rest in *chunks*, make it the blob *digest*, return its size.

        Raises `DigestInvalid` when the bytes do not have the digest (the upload has ended then),
        `RangeInvalid`, `SizeInvalid`, `UploadUnknown`. A repeated request that had succeeded
        succeeds again.
        """
        id_ = self._sessions.check(repository, upload)
        try:
            record = await self._sessions.load(id_)
            _fit(span, record, size)
            with self._slot():
                if record is None:
                    return await self._finish_fresh(repository, id_, digest, chunks, size=size)
                return await self._close(repository, id_, record, digest, sized(chunks, size))
        except UploadUnknown:
            linked = await self._linked(repository, digest)
            if linked is None:
                raise
            return linked.size

    async def put(
        self,
        repository: RepositoryName,
        digest: Digest,
        chunks: AsyncIterable[bytes],
        *,
        size: int | None = None,
    ) -> int:
        """Store *chunks* as the blob *digest* and return its size; raise `DigestInvalid`.

        The bytes are always read and verified: knowing a digest is no right to the blob.
        """
        id_ = self._sessions.begin(repository, digest.algorithm)
        with self._slot():
            try:
                return await self._receive_whole(repository, id_, digest, chunks, size=size)
            except (DigestInvalid, SizeInvalid, ConnectionError, TimeoutError):
                await self._sessions.forget(id_)  # nobody was told of it: nobody can go on
                raise

    async def cancel(self, repository: RepositoryName, upload: str) -> None:
        """End *upload*; raise `UploadUnknown`."""
        await self._end(repository, self._sessions.check(repository, upload))

    async def stage(self, repository: RepositoryName, digest: Digest, data: bytes) -> Staged:
        """Stage *data*, whose digest is known to be *digest*, for a commit of the caller's own."""
        if len(data) <= self._settings.inline_limit:
            return Staged(digest, len(data), inline=data)
        id_ = self._sessions.begin(repository, digest.algorithm)
        return await self._stage_whole(repository, id_, digest, _once(data), size=len(data))

    # -- a blob in one request -------------------------------------------------------------------

    async def _finish_fresh(
        self,
        repository: RepositoryName,
        upload: UploadId,
        digest: Digest,
        chunks: AsyncIterable[bytes],
        *,
        size: int | None,
    ) -> int:
        """Make *chunks* the blob of an upload that has received nothing, or was finished before."""
        stream = aiter(chunks)
        first = await anext(stream, b"")
        if not first and (known := await self._linked(repository, digest)):
            return known.size  # the answer to the first try was lost
        try:
            body = _rejoined(first, stream)
            return await self._receive_whole(repository, upload, digest, body, size=size)
        except DigestInvalid:
            await self._end(repository, upload)
            raise

    async def _receive_whole(
        self,
        repository: RepositoryName,
        upload: UploadId,
        digest: Digest,
        chunks: AsyncIterable[bytes],
        *,
        size: int | None,
    ) -> int:
        """Name *chunks*; a small body is read whole, so that nothing is staged that is known."""
        if size is None or size > self._settings.small_body:
            staged = await self._stage_whole(repository, upload, digest, chunks, size=size)
            return await self._name(repository, staged)
        data = b"".join([chunk async for chunk in verified(chunks, digest, size=size)])
        staged = Staged(digest, size, inline=data)
        if size > self._settings.inline_limit and not await self._exists(digest):
            staged = await self._stage_whole(repository, upload, digest, _once(data), size=size)
        return await self._name(repository, staged)

    async def _stage_whole(
        self,
        repository: RepositoryName,
        upload: UploadId,
        digest: Digest,
        chunks: AsyncIterable[bytes],
        *,
        size: int | None,
    ) -> Staged:
        """Stage *chunks* straight under their digest's name, in a session made for them."""
        await self._sessions.create(repository, upload)
        locator, length = await self._store.stage(upload, sized(chunks, size), expected=digest)
        return Staged(digest, length, upload=upload, promoted=locator)

    # -- a blob in parts -------------------------------------------------------------------------

    async def _close(
        self,
        repository: RepositoryName,
        upload: UploadId,
        record: UploadRecord,
        digest: Digest,
        chunks: AsyncIterable[bytes],
    ) -> int:
        """Stage the rest, verify the whole and name it."""
        receiver = self._receiver(upload, record)
        interruption = await receiver.receive(chunks)
        if interruption is not None:
            await receiver.commit()
            raise interruption
        found = await self._digest(receiver, digest.algorithm)
        if found != digest:
            await self._end(repository, upload)  # a rival may have made the parts a blob's
            await receiver.drop()
            detail = {"given": str(digest), "computed": str(found)}
            hint = "the upload has ended: start again"
            raise DigestInvalid("the bytes do not have this digest", detail=detail, hint=hint)
        return await self._name(repository, await self._staged(receiver, digest))

    async def _staged(self, receiver: Receiver, digest: Digest) -> Staged:
        """Return the verified parts: inline, promoted, or as they lie, to be promoted later."""
        parts, upload = receiver.parts, receiver.upload
        size = sum(part.length for part in parts)
        staged = Staged(digest, size, upload=upload, parts=parts, committed=receiver.committed)
        if size <= self._settings.inline_limit:
            data = b"".join([block async for block in read_back(self._store, parts)])
            return replace(staged, inline=data)
        if not self._store.cheap(parts) or await self._exists(digest):
            return staged
        try:
            return replace(staged, promoted=await self._store.promote(upload, parts, digest))
        except BlobUnknown:
            raise UploadUnknown("this upload has ended") from None

    async def _digest(self, receiver: Receiver, wanted: str) -> Digest:
        """Return the digest of all parts: what ran along, or read back from the staged bytes."""
        if receiver.running is not None and algorithm(receiver.upload) == wanted:
            return Digest(wanted, receiver.running.hexdigest())
        running = new_hash(wanted)
        async for block in read_back(self._store, receiver.parts):
            running.update(block)
        return Digest(wanted, running.hexdigest())

    # -- commits and reads -----------------------------------------------------------------------

    async def _name(self, repository: RepositoryName, staged: Staged) -> int:
        """Commit the blob and its link; then, knowing that it succeeded, unlink what is spare."""
        now = stamp(self._now())

        link_key, blob_key = keys.link(staged.digest, repository), keys.blob(staged.digest)
        wanted = [link_key, blob_key, keys.repository(repository)]
        if staged.upload is not None:
            wanted.append(keys.upload(staged.upload))

        async def body(txn: Transaction) -> BlobRecord:
            found = await txn.peek_many(wanted)  # one read for all that is asked below
            known = _shown(found.get(blob_key), found.get(link_key))
            if known is not None and staged.upload is None:
                return known
            record = await naming.name(txn, staged, now=now)
            await naming.link(txn, repository, staged.digest, record.birth, now=now)
            event = Event("push-blob", str(repository), str(staged.digest), size=staged.size)
            naming.journal(txn, event, now=now)
            return record

        record = await transact(self._metadata, body)
        named = {locator for locator, _ in record.parts}
        await self._unlink(part for part in staged.parts if part.locator not in named)
        return staged.size

    async def _end(self, repository: RepositoryName, upload: UploadId) -> None:
        await self._unlink(await self._sessions.end(repository, upload))

    async def _unlink(self, parts: Iterable[Part]) -> None:
        """Remove staged bytes that are known to be nobody's; the sweeper would do it later."""
        for part in parts:
            await self._store.delete(part.locator)

    async def _exists(self, digest: Digest) -> bool:
        return bool(await self._metadata.get([keys.blob(digest)]))

    async def _linked(self, repository: RepositoryName, digest: Digest) -> BlobRecord | None:
        """Return the blob's record if *repository* shows it."""
        link_key, blob_key = keys.link(digest, repository), keys.blob(digest)
        found = await self._metadata.get([link_key, blob_key])
        blob, link = found.get(blob_key), found.get(link_key)
        return _shown(blob.value if blob else None, link.value if link else None)

    def _receiver(self, upload: UploadId, record: UploadRecord) -> Receiver:
        return Receiver(self._sessions, self._store, self._digests, upload, record)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Count this request among those that receive; raise `TooManyRequests` beyond the limit."""
        if self._receiving >= self._settings.open_uploads:
            raise TooManyRequests("too many uploads at once; try again in a moment")
        self._receiving += 1
        try:
            yield
        finally:
            self._receiving -= 1


def _shown(blob: bytes | None, link: bytes | None) -> BlobRecord | None:
    """Return the record that *blob* holds if the link of that value shows it."""
    if blob is None or link is None:
        return None
    record = decode(BlobRecord, blob)
    return record if is_visible(record, link) else None


def _fit(span: Span | None, record: UploadRecord | None, size: int | None) -> int | None:
    """Return how many bytes must come; raise unless *span* begins where the upload stands."""
    if span is None:
        return size
    offset = record.offset if record else 0
    if span.start != offset or span.stop < span.start:
        raise RangeInvalid(f"the upload goes on at byte {offset}", offset=offset)
    length = span.stop - span.start + 1
    if size is not None and size != length:
        raise SizeInvalid(f"Content-Range names {length} bytes, Content-Length {size}")
    return length


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _rejoined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
