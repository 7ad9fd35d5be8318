"""Last pulls: kept in memory, written seldom and together, for the rules that ask for them.

Telling of a pull costs its request one entry in a dictionary. Everything told since the last flush
is written in one go, so an item is written at most once per flush by each worker; what a crash
takes with it is lost, and so is what does not fit. Retention believes in "not pulled" only for the
time in which pulls were recorded without a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from ociappr.digest import Digest
from ociappr.metadata import (
    Check,
    Conflict,
    MetadataStore,
    Put,
    Transaction,
    Unchanged,
    Write,
    commit,
    scan_all,
    transact,
)
from ociappr.names import RepositoryName, Tag
from ociappr.registry import keys
from ociappr.registry.records import decode, encode, moment, stamp

EVERY = timedelta(hours=1)
"""How often pulls are written."""
GAP = timedelta(days=1)
"""How long nothing may be written before what is recorded counts as having begun anew."""

_CAPACITY = 50_000
_TOGETHER = 200
_RECORDED = keys.shared("pulls", "recorded")

Pull = tuple[RepositoryName, Tag | Digest]


class RecordedRecord(msgspec.Struct, frozen=True):
    """Since when, and until when, pulls were recorded without a gap."""

    since: str
    until: str


class Pulls:
    """Records when tags and manifests were pulled last."""

    def __init__(
        self, metadata: MetadataStore, *, now: Callable[[], datetime], capacity: int = _CAPACITY
    ) -> None:
        self._metadata = metadata
        self._now = now
        self._capacity = capacity
        self._waiting: dict[Pull, None] = {}
        self._full = asyncio.Event()

    def record(self, repository: RepositoryName, target: Tag | Digest) -> None:
        """Remember that *target* was pulled, until the next flush."""
        if len(self._waiting) < self._capacity:
            self._waiting[repository, target] = None
        else:
            self._full.set()

    async def full(self) -> None:
        """Return when there is no more room, so that a flush is due before its time."""
        await self._full.wait()

    async def flush(self) -> int:
        """Write what was recorded, and return how much that was; what fails waits for the next.

        Only tags and manifests that are there are written: not blobs, nor what was deleted.
        """
        pulls, self._waiting = list(self._waiting), {}
        self._full.clear()
        written = 0
        try:
            while pulls:
                written += await self._write(pulls[:_TOGETHER])
                del pulls[:_TOGETHER]
        finally:
            self._waiting |= dict.fromkeys(pulls)
        await self._tell_recorded()
        return written

    async def of(self, repository: RepositoryName) -> dict[str, datetime]:
        """Return the last pulls in *repository*, by the texts of tags and digests."""
        return {
            keys.parts(entry.key)[2]: moment(entry.value.decode())
            async for entry in scan_all(self._metadata, keys.pulls(repository))
        }

    async def recorded(self) -> datetime | None:
        """Return since when pulls are recorded without a gap; None if they are not."""
        entry = (await self._metadata.get([_RECORDED])).get(_RECORDED)
        if entry is None:
            return None
        record = decode(RecordedRecord, entry.value)
        return None if self._now() - moment(record.until) > GAP else moment(record.since)

    async def _write(self, pulls: Sequence[Pull]) -> int:
        now = self._now()
        named = {pull: _named(pull) for pull in pulls}
        known = {pull: keys.pulled(*pull) for pull in pulls}
        found = await self._metadata.get([*named.values(), *known.values()])
        checks: list[Check] = []
        writes: list[Write] = []
        for pull in pulls:
            target, last = found.get(named[pull]), found.get(known[pull])
            is_fresh = last is not None and now - moment(last.value.decode()) < EVERY
            if target is not None and not is_fresh:
                checks.append(Unchanged(target.key, target.version))
                writes.append(Put(known[pull], stamp(now).encode()))
        try:
            await commit(self._metadata, checks, writes)
        except Conflict:  # one of them was pushed or deleted just now
            self._waiting |= dict.fromkeys(pulls)
            return 0
        return len(writes)

    async def _tell_recorded(self) -> None:
        now = self._now()

        async def body(txn: Transaction) -> None:
            value = await txn.get(_RECORDED)
            record = decode(RecordedRecord, value) if value is not None else None
            is_broken = record is None or now - moment(record.until) > GAP
            since = stamp(now) if record is None or is_broken else record.since
            txn.put(_RECORDED, encode(RecordedRecord(since, stamp(now))))

        await transact(self._metadata, body)


def _named(pull: Pull) -> bytes:
    repository, target = pull
    if isinstance(target, Tag):
        return keys.tag(repository, target)
    return keys.manifest(repository, target)
