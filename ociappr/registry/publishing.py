"""Publishing: appr's way to push and delete the packages of a release.

A release is immutable: what the commit promises about its tag decides which of two pushers wins. A
push writes the manifest, the index that a second format makes necessary, and the tag in one commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from ociappr.archive import inspect
from ociappr.descriptor import EMPTY, EMPTY_BYTES, Descriptor
from ociappr.digest import ContentDigest, Digest
from ociappr.errors import ManifestTooLarge, ReleaseExists, ReleaseInvalid
from ociappr.manifest import Manifest, build_image, build_index
from ociappr.media import HELM_CHART, HELM_CONFIG, INDEXES
from ociappr.metadata import Transaction
from ociappr.names import PackageName, RepositoryName
from ociappr.package import (
    CONTENT_DIGEST,
    CREATED,
    HELM,
    METADATA,
    TITLE,
    content_type,
    manifest_type,
)
from ociappr.registry import keys, naming
from ociappr.registry.channels import leave_channels
from ociappr.registry.charts import config_of
from ociappr.registry.manifests import Manifests
from ociappr.registry.naming import Staged
from ociappr.registry.packages import Packages, archive_name, package_unknown
from ociappr.registry.records import (
    Event,
    FormatRecord,
    ManifestRecord,
    TagKind,
    TagRecord,
    decode,
    stamp,
)
from ociappr.registry.tags import Tags, remove, write
from ociappr.registry.uploads import Uploads
from ociappr.releases import Release

_BLOCK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Submission:
    """A package to publish, read and understood; *config* is set when it is a Helm chart."""

    format: str
    data: bytes
    digest: Digest
    content_digest: ContentDigest
    config: bytes | None


def examine(data: bytes, format_: str, *, limit: int) -> Submission:
    """Return what the tar.gz *data*, which may unpack to *limit* bytes, is; takes a while.

    Raises `PackageInvalid` and `TooLarge`. A ``helm`` package whose chart Helm would not load, such
    as an operator bundle, is a package like any other.
    """
    archive = inspect(data, limit=limit)
    config = config_of(archive.chart) if format_ == HELM and archive.chart is not None else None
    return Submission(format_, data, Digest.of(data), archive.content_digest, config)


class Publishing:
    """Pushes and deletes the packages of releases."""

    def __init__(
        self,
        uploads: Uploads,
        manifests: Manifests,
        tags: Tags,
        packages: Packages,
        *,
        manifest_limit: int,
        now: Callable[[], datetime],
    ) -> None:
        self._manifest_limit = manifest_limit
        self._uploads = uploads
        self._manifests = manifests
        self._tags = tags
        self._packages = packages
        self._now = now

    async def push(
        self,
        package: PackageName,
        release: Release,
        submission: Submission,
        *,
        metadata: str | None = None,
        force: bool = False,
    ) -> None:
        """Publish *submission* as one format of *release*; *metadata* is JSON text.

        Raises `ReleaseExists` when the release has this format, or the tag holds anything but
        packages. With *force* that loses its name instead, and stays by digest. Raises
        `ManifestTooLarge` when *metadata* is.
        """
        repository, now = package.repository, stamp(self._now())
        self._limit(len(metadata or ""))
        tagged = await self._tags.read(repository, release.tag)
        await self._staying(package, release, tagged, submission.format, force=force)
        manifest = await self._store(package, release, submission, metadata=metadata, now=now)
        self._limit(len(manifest.raw))
        staged = await self._uploads.stage(repository, manifest.digest, manifest.raw)

        async def body(txn: Transaction) -> None:
            old = await _read(txn, repository, release)
            if old is not None and str(manifest.digest) in {one.manifest for one in old.formats}:
                return  # an earlier commit of ours had landed unseen
            stay = await self._staying(package, release, old, submission.format, force=force)
            written = await self._manifests.write(txn, repository, manifest, staged, now=now)
            entries = await _alive(txn, repository, (*stay, *written.formats))
            await self._point(txn, package, release, entries, published=True, now=now)

        await self._manifests.commit(body)

    async def delete(self, package: PackageName, text: str, format_: str) -> None:
        """Take *format_* out of the release that *text* spells; its manifest stays by digest.

        The last format takes the release with it, and the release leaves its channels, which go on
        naming it as their current one. Raises `PackageUnknown`.
        """
        repository, now = package.repository, stamp(self._now())
        try:
            release = Release(text)
        except ReleaseInvalid:
            raise package_unknown(package) from None

        async def body(txn: Transaction) -> None:
            old = await _read(txn, repository, release)
            if old is None or format_ not in {one.format for one in old.formats}:
                raise package_unknown(package)
            stay = tuple(one for one in old.formats if one.format != format_)
            entries = await _alive(txn, repository, stay)
            if entries:
                await self._point(txn, package, release, entries, published=old.published, now=now)
                return
            remove(txn, repository, release.tag, old, now=now)
            content = await self._packages.content(package)
            await leave_channels(txn, package, content, release, now=now)

        await self._manifests.commit(body)

    def _limit(self, size: int) -> None:
        if size > self._manifest_limit:
            message = f"a package has at most {self._manifest_limit} bytes of metadata"
            raise ManifestTooLarge(message)

    async def _store(
        self,
        package: PackageName,
        release: Release,
        submission: Submission,
        *,
        metadata: str | None,
        now: str,
    ) -> Manifest:
        """Store the blobs of *submission* and return the manifest that names them."""
        repository = package.repository
        config_bytes = submission.config or EMPTY_BYTES
        config = EMPTY
        if submission.config is not None:
            config = Descriptor(HELM_CONFIG, Digest.of(config_bytes), len(config_bytes))
        for digest, data in (
            (submission.digest, submission.data),
            (config.digest, config_bytes),
        ):
            await self._uploads.put(repository, digest, _blocks(data), size=len(data))
        annotations = {CREATED: now, CONTENT_DIGEST: str(submission.content_digest)}
        if metadata is not None:
            annotations[METADATA] = metadata
        is_chart = submission.config is not None
        layer = Descriptor(
            HELM_CHART if is_chart else content_type(submission.format),
            submission.digest,
            len(submission.data),
            # oras writes all archives of a release into one directory, and takes no name twice
            annotations={TITLE: archive_name(package, f"{release}_{submission.format}")},
        )
        artifact_type = "" if is_chart else manifest_type(submission.format)
        return build_image(
            config=config, layers=[layer], artifact_type=artifact_type, annotations=annotations
        )

    async def _staying(
        self,
        package: PackageName,
        release: Release,
        old: TagRecord | None,
        format_: str,
        *,
        force: bool,
    ) -> tuple[FormatRecord, ...]:
        """Return the packages that stay in a release beside *format_*; raise `ReleaseExists`."""
        if old is None:
            return ()
        stay = tuple(one for one in old.formats if one.format != format_)
        if force:
            return stay
        hint = "push with force to replace it"
        if old.kind is not TagKind.RELEASE or await self._is_mixed(old):
            hint = f"the tag {release.tag} holds what is no package; {hint}"
        elif len(stay) == len(old.formats):
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
        entries: Mapping[FormatRecord, Descriptor],
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


async def _alive(
    txn: Transaction, repository: RepositoryName, packages: Iterable[FormatRecord]
) -> Mapping[FormatRecord, Descriptor]:
    """Return the packages whose manifests are here, which this commit keeps, in a fixed order.

    A manifest may have been deleted alone, below an index that goes on naming it.
    """
    found = {}
    for package in sorted(packages, key=attrgetter("format")):
        digest = Digest.parse(package.manifest)
        key = keys.manifest(repository, digest)
        value = await txn.get(key)
        if value is not None:
            txn.put(key, value)
            record = decode(ManifestRecord, value)
            found[package] = Descriptor(
                record.media_type, digest, record.size, record.artifact_type
            )
    return found


async def _read(txn: Transaction, repository: RepositoryName, release: Release) -> TagRecord | None:
    """Return what is stored under the tag of *release*, promised unchanged at the commit."""
    value = await txn.get(keys.tag(repository, release.tag))
    return decode(TagRecord, value) if value is not None else None


async def _blocks(data: bytes) -> AsyncIterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), _BLOCK):
        yield bytes(view[start : start + _BLOCK])
