"""Writing a snapshot of the metadata while the registry is in use.

What a snapshot promises: each repository (its record, tags and manifests) as it was at one instant
while the snapshot was made, or it is told among the *unsettled*; and every link, blob record and
inline bytes that those manifests need, if making it took less than the collector's grace. For what
a manifest named at that instant is condemned after it at the earliest, and forgotten a grace later.

The order makes that so: bin, repositories with tags and manifests, then links, then blobs. Which
repositories changed meanwhile is in the journal, written in the commit of each change; they are
told again, until they held still. Derived keys are left out: they are computed when it is restored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ociappr.blobstore import Snapshots, snapshot_begun, snapshot_name
from ociappr.errors import StoreUnavailable
from ociappr.metadata import Entry, MetadataStore, Transaction, transact
from ociappr.moving.kinds import JOURNAL, LOOSE, stays
from ociappr.moving.pages import digest_of, pages
from ociappr.moving.snapshot import Again, Header, Packer, Record
from ociappr.names import RepositoryName
from ociappr.registry import keys
from ociappr.registry.naming import consume
from ociappr.registry.records import BlobRecord, Event, decode, stamp
from ociappr.registry.schema import SCHEMA, identity
from ociappr.registry.sessions import Sessions

_OWN = RepositoryName("backup")
_CLOCKS = timedelta(minutes=1)  # how far the clocks of replicas may be apart
_TRIES = 5
_PAGE = 64  # inline bytes come in pages of so many


@dataclass(frozen=True, slots=True)
class Backed:
    """A snapshot that was written: *counts* of entries by kind, *size* as it is stored.

    *slow* when it took longer than the grace period: what was deleted meanwhile may be torn.
    """

    name: str
    created: datetime
    size: int
    counts: dict[str, int]
    unsettled: tuple[str, ...]
    slow: bool


class Backup:
    """Writes snapshots of one registry's metadata."""

    def __init__(
        self,
        metadata: MetadataStore,
        sessions: Sessions,
        *,
        grace: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._sessions = sessions
        self._grace = grace
        self._now = now

    async def run(self, target: Snapshots) -> Backed:
        """Write a snapshot into *target* and return what it holds; a crash leaves none."""
        created = self._now()
        name, packer, unsettled = snapshot_name(created), Packer(), set[str]()
        upload = self._sessions.begin(_OWN, "sha256")
        await self._sessions.create(_OWN, upload)
        size = await target.put_snapshot(upload, name, self._bytes(packer, created, unsettled))

        async def body(txn: Transaction) -> None:
            await consume(txn, upload, ())

        await transact(self._metadata, body)
        slow = self._now() - created > self._grace
        return Backed(name, created, size, packer.counts, tuple(sorted(unsettled)), slow)

    async def _bytes(
        self, packer: Packer, created: datetime, unsettled: set[str]
    ) -> AsyncIterator[bytes]:
        registry = await identity(self._metadata)
        yield await packer.pack(Header(SCHEMA, registry, stamp(created)))
        async for page in self._pages("x"):
            yield await packer.pack(*_records(page))
        async for piece in self._names(packer, unsettled):
            yield piece
        async for page in self._pages("l"):
            yield await packer.pack(*_records(page))
        async for page in self._blobs():
            yield await packer.pack(*_records(page))
        async for page in self._pages(LOOSE + JOURNAL):
            yield await packer.pack(*_records(one for one in page if not stays(one.key)))
        yield await packer.end(tuple(sorted(unsettled)))

    async def _names(self, packer: Packer, unsettled: set[str]) -> AsyncIterator[bytes]:
        """Tell every repository; then those again that changed meanwhile, until they held still."""
        since = self._now() - _CLOCKS
        before = await self._journal(since)
        async for page in self._pages("rtm"):
            yield await packer.pack(*_records(page))
        for name in sorted(await self._changed(since, before)):
            for _ in range(_TRIES):
                since = self._now() - _CLOCKS
                before = await self._journal(since)
                yield await packer.pack(Again(name))
                async for page in self._repository(RepositoryName(name)):
                    yield await packer.pack(*_records(page))
                if name not in await self._changed(since, before):
                    break
            else:
                unsettled.add(name)

    async def _changed(self, since: datetime, before: dict[bytes, str]) -> set[str]:
        """Return the repositories that the journal tells of since *before* was read."""
        after = await self._journal(since)
        return {after[key] for key in after.keys() - before.keys()}

    async def _journal(self, since: datetime) -> dict[bytes, str]:
        """Return the events since then, and of which repositories they tell."""
        found: dict[bytes, str] = {}
        async for page in pages(self._metadata, keys.kind("e"), start=keys.event(stamp(since), "")):
            found |= {entry.key: decode(Event, entry.value).repository for entry in page}
        return found

    async def _pages(self, letters: str) -> AsyncIterator[list[Entry]]:
        for letter in letters:
            async for page in pages(self._metadata, keys.kind(letter)):
                yield page

    async def _repository(self, name: RepositoryName) -> AsyncIterator[list[Entry]]:
        yield list((await self._metadata.get([keys.repository(name)])).values())
        for prefix in (keys.tags(name), keys.manifests(name)):
            async for page in pages(self._metadata, prefix):
                yield page

    async def _blobs(self) -> AsyncIterator[list[Entry]]:
        """Yield blob records, each page with the inline bytes of its blobs."""
        async for page in pages(self._metadata, keys.kind("b"), limit=_PAGE):
            inline = []
            for entry in page:
                record = decode(BlobRecord, entry.value)
                if not record.parts:
                    inline.append(keys.inline(digest_of(entry), record.birth))
            yield [*page, *(await self._metadata.get(inline)).values()]


def _records(entries: Iterable[Entry]) -> list[Record]:
    return [Record(entry.key, entry.value) for entry in entries]


async def trim(target: Snapshots, keep: int) -> int:
    """Delete all but the newest *keep* snapshots; return how many went."""
    names = [name for name, _ in await target.snapshots()]
    doomed = names[: max(len(names) - keep, 0)]
    for name in doomed:
        await target.delete_snapshot(name)
    return len(doomed)


async def newest(target: Snapshots) -> datetime | None:
    """Return when the newest snapshot was begun, if there is one."""
    names = [name for name, _ in await target.snapshots()]
    return snapshot_begun(names[-1]) if names else None


def snapshots_of(store: object) -> Snapshots:
    """Return *store* as one that keeps snapshots; raise `StoreUnavailable` if it does not."""
    if not isinstance(store, Snapshots):
        raise StoreUnavailable(
            "this blob store keeps no snapshots", hint="name another place with --to"
        )
    return store
