"""Packages: appr's view of the tags of a repository, for reading.

A package is a repository of two segments that holds, or once held, a release. Lists read tag
records only; a manifest is read for the ``metadata`` that came with a push.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter

from ociappr.digest import ContentDigest, Digest
from ociappr.errors import BlobUnknown, DigestInvalid, ReleaseInvalid
from ociappr.manifest import Manifest
from ociappr.metadata import MetadataStore, scan_all
from ociappr.names import PackageName, RepositoryName, Tag
from ociappr.package import METADATA
from ociappr.registry import keys
from ociappr.registry.blobs import Blob, Blobs
from ociappr.registry.contents import (
    Channel,
    Content,
    Listing,
    Package,
    Published,
    descending,
    no_match,
    package_unknown,
)
from ociappr.registry.manifests import Manifests
from ociappr.registry.records import FormatRecord, RepositoryRecord, TagKind, TagRecord, decode
from ociappr.registry.tags import Tags
from ociappr.releases import Query, Release, select

_FEW = 100  # releases that are compared in no time, whatever the query

# whether a stored tag can be of a kind, without decoding it
_RELEASE_MARK, _CHANNEL_MARK = b'"release"', b'"channel"'


class Packages:
    """Finds packages, releases, channels and archives."""

    def __init__(
        self, metadata: MetadataStore, blobs: Blobs, tags: Tags, manifests: Manifests
    ) -> None:
        self._metadata = metadata
        self._blobs = blobs
        self._tags = tags
        self._manifests = manifests

    async def list(
        self,
        *,
        namespace: str | None = None,
        text: str = "",
        format_: str | None = None,
        readable: Callable[[RepositoryName], bool],
    ) -> Sequence[Listing]:
        """Return the packages that have a release, those of *format_* only if it is given.

        *text* is looked for in ``namespace/name``. A list costs two range reads, whatever it holds.
        """
        found: dict[PackageName, list[Published]] = {}
        async for package, release in self._every_release(namespace, format_):
            if text in str(package):
                found.setdefault(package, []).append(release)
        created = await self._created(namespace)
        return [
            Listing(package, created[str(package)], descending(releases))
            for package, releases in found.items()
            if readable(package.repository) and str(package) in created
        ]

    async def releases(self, package: PackageName, format_: str | None = None) -> Sequence[Package]:
        """Return every format of every release; raise `PackageUnknown` if there never was one."""
        content = await self.content(package)
        if not content.releases:
            await self.require_repository(package)
        published = descending(content.releases.values())
        narrowed = (one.narrowed(format_) for one in published)
        return await self._packages(package, (one for one in narrowed if one is not None))

    async def release(self, package: PackageName, text: str) -> Sequence[Package]:
        """Return the formats of the release that *text* spells exactly; raise `PackageUnknown`."""
        published = await self._exactly(package, text)
        if published is None:
            await self.require_repository(package)
            raise package_unknown(package, text)
        return await self._packages(package, [published])

    async def find(self, package: PackageName, query: str, format_: str) -> Package:
        """Return the *format_* of the release that *query* means, without looking at its manifest.

        The release is chosen first, whatever formats it has. Raises `PackageUnknown`,
        `ReleaseUnknown`, `QueryInvalid`, and `MediaTypeInvalid` when `ONLY` is not one.
        """
        published = await self._exactly(package, query)
        if published is None:
            content = await self.content(package)
            published = await self._chosen(package, content, query)
        return Package(package, published.release, published.format(package, format_))

    async def show(self, package: PackageName, query: str, format_: str) -> Package:
        """Return what `find` does, with its metadata and the channels that lead to it."""
        content = await self.content(package)
        published = await self._chosen(package, content, query)
        record = published.format(package, format_)
        metadata = await self._metadata_of(record)
        release = published.release
        return Package(package, release, record, metadata, content.leading_to(release))

    async def archive(self, package: Package) -> Blob:
        """Return the bytes of a package that was found; raise `BlobUnknown` if they are deleted."""
        layer = Digest.parse(package.record.layer)
        return await self._blobs.find(package.package.repository, layer)

    async def archive_by_digest(self, package: PackageName, text: str) -> Blob:
        """Return the archive that a bare sha256 names: of the gunzipped tar, or of the bytes.

        Only what this repository holds is found. Raises `PackageUnknown`.
        """
        try:
            content = ContentDigest(text)
        except DigestInvalid:
            raise package_unknown(package, text) from None
        repository = package.repository
        async for entry in scan_all(self._metadata, keys.aliases(repository, content)):
            try:
                return await self._blobs.find(repository, Digest.parse(entry.value.decode()))
            except BlobUnknown:
                continue  # deleted, though a manifest names it; another archive of the tar may do
        try:
            return await self._blobs.find(repository, Digest("sha256", text))
        except BlobUnknown:
            raise package_unknown(package, text) from None

    async def channels(self, package: PackageName) -> Sequence[Channel]:
        """Return the channels of *package*; raise `PackageUnknown`."""
        content = await self.content(package)
        if not content.releases and not content.channels:
            await self.require_repository(package)
        return [content.channel(name) for name in content.channels]

    async def channel(self, package: PackageName, name: str) -> Channel:
        """Return one channel; raise `PackageUnknown`, `ChannelUnknown`."""
        content = await self.content(package)
        if name not in content.channels:
            await self.require_repository(package)
        return content.channel(name)

    async def content(self, package: PackageName) -> Content:
        """Return the releases and channels of *package*, perhaps none."""
        content = Content({}, {})
        prefix = keys.tags(package.repository)
        async for entry in scan_all(self._metadata, prefix):
            if _RELEASE_MARK not in entry.value and _CHANNEL_MARK not in entry.value:
                continue
            name, record = entry.key[len(prefix) :].decode(), decode(TagRecord, entry.value)
            if record.kind is TagKind.CHANNEL:
                content.channels[name] = record
            elif (found := await self._published(package, Tag(name), record)) is not None:
                content.releases[found.release] = found
        return content

    async def require(self, package: PackageName, content: Content, asked: str) -> None:
        """Raise `PackageUnknown` unless there are releases; one that was emptied tells *asked*."""
        if not content.releases:
            await self.require_repository(package)
            raise package_unknown(package, asked)

    async def require_repository(self, package: PackageName) -> None:
        """Raise `PackageUnknown` unless the repository exists: there may be a package, or was."""
        if not await self._metadata.get([keys.repository(package.repository)]):
            raise package_unknown(package)

    async def _exactly(self, package: PackageName, text: str) -> Published | None:
        """Return the release that *text* spells; one read."""
        try:
            tag = Release(text).tag
        except ReleaseInvalid:
            return None
        record = await self._tags.read(package.repository, tag)
        return await self._published(package, tag, record) if record is not None else None

    async def _published(
        self, package: PackageName, tag: Tag, record: TagRecord
    ) -> Published | None:
        """Return the release that a tag is; of several packages of one format the first counts.

        A package of an index lives no longer than its own manifest, which may be deleted alone.
        """
        release = Release.of(tag) if record.kind is TagKind.RELEASE else None
        if release is None:
            return None
        formats = {found.format: found for found in reversed(record.formats)}
        if len(record.formats) > 1:
            key_of = partial(_member_key, package.repository)
            alive = await self._metadata.get([key_of(found) for found in formats.values()])
            formats = {name: found for name, found in formats.items() if key_of(found) in alive}
        ordered = sorted(formats.values(), key=attrgetter("format"))
        return Published(release, tuple(ordered)) if ordered else None

    async def _chosen(self, package: PackageName, content: Content, query: str) -> Published:
        await self.require(package, content, query)
        wanted = Query(query)
        if len(content.releases) <= _FEW:
            release = select(content.releases, wanted)
        else:
            release = await asyncio.to_thread(select, content.releases, wanted)
        if release is None:
            raise no_match(package, query)
        return content.releases[release]

    async def _packages(
        self, package: PackageName, published: Iterable[Published]
    ) -> Sequence[Package]:
        return [
            Package(package, one.release, record, await self._metadata_of(record))
            for one in published
            for record in one.formats
        ]

    async def _metadata_of(self, record: FormatRecord) -> str:
        raw = await self._manifests.raw(Digest.parse(record.manifest))
        return Manifest.parse(raw).annotations.get(METADATA, "null")

    async def _every_release(
        self, namespace: str | None, format_: str | None
    ) -> AsyncIterator[tuple[PackageName, Published]]:
        """Yield the releases (of *format_*) of all packages (of *namespace*), by package."""
        async for entry in scan_all(self._metadata, keys.within("t", namespace)):
            if _RELEASE_MARK not in entry.value:
                continue
            _, repository, tag = keys.parts(entry.key)
            package = PackageName.of(RepositoryName(repository))
            if package is None:
                continue
            record = decode(TagRecord, entry.value)
            published = await self._published(package, Tag(tag), record)
            narrowed = published.narrowed(format_) if published is not None else None
            if narrowed is not None:
                yield package, narrowed

    async def _created(self, namespace: str | None) -> dict[str, str]:
        """Return when each repository (of *namespace*) was created."""
        return {
            keys.parts(entry.key)[1]: decode(RepositoryRecord, entry.value).created
            async for entry in scan_all(self._metadata, keys.within("r", namespace))
        }


def _member_key(repository: RepositoryName, record: FormatRecord) -> bytes:
    return keys.manifest(repository, Digest.parse(record.manifest))
