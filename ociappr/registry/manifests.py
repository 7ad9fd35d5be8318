"""Manifests of a repository: put with all their pins in one commit, get, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from ociappr.archive import ContentHash
from ociappr.digest import ContentDigest, Digest
from ociappr.errors import (
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    PackageInvalid,
    TooLarge,
)
from ociappr.manifest import Manifest
from ociappr.metadata import (
    Conflict,
    MetadataStore,
    Transaction,
    Write,
    scan_all,
    transact,
)
from ociappr.names import Reference, RepositoryName, Tag
from ociappr.package import HELM, PackageManifest
from ociappr.registry import keys, membership
from ociappr.registry.blobs import Blob, Blobs
from ociappr.registry.cache import ManifestCache
from ociappr.registry.immutability import Immutability
from ociappr.registry.naming import Staged
from ociappr.registry.records import (
    BlobRecord,
    ManifestRecord,
    TagKind,
    TagRecord,
    decode,
    stamp,
)
from ociappr.registry.settings import Settings
from ociappr.registry.tags import Tags, remove
from ociappr.registry.uploads import Uploads

T = TypeVar("T")
_PARSE_INLINE = 256 * 1024


@dataclass(frozen=True, slots=True)
class ManifestStat:
    """What HEAD tells of a manifest."""

    digest: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was pushed."""

    digest: Digest
    media_type: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a push of a manifest brought about."""

    digest: Digest
    subject: Digest | None
    tags: tuple[Tag, ...]


class Manifests:
    """Puts, gets and deletes manifests; a manifest that is here is complete."""

    def __init__(
        self,
        metadata: MetadataStore,
        uploads: Uploads,
        blobs: Blobs,
        tags: Tags,
        settings: Settings,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._uploads = uploads
        self._blobs = blobs
        self._tags = tags
        self._settings = settings
        self._immutability = Immutability(settings.immutable)
        self._now = now
        self._cache = ManifestCache(settings.cache_bytes)

    async def stat(self, reference: Reference, *, single: bool = False) -> ManifestStat:
        """Return what *reference* names, without its bytes; see `get`."""
        repository, target = reference.repository, reference.target
        if isinstance(target, Tag):
            record = await self._tags.resolve(repository, target)
            if not (single and record.kind is TagKind.RELEASE and len(record.formats) > 1):
                return ManifestStat(Digest.parse(record.digest), record.media_type, record.size)
            target = _preferred(record)
        found = await self.record(repository, target)
        return ManifestStat(target, found.media_type, found.size)

    async def get(self, reference: Reference, *, single: bool = False) -> StoredManifest:
        """Return the manifest that *reference* names; raise `ManifestUnknown`.

        With *single* the tag of a release of several packages answers the Helm chart among them, or
        else the first; everything else is served as it is stored.
        """
        stat = await self.stat(reference, single=single)
        return StoredManifest(stat.digest, stat.media_type, await self.raw(stat.digest))

    async def record(self, repository: RepositoryName, digest: Digest) -> ManifestRecord:
        """Return the membership of a manifest in *repository*; raise `ManifestUnknown`."""
        key = keys.manifest(repository, digest)
        entry = (await self._metadata.get([key])).get(key)
        if entry is None:
            message = f"{repository} holds no manifest {digest}"
            raise ManifestUnknown(message, detail={"digest": str(digest)})
        return decode(ManifestRecord, entry.value)

    async def raw(self, digest: Digest) -> bytes:
        """Return the bytes of a manifest that some repository holds."""
        raw = self._cache.get(digest)
        if raw is None:
            raw = await self._load(digest)
            self._cache.put(digest, raw)
        return raw

    async def put(
        self,
        reference: Reference,
        media_type: str,
        raw: bytes,
        *,
        tags: Sequence[Tag] = (),
    ) -> Accepted:
        """Store *raw* under its digest and under all tags, in one commit.

        Raises `ManifestTooLarge`, `ManifestInvalid`, `DigestInvalid`, `ManifestBlobUnknown` for a
        child that the repository does not hold, `TagImmutable`.
        """
        repository, target = reference.repository, reference.target
        if len(raw) > self._settings.manifest_limit:
            limit = self._settings.manifest_limit
            raise ManifestTooLarge(f"manifests have at most {limit} bytes, this one {len(raw)}")
        named = (target, *tags) if isinstance(target, Tag) else tuple(tags)
        digest = target if isinstance(target, Digest) else None
        manifest = await _parse(raw, media_type, digest)
        await self.verify_content(repository, manifest)
        staged = await self._uploads.stage(repository, manifest.digest, raw)
        now = stamp(self._now())

        wanted = [
            *membership.read_by_join(repository, manifest),
            *(keys.tag(repository, x) for x in named),
        ]

        async def body(txn: Transaction) -> None:
            await txn.peek_many(wanted)  # one read for all that is asked below
            record = await self.write(txn, repository, manifest, staged, now=now)
            for tag in dict.fromkeys(named):
                await self._tags.point(txn, repository, tag, (manifest.digest, record), now=now)

        await self.commit(body)
        subject = manifest.subject.digest if manifest.subject else None
        return Accepted(manifest.digest, subject, tuple(named))

    async def commit(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run *body*, which writes manifests; one too large for a commit is `ManifestTooLarge`."""
        try:
            return await transact(self._metadata, body)
        except TooLarge as error:
            message = "the manifest names more content than fits into one commit"
            raise ManifestTooLarge(f"{message}: {error.message}", hint=error.hint) from None

    async def write(
        self,
        txn: Transaction,
        repository: RepositoryName,
        manifest: Manifest,
        staged: Staged,
        *,
        now: str,
    ) -> ManifestRecord:
        """Make *manifest* a member in this commit: its bytes, its children, its derived keys."""
        sparse = self._settings.sparse
        return await membership.join(txn, repository, manifest, staged, sparse=sparse, now=now)

    async def delete(self, repository: RepositoryName, digest: Digest) -> None:
        """Take a manifest out of *repository* and all its tags with it.

        Raises `ManifestUnknown`, and `TagImmutable` if a rule that is configured keeps a tag of it.
        """
        await self.record(repository, digest)
        await self._refuse(repository, digest)
        while True:
            txn = Transaction(self._metadata)
            value = await txn.get(keys.manifest(repository, digest))  # before looking for tags
            if value is None:
                return None
            await self._delete_tags(repository, digest)
            try:
                return await self._forget(txn, repository, digest, decode(ManifestRecord, value))
            except Conflict:
                continue  # a tag was put meanwhile: it wrote the record again

    async def removal(
        self, repository: RepositoryName, digest: Digest, record: ManifestRecord
    ) -> list[Write]:
        """Return the writes that take a manifest out of *repository*, with all it brought.

        Who commits them promises that its *record* is unchanged. Raises `ManifestUnknown` when its
        bytes are gone.
        """
        raw = self._cache.get(digest) or await self._load(digest)
        manifest = Manifest.parse(raw, record.media_type, digest=digest)
        return membership.leave(repository, manifest, now=stamp(self._now()))

    async def verify_content(self, repository: RepositoryName, manifest: Manifest) -> None:
        """Raise `ManifestInvalid` unless the content digest that a package claims is true."""
        package = PackageManifest.of(manifest)
        if package is None or package.content_digest is None:
            return
        if await self._metadata.get([keys.manifest(repository, manifest.digest)]):
            return
        try:
            blob = await self._blobs.find(repository, package.content.digest)
        except BlobUnknown as error:
            raise ManifestBlobUnknown(error.message, detail=error.detail) from None
        try:
            found = await self._content_digest(blob)
        except (PackageInvalid, TooLarge) as error:
            raise ManifestInvalid(f"the layer has no content digest: {error.message}") from None
        if found != package.content_digest:
            detail = {"given": str(package.content_digest), "computed": str(found)}
            raise ManifestInvalid("the layer does not have this content digest", detail=detail)

    async def _content_digest(self, blob: Blob) -> ContentDigest:
        running = ContentHash(limit=self._settings.unpacked_limit)
        async with self._blobs.read(blob) as blocks:
            async for block in blocks:
                await asyncio.to_thread(running.update, block)
        return running.finish()

    async def _refuse(self, repository: RepositoryName, digest: Digest) -> None:
        """Raise `TagImmutable` before the first tag is deleted, unless all may be."""
        for name in await self._tags.of_manifest(repository, digest):
            record = await self._tags.read(repository, Tag(name))
            if record is not None and record.digest == str(digest):
                self._immutability.refuse(repository, Tag(name), record)

    async def _delete_tags(self, repository: RepositoryName, digest: Digest) -> None:
        """Delete the tags that point here; a hint whose tag moved on is dropped, checked."""
        now = stamp(self._now())
        async for entry in scan_all(self._metadata, keys.hints(repository, digest)):
            hint_key, tag = entry.key, Tag(keys.parts(entry.key)[3])

            async def body(txn: Transaction, hint_key: bytes = hint_key, tag: Tag = tag) -> None:
                if await txn.get(hint_key) is None:
                    return
                value = await txn.get(keys.tag(repository, tag))
                record = decode(TagRecord, value) if value is not None else None
                if record is not None and record.digest == str(digest):
                    self._immutability.refuse(repository, tag, record)
                    remove(txn, repository, tag, record, now=now)
                else:
                    txn.delete(hint_key)

            await transact(self._metadata, body)

    async def _forget(
        self, txn: Transaction, repository: RepositoryName, digest: Digest, record: ManifestRecord
    ) -> None:
        """Commit that the manifest is no member; raise `Conflict` if *txn* read another record."""
        txn.write(await self.removal(repository, digest, record))
        await txn.commit()

    async def _load(self, digest: Digest) -> bytes:
        key = keys.blob(digest)
        entry = (await self._metadata.get([key])).get(key)
        if entry is None:
            raise ManifestUnknown(f"manifest {digest} was deleted meanwhile")
        try:
            blob = await self._blobs.load(digest, decode(BlobRecord, entry.value))
            async with self._blobs.read(blob) as blocks:
                return b"".join([block async for block in blocks])
        except BlobUnknown as error:
            raise ManifestUnknown(error.message, detail=error.detail) from None


async def _parse(raw: bytes, media_type: str, digest: Digest | None) -> Manifest:
    if len(raw) <= _PARSE_INLINE:
        return Manifest.parse(raw, media_type, digest=digest)
    return await asyncio.to_thread(Manifest.parse, raw, media_type, digest=digest)


def _preferred(release: TagRecord) -> Digest:
    """Return the entry for a client that follows no index: the Helm chart, else the first."""
    helm = [found for found in release.formats if found.format == HELM]
    return Digest.parse((helm or release.formats)[0].manifest)
