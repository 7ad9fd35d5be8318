"""Channels: names that lead to a release and are followed when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from ociappr.digest import Digest
from ociappr.errors import NameInvalid, TagImmutable
from ociappr.metadata import MetadataStore, Transaction, transact
from ociappr.names import PackageName, RepositoryName, Tag, is_tag, shown
from ociappr.registry import keys, naming
from ociappr.registry.contents import (
    Channel,
    Content,
    channel_unknown,
    package_unknown,
    release_unknown,
)
from ociappr.registry.immutability import Immutability
from ociappr.registry.packages import Packages
from ociappr.registry.records import Event, TagKind, TagRecord, decode, stamp
from ociappr.registry.tags import Tags, moved, remove, write
from ociappr.releases import Query, Release


class Channels:
    """Makes, moves and deletes the channels of packages."""

    def __init__(
        self,
        metadata: MetadataStore,
        tags: Tags,
        packages: Packages,
        immutability: Immutability,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._tags = tags
        self._packages = packages
        self._immutability = immutability
        self._now = now

    async def set(self, package: PackageName, name: str, text: str) -> Channel:
        """Let the channel *name* lead to the release that *text* spells, and return it.

        Raises `PackageUnknown`; `QueryInvalid` or `ReleaseUnknown` when *text* is no release here;
        `NameInvalid` when *name* cannot be a channel; `TagImmutable` when it is an ordinary tag
        that points at no release.
        """
        repository, now = package.repository, stamp(self._now())

        async def body(txn: Transaction) -> Channel:
            content = await self._packages.content(package)
            await self._packages.require(package, content, text)
            release = _existing(package, content, text)
            if not await _hold(txn, repository, release):
                raise release_unknown(package, text)
            tag = _channel_tag(name)
            value = await txn.get(keys.tag(repository, tag))
            old = decode(TagRecord, value) if value is not None else None
            if old is not None and old.kind is not TagKind.CHANNEL:
                await self._take_over(package, content, tag, old)
                old = None
            record = moved(old or TagRecord(TagKind.CHANNEL, updated=now), str(release), now=now)
            _put(txn, repository, tag, record, now=now)
            content.channels[name] = record
            return content.channel(name)

        return await transact(self._metadata, body)

    async def restore(
        self,
        package: PackageName,
        name: str,
        current: Release,
        *,
        members: Iterable[Release],
        force: bool = False,
        dry: bool = False,
    ) -> bool:
        """Make the channel *name* as it was elsewhere, whether or not its releases are here.

        Returns whether there was anything to do; if *dry*, it is not done. Raises `NameInvalid`
        when *name* cannot be a channel; without *force*, `TagImmutable` when the name is something
        else here.
        """
        repository, tag, now = package.repository, _channel_tag(name), stamp(self._now())
        texts = tuple(sorted(str(release) for release in members))
        new = TagRecord(TagKind.CHANNEL, updated=now, current=str(current), members=texts)

        async def body(txn: Transaction) -> bool:
            value = await txn.get(keys.tag(repository, tag))
            old = decode(TagRecord, value) if value is not None else None
            if old is not None and _leads_alike(old, new):
                return False
            if old is not None and not force:
                raise _taken(package, tag, old)
            if not dry:
                _put(txn, repository, tag, new, now=now)
            return True

        return await transact(self._metadata, body)

    async def remove_release(self, package: PackageName, name: str, text: str) -> None:
        """Take a release out of a channel, whose current one becomes the highest of the rest.

        Without any rest the channel is deleted. Raises `PackageUnknown`, `ChannelUnknown`.
        """
        repository, now = package.repository, stamp(self._now())

        async def body(txn: Transaction) -> None:
            content, record = await self._read(txn, package, name)
            if text not in {release.text for release in content.releases}:
                raise package_unknown(package, text)
            rest = [one for one in content.channel(name).releases if one.text != text]
            left = _without(record, text, now=now)
            for release in rest:
                if await _hold(txn, repository, release):
                    left = moved(left, str(release), now=now)
                    _put(txn, repository, Tag(name), left, now=now)
                    return
            remove(txn, repository, Tag(name), record, now=now)

        await transact(self._metadata, body)

    async def delete(self, package: PackageName, name: str) -> None:
        """Delete a channel; raise `PackageUnknown`, `ChannelUnknown`."""
        now = stamp(self._now())

        async def body(txn: Transaction) -> None:
            _, record = await self._read(txn, package, name)
            remove(txn, package.repository, Tag(name), record, now=now)

        await transact(self._metadata, body)

    async def _read(
        self, txn: Transaction, package: PackageName, name: str
    ) -> tuple[Content, TagRecord]:
        """Return a channel's record, promised unchanged, and the content it stands in."""
        content = await self._packages.content(package)
        if name not in content.channels:
            await self._packages.require_repository(package)
            raise channel_unknown(name)
        value = await txn.get(keys.tag(package.repository, name))
        record = decode(TagRecord, value) if value is not None else None
        if record is None or record.kind is not TagKind.CHANNEL:
            raise channel_unknown(name)
        content.channels[name] = record
        return content, record

    async def _take_over(
        self, package: PackageName, content: Content, tag: Tag, old: TagRecord
    ) -> None:
        """Raise `TagImmutable` unless an ordinary tag may go and points at a release."""
        names = await self._tags.of_manifest(package.repository, Digest.parse(old.digest))
        self._immutability.refuse(package.repository, tag, old)
        if not {Release.of(Tag(name)) for name in names} & content.releases.keys():
            message = f"{package}:{tag} is a tag that points at no release"
            hint = "delete the tag first, or choose another name"
            raise TagImmutable(message, detail={"tag": str(tag)}, hint=hint)


