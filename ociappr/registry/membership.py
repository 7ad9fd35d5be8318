"""What makes a manifest a member of a repository, and what undoes it: the content of one commit.

A member pins its children: each of them is here when it joins, or may be absent.
"""

from __future__ import annotations

from collections.abc import Sequence

from ociappr.descriptor import Descriptor
from ociappr.errors import ManifestBlobUnknown
from ociappr.manifest import Manifest
from ociappr.metadata import Delete, Transaction, Write
from ociappr.names import RepositoryName
from ociappr.package import PackageManifest
from ociappr.registry import derived, keys, naming
from ociappr.registry.naming import Staged
from ociappr.registry.records import (
    BlobRecord,
    Event,
    FormatRecord,
    ManifestRecord,
    decode,
    encode,
    named,
)
from ociappr.registry.settings import Sparse


async def join(
    txn: Transaction,
    repository: RepositoryName,
    manifest: Manifest,
    staged: Staged,
    *,
    sparse: Sparse,
    now: str,
) -> ManifestRecord:
    """Make *manifest* a member in this commit: its bytes, its children, its derived keys.

    Raises `ManifestBlobUnknown` for a child that is absent and by *sparse* may not be.
    """
    key = keys.manifest(repository, manifest.digest)
    old = await txn.get(key)
    await naming.name(txn, staged, now=now)
    entries = await _adopt(txn, repository, manifest, sparse=sparse, now=now)
    pushed = decode(ManifestRecord, old).pushed if old is not None else now
    record = _record(manifest, entries, pushed=pushed)
    txn.put(key, encode(record))
    for derived_key, value in derived.of_manifest(repository, manifest).items():
        txn.put(derived_key, value)
    await naming.create_repository(txn, repository, now=now)
    event = Event("push", str(repository), str(manifest.digest), size=len(manifest.raw))
    naming.journal(txn, event, now=now)
    return record


def leave(repository: RepositoryName, manifest: Manifest, *, now: str) -> list[Write]:
    """Return the writes that take *manifest* out of *repository*, with all it brought."""
    deleted = [
        keys.manifest(repository, manifest.digest),
        keys.pulled(repository, manifest.digest),
        *derived.of_manifest(repository, manifest),
    ]
    event = Event("delete-manifest", str(repository), str(manifest.digest))
    return [*map(Delete, deleted), naming.journaled(event, now=now)]


def read_by_join(repository: RepositoryName, manifest: Manifest) -> list[bytes]:
    """Return the keys that `join` asks for."""
    return [
        keys.repository(repository),
        keys.manifest(repository, manifest.digest),
        keys.blob(manifest.digest),
        *(keys.blob(child.digest) for child in manifest.children),
        *(keys.link(child.digest, repository) for child in manifest.children),
        *(keys.manifest(repository, child.digest) for child in manifest.manifests),
    ]


async def _adopt(
    txn: Transaction,
    repository: RepositoryName,
    manifest: Manifest,
    *,
    sparse: Sparse,
    now: str,
) -> tuple[ManifestRecord, ...]:
    """Check and revive every child; return the records of those that are manifests here.

    Every child's blob record is promised unchanged, an absent one's absence too. A child that was
    found by its membership gets that written again, so that retention cannot take it.
    """
    children = manifest.children
    blob_keys = {child.digest: keys.blob(child.digest) for child in children}
    link_keys = {child.digest: keys.link(child.digest, repository) for child in children}
    member_keys = {
        child.digest: keys.manifest(repository, child.digest) for child in manifest.manifests
    }
    found = await txn.peek_many(read_by_join(repository, manifest))
    await txn.get_many(list(blob_keys.values()))
    entries = []
    for child in children:
        value = found.get(blob_keys[child.digest])
        record = decode(BlobRecord, value) if value is not None else None
        if record is not None:
            naming.revive(txn, child.digest, record, now=now)
        member_key = member_keys.get(child.digest, b"")
        if member_key in found:
            value = (await txn.get(member_key)) or found[member_key]
            txn.put(member_key, named(value))
            entries.append(decode(ManifestRecord, value))
        elif not _is_linked(record, found.get(link_keys[child.digest])):
            _tolerate(repository, manifest, child, sparse=sparse)
    return tuple(entries)


def _tolerate(
    repository: RepositoryName, manifest: Manifest, child: Descriptor, *, sparse: Sparse
) -> None:
    """Raise `ManifestBlobUnknown` unless this child may be absent."""
    allowed = sparse is Sparse.ALL or (sparse is Sparse.INDEXES and manifest.is_index)
    if not allowed and child.digest not in manifest.foreign:
        message = f"{repository} does not hold {child.digest}, which the manifest names"
        hint = "push it first"
        raise ManifestBlobUnknown(message, detail={"digest": str(child.digest)}, hint=hint)


def _record(
    manifest: Manifest, entries: Sequence[ManifestRecord], *, pushed: str
) -> ManifestRecord:
    """Return the membership record; an index has the formats of its entries, in their order."""
    package = PackageManifest.of(manifest)
    formats = tuple(found for entry in entries for found in entry.formats)
    if package is not None:
        formats = (FormatRecord.of(manifest.digest, package, pushed=pushed),)
    return ManifestRecord(
        media_type=manifest.media_type,
        size=len(manifest.raw),
        pushed=pushed,
        artifact_type=manifest.artifact_type,
        subject=str(manifest.subject.digest) if manifest.subject else "",
        formats=formats,
    )


def _is_linked(record: BlobRecord | None, birth: bytes | None) -> bool:
    """Tell whether a link shows the blob, or showed it until it was condemned."""
    return record is not None and birth == record.birth.encode()
