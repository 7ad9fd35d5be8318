"""Referrers: the manifests that name another as their subject (distribution-spec, end-12)."""

from __future__ import annotations

from collections.abc import Sequence

from ociappr.descriptor import Descriptor
from ociappr.digest import Digest
from ociappr.manifest import Manifest
from ociappr.metadata import MetadataStore, scan_all
from ociappr.names import RepositoryName
from ociappr.registry import keys
from ociappr.registry.manifests import Manifests
from ociappr.registry.records import ReferrerRecord, decode
from ociappr.registry.tags import Page


class Referrers:
    """Lists who refers to a manifest, present or not."""

    def __init__(self, metadata: MetadataStore, manifests: Manifests) -> None:
        self._metadata = metadata
        self._manifests = manifests

    async def list(
        self,
        repository: RepositoryName,
        subject: Digest,
        *,
        artifact_types: Sequence[str] = (),
        after: str = "",
        limit: int,
    ) -> Page[Descriptor]:
        """Return up to *limit* referrers of *subject* behind digest *after*, in digest order.

        With *artifact_types* only those of one of these effective types. An unknown subject has
        none.
        """
        prefix = keys.referrers(repository, subject)
        start = keys.referrer(repository, subject, after) if after else None
        found: list[Descriptor] = []
        async for entry in scan_all(self._metadata, prefix, after=start):
            record = decode(ReferrerRecord, entry.value)
            if artifact_types and record.artifact_type not in artifact_types:
                continue
            if len(found) == limit:
                return Page(tuple(found), more=True)
            digest = Digest.parse(keys.parts(entry.key)[3])
            found.append(await self._descriptor(digest, record))
        return Page(tuple(found), more=False)

    async def _descriptor(self, digest: Digest, record: ReferrerRecord) -> Descriptor:
        annotations = record.annotations
        if annotations is None:
            raw = await self._manifests.raw(digest)
            annotations = dict(Manifest.parse(raw, record.media_type, digest=digest).annotations)
        return Descriptor(record.media_type, digest, record.size, record.artifact_type, annotations)
