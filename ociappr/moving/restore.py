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

from ociappr.blobstore import Snapshots
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, OciapprError, StoreUnavailable
from ociappr.manifest import Manifest
from ociappr.metadata import Delete, Entry, Put, Write, scan_all
from ociappr.moving import Stores
from ociappr.moving.adopting import Adopted, Adoption, read_record
from ociappr.moving.claim import Claim
from ociappr.moving.pages import PAGE, pages
from ociappr.moving.snapshot import Again, Damaged, End, Header, Record, unpack
from ociappr.names import RepositoryName
from ociappr.registry import derived, keys
from ociappr.registry.blobs import Blobs
from ociappr.registry.fsck import Finding, Fsck
from ociappr.registry.naming import nonce
from ociappr.registry.records import (
    ManifestRecord,
    TagRecord,
    decode,
)
from ociappr.registry.schema import (
    CLAIM_KEY,
    FIRST,
    LAST,
    introduce,
    require_known,
)
from ociappr.registry.settings import Sparse

_BY = "restore"


@dataclass(slots=True)
class Restored:
    """What came back, and what is to be said about it.

    *adopted* blobs are shown by no repository, and collected unless they are pushed again; staged
    objects are left to the sweeper.
    """

    snapshot: str
    created: str
    damaged: tuple[tuple[str, str], ...]
    counts: Mapping[str, int]
    unsettled: tuple[str, ...]
    adopted: Adopted = field(default_factory=Adopted)
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
        self._stores = stores
        self._metadata = stores.metadata
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
        adoption = Adoption(self._stores, claim, now=self._now)
        await adoption.own()
        restored.findings += [one async for one in adoption.adopt(restored.adopted)]
        await self._derive(claim, restored)
        await adoption.revive()
        async for finding in self._fsck.run():
            is_gone = finding.code == "blob-gone"
            if not (is_gone and await adoption.drop(Digest.parse(finding.about))):
                restored.findings.append(finding)
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
                damaged.append((candidate, str(error)))
                continue
            except BlobUnknown:
                hint = "`ociappr restore --list` shows what there is"
                raise StoreUnavailable(f"there is no snapshot {candidate}", hint=hint) from None
            require_known(header.schema)
            counts, unsettled = end.counts, end.unsettled
            told = Restored(candidate, header.created, tuple(damaged), counts, unsettled)
            return told, header
        what = "; ".join(f"{one}: {why}" for one, why in damaged) or "there is none"
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
                if len(batch) >= PAGE:
                    yield batch
                    batch = []
        yield batch

    async def _forget(self, claim: Claim, name: RepositoryName) -> None:
        for prefix in (keys.tags(name), keys.manifests(name)):
            doomed = [Delete(entry.key) async for entry in scan_all(self._metadata, prefix)]
            await claim.commit(doomed)

    async def _clear(self, claim: Claim) -> None:
        """Delete what an earlier run has left, and what a registry that never was used has."""
        while page := await self._metadata.scan(FIRST, LAST, limit=PAGE):
            doomed = [entry.key for entry in page if entry.key != CLAIM_KEY]
            if not doomed:
                break
            await claim.commit([Delete(key) for key in doomed])

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
        async for page in pages(self._metadata, keys.kind("t")):
            await claim.commit(await self._hints(page, restored))

    async def _hints(self, page: list[Entry], restored: Restored) -> list[Write]:
        targets = {entry.key: _target(entry) for entry in page}
        found = await self._metadata.get(list({key for key in targets.values() if key}))
        writes: list[Write] = []
        for entry in page:
            _, text, tag = keys.parts(entry.key)
            record, name = decode(TagRecord, entry.value), RepositoryName(text)
            if not record.digest:
                continue
            digest = Digest.parse(record.digest)
            if targets[entry.key] in found:
                writes.append(Put(keys.hint(name, digest, tag), b""))
            else:
                writes.append(Delete(entry.key))
                what = f"a tag was left out: its manifest {digest} changed while it was backed up"
                about = f"{name}:{tag}"
                restored.findings.append(Finding("tag-dropped", what, about, (about,)))
        return writes

    async def _manifest(self, entry: Entry) -> Manifest:
        _, _, text = keys.parts(entry.key)
        digest = Digest.parse(text)
        record = await read_record(self._metadata, digest)
        if record is None:
            raise BlobUnknown(f"there is no blob {digest}")
        async with self._blobs.read(await self._blobs.load(digest, record)) as blocks:
            raw = b"".join([block async for block in blocks])
        media_type = decode(ManifestRecord, entry.value).media_type
        return Manifest.parse(raw, media_type, digest=digest)


def _target(entry: Entry) -> bytes:
    """Return the key of the manifest that a tag names; nothing for a channel."""
    name, record = RepositoryName(keys.parts(entry.key)[1]), decode(TagRecord, entry.value)
    return keys.manifest(name, Digest.parse(record.digest)) if record.digest else b""
