"""Publishing: appr's way to push and delete the packages of a release.

A release is immutable: what the commit promises about its tag decides which of two pushers wins. A
push writes the manifest, the index that a second format makes necessary, and the tag in one commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import TypeAlias

from ociappr.descriptor import Descriptor
from ociappr.digest import Digest
from ociappr.errors import ManifestTooLarge, ReleaseExists, ReleaseInvalid
from ociappr.manifest import Manifest, build_index
from ociappr.media import INDEXES
from ociappr.metadata import Transaction
from ociappr.names import PackageName, RepositoryName
from ociappr.registry import keys, naming
from ociappr.registry.channels import leave_channels
from ociappr.registry.contents import package_unknown
from ociappr.registry.immutability import Immutability
from ociappr.registry.manifests import Manifests
from ociappr.registry.naming import Staged
from ociappr.registry.packages import Packages
from ociappr.registry.records import (
    Event,
    FormatRecord,
    ManifestRecord,
    RepositoryRecord,
    TagKind,
    TagRecord,
    decode,
    encode,
    named,
    stamp,
)
from ociappr.registry.submissions import Submission
from ociappr.registry.tags import remove, write
from ociappr.registry.uploads import Uploads
from ociappr.releases import Release

_BLOCK = 256 * 1024

Entries: TypeAlias = Mapping[FormatRecord, Descriptor]
"""The packages of a release and their manifests, in the order of an index."""


class Publishing:
    """Pushes and deletes the packages of releases."""

    def __init__(
        self,
        uploads: Uploads,
        manifests: Manifests,
        packages: Packages,
        immutability: Immutability,
        *,
        manifest_limit: int,
        now: Callable[[], datetime],
    ) -> None:
        self._uploads = uploads
        self._manifests = manifests
        self._packages = packages
        self._immutability = immutability
        self._manifest_limit = manifest_limit
        self._now = now

    async def push(
        self,
        package: PackageName,
        release: Release,
        submission: Submission,
        *,
        metadata: str | None = None,
        created: datetime | None = None,
        force: bool = False,
    ) -> None:
        """Publish *submission* as one format of *release*; *metadata* is JSON text.

        It was *created* now, unless told otherwise. Raises `ReleaseExists` when the release has
        this format, or the tag holds anything but packages; with *force* that loses its name
        instead, and stays by digest. Raises `ManifestTooLarge` when *metadata* is, `TagImmutable`
        when a rule that is configured keeps the release as it is, force or not.
        """
        repository, now = package.repository, stamp(self._now())
        told = stamp(created) if created is not None else now
        self._limit(len(metadata or ""))
        manifest = submission.manifest(package, release, metadata=metadata, created=told)
        self._limit(len(manifest.raw))

        async def others(txn: Transaction) -> Entries:
            """Return what stays in the release; reads only, so that a push in vain costs little."""
            return await self._others(txn, package, release, submission.format, force=force)

        await self._manifests.commit(others)
        for digest, data in submission.blobs:
            await self._uploads.put(repository, digest, _blocks(data), size=len(data))
        staged = await self._uploads.stage(repository, manifest.digest, manifest.raw)

        async def body(txn: Transaction) -> None:
            old = await _read(txn, repository, release)
            if old is not None and str(manifest.digest) in {one.manifest for one in old.formats}:
                return  # an earlier commit of ours had landed unseen
            stay = await others(txn)
            written = await self._manifests.write(txn, repository, manifest, staged, now=now)
            entries = await _entries(txn, repository, (*stay, *written.formats))
            await self._point(txn, package, release, entries, published=True, now=now)

        await self._manifests.commit(body)

    async def require_free(self, package: PackageName, release: Release, format_: str) -> None:
        """Raise `ReleaseExists` if a push of *format_* would, now and without force."""

        async def body(txn: Transaction) -> None:
            await self._others(txn, package, release, format_, force=False)

        await self._manifests.commit(body)

    async def begin(self, package: PackageName, since: datetime) -> None:
        """Let *package* exist *since* then, unless it does already since before."""
        key, record = keys.repository(package.repository), RepositoryRecord(stamp(since))

        async def body(txn: Transaction) -> None:
            value = await txn.get(key)
            if value is None or decode(RepositoryRecord, value).created > record.created:
                txn.put(key, encode(record))

        await self._manifests.commit(body)

    async def delete(self, package: PackageName, text: str, format_: str) -> None:
        """Take *format_* out of the release that *text* spells; its manifest stays by digest.

        The last format takes the release with it, and the release leaves its channels, which go on
        naming it as their current one. Raises `PackageUnknown`, `TagImmutable`.
        """
        repository, now = package.repository, stamp(self._now())
        try:
            release = Release(text)
        except ReleaseInvalid:
            raise package_unknown(package) from None

        async def body(txn: Transaction) -> None:
            old = await _read(txn, repository, release)
            entries = await _entries(txn, repository, old.formats if old is not None else ())
            stay = _without(entries, format_)
            if old is None or len(stay) == len(entries):
                raise package_unknown(package)
            self._immutability.refuse(repository, release.tag, old)
            if stay:
                await self._point(txn, package, release, stay, published=old.published, now=now)
                return
            remove(txn, repository, release.tag, old, now=now)
            content = await self._packages.content(package)
            await leave_channels(txn, package, content, release, now=now)

        await self._manifests.commit(body)

    def _limit(self, size: int) -> None:
        if size > self._manifest_limit:
            message = f"a package has at most {self._manifest_limit} bytes of metadata"
            raise ManifestTooLarge(message)

    async def _others(
        self,
        txn: Transaction,
        package: PackageName,
        release: Release,
        format_: str,
        *,
        force: bool,
    ) -> Entries:
        """Return the packages of a release beside *format_*; raise `ReleaseExists`."""
        old = await _read(txn, package.repository, release)
        if old is None:
            return {}
        entries = await _entries(txn, package.repository, old.formats)
        stay = _without(entries, format_)
        if force:
            return stay
        hint = "push with force to replace it"
        if old.kind is not TagKind.RELEASE or await self._is_mixed(old):
            hint = f"the tag {release.tag} holds what is no package; {hint}"
        elif len(stay) == len(entries):
            return stay
        detail = {"package": str(package), "release": str(release), "media_type": format_}
        raise ReleaseExists("Package exists already", detail=detail, hint=hint)

    async def _is_mixed(self, old: TagRecord) -> bool:
        """Tell whether a release, pushed through the OCI door, is an index with other content."""
        if old.media_type not in INDEXES:
            return False
        raw = await self._manifests.raw(Digest.parse(old.digest))
        return len(Manifest.parse(raw, old.media_type).manifests) != len(old.formats)

    async def _point(
        self,
        txn: Transaction,
        package: PackageName,
        release: Release,
        entries: Entries,
        *,
        published: bool,
        now: str,
    ) -> None:
        """Let the tag of *release* name these packages: their index, or the only one itself."""
        repository = package.repository
        target = next(iter(entries.values()))
        if len(entries) > 1:
            index = build_index(entries.values(), {})
            staged = Staged(index.digest, len(index.raw), inline=index.raw)
            await self._manifests.write(txn, repository, index, staged, now=now)
            target = index.descriptor
        else:
            await _hold(txn, repository, target)
        old = await _read(txn, repository, release)
        if old is not None:
            self._immutability.refuse(repository, release.tag, old, digest=str(target.digest))
        record = TagRecord(
            kind=TagKind.RELEASE,
            updated=now,
            digest=str(target.digest),
            media_type=target.media_type,
            size=target.size,
            formats=tuple(entries),
            published=published,
        )
        write(txn, repository, release.tag, record)
        event = Event("publish", str(repository), record.digest, str(release.tag), record.size)
        naming.journal(txn, event, now=now)


async def _read(txn: Transaction, repository: RepositoryName, release: Release) -> TagRecord | None:
    """Return what is stored under the tag of *release*, promised unchanged at the commit."""
    value = await txn.get(keys.tag(repository, release.tag))
    return decode(TagRecord, value) if value is not None else None


async def _entries(
    txn: Transaction, repository: RepositoryName, packages: Iterable[FormatRecord]
) -> Entries:
    """Return the packages whose manifests are here, in a fixed order.

    A manifest may have been deleted alone, below an index that goes on naming it.
    """
    found = {}
    for package in sorted(packages, key=attrgetter("format")):
        digest = Digest.parse(package.manifest)
        value = await txn.get(keys.manifest(repository, digest))
        if value is not None:
            record = decode(ManifestRecord, value)
            found[package] = Descriptor(
                record.media_type, digest, record.size, record.artifact_type
            )
    return found


async def _hold(txn: Transaction, repository: RepositoryName, manifest: Descriptor) -> None:
    """Write a manifest's membership again: a tag must not outlive it (an index holds its own)."""
    key = keys.manifest(repository, manifest.digest)
    value = await txn.get(key)
    if value is not None:
        txn.put(key, named(value))


def _without(entries: Entries, format_: str) -> Entries:
    return {one: entry for one, entry in entries.items() if one.format != format_}


async def _blocks(data: bytes) -> AsyncIterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), _BLOCK):
        yield bytes(view[start : start + _BLOCK])
