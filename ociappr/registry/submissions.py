"""Submissions: what an appr push brings, and the manifest that it becomes."""

from __future__ import annotations

from dataclasses import dataclass

from ociappr.archive import inspect
from ociappr.descriptor import EMPTY, EMPTY_BYTES, Descriptor
from ociappr.digest import ContentDigest, Digest
from ociappr.manifest import Manifest, build_image
from ociappr.media import HELM_CHART, HELM_CONFIG
from ociappr.names import PackageName
from ociappr.package import (
    CONTENT_DIGEST,
    CREATED,
    HELM,
    METADATA,
    TITLE,
    content_type,
    manifest_type,
)
from ociappr.registry.charts import config_of
from ociappr.registry.contents import archive_name
from ociappr.releases import Release


@dataclass(frozen=True, slots=True)
class Submission:
    """A package to publish, read and understood; *config* is set when it is a Helm chart."""

    format: str
    data: bytes
    digest: Digest
    content_digest: ContentDigest
    config: bytes | None

    @property
    def blobs(self) -> tuple[tuple[Digest, bytes], ...]:
        """The blobs that its manifest names."""
        config = self.config or EMPTY_BYTES
        return (self.digest, self.data), (Digest.of(config), config)

    def manifest(
        self, package: PackageName, release: Release, *, metadata: str | None, created: str
    ) -> Manifest:
        """Return the manifest: a pure function of what is given, byte for byte."""
        annotations = {CREATED: created, CONTENT_DIGEST: str(self.content_digest)}
        if metadata is not None:
            annotations[METADATA] = metadata
        is_chart = self.config is not None
        layer = Descriptor(
            HELM_CHART if is_chart else content_type(self.format),
            self.digest,
            len(self.data),
            # oras writes all archives of a release into one directory, and takes no name twice
            annotations={TITLE: archive_name(package, f"{release}_{self.format}")},
        )
        return build_image(
            config=EMPTY if self.config is None else _config(self.config),
            layers=[layer],
            artifact_type="" if is_chart else manifest_type(self.format),
            annotations=annotations,
        )


def examine(data: bytes, format_: str, *, limit: int) -> Submission:
    """Return what the tar.gz *data*, which may unpack to *limit* bytes, is; takes a while.

    Raises `PackageInvalid` and `TooLarge`. A ``helm`` package whose chart Helm would not load, such
    as an operator bundle, is a package like any other.
    """
    archive = inspect(data, limit=limit)
    config = config_of(archive.chart) if format_ == HELM and archive.chart is not None else None
    return Submission(format_, data, Digest.of(data), archive.content_digest, config)


def _config(data: bytes) -> Descriptor:
    return Descriptor(HELM_CONFIG, Digest.of(data), len(data))
