"""Derived keys: pure functions of a record; nobody writes such a key in any other way."""

from __future__ import annotations

from ociappr.digest import Digest
from ociappr.manifest import Manifest
from ociappr.metadata import Transaction
from ociappr.names import RepositoryName
from ociappr.package import PackageManifest
from ociappr.registry import keys
from ociappr.registry.records import BlobRecord, ReferrerRecord, encode

_ANNOTATIONS_LIMIT = 16 * 1024


def of_manifest(repository: RepositoryName, manifest: Manifest) -> dict[bytes, bytes]:
    """Return the keys that the membership of *manifest* brings: pins, referrer, alias.

    A manifest pins its own bytes and every content it names, absent ones too.
    """
    pinned = [manifest.digest, *(child.digest for child in manifest.children)]
    derived = {keys.pin(child, repository, manifest.digest): b"" for child in pinned}
    if manifest.subject is not None:
        key = keys.referrer(repository, manifest.subject.digest, manifest.digest)
        derived[key] = encode(_referrer(manifest))
    package = PackageManifest.of(manifest)
    if package is not None and package.content_digest is not None:
        key = keys.alias(repository, package.content_digest, manifest.digest)
        derived[key] = str(package.content.digest).encode()
    return derived


def of_blob(digest: Digest, record: BlobRecord | None) -> dict[bytes, bytes]:
    """Return the keys that a blob record brings: whose bytes lie at its locators."""
    if record is None:
        return {}
    return {keys.owner(locator): str(digest).encode() for locator, _ in record.parts}


def put_blob(
    txn: Transaction, digest: Digest, *, old: BlobRecord | None, new: BlobRecord | None
) -> None:
    """Write the blob record *new* over *old*, with the difference of what they derive."""
    before, after = of_blob(digest, old), of_blob(digest, new)
    for key in before.keys() - after.keys():
        txn.delete(key)
    for key in after.keys() - before.keys():
        txn.put(key, after[key])
    if new is None:
        txn.delete(keys.blob(digest))
    else:
        txn.put(keys.blob(digest), encode(new))


def _referrer(manifest: Manifest) -> ReferrerRecord:
    annotations = dict(manifest.annotations)
    size = sum(len(name) + len(value) for name, value in annotations.items())
    return ReferrerRecord(
        media_type=manifest.media_type,
        size=len(manifest.raw),
        artifact_type=manifest.artifact_type,
        annotations=annotations if size <= _ANNOTATIONS_LIMIT else None,
    )
