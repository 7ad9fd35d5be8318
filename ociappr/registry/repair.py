"""What mends a finding of `fsck`: each is one commit that checks what was found is still so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from ociappr.digest import Digest, new_hash
from ociappr.errors import BlobUnknown
from ociappr.metadata import MetadataStore, Transaction, prefix_end, scan_all, transact
from ociappr.registry import keys
from ociappr.registry.blobs import Blobs
from ociappr.registry.derived import put_blob
from ociappr.registry.naming import read_blob
from ociappr.registry.records import BinRecord, BlobRecord, encode, stamp

Remedy = Callable[[], Awaitable[bool]]
"""Mends one finding, or finds that it is none any more; tells whether it is mended."""


class Repair:
    """Writes what is missing, deletes what is derived from nothing, sets damaged bytes aside."""

    def __init__(
        self, metadata: MetadataStore, blobs: Blobs, *, now: Callable[[], datetime]
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._now = now

    async def damage(self, digest: Digest, record: BlobRecord) -> str:
        """Return what is wrong with the bytes of a blob, as a code, or nothing."""
        running, size = new_hash(digest.algorithm), 0
        try:
            async with self._blobs.read(await self._blobs.load(digest, record)) as blocks:
                async for block in blocks:
                    await asyncio.to_thread(running.update, block)
                    size += len(block)
        except BlobUnknown:
            return "blob-gone"
        whole = size == record.size and running.hexdigest() == digest.hex
        return "" if whole else "blob-damaged"

    def put(self, source: bytes, wanted: bytes, key: bytes, value: bytes) -> Remedy:
        """Write a derived *key*, as long as the record *source* is what it is derived from."""

        async def body(txn: Transaction) -> bool:
            if await txn.get(source) == wanted:
                txn.put(key, value)
                return True
            return False

        return lambda: transact(self._metadata, body)

    def delete(self, key: bytes, source: bytes) -> Remedy:
        """Delete a derived *key*, as long as there is no record *source*."""

        async def body(txn: Transaction) -> bool:
            if await txn.get(source) is None:
                txn.delete(key)
                return True
            return False

        return lambda: transact(self._metadata, body)

    def disown(self, key: bytes, digest: Digest) -> Remedy:
        """Delete the owner of a locator that the blob it leads to does not name."""
        locator = keys.parts(key)[1]

        async def body(txn: Transaction) -> bool:
            record = await read_blob(txn, digest)
            if record is None or all(place != locator for place, _ in record.parts):
                txn.delete(key)
            return True

        return lambda: transact(self._metadata, body)

    def link(self, key: bytes, digest: Digest) -> Remedy:
        """Let a void link show the blob again, for a repository whose manifests need it."""
        name = keys.parts(key)[2]

        async def body(txn: Transaction) -> bool:
            record, needed = await read_blob(txn, digest), await self.is_needed(digest, name)
            if record is None or not needed or await txn.get(key) is None:
                return False
            txn.put(key, record.birth.encode())
            return True

        return lambda: transact(self._metadata, body)

    def set_aside(self, digest: Digest) -> Remedy:
        """Forget a blob whose bytes are not its own, so that a push brings it back.

        What is left of stored bytes waits in the bin for the grace period. Links stay where
        manifests need the blob: void, until it was pushed and `link` has seen to them.
        """
        now = stamp(self._now())

        async def body(txn: Transaction) -> bool:
            record = await read_blob(txn, digest)
            if record is None or not await self.damage(digest, record):
                return record is not None
            put_blob(txn, digest, old=record, new=None)
            for locator, _ in record.parts:
                binned = encode(BinRecord(digest=str(digest), since=now))
                txn.put(keys.binned(locator), binned)
            if not record.parts:
                txn.delete(keys.inline(digest, record.birth))
            return False

        async def remedy() -> bool:
            is_sound = await transact(self._metadata, body)
            if not is_sound:
                await self._unlink_idle(digest)
            return is_sound

        return remedy

    async def _unlink_idle(self, digest: Digest) -> None:
        """Delete the void links of repositories without a manifest that needs the blob."""
        async for entry in scan_all(self._metadata, keys.links(digest)):
            key = entry.key

            async def body(txn: Transaction, key: bytes = key) -> None:
                record, birth = await read_blob(txn, digest), await txn.get(key)
                txn.require_empty(keys.pins(digest) + f"{keys.parts(key)[2]}\0".encode())
                if birth is not None and (record is None or record.birth.encode() != birth):
                    txn.delete(key)

            if not await self.is_needed(digest, keys.parts(key)[2]):
                await transact(self._metadata, body)

    async def is_needed(self, digest: Digest, repository: str) -> bool:
        """Tell whether manifests of *repository* need the blob *digest*."""
        pins = keys.pins(digest) + f"{repository}\0".encode()
        return bool(await self._metadata.scan(pins, prefix_end(pins), limit=1))
