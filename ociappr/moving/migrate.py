"""Copying a registry into another pair of stores while its own goes on serving.

A pass compares both sides key by key and writes the difference; passes go on until one finds none.
The journal is written in the commit of each change and is compared last, so a pass without any
difference was one instant: nothing had changed since the pass before looked at the journal. What
goes with no entry in it is the collector's work, which no door shows.

Blobs get new locators: each is staged under a session of the target, verified on its way, and its
record written in the commit that consumes the session. Bytes that are there are not copied again,
so after a crash a run goes on where the last one was. Sessions, the bin and leases stay behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, DigestInvalid, StoreUnavailable
from ociappr.metadata import Delete, Entry, MetadataStore, Put, Write, scan_all
from ociappr.moving import Stores
from ociappr.moving.claim import Claim, held, require_empty
from ociappr.moving.copier import Copier
from ociappr.moving.kinds import CONTENT, JOURNAL, LOOSE, stays
from ociappr.moving.pages import PAGE, pages
from ociappr.registry import keys
from ociappr.registry.blobs import Blobs
from ociappr.registry.breakage import broken_tags
from ociappr.registry.fsck import Finding, Fsck
from ociappr.registry.records import BlobRecord, BlobState, decode
from ociappr.registry.schema import admit, identity, introduce
from ociappr.registry.sessions import Sessions, shared_secret
from ociappr.registry.settings import Sparse

_LANES = 8
_PASSES = 20
_SESSION_AGE = timedelta(days=7)
_BY = "migrate"


@dataclass(slots=True)
class Progress:
    """How far a migration is; sizes in bytes."""

    stage: str = ""
    number: int = 0
    blobs: int = 0
    copied_bytes: int = 0
    records: int = 0
    deleted: int = 0


@dataclass(slots=True)
class Migrated:
    """What a migration did; *complete* when the target is the same registry, and verified."""

    progress: Progress
    complete: bool = False
    findings: list[Finding] = field(default_factory=list)


class Migration:
    """Makes the target the same registry as the source; the target must not be in use."""

    def __init__(
        self,
        source: Stores,
        target: Stores,
        *,
        sparse: Sparse,
        now: Callable[[], datetime],
        tell: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._target = target
        self._now = now
        self._tell = tell
        self._blobs = Blobs(source.metadata, source.blobs, now=now)
        copies = Blobs(target.metadata, target.blobs, now=now)
        self._fsck = Fsck(target.metadata, copies, sparse=sparse, now=now)
        self._shared = source.blobs is target.blobs
        self._lost: dict[Digest, str] = {}
        self._progress = Progress()

    async def run(self) -> Migrated:
        """Copy, compare and verify; raise `StoreUnavailable` for a target that is in use."""
        await admit(self._source.metadata, self._source.blobs)
        registry = await identity(self._source.metadata)
        metadata = self._target.metadata
        if await held(metadata) is None:
            await require_empty(metadata)
            await self._require_no_blobs()
        claim = await Claim.take(metadata, by=_BY, source=registry)
        await introduce(metadata, registry)
        await self._end_sessions(claim)
        secret = await shared_secret(metadata)
        sessions = Sessions(metadata, secret, age=_SESSION_AGE, now=self._now)
        copier = Copier(self._blobs, self._target, claim, sessions, shared=self._shared)
        is_complete, findings = await self._repeat(claim, copier)
        if is_complete:
            await claim.done()
        return Migrated(self._progress, is_complete, await self._told(findings))

    async def _repeat(self, claim: Claim, copier: Copier) -> tuple[bool, list[Finding]]:
        """Pass over everything until a pass changes nothing and every copy is verified."""
        findings: list[Finding] = []
        checked = -1
        for number in range(1, _PASSES + 1):
            self._progress.number = number
            if await self._pass(claim, copier):
                continue
            if checked == self._progress.blobs:
                return True, findings
            self._stage("verify")
            findings = [finding async for finding in self._fsck.run()]
            checked = self._progress.blobs
        return False, findings

    async def _pass(self, claim: Claim, copier: Copier) -> int:
        """Write the difference of all kinds; return how many keys and blobs call for another."""
        self._stage("blobs")
        written = await self._mirror_blobs(copier)
        for letter in CONTENT + LOOSE + JOURNAL:
            self._stage("records")
            found = await self._mirror(claim, letter)
            written += found if letter not in LOOSE else 0
        return written

    # -- blobs -----------------------------------------------------------------------------------

    async def _mirror_blobs(self, copier: Copier) -> int:
        """Copy the live blobs that are absent or changed, several at once; drop what is gone."""
        slots, written = asyncio.Semaphore(_LANES), 0
        try:
            async with asyncio.TaskGroup() as group:
                async for key, theirs, ours in self._pairs("b"):
                    await slots.acquire()
                    work = self._difference(copier, key, theirs, ours)
                    if work is None:
                        slots.release()
                    else:
                        written += 1
                        group.create_task(work).add_done_callback(lambda _: slots.release())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return written

    def _difference(
        self, copier: Copier, key: bytes, theirs: Entry | None, ours: Entry | None
    ) -> Coroutine[None, None, None] | None:
        """Return the work that makes the target's blob what the source's is, if there is any.

        A condemned blob is as good as gone: nobody sees it, and a later pass copies what revives.
        """
        digest = Digest.parse(keys.parts(key)[1])
        wanted = decode(BlobRecord, theirs.value) if theirs is not None else None
        present = decode(BlobRecord, ours.value) if ours is not None else None
        if wanted is not None and wanted.state is BlobState.LIVE:
            is_done = digest in self._lost or copier.is_same(wanted, present)
            return None if is_done else self._copy(copier, digest, wanted, present)
        return self._drop(copier, digest, present) if present is not None else None

    async def _copy(
        self, copier: Copier, digest: Digest, wanted: BlobRecord, present: BlobRecord | None
    ) -> None:
        try:
            self._progress.copied_bytes += await copier.copy(digest, wanted, present)
        except (BlobUnknown, DigestInvalid) as error:
            key = keys.blob(digest)  # lost, unless it only changed while it was read
            found = (await self._source.metadata.get([key])).get(key)
            if found is not None and decode(BlobRecord, found.value) == wanted:
                self._lost[digest] = "gone" if isinstance(error, BlobUnknown) else "damaged"
        else:
            self._progress.blobs += 1
        self._tell(self._progress)

    async def _drop(self, copier: Copier, digest: Digest, present: BlobRecord) -> None:
        await copier.drop(digest, present)
        self._progress.deleted += 1

    # -- records ---------------------------------------------------------------------------------

    async def _mirror(self, claim: Claim, letter: str) -> int:
        written, batch = 0, list[Write]()
        async for key, theirs, ours in self._pairs(letter):
            if theirs is not None and ours is not None and theirs.value == ours.value:
                continue
            batch.append(Delete(key) if theirs is None else Put(key, theirs.value))
            if len(batch) == PAGE:
                await self._write(claim, batch)
                written, batch = written + len(batch), []
        await self._write(claim, batch)
        return written + len(batch)

    async def _write(self, claim: Claim, batch: list[Write]) -> None:
        await claim.commit(batch)
        puts = sum(isinstance(write, Put) for write in batch)
        self._progress.records += puts
        self._progress.deleted += len(batch) - puts
        self._tell(self._progress)

    async def _pairs(self, letter: str) -> AsyncIterator[tuple[bytes, Entry | None, Entry | None]]:
        """Yield every key of a kind in order, with what the source and the target have."""
        source, target = self._source_entries(letter), _entries(self._target.metadata, letter)
        theirs, ours = await anext(source, None), await anext(target, None)
        while theirs is not None or ours is not None:
            if ours is None or (theirs is not None and theirs.key < ours.key):
                assert theirs is not None  # noqa: S101 - mypy cannot see it
                yield theirs.key, theirs, None
                theirs = await anext(source, None)
            elif theirs is None or ours.key < theirs.key:
                yield ours.key, None, ours
                ours = await anext(target, None)
            else:
                yield ours.key, theirs, ours
                theirs, ours = await anext(source, None), await anext(target, None)

    async def _source_entries(self, letter: str) -> AsyncIterator[Entry]:
        """Yield what is to be at the target: of links only those that show a copied blob."""
        async for page in pages(self._source.metadata, keys.kind(letter)):
            births = await self._births(page) if letter == "l" else {}
            for entry in page:
                is_void = letter == "l" and births.get(_blob_of(entry.key)) != entry.value
                if not is_void and not stays(entry.key):
                    yield entry

    async def _births(self, page: list[Entry]) -> dict[bytes, bytes]:
        found = await self._target.metadata.get(list({_blob_of(entry.key) for entry in page}))
        return {key: decode(BlobRecord, entry.value).birth.encode() for key, entry in found.items()}

    # -- the target ------------------------------------------------------------------------------

    async def _require_no_blobs(self) -> None:
        if self._shared:
            return
        async for _ in self._target.blobs.walk():
            raise StoreUnavailable(
                "the target's storage holds objects already",
                hint="choose an empty one, or the source's own; nothing was changed",
            )

    async def _end_sessions(self, claim: Claim) -> None:
        """Forget the sessions of a run that was killed: its staged bytes are nobody's."""
        async for entry in scan_all(self._target.metadata, keys.kind("u")):
            await claim.commit([Delete(entry.key)])

    async def _told(self, findings: list[Finding]) -> list[Finding]:
        """Return what the source had lost, then what else is wrong with the target."""
        told = []
        for digest, state in self._lost.items():
            what = f"the bytes of a blob are {state} at the source: it was not copied"
            breaks = await broken_tags(self._target.metadata, digest)
            told.append(Finding(f"blob-{state}", what, str(digest), breaks))
        lost = {finding.about for finding in told}
        return told + [finding for finding in findings if finding.about not in lost]

    def _stage(self, name: str) -> None:
        self._progress.stage = name
        self._tell(self._progress)


async def _entries(metadata: MetadataStore, letter: str) -> AsyncIterator[Entry]:
    async for entry in scan_all(metadata, keys.kind(letter)):
        if not stays(entry.key):
            yield entry


def _blob_of(key: bytes) -> bytes:
    """Return the key of the blob that a link shows."""
    return keys.blob(Digest.parse(keys.parts(key)[1]))