async def leave_channels(
    txn: Transaction, package: PackageName, content: Content, release: Release, *, now: str
) -> None:
    """Take a release that this commit deletes out of its channels; none changes its current one."""
    repository = package.repository
    for name, known in content.channels.items():
        value = await txn.get(keys.tag(repository, name)) if release.text in known.members else None
        record = decode(TagRecord, value) if value is not None else None
        if record is not None and record.kind is TagKind.CHANNEL:
            _put(txn, repository, Tag(name), _without(record, str(release), now=now), now=now)


async def _hold(txn: Transaction, repository: RepositoryName, release: Release) -> bool:
    """Write the tag of a release again, so that this commit collides with its deletion.

    Returns whether the release is still there.
    """
    key = keys.tag(repository, release.tag)
    value = await txn.get(key)
    if value is not None:
        txn.put(key, value)
    return value is not None


def _put(
    txn: Transaction, repository: RepositoryName, tag: Tag, record: TagRecord, *, now: str
) -> None:
    write(txn, repository, tag, record)
    naming.journal(txn, Event("channel", str(repository), tag=str(tag)), now=now)


def _without(channel: TagRecord, release: str, *, now: str) -> TagRecord:
    members = tuple(text for text in channel.members if text != release)
    return TagRecord(TagKind.CHANNEL, updated=now, current=channel.current, members=members)


def _existing(package: PackageName, content: Content, text: str) -> Release:
    """Return the release that *text* spells; raise `QueryInvalid` or `ReleaseUnknown`."""
    Query(text)  # what is neither a release nor a query is told as such, as by the original
    for release in content.releases:
        if release.text == text:
            return release
    raise release_unknown(package, text)


def _leads_alike(one: TagRecord, other: TagRecord) -> bool:
    """Tell whether both are channels of the same current release and members."""
    return (one.kind, one.current, set(one.members)) == (
        other.kind,
        other.current,
        set(other.members),
    )


def _taken(package: PackageName, tag: Tag, old: TagRecord) -> TagImmutable:
    """Return the error for a channel's name that is something else here."""
    what = "a tag that is no channel"
    if old.kind is TagKind.CHANNEL:
        what = f"a channel that leads to {old.current}, with {', '.join(old.members) or 'nothing'}"
    return TagImmutable(f"{package}:{tag} is {what}", detail={"tag": str(tag)})


def _channel_tag(name: str) -> Tag:
    """Return the tag of a channel; raise `NameInvalid` for what is no tag, or is a release."""
    if not is_tag(name) or Release.of(Tag(name)) is not None:
        message = f"{shown(name)} cannot be a channel"
        hint = "a channel is called like a tag (letters, digits, . _ -), but not like a release"
        raise NameInvalid(message, hint=hint)
    return Tag(name)
