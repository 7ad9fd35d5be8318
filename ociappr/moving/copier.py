"""Bringing one blob into other stores: its bytes where they are to lie there, then its record."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from ociappr.blobstore import Locator, UploadId
from ociappr.digest import Digest, verified
from ociappr.metadata import Delete, Put, Transaction, transact
from ociappr.moving import Stores
from ociappr.moving.claim import Claim
from ociappr.names import RepositoryName
from ociappr.registry import keys
from ociappr.registry.blobs import Blobs
from ociappr.registry.derived import put_blob
from ociappr.registry.naming import consume, read_blob
from ociappr.registry.records import BinRecord, BlobRecord, encode
from ociappr.registry.sessions import Sessions

_OWN = RepositoryName("migration")

Places = tuple[tuple[Locator, int], ...]


class Copier:
    """Writes blobs of the source into the target; one that is there is not copied again.

    What is staged belongs to a session of the target, and the commit of the record consumes it.
    """

    def __init__(
        self, blobs: Blobs, target: Stores, claim: Claim, sessions: Sessions, *, shared: bool
    ) -> None:
        self._blobs = blobs
        self._target = target
        self._claim = claim
        self._sessions = sessions
        self._shared = shared

    def is_same(self, wanted: BlobRecord, present: BlobRecord | None) -> bool:
        """Tell whether the target's record says what the source's does, in its own places."""
        if present is None:
            return False
        if self._shared:
            return present == wanted
        is_placed = bool(present.parts) is not self._is_inline(wanted)
        return is_placed and present == _placed(wanted, present.parts)

    async def copy(self, digest: Digest, wanted: BlobRecord, present: BlobRecord | None) -> int:
        """Make the target's record that of the source; return how many bytes had to be copied.

        Raises `BlobUnknown` or `DigestInvalid` when the source does not have the bytes.
        """
        if self._is_inline(wanted):
            data = b"".join([chunk async for chunk in verified(self._read(digest, wanted), digest)])
            await self._name(digest, _placed(wanted, ()), inline=data)
            return len(data)
        if self._shared:
            await self._name(digest, wanted)
            return 0
        if present is not None and present.parts:
            await self._name(digest, _placed(wanted, present.parts))
            return 0
        upload = self._sessions.begin(_OWN, digest.algorithm)
        await self._sessions.create(_OWN, upload)
        try:
            locator, length = await self._target.blobs.stage(
                upload, self._read(digest, wanted), expected=digest
            )
        except Exception:
            await self._claim.commit([Delete(keys.upload(upload))])
            raise
        places = ((locator, length),)
        await self._name(digest, _placed(wanted, places), upload=upload)
        return length

    async def drop(self, digest: Digest, present: BlobRecord) -> None:
        """Forget a blob that the source has no more; the bin names its bytes."""
        binned = encode(BinRecord(str(digest), since=present.since, birth=present.birth))
        writes = [Delete(keys.blob(digest)), Delete(keys.inline(digest, present.birth))]
        for locator, _ in () if self._shared else present.parts:
            writes.append(Delete(keys.owner(locator)))
            await self._claim.commit([Put(keys.binned(locator), binned)])
        await self._claim.commit(writes)

    async def _name(
        self,
        digest: Digest,
        record: BlobRecord,
        *,
        upload: UploadId | None = None,
        inline: bytes | None = None,
    ) -> None:
        """Commit the record, with inline bytes; bytes that another record named go to the bin."""

        async def body(txn: Transaction) -> None:
            await self._claim.promise(txn)
            if upload is not None:
                await consume(txn, upload, ())
            old = await read_blob(txn, digest)
            put_blob(txn, digest, old=old, new=record)
            if old is not None:
                txn.delete(keys.inline(digest, old.birth))
                for locator, _ in () if self._shared else set(old.parts) - set(record.parts):
                    txn.put(
                        keys.binned(locator), encode(BinRecord(str(digest), since=record.since))
                    )
            if inline is not None:
                txn.put(keys.inline(digest, record.birth), inline)

        await transact(self._target.metadata, body)

    async def _read(self, digest: Digest, record: BlobRecord) -> AsyncIterator[bytes]:
        async with self._blobs.read(await self._blobs.load(digest, record)) as blocks:
            async for block in blocks:
                yield block

    def _is_inline(self, record: BlobRecord) -> bool:
        """Tell whether the bytes are to be metadata at the target.

        In a shared store they stay what they are: the source's sweeper knows no session of ours.
        """
        return not record.parts if self._shared else record.size <= self._target.inline


def _placed(record: BlobRecord, places: Places) -> BlobRecord:
    return msgspec.structs.replace(record, parts=places, staged=False)
