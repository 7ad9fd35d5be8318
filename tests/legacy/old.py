"""Old stores written by hand: what the original server would have kept, and what it lost."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PREFIX = "appr/packages/"
CREATED = "2017-03-01T10:11:12.123456"
MOMENT = datetime(2017, 3, 1, 10, 11, 12, 123456, tzinfo=UTC)


def content_digest(archive: bytes) -> str:
    """Return the sha256 of what an archive unpacks to."""
    return hashlib.sha256(gzip.decompress(archive)).hexdigest()


def text(archive: bytes) -> bytes:
    """Return an archive as clients sent it: base64 with line breaks."""
    return base64.encodebytes(archive)


@dataclass(slots=True)
class Old:
    """A store; the documents may be changed before it is written."""

    packages: dict[str, Any] = field(default_factory=lambda: defaultdict(dict))
    releases: dict[str, Any] = field(default_factory=dict)
    archives: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def push(
        self,
        package: str,
        release: str,
        archive: bytes,
        media_type: str = "helm",
        *,
        created: str = CREATED,
        metadata: object = None,
    ) -> None:
        """Keep a package as a push would."""
        namespace, _, name = package.partition("/")
        entry = {"created_at": created, "namespace": namespace, "name": name}
        self.packages[namespace].setdefault(name, entry)
        document = self.document(package)
        digest = content_digest(archive)
        kept = document["releases"].setdefault(release, {"manifests": {}, "channels": []})
        kept["manifests"][media_type] = {
            "package": package,
            "release": release,
            "created_at": created,
            "metadata": metadata,
            "mediaType": f"application/vnd.appr.package-manifest.{media_type}.v0.json",
            "content": {
                "digest": digest,
                "size": len(archive),
                "mediaType": f"application/vnd.appr.package.{media_type}.v0.tar+gzip",
                "urls": [],
            },
        }
        self.archives[package, digest] = text(archive)

    def channel(self, package: str, name: str, current: str, *, members: Sequence[str]) -> None:
        """Keep a channel."""
        document = self.document(package)
        document["channels"][name] = {"name": name, "current": current, "package": package}
        for release in members:
            document["releases"][release]["channels"].append(name)

    def document(self, package: str) -> dict[str, Any]:
        """Return the ``releases.json`` of a package."""
        empty = {"page": 0, "channels": {}, "releases": {}}
        document: dict[str, Any] = self.releases.setdefault(package, empty)
        return document

    def keys(self) -> Mapping[str, bytes]:
        """Return all keys and values."""
        index = {"page": 0, "packages": self.packages}
        return {
            f"{PREFIX}packages.json": json.dumps(index).encode(),
            **{
                f"{PREFIX}{package}/releases.json": json.dumps(document).encode()
                for package, document in self.releases.items()
            },
            **{
                f"{PREFIX}{package}/digests/sha256/{digest}": value
                for (package, digest), value in self.archives.items()
            },
        }

    def write(self, root: Path) -> Path:
        """Write everything as files below *root*, and return that."""
        for key, value in self.keys().items():
            path = root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value)
        return root

    def dump(self, path: Path) -> Path:
        """Write everything as a dump, and return its path."""
        document = {
            "packages": [
                {
                    **manifest,
                    "channels": release["channels"],
                    "blob": self.archives[package, manifest["content"]["digest"]].decode(),
                }
                for package, document in self.releases.items()
                for release in document["releases"].values()
                for manifest in release["manifests"].values()
            ],
            "channels": [
                channel
                for document in self.releases.values()
                for channel in document["channels"].values()
            ],
        }
        path.write_text(json.dumps(document))
        return path
