"""Moving house: snapshots of the metadata, bringing them back, copying a registry elsewhere.

All of it works over the two ports only, so it serves any pair of drivers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ociappr.blobstore import BlobStore
from ociappr.metadata import MetadataStore


@dataclass(frozen=True, slots=True)
class Stores:
    """The two open stores of one registry; *inline* is the size up to which blobs are metadata."""

    metadata: MetadataStore
    blobs: BlobStore
    inline: int
