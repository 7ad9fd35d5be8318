"""Blobs as objects in an S3 bucket: the locators are the keys, below a prefix.

Nothing of an object is there before it is whole, so `stage` reports nothing as reached, and an
upload is cut into objects of a segment each: a crash costs no more than one of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from aiobotocore.session import AioSession

from ociappr.blobstore import (
    Locator,
    Part,
    Reached,
    Stored,
    UploadId,
    is_snapshot_name,
    locators,
)
from ociappr.blobstore.blocks import in_blocks
from ociappr.blobstore.s3_bucket import Bucket
from ociappr.blobstore.s3_client import S3Access
from ociappr.blobstore.s3_writing import Writer
from ociappr.blobstore.shielding import to_the_end
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, StoreUnavailable

__all__ = ["Redirect", "S3Access", "S3Blobs"]

Redirect = Literal["auto", "always", "never"]
"""Whether clients are sent to the bucket: `auto` where they can be expected to reach it."""

_SNAPSHOTS = "snapshots/"
_CHEAP = 256 * 1024**2  # bytes that a server copies in a second or so
_COPIED = 5 * 1024**3  # bytes that one request may copy
_ABANDONED = timedelta(days=7)  # no request lasts as long as that


class S3Blobs:
    """Objects in a bucket; made by `open`."""

    segment: int | None = 1024**3

    def __init__(self, bucket: Bucket, *, redirects: bool, nonce: locators.Nonce) -> None:
        self._bucket = bucket
        self._writer = Writer(bucket)
        self._redirects = redirects
        self._nonce = nonce

    @classmethod
    async def open(
        cls,
        bucket: str,
        prefix: str,
        *,
        access: S3Access | None = None,
        redirect: Redirect = "auto",
        session: AioSession | None = None,
        nonce: locators.Nonce = locators.nonce,
    ) -> Self:
        """Open the store below *prefix*, which is empty or ends in a slash.

        Raises `StoreUnavailable` when the bucket cannot be used. Writes that a crash left open a
        week ago are taken back, where the server lists them.
        """
        opened = await Bucket.open(bucket, prefix, access or S3Access(), session=session)
        redirects = opened.is_public if redirect == "auto" else redirect == "always"
        store = cls(opened, redirects=redirects, nonce=nonce)
        with suppress(StoreUnavailable):  # not every server lists them, not every key may
            for name, upload in await opened.begun_before(datetime.now(UTC) - _ABANDONED):
                await opened.abort(name, upload)
        return store

    async def stage(
        self,
        upload: UploadId,
        chunks: AsyncIterable[bytes],
        *,
        expected: Digest | None = None,
        reached: Reached | None = None,  # noqa: ARG002 - nothing is, before the end
    ) -> tuple[Locator, int]:
        """Store *chunks* as one new object, under its final key if its digest is *expected*."""
        fresh = self._nonce()
        if expected is None:
            locator = locators.staged(upload, fresh)
        else:
            locator = locators.promoted(expected, upload, fresh)
        async with aclosing(in_blocks(chunks, None)) as blocks:
            return locator, await self._writer.write(locator, blocks, expected=expected)

    async def promote(self, upload: UploadId, parts: Sequence[Part], digest: Digest) -> Locator:
        """Copy on the server; only runs of parts that are too small for that are read back."""
        locator = locators.promoted(digest, upload, self._nonce())
        whole = [await self._is_whole(part) for part in parts]
        size = sum(part.length for part in parts)
        if whole == [True] and size <= _COPIED:
            await self._bucket.copy(parts[0].locator, locator, size)
        else:
            await self._writer.join(locator, [part for part in parts if part.length])
        return locator

    def cheap(self, parts: Sequence[Part], /) -> bool:
        """One closed part is copied by the server in one request, if it is not large."""
        return len(parts) == 1 and parts[0].closed and parts[0].length <= _CHEAP

    @asynccontextmanager
    async def read(
        self, locator: Locator, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a range of one object; deleting it meanwhile may cut the stream."""
        locators.read(locator)
        async with aclosing(self._bucket.read(locator, start, stop)) as blocks:
            yield blocks

    async def delete(self, locator: Locator) -> None:
        """Remove one object."""
        locators.read(locator)
        await self._bucket.delete(locator)

    async def walk(self, after: Locator | None = None) -> AsyncIterator[Stored]:
        """Yield the objects in the order of the locators' text; other keys are not ours."""
        last: str = after or ""
        while page := await self._bucket.page(after=last):
            for one in page:
                try:
                    upload, digest = locators.read(one.name)
                except BlobUnknown:
                    continue
                yield Stored(Locator(one.name), upload, digest, one.size)
            last = page[-1].name

    async def url(
        self, locator: Locator, expires: timedelta, headers: Mapping[str, str]
    ) -> str | None:
        """Return a signed URL of one object, unless redirects are switched off."""
        locators.read(locator)
        return await self._bucket.sign(locator, expires, headers) if self._redirects else None

    async def put_snapshot(
        self, upload: UploadId, name: str, chunks: AsyncIterable[bytes], /
    ) -> int:
        """Store a snapshot: staged first, so that one that breaks off leaves what was there."""
        locator, size = await self.stage(upload, chunks)
        try:
            await self._bucket.copy(locator, _snapshot(name), size)
        finally:
            await to_the_end(self._bucket.delete(locator))
        return size

    async def snapshots(self) -> Sequence[tuple[str, int]]:
        """Return name and size of every snapshot."""
        found: list[tuple[str, int]] = []
        last = _SNAPSHOTS
        while page := await self._bucket.page(after=last):
            names = [(one.name.removeprefix(_SNAPSHOTS), one.size) for one in page]
            found += [one for one in names if is_snapshot_name(one[0])]
            last = page[-1].name
            if not last.startswith(_SNAPSHOTS):
                break
        return found

    @asynccontextmanager
    async def read_snapshot(self, name: str, /) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a snapshot."""
        async with aclosing(self._bucket.read(_snapshot(name), 0, None)) as blocks:
            yield blocks

    async def delete_snapshot(self, name: str, /) -> None:
        """Remove a snapshot."""
        await self._bucket.delete(_snapshot(name))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._bucket.close()

    async def _is_whole(self, part: Part) -> bool:
        """Tell whether *part* is all of its object; raise `BlobUnknown` if it is more."""
        locators.read(part.locator)
        size = await self._bucket.size(part.locator)
        if size < part.length:
            raise BlobUnknown("a part has lost bytes", detail={"locator": part.locator})
        return size == part.length


def _snapshot(name: str) -> str:
    """Return the key of a snapshot; raise `BlobUnknown` for what can be none."""
    if not is_snapshot_name(name):
        raise BlobUnknown(f"there is no snapshot {name!a}")
    return _SNAPSHOTS + name
