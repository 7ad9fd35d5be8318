"""What is pushed: small artifacts, and large bodies that are made while they are sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.connection import BLOCK

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"
_FILLER: Final = bytes(range(256)) * (BLOCK // 256)


@dataclass(frozen=True, slots=True)
class Artifact:
    """Config, layer and manifest of one small image."""

    config: bytes
    layer: bytes
    manifest: bytes


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of bytes in memory."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def artifact(seed: str) -> Artifact:
    """Make an image whose config and layer nobody has pushed under another seed."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "author": seed}).encode()
    layer = (seed.encode() * 2048)[:2048]
    return Artifact(config, layer, manifest(config, layer, note=seed))


def manifest(config: bytes, layer: bytes, *, note: str) -> bytes:
    """Return an image manifest of one layer; `note` makes it unlike others of the same blobs."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(_CONFIG_TYPE, config),
        "layers": [_descriptor(_LAYER_TYPE, layer)],
        "annotations": {"note": note},
    }
    return json.dumps(document).encode()


def blocks(seed: str, length: int) -> Iterator[bytes]:
    """Yield `length` bytes, a multiple of a block, that differ from those of any other seed."""
    mark = hashlib.sha256(seed.encode()).digest()
    for _ in range(length // BLOCK):
        yield mark + _FILLER[len(mark) :]


def digest_of_blocks(seed: str, length: int) -> str:
    """Return the digest of what `blocks` yields."""
    running = hashlib.sha256()
    for block in blocks(seed, length):
        running.update(block)
    return f"sha256:{running.hexdigest()}"


def _descriptor(media_type: str, data: bytes) -> dict[str, str | int]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
