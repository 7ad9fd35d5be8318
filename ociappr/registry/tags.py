"""The mutable namespace of a repository: ordinary tags, releases and channels.

An ordinary tag is last-writer-wins: its commit checks nothing about the old tag. But a tag must not
outlive its manifest, so that commit checks the manifest's record and writes it again, and thereby
collides with its deletion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from ociappr.digest import Digest
from ociappr.errors import ManifestUnknown, NameUnknown
from ociappr.metadata import (
    Delete,
    MetadataStore,
    Transaction,
    Write,
    prefix_end,
    scan_all,
    transact,
)
from ociappr.names import PackageName, RepositoryName, Tag
from ociappr.registry import keys, naming
from ociappr.registry.immutability import Immutability
from ociappr.registry.records import (
    Event,
    ManifestRecord,
    TagKind,
    TagRecord,
    decode,
    encode,
    stamp,
)
from ociappr.releases import Release

T = TypeVar("T")
_PAGE = 1_000
_CHANNEL_MARK = b'"channel"'  # whether a stored tag can be a channel, without decoding it


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; *more* tells whether something follows its last item."""

    items: tuple[T, ...]
    more: bool


class Tags:
    """Resolves, lists, moves and deletes the names in a repository."""

    def __init__(
        self,
        metadata: MetadataStore,
        immutability: Immutability,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._immutability = immutability
        self._now = now

    async def resolve(self, repository: RepositoryName, tag: Tag) -> TagRecord:
        """Return the tag or release that *tag* names, through a channel too; `ManifestUnknown`."""
        record = await self.read(repository, tag)
        if record is not None and record.kind is TagKind.CHANNEL:
            record = await self.read(repository, Release(record.current).tag)
        if record is None or record.kind is TagKind.CHANNEL:
            message = f"{repository} has no tag {tag}"
            raise ManifestUnknown(message, detail={"tag": str(tag)})
        return record

    async def read(self, repository: RepositoryName, tag: Tag) -> TagRecord | None:
        """Return what is stored under *tag*, a channel as a channel."""
        key = keys.tag(repository, tag)
        entry = (await self._metadata.get([key])).get(key)
        return decode(TagRecord, entry.value) if entry is not None else None

    async def list(self, repository: RepositoryName, *, after: str = "", limit: int) -> Page[str]:
        """Return up to *limit* tags behind *after* in byte order; raise `NameUnknown`.

        A channel whose release is gone is left out.
        """
        if not await self._metadata.get([keys.repository(repository)]):
            raise NameUnknown(f"there is no repository {repository}")
        prefix = keys.tags(repository)
        found: list[str] = []
        start = prefix + after.encode(errors="surrogateescape") + b"\0" if after else prefix
        while True:
            wanted = limit + 1 - len(found)
            entries = await self._metadata.scan(start, prefix_end(prefix), limit=wanted)
            found += [
                entry.key[len(prefix) :].decode()
                for entry in entries
                if _CHANNEL_MARK not in entry.value
                or await self._leads_somewhere(repository, entry.value)
            ]
            if len(entries) < wanted or len(found) > limit:
                return Page(tuple(found[:limit]), more=len(found) > limit)
            start = entries[-1].key + b"\0"

    async def delete(self, repository: RepositoryName, tag: Tag) -> None:
        """Remove only the name *tag*; the manifest stays.

        Raises `ManifestUnknown`, and `TagImmutable` if a rule that is configured keeps it.
        """
        now = stamp(self._now())

        async def body(txn: Transaction) -> None:
            key = keys.tag(repository, tag)
            value = await txn.get(key)
            if value is None:
                message = f"{repository} has no tag {tag}"
                raise ManifestUnknown(message, detail={"tag": str(tag)})
            record = decode(TagRecord, value)
            self._immutability.refuse(repository, tag, record)
            remove(txn, repository, tag, record, now=now)

        await transact(self._metadata, body)

    async def repositories(self, *, after: str = "", limit: int) -> Page[str]:
        """Return up to *limit* repositories behind *after* in byte order."""
        prefix = keys.kind("r")
        start = keys.repository(after) + b"\0" if after else prefix
        entries = await self._metadata.scan(start, prefix_end(prefix), limit=limit + 1)
        names = tuple(keys.parts(entry.key)[1] for entry in entries[:limit])
        return Page(names, more=len(entries) > limit)

    async def of_manifest(self, repository: RepositoryName, digest: Digest) -> tuple[str, ...]:
        """Return the tags and releases that point at a manifest, in byte order."""
        found = []
        async for entry in scan_all(self._metadata, keys.hints(repository, digest)):
            tag = keys.parts(entry.key)[3]
            record = await self.read(repository, Tag(tag))
            if record is not None and record.digest == str(digest):
                found.append(tag)
        return tuple(found)

    async def point(
        self,
        txn: Transaction,
        repository: RepositoryName,
        tag: Tag,
        manifest: tuple[Digest, ManifestRecord],
        *,
        now: str,
    ) -> None:
        """Let *tag* name a manifest that this same commit checks and writes.

        In a repository that can be a package a semver tag on a package becomes a release; a channel
        moves when the manifest is a release, and becomes an ordinary tag when it is not. Raises
        `TagImmutable` when *tag* is immutable and names other content.
        """
        digest, record = manifest
        release = Release.of(tag) if PackageName.of(repository) else None
        key = keys.tag(repository, tag)
        is_free = release is None and not self._immutability.is_configured(repository, tag)
        value = await (txn.peek(key) if is_free else txn.get(key))
        old = decode(TagRecord, value) if value is not None else None
        law = self._immutability.law(repository, tag, old) if old is not None else None
        if old is not None and law is not None:
            if old.digest == str(digest):
                return
            raise law.refusal(repository, tag)
        if old is not None and old.kind is TagKind.CHANNEL:
            await txn.get(key)
            if await self._move_channel(txn, repository, tag, old, digest, now=now):
                return
        is_release = release is not None and bool(record.formats)
        new = TagRecord(
            kind=TagKind.RELEASE if is_release else TagKind.TAG,
            updated=now,
            digest=str(digest),
            media_type=record.media_type,
            size=record.size,
            formats=record.formats if is_release else (),
        )
        write(txn, repository, tag, new)
        event = Event("tag", str(repository), str(digest), str(tag), record.size)
        naming.journal(txn, event, now=now)

    async def _move_channel(
        self,
        txn: Transaction,
        repository: RepositoryName,
        channel: Tag,
        old: TagRecord,
        digest: Digest,
        *,
        now: str,
    ) -> bool:
        """Let *channel* lead to the release that is *digest*, if there is one; checked in *txn*."""
        for text in await self.of_manifest(repository, digest):
            release = Release.of(Tag(text))
            value = await txn.get(keys.tag(repository, text))
            target = decode(TagRecord, value) if value is not None else None
            if release is None or target is None or target.kind is not TagKind.RELEASE:
                continue
            if target.digest == str(digest):
                write(txn, repository, channel, moved(old, str(release), now=now))
                event = Event("channel", str(repository), str(digest), str(channel))
                naming.journal(txn, event, now=now)
                return True
        return False

    async def _leads_somewhere(self, repository: RepositoryName, value: bytes) -> bool:
        """Tell whether a stored tag is not a channel whose release is gone."""
        record = decode(TagRecord, value)
        if record.kind is not TagKind.CHANNEL:
            return True
        target = await self.read(repository, Release(record.current).tag)
        return target is not None and target.kind is TagKind.RELEASE


def write(txn: Transaction, repository: RepositoryName, tag: Tag, record: TagRecord) -> None:
    """Write a tag record, and the hint from its manifest to it, where it has one."""
    txn.put(keys.tag(repository, tag), encode(record))
    if record.digest:
        txn.put(keys.hint(repository, Digest.parse(record.digest), tag), b"")


def remove(
    txn: Transaction, repository: RepositoryName, tag: Tag, record: TagRecord, *, now: str
) -> None:
    """Delete a tag whose *record* this commit checks, and what goes with it."""
    txn.write(removal(repository, tag, record, now=now))


def removal(repository: RepositoryName, tag: Tag, record: TagRecord, *, now: str) -> list[Write]:
    """Return the writes that delete a tag, its hint and its last pull."""
    writes: list[Write] = [Delete(keys.tag(repository, tag)), Delete(keys.pulled(repository, tag))]
    if record.digest:
        writes.append(Delete(keys.hint(repository, Digest.parse(record.digest), tag)))
    event = Event("delete-tag", str(repository), record.digest, str(tag))
    return [*writes, naming.journaled(event, now=now)]


def moved(channel: TagRecord, release: str, *, now: str) -> TagRecord:
    """Return *channel* with *release* as its current one, and as a member."""
    members = tuple(dict.fromkeys((*channel.members, release)))
    return TagRecord(TagKind.CHANNEL, updated=now, current=release, members=members)
