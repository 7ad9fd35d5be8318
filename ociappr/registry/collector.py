"""The collector: which bytes go, while everything is being served.

Steps of a blob nobody pins: *condemned* after the grace period, *forgotten* after another (its
record goes and its bytes are named by the bin), *unlinked* after a third, then its bin entry goes.
Every step is a commit that checks what it promises, so any number of collectors may run at once and
each may stop anywhere. The grace periods are a courtesy to clients that saw a 200; what makes it
correct is that every locator is fresh, so an unlink can only hit what nothing will name again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ociappr.blobstore import BlobStore, Locator, Part, Stored, UploadId
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, UploadUnknown
from ociappr.metadata import (
    Check,
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
from ociappr.registry.steps import Pace, Step, Steps

_SWEEP_PAGE = 500
_TRIM = 500
_TOGETHER = 50
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

    def add(self, what: str) -> None:
        """Count one more of *what*."""
        setattr(self, what, getattr(self, what) + 1)


class Collector:
    """Expires sessions, promotes what was committed as it lay, and lets garbage go."""

    def __init__(
        self,
        metadata: MetadataStore,
        store: BlobStore,
        sessions: Sessions,
        settings: Settings,
        pace: Pace,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._store = store
        self._sessions = sessions
        self._settings = settings
        self._pace = pace
        self._now = now

    async def run(self, done: Collected | None = None) -> Collected:
        """Do one round of everything and return what it did, counted in *done* meanwhile.

        A crash anywhere loses nothing.
        """
        done = done or Collected()
        steps = Steps(self._metadata, self._pace, count=done.add)
        await self._expire_sessions(steps)
        await self._walk_blobs(steps, done)
        await self._empty_bin(steps)
        await self._sweep(done)
        await self._trim_journal(done)
        return done

    async def preview(self) -> AsyncIterator[Step]:
        """Yield what a round would do, and change nothing; promotions and the journal aside."""
        async for entry in scan_all(self._metadata, keys.kind("u")):
            if (step := self._session_step(entry)) is not None:
                yield step
        async for entry in scan_all(self._metadata, keys.kind("b")):
            if (step := await self._blob_step(entry)) is not None:
                yield step
        async for entry in scan_all(self._metadata, keys.kind("x")):
            if (step := self._bin_step(entry)) is not None:
                yield step
        async for page in self._pages():
            for stored in await self._unowned(page):
                yield Step("swept", stored.locator, "no upload, blob or entry of the bin owns it")

    # -- sessions --------------------------------------------------------------------------------

    async def _expire_sessions(self, steps: Steps) -> None:
        async for entry in scan_all(self._metadata, keys.kind("u")):
            if (step := self._session_step(entry)) is not None:
                await steps.take(step)
        await steps.flush()

    def _session_step(self, entry: Entry) -> Step | None:
        """Forget a session a week after its last commit; what it owned is nobody's then."""
        record = decode(UploadRecord, entry.value)
        upload = UploadId(keys.parts(entry.key)[1])
        idle = moment(record.touched) + self._settings.session_age < self._now()
        if not (self._sessions.expired(upload) and (record.ended or idle)):
            return None
        reason = "ended" if record.ended else f"nothing came since {record.touched[:16]}"
        return _step("expired", upload, reason, entry, deletes=[entry.key])

    # -- blobs -----------------------------------------------------------------------------------

    async def _walk_blobs(self, steps: Steps, done: Collected) -> None:
        async for entry in scan_all(self._metadata, keys.kind("b")):
            step = await self._blob_step(entry)
            record = decode(BlobRecord, entry.value)
            if step is not None:
                await steps.take(step)
            elif record.staged:
                await self._pace.keep(1)
                done.promoted += await self._promote(Digest.parse(keys.parts(entry.key)[1]), record)
        await steps.flush()

    async def _blob_step(self, entry: Entry) -> Step | None:
        """Return what is due for a blob that nothing pins."""
        digest = Digest.parse(keys.parts(entry.key)[1])
        record = decode(BlobRecord, entry.value)
        if not self._rests(record.since) or await self._is_pinned(digest):
            return None
        if record.state is BlobState.CONDEMNED:
            return self._forget(digest, entry, record)
        condemned = msgspec.structs.replace(
            record, state=BlobState.CONDEMNED, since=stamp(self._now())
        )
        reason = f"no manifest names it, {self._settings.grace} after {record.since[:16]}"
        puts = {entry.key: encode(condemned)}
        return _step("condemned", digest, reason, entry, Empty(keys.pins(digest)), puts=puts)

    def _forget(self, digest: Digest, entry: Entry, record: BlobRecord) -> Step:
        """Delete the record and what it derives; the bin names its bytes and its void links."""
        now = stamp(self._now())
        binned = encode(BinRecord(digest=str(digest), since=now, birth=record.birth))
        deletes = [entry.key, *of_blob(digest, record)]
        if record.parts:
            puts = {keys.binned(locator): binned for locator, _ in record.parts}
        else:
            deletes.append(keys.inline(digest, record.birth))
            puts = {keys.binned_inline(digest, record.birth): binned}
        pins = Empty(keys.pins(digest))
        reason = f"condemned since {record.since[:16]}, and not pushed again"
        return _step("forgotten", digest, reason, entry, pins, deletes=deletes, puts=puts)

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

    async def _empty_bin(self, steps: Steps) -> None:
        """Unlink what rested in the bin, some entries at a time."""
        due: list[tuple[BinRecord, Entry, Step]] = []
        async for entry in scan_all(self._metadata, keys.kind("x")):
            if (step := self._bin_step(entry)) is not None:
                due.append((decode(BinRecord, entry.value), entry, step))
            if len(due) == _TOGETHER:
                await self._unlink(steps, due)
                due = []
        await self._unlink(steps, due)

    async def _unlink(self, steps: Steps, due: Sequence[tuple[BinRecord, Entry, Step]]) -> None:
        """Delete void links, then bytes; the entries of the bin go last."""
        births = {(Digest.parse(record.digest), record.birth) for record, _, _ in due}
        await self._delete_void_links({one for one in births if one[1]})
        for _, entry, step in due:
            parts = keys.parts(entry.key)
            if len(parts) < _INLINE_BIN_PARTS:
                await self._store.delete(Locator(parts[1]))
            await steps.take(step)
        await steps.flush()

    def _bin_step(self, entry: Entry) -> Step | None:
        record = decode(BinRecord, entry.value)
        if not self._rests(record.since):
            return None
        reason = f"in the bin since {record.since[:16]}"
        return _step("unlinked", record.digest, reason, entry, deletes=[entry.key])

    async def _delete_void_links(self, births: set[tuple[Digest, str]]) -> None:
        """Delete the links of births that are gone, each checked, until a scan finds none."""
        steps = Steps(self._metadata, self._pace, count=lambda _: None)
        while births:
            found: set[tuple[Digest, str]] = set()
            for digest, birth in births:
                async for entry in scan_all(self._metadata, keys.links(digest)):
                    if entry.value.decode() == birth:
                        found.add((digest, birth))
                        reason = "its blob was forgotten"
                        await steps.take(_step("link", digest, reason, entry, deletes=[entry.key]))
            await steps.flush()
            births = found

    async def _sweep(self, done: Collected) -> None:
        """Remove the objects that nobody owns, whatever their age."""
        async for page in self._pages():
            for stored in await self._unowned(page):
                await self._pace.keep(1)
                await self._store.delete(stored.locator)
                done.swept += 1
                done.freed += stored.size

    async def _pages(self) -> AsyncIterator[list[Stored]]:
        page: list[Stored] = []
        async for stored in self._store.walk():
            page.append(stored)
            if len(page) == _SWEEP_PAGE:
                yield page
                page = []
        yield page

    async def _unowned(self, page: list[Stored]) -> list[Stored]:
        """Ask for the owners in this order: session, record, bin; ownership moves only that way."""
        sessions = await self._metadata.get(list({keys.upload(one.upload) for one in page}))
        records = await self._metadata.get([keys.owner(one.locator) for one in page])
        binned = await self._metadata.get([keys.binned(one.locator) for one in page])
        open_ = {
            key for key, entry in sessions.items() if not decode(UploadRecord, entry.value).ended
        }
        return [
            stored
            for stored in page
            if keys.upload(stored.upload) not in open_
            and keys.owner(stored.locator) not in records
            and keys.binned(stored.locator) not in binned
        ]

    # -- the journal -----------------------------------------------------------------------------

    async def _trim_journal(self, done: Collected) -> None:
        end = keys.event(stamp(self._now() - self._settings.journal_age), "")
        while old := await self._metadata.scan(keys.kind("e"), end, limit=_TRIM):
            await commit(self._metadata, [], [Delete(entry.key) for entry in old])
            done.journal += len(old)

    def _rests(self, since: str) -> bool:
        """Tell whether a grace period has passed since then."""
        return moment(since) + self._settings.grace <= self._now()


def _step(
    what: str,
    about: object,
    reason: str,
    entry: Entry,
    *checks: Check,
    deletes: Sequence[bytes] = (),
    puts: Mapping[bytes, bytes] | None = None,
) -> Step:
    """Return a step that is done if *entry* is unchanged; else the next round tries again."""
    writes: list[Write] = [Delete(key) for key in deletes]
    writes += [Put(key, value) for key, value in (puts or {}).items()]
    promised = (Unchanged(entry.key, entry.version), *checks)
    return Step(what, str(about), reason, checks=promised, writes=tuple(writes))
