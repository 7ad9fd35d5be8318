"""The collector: which bytes go, while everything is being served.

Steps of a blob nobody pins: *condemned* after the grace period, *forgotten* after another (its
record goes and its bytes are named by the bin), *unlinked* after a third, then its bin entry goes.
Every step is a commit that checks what it promises, so any number of collectors may run at once and
each may stop anywhere. The grace periods are a courtesy to clients that saw a 200; what makes it
correct is that every locator is fresh, so an unlink can only hit what nothing will name again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ociappr.blobstore import BlobStore, Locator, Part, Stored, UploadId
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, UploadUnknown
from ociappr.metadata import (
    Check,
    Conflict,
    Delete,
    Empty,
    Entry,
    MetadataStore,
    Put,
    Transaction,
    Unchanged,
    Write,
    commit,
    prefix_end,
    scan_all,
    transact,
)
from ociappr.names import RepositoryName
from ociappr.registry import keys
from ociappr.registry.derived import of_blob, put_blob
from ociappr.registry.naming import consume, read_blob
from ociappr.registry.records import (
    BinRecord,
    BlobRecord,
    BlobState,
    UploadRecord,
    decode,
    encode,
    moment,
    stamp,
)
from ociappr.registry.sessions import Sessions
from ociappr.registry.settings import Settings

_SWEEP_PAGE = 500
_TRIM = 500
_INLINE_BIN_PARTS = 3
_OWN = RepositoryName("collector")
"""Whom the sessions of promotions belong to; no client can begin one, for want of the secret."""


@dataclass(slots=True)
class Collected:
    """What one run did; sizes in bytes."""

    expired: int = 0
    promoted: int = 0
    condemned: int = 0
    forgotten: int = 0
    unlinked: int = 0
    swept: int = 0
    journal: int = 0
    freed: int = 0


class Collector:
    """Expires sessions, promotes what was committed as it lay, and lets garbage go."""

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

    async def run(self) -> Collected:
        """Do one round of everything and return what it did; a crash anywhere loses nothing."""
        done = Collected()
        await self._expire_sessions(done)
        await self._walk_blobs(done)
        await self._empty_bin(done)
        await self._sweep(done)
        await self._trim_journal(done)
        return done

    # -- sessions --------------------------------------------------------------------------------

    async def _expire_sessions(self, done: Collected) -> None:
        """Forget sessions a week after their last commit; what they owned is nobody's then."""
        async for entry in scan_all(self._metadata, keys.kind("u")):
            record = decode(UploadRecord, entry.value)
            upload = UploadId(keys.parts(entry.key)[1])
            idle = moment(record.touched) + self._settings.session_age < self._now()
            if self._sessions.expired(upload) and (record.ended or idle):
                done.expired += await self._try(entry, deletes=[entry.key])

    # -- blobs -----------------------------------------------------------------------------------

    async def _walk_blobs(self, done: Collected) -> None:
        async for entry in scan_all(self._metadata, keys.kind("b")):
            digest = Digest.parse(keys.parts(entry.key)[1])
            record = decode(BlobRecord, entry.value)
            if self._rests(record.since) and not await self._is_pinned(digest):
                if record.state is BlobState.LIVE:
                    done.condemned += await self._condemn(digest, entry, record)
                else:
                    done.forgotten += await self._forget(digest, entry, record)
            elif record.staged:
                done.promoted += await self._promote(digest, record)

    async def _condemn(self, digest: Digest, entry: Entry, record: BlobRecord) -> bool:
        now = stamp(self._now())
        condemned = msgspec.structs.replace(record, state=BlobState.CONDEMNED, since=now)
        return await self._try(entry, Empty(keys.pins(digest)), puts={entry.key: encode(condemned)})

    async def _forget(self, digest: Digest, entry: Entry, record: BlobRecord) -> bool:
        """Delete the record and what it derives; the bin names its bytes and its void links."""
        now = stamp(self._now())
        binned = encode(BinRecord(digest=str(digest), since=now, birth=record.birth))
        deletes = [entry.key, *of_blob(digest, record)]
        if record.parts:
            puts = {keys.binned(locator): binned for locator, _ in record.parts}
        else:
            deletes.append(keys.inline(digest, record.birth))
            puts = {keys.binned_inline(digest, record.birth): binned}
        return await self._try(entry, Empty(keys.pins(digest)), deletes=deletes, puts=puts)

    async def _promote(self, digest: Digest, record: BlobRecord) -> bool:
        """Join what was committed as it lay, in a session of our own; then swap the list.

        A copy that came too late is nobody's when the session ends: the sweeper takes it.
        """
        upload = self._sessions.begin(_OWN, "sha256")
        await self._sessions.create(_OWN, upload)
        parts = tuple(Part(locator, length, closed=False) for locator, length in record.parts)
        try:
            promoted = await self._store.promote(upload, parts, digest)
        except BlobUnknown:
            await self._sessions.end(_OWN, upload)
            return False
        now = stamp(self._now())

        async def body(txn: Transaction) -> bool:
            await consume(txn, upload, ())
            current = await read_blob(txn, digest)
            if current is None or current.parts != record.parts:
                return False
            places = ((promoted, record.size),)
            swapped = msgspec.structs.replace(current, parts=places, staged=False)
            put_blob(txn, digest, old=current, new=swapped)
            for locator, _ in record.parts:
                txn.put(keys.binned(locator), encode(BinRecord(digest=str(digest), since=now)))
            return True

        try:
            return await transact(self._metadata, body)
        except UploadUnknown:
            return False  # joining took longer than sessions live

    async def _is_pinned(self, digest: Digest) -> bool:
        prefix = keys.pins(digest)
        return bool(await self._metadata.scan(prefix, prefix_end(prefix), limit=1))

    # -- bytes -----------------------------------------------------------------------------------

    async def _empty_bin(self, done: Collected) -> None:
        async for entry in scan_all(self._metadata, keys.kind("x")):
            record = decode(BinRecord, entry.value)
            if not self._rests(record.since):
                continue
            if record.birth:
                await self._delete_void_links(Digest.parse(record.digest), record.birth)
            parts = keys.parts(entry.key)
            if len(parts) < _INLINE_BIN_PARTS:
                await self._store.delete(Locator(parts[1]))
            done.unlinked += await self._try(entry, deletes=[entry.key])

    async def _delete_void_links(self, digest: Digest, birth: str) -> None:
        """Delete the links of a birth that is gone, each checked, until a scan finds none."""
        found = True
        while found:
            found = False
            async for entry in scan_all(self._metadata, keys.links(digest)):
                if entry.value.decode() == birth:
                    found = True
                    await self._try(entry, deletes=[entry.key])

    async def _sweep(self, done: Collected) -> None:
        """Remove the objects that nobody owns, whatever their age."""
        page: list[Stored] = []
        async for stored in self._store.walk():
            page.append(stored)
            if len(page) == _SWEEP_PAGE:
                await self._sweep_page(page, done)
                page = []
        await self._sweep_page(page, done)

    async def _sweep_page(self, page: list[Stored], done: Collected) -> None:
        """Ask for the owners in this order: session, record, bin; ownership moves only that way."""
        sessions = await self._metadata.get(list({keys.upload(one.upload) for one in page}))
        records = await self._metadata.get([keys.owner(one.locator) for one in page])
        binned = await self._metadata.get([keys.binned(one.locator) for one in page])
        open_ = {
            key for key, entry in sessions.items() if not decode(UploadRecord, entry.value).ended
        }
        for stored in page:
            owned = (
                keys.upload(stored.upload) in open_
                or keys.owner(stored.locator) in records
                or keys.binned(stored.locator) in binned
            )
            if not owned:
                await self._store.delete(stored.locator)
                done.swept += 1
                done.freed += stored.size

    # -- the journal -----------------------------------------------------------------------------

    async def _trim_journal(self, done: Collected) -> None:
        end = keys.event(stamp(self._now() - self._settings.journal_age), "")
        while old := await self._metadata.scan(keys.kind("e"), end, limit=_TRIM):
            await commit(self._metadata, [], [Delete(entry.key) for entry in old])
            done.journal += len(old)

    # -- commits ---------------------------------------------------------------------------------

    async def _try(
        self,
        entry: Entry,
        *checks: Check,
        deletes: Sequence[bytes] = (),
        puts: Mapping[bytes, bytes] | None = None,
    ) -> bool:
        """Commit if *entry* is unchanged; tell whether it was. The next round tries again."""
        writes: list[Write] = [Delete(key) for key in deletes]
        writes += [Put(key, value) for key, value in (puts or {}).items()]
        try:
            await commit(self._metadata, [Unchanged(entry.key, entry.version), *checks], writes)
        except Conflict:
            return False
        return True

    def _rests(self, since: str) -> bool:
        """Tell whether a grace period has passed since then."""
        return moment(since) + self._settings.grace <= self._now()
