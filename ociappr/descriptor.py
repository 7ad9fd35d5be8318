"""Descriptors: what a manifest says of the content it names (image-spec, descriptor.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ociappr.digest import Digest


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Names content by media type, digest and size; two that agree in these are equal."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str = field(default="", compare=False)
    annotations: Mapping[str, str] = field(default_factory=dict, compare=False)

    def document(self) -> dict[str, object]:
        """Return the JSON object; what is empty is left out."""
        document: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


EMPTY_BYTES = b"{}"
EMPTY = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(EMPTY_BYTES), len(EMPTY_BYTES))
"""The descriptor of ``{}`` (image-spec, manifest.md, Guidance for an Empty Descriptor)."""
