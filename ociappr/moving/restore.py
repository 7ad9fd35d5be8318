"""Bringing a registry back from a snapshot of its metadata and the blobs that are there.

The metadata to fill are claimed, so nothing opens them before they are whole. First the snapshot is
loaded; then the store is walked, whose promoted objects tell their digests: bytes that were moved
since are found again, and bytes that came later are adopted; then every derived key is computed.
Run again after a crash it begins anew: nothing was served from what it had filled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from ociappr.blobstore import BlobStore, Snapshots, Stored
from ociappr.digest import Digest, new_hash
from ociappr.errors import BlobUnknown, OciapprError, StoreUnavailable
from ociappr.manifest import Manifest
from ociappr.metadata import Delete, Entry, Put, Write, prefix_end, scan_all
from ociappr.moving import Stores
from ociappr.moving.claim import Claim
from ociappr.moving.snapshot import Again, Damaged, End, Header, Record, unpack
from ociappr.names import RepositoryName
from ociappr.registry import derived, keys
from ociappr.registry.blobs import Blobs
from ociappr.registry.fsck import Finding, Fsck
from ociappr.registry.naming import nonce
from ociappr.registry.records import (
    BlobRecord,
    BlobState,
    ManifestRecord,
    TagRecord,
    decode,
    encode,
    stamp,
)
from ociappr.registry.schema import (
    CLAIM_KEY,
    FIRST,
    LAST,
    introduce,
    require_known,
)
from ociappr.registry.settings import Sparse

_BATCH = 500
_BY = "restore"


@dataclass(slots=True)
class Restored:
    """What came back, and what is to be said about it.

    *adopted* blobs, of *adopted_bytes*, are newer than the snapshot: no repository shows them, and
    they are collected unless they are pushed again. *staged* objects belong to uploads that were
    under way, or to blobs too new to have a digest in their name: the sweeper takes them.
    """

    snapshot: str
    created: str
    damaged: tuple[str, ...]
    counts: Mapping[str, int]
    unsettled: tuple[str, ...]
    adopted: int = 0
    adopted_bytes: int = 0
    found_again: int = 0
    staged: int = 0
    findings: list[Finding] = field(default_factory=list)


class Restore:
    """Fills empty metadata from a snapshot and the blobs of a store."""

    def __init__(
        self,
        stores: Stores,
        snapshots: Snapshots,
        *,
        sparse: Sparse,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = stores.metadata
        self._store: BlobStore = stores.blobs
        self._snapshots = snapshots
        self._now = now
        self._blobs = Blobs(stores.metadata, stores.blobs, now=now)
        self._fsck = Fsck(stores.metadata, self._blobs, sparse=sparse, now=now)

    async def run(self, name: str = "") -> Restored:
        """Restore the snapshot *name*, or the newest that is whole; tell what is not as it was.

        Raises `StoreUnavailable` when there is none, or when the metadata hold a registry.
        """
        restored, header = await self._choose(name)
        claim = await Claim.take(self._metadata, by=_BY, source="")
        await self._clear(claim)
        async for batch in self._loading(claim, restored.snapshot):
            await claim.commit(batch)
        await self._own(claim)
        await self._adopt(claim, restored)
        await self._derive(claim, restored)
        await self._revive(claim)
        restored.findings += [finding async for finding in self._fsck.run()]
        await introduce(self._metadata, header.registry or nonce())
        await claim.drop()
        return restored

    # -- the snapshot ----------------------------------------------------------------------------

    async def _choose(self, name: str) -> tuple[Restored, Header]:
        """Return the named snapshot, or the newest; each is read to its end before it counts."""
        names = [name] if name else [one for one, _ in await self._snapshots.snapshots()]
        damaged = []
        for candidate in reversed(names):
            try:
                header, end = await self._sum(candidate)
            except Damaged as error:
                damaged.append(f"{candidate}: {error}")
                continue
            except BlobUnknown as error:
                raise StoreUnavailable(error.message, hint="see `ociappr restore --list`") from None
            require_known(header.schema)
            counts, unsettled = end.counts, end.unsettled
            told = Restored(candidate, header.created, tuple(damaged), counts, unsettled)
            return told, header
        what = "; ".join(damaged) or "there is none"
        raise StoreUnavailable(
            f"no snapshot can be restored: {what}", hint="name another with --snapshot or --from"
        )

    async def _sum(self, name: str) -> tuple[Header, End]:
        header = end = None
        async with self._snapshots.read_snapshot(name) as chunks:
            async for frame in unpack(chunks):
                header = frame if isinstance(frame, Header) else header
                end = frame if isinstance(frame, End) else end
        if header is None or end is None:
            raise Damaged("it has no beginning or no end")
        return header, end

    async def _loading(self, claim: Claim, name: str) -> AsyncIterator[list[Write]]:
        """Yield what the snapshot tells, in batches; what is told again replaces what was."""
        batch: list[Write] = []
        async with self._snapshots.read_snapshot(name) as chunks:
            async for frame in unpack(chunks):
                if isinstance(frame, Again):
                    yield batch
                    batch = []
                    await self._forget(claim, RepositoryName(frame.repository))
                elif isinstance(frame, Record):
                    batch.append(Put(frame.key, frame.value))
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
        yield batch

    async def _forget(self, claim: Claim, name: RepositoryName) -> None:
        for prefix in (keys.tags(name), keys.manifests(name)):
            doomed = [Delete(entry.key) async for entry in scan_all(self._metadata, prefix)]
            await claim.commit(doomed)

    async def _clear(self, claim: Claim) -> None:
        """Delete what an earlier run has left, and what a registry that never was used has."""
        while page := await self._metadata.scan(FIRST, LAST, limit=_BATCH):
            doomed = [entry.key for entry in page if entry.key != CLAIM_KEY]
            if not doomed:
                break
            await claim.commit([Delete(key) for key in doomed])

    # -- the blobs -------------------------------------------------------------------------------

    async def _own(self, claim: Claim) -> None:
        async for page in self._pages("b"):
            writes: list[Write] = []
            for entry in page:
                owners = derived.of_blob(_digest(entry.key), decode(BlobRecord, entry.value))
                writes += [Put(key, value) for key, value in owners.items()]
            await claim.commit(writes)

    async def _adopt(self, claim: Claim, restored: Restored) -> None:
        """Give every promoted object without an owner to its digest, where that needs it."""
        async for stored in self._store.walk():
            owner, binned = keys.owner(stored.locator), keys.binned(stored.locator)
            if await self._metadata.get([owner, binned]):
                continue
            if stored.digest is None:
                restored.staged += 1
                continue
            old = await self._record(stored.digest)
            if old is not None and await self._is_there(old):
                continue  # a copy to spare
            if not await self._is_true(stored, stored.digest):
                what = "an object does not hold the bytes that its name says: it is left out"
                restored.findings.append(Finding("object-damaged", what, stored.locator))
                continue
            await self._name(claim, stored, stored.digest, old)
            if old is not None:
                restored.found_again += 1
            else:
                restored.adopted += 1
                restored.adopted_bytes += stored.size

    async def _name(
        self, claim: Claim, stored: Stored, digest: Digest, old: BlobRecord | None
    ) -> None:
        places = ((stored.locator, stored.size),)
        if old is None:
            now = stamp(self._now())
            new = BlobRecord(stored.size, nonce(), BlobState.LIVE, since=now, parts=places)
        else:
            new = msgspec.structs.replace(old, size=stored.size, parts=places, staged=False)
        gone = derived.of_blob(digest, old).keys()
        writes: list[Write] = [Delete(key) for key in gone]
        writes += [Put(key, value) for key, value in derived.of_blob(digest, new).items()]
        await claim.commit([*writes, Put(keys.blob(digest), encode(new))])

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

    # -- what is derived -------------------------------------------------------------------------

    async def _derive(self, claim: Claim, restored: Restored) -> None:
        """Write the keys of every manifest, and the hints of every tag that leads to one."""
        async for entry in scan_all(self._metadata, keys.kind("m")):
            try:
                manifest = await self._manifest(entry)
            except OciapprError:
                continue  # fsck tells of it
            name = RepositoryName(keys.parts(entry.key)[1])
            found = derived.of_manifest(name, manifest)
            await claim.commit([Put(key, value) for key, value in found.items()])
        async for page in self._pages("t"):
            await claim.commit(await self._hints(page, restored))

    async def _hints(self, page: list[Entry], restored: Restored) -> list[Write]:
        writes: list[Write] = []
        for entry in page:
            _, text, tag = keys.parts(entry.key)
            record, name = decode(TagRecord, entry.value), RepositoryName(text)
            if not record.digest:
                continue
            digest = Digest.parse(record.digest)
            if await self._metadata.get([keys.manifest(name, digest)]):
                writes.append(Put(keys.hint(name, digest, tag), b""))
            else:
                writes.append(Delete(entry.key))
                what = f"a tag was left out: its manifest {digest} changed while it was backed up"
                about = f"{name}:{tag}"
                restored.findings.append(Finding("tag-dropped", what, about, (about,)))
        return writes

    async def _revive(self, claim: Claim) -> None:
        """Let pinned blobs live, and give the others their grace anew."""
        now = stamp(self._now())
        async for page in self._pages("b"):
            writes: list[Write] = []
            for entry in page:
                record, pins = decode(BlobRecord, entry.value), keys.pins(_digest(entry.key))
                if record.state is BlobState.CONDEMNED:
                    is_pinned = await self._metadata.scan(pins, prefix_end(pins), limit=1)
                    state = BlobState.LIVE if is_pinned else record.state
                    new = msgspec.structs.replace(record, state=state, since=now)
                    writes.append(Put(entry.key, encode(new)))
            await claim.commit(writes)

    async def _manifest(self, entry: Entry) -> Manifest:
        _, _, text = keys.parts(entry.key)
        digest = Digest.parse(text)
        record = await self._record(digest)
        if record is None:
            raise BlobUnknown(f"there is no blob {digest}")
        async with self._blobs.read(await self._blobs.load(digest, record)) as blocks:
            raw = b"".join([block async for block in blocks])
        media_type = decode(ManifestRecord, entry.value).media_type
        return Manifest.parse(raw, media_type, digest=digest)

    async def _record(self, digest: Digest) -> BlobRecord | None:
        key = keys.blob(digest)
        entry = (await self._metadata.get([key])).get(key)
        return decode(BlobRecord, entry.value) if entry is not None else None

    async def _pages(self, letter: str) -> AsyncIterator[list[Entry]]:
        prefix = keys.kind(letter)
        start, stop = prefix, prefix_end(prefix)
        while page := await self._metadata.scan(start, stop, limit=_BATCH):
            yield page
            start = page[-1].key + b"\0"


def _digest(key: bytes) -> Digest:
    return Digest.parse(keys.parts(key)[1])
