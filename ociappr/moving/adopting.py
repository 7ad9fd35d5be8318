"""Bringing the blobs of a store and the records of a snapshot together again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ociappr.blobstore import BlobStore, Stored
from ociappr.digest import Digest, new_hash
from ociappr.errors import BlobUnknown
from ociappr.metadata import Delete, MetadataStore, Put, Write, prefix_end
from ociappr.moving import Stores
from ociappr.moving.claim import Claim
from ociappr.moving.pages import digest_of, pages
from ociappr.registry import derived, keys
from ociappr.registry.fsck import Finding
from ociappr.registry.naming import nonce
from ociappr.registry.records import BinRecord, BlobRecord, BlobState, decode, encode, stamp


@dataclass(slots=True)
class Adopted:
    """What a walk over the store brought; *blobs* of *size* bytes are newer than the snapshot.

    *again* had been moved since the snapshot, and were found by their digest. *staged* objects
    belong to uploads that were under way, or to blobs too new to have a digest in their name.
    """

    blobs: int = 0
    size: int = 0
    again: int = 0
    staged: int = 0


class Adoption:
    """Gives every object its owner, in metadata that are claimed."""

    def __init__(self, stores: Stores, claim: Claim, *, now: Callable[[], datetime]) -> None:
        self._metadata = stores.metadata
        self._store: BlobStore = stores.blobs
        self._claim = claim
        self._now = now

    async def own(self) -> None:
        """Let the locators of every record lead back to it."""
        async for page in pages(self._metadata, keys.kind("b")):
            writes: list[Write] = []
            for entry in page:
                owners = derived.of_blob(digest_of(entry), decode(BlobRecord, entry.value))
                writes += [Put(key, value) for key, value in owners.items()]
            await self._claim.commit(writes)

    async def adopt(self, adopted: Adopted) -> AsyncIterator[Finding]:
        """Give every promoted object that nobody names to its digest, where that needs it.

        Each is hashed before; one that is not what its name says is told, and left to the sweeper.
        """
        async for stored in self._store.walk():
            owner, binned = keys.owner(stored.locator), keys.binned(stored.locator)
            if await self._metadata.get([owner, binned]):
                continue
            if stored.digest is None:
                adopted.staged += 1
                continue
            old = await read_record(self._metadata, stored.digest)
            if old is not None and await self._is_there(old):
                continue  # a copy to spare
            if not await self._is_true(stored, stored.digest):
                what = "an object does not hold the bytes that its name says: it is left out"
                yield Finding("object-damaged", what, stored.locator)
                continue
            await self._name(stored, stored.digest, old)
            adopted.again += old is not None
            if old is None:
                adopted.blobs += 1
                adopted.size += stored.size

    async def revive(self) -> None:
        """Let pinned blobs live, and give the others that are condemned their grace anew."""
        now = stamp(self._now())
        async for page in pages(self._metadata, keys.kind("b")):
            writes: list[Write] = []
            for entry in page:
                record = decode(BlobRecord, entry.value)
                if record.state is BlobState.CONDEMNED:
                    is_pinned = await self._is_pinned(digest_of(entry))
                    state = BlobState.LIVE if is_pinned else record.state
                    new = msgspec.structs.replace(record, state=state, since=now)
                    writes.append(Put(entry.key, encode(new)))
            await self._claim.commit(writes)

    async def drop(self, digest: Digest) -> bool:
        """Drop a blob that was collected since, if nothing needs it; the bin names its links."""
        record = await read_record(self._metadata, digest)
        if record is None or await self._is_pinned(digest):
            return False
        binned = BinRecord(str(digest), since=stamp(self._now()), birth=record.birth)
        writes: list[Write] = [Delete(key) for key in derived.of_blob(digest, record)]
        writes.append(Put(keys.binned_inline(digest, record.birth), encode(binned)))
        await self._claim.commit([*writes, Delete(keys.blob(digest))])
        return True

    async def _name(self, stored: Stored, digest: Digest, old: BlobRecord | None) -> None:
        """Write the record of the blob that an object is, in place of one whose parts are gone."""
        places = ((stored.locator, stored.size),)
        if old is None:
            now = stamp(self._now())
            new = BlobRecord(stored.size, nonce(), BlobState.LIVE, since=now, parts=places)
        else:
            new = msgspec.structs.replace(old, size=stored.size, parts=places, staged=False)
        writes: list[Write] = [Delete(key) for key in derived.of_blob(digest, old)]
        writes += [Put(key, value) for key, value in derived.of_blob(digest, new).items()]
        await self._claim.commit([*writes, Put(keys.blob(digest), encode(new))])

    async def _is_there(self, record: BlobRecord) -> bool:
        """Tell whether all parts of a blob can be opened; inline bytes came with the snapshot."""
        try:
            for locator, _ in record.parts:
                async with self._store.read(locator, 0, 1) as blocks:
                    async for _ in blocks:
                        break
        except BlobUnknown:
            return False
        return True

    async def _is_true(self, stored: Stored, digest: Digest) -> bool:
        running = new_hash(digest.algorithm)
        async with self._store.read(stored.locator) as blocks:
            async for block in blocks:
                running.update(block)
        return running.hexdigest() == digest.hex

    async def _is_pinned(self, digest: Digest) -> bool:
        pins = keys.pins(digest)
        return bool(await self._metadata.scan(pins, prefix_end(pins), limit=1))


async def read_record(metadata: MetadataStore, digest: Digest) -> BlobRecord | None:
    """Return the record of a blob, if there is one."""
    key = keys.blob(digest)
    entry = (await metadata.get([key])).get(key)
    return decode(BlobRecord, entry.value) if entry is not None else None
