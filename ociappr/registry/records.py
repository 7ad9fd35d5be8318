"""The stored values: JSON, read and written through these structs only.

A reader must take what an older writer left (new fields have defaults) and keep quiet about fields
that a newer one added. Times are ISO 8601 in UTC with microseconds, so text order is time order.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar

import msgspec

from ociappr.blobstore import Locator, Part
from ociappr.digest import ContentDigest, Digest
from ociappr.package import PackageManifest

R = TypeVar("R", bound=msgspec.Struct)


class RepositoryRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A repository; it stays when it is emptied, as appr's packages do."""

    created: str


class BlobState(Enum):
    """Condemned blobs are not shown; pushing or referencing one again revives it."""

    LIVE = "live"
    CONDEMNED = "condemned"


class BlobRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A blob: *parts* are (locator, length), none when the bytes are inline under *birth*.

    *staged* parts were committed as they lay; the collector promotes them.
    """

    size: int
    birth: str
    state: BlobState
    since: str
    parts: tuple[tuple[Locator, int], ...] = ()
    staged: bool = False


class UploadRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An upload session; once *ended* it owns nothing and takes nothing."""

    repository: str
    started: str
    touched: str
    parts: tuple[Part, ...] = ()
    ended: bool = False

    @property
    def offset(self) -> int:
        """How many bytes are stored: where the client goes on."""
        return sum(part.length for part in self.parts)


class FormatRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A package as lists show it, so that they read no manifest."""

    format: str
    manifest: str
    layer: str
    size: int
    created: str
    content: str = ""

    @classmethod
    def of(cls, manifest: Digest, package: PackageManifest, *, pushed: str) -> FormatRecord:
        """Return what lists show of *package*, stored as *manifest* and pushed then."""
        return cls(
            format=package.format,
            manifest=str(manifest),
            layer=str(package.content.digest),
            size=package.content.size,
            created=_instant(package.created) or pushed,
            content=str(package.content_digest or ""),
        )

    @property
    def content_digest(self) -> ContentDigest:
        """The digest that appr shows: the layer's own sha256 where the pusher gave none."""
        return ContentDigest(self.content or Digest.parse(self.layer).hex)


class ManifestRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A manifest in a repository; *formats* of an index are those of its entries.

    *untagged* is since when retention knows that nothing names it; whoever names it clears that.
    """

    media_type: str
    size: int
    pushed: str
    artifact_type: str = ""
    subject: str = ""
    formats: tuple[FormatRecord, ...] = ()
    untagged: str = ""


class TagKind(Enum):
    """What a name in the tag space is."""

    TAG = "tag"
    RELEASE = "release"
    CHANNEL = "channel"


class TagRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A name in the tag space.

    Of a release *formats* are its packages, and *published* says that it came through the appr door
    and is immutable. A channel has no target: *current* is the text of a release, *members* are the
    releases that were ever added.
    """

    kind: TagKind
    updated: str
    digest: str = ""
    media_type: str = ""
    size: int = 0
    formats: tuple[FormatRecord, ...] = ()
    published: bool = False
    current: str = ""
    members: tuple[str, ...] = ()


class ReferrerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A referrer; *annotations* is None when they are too large and are read from the manifest."""

    media_type: str
    size: int
    artifact_type: str = ""
    annotations: dict[str, str] | None = None


class BinRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bytes to unlink; *birth* is set when a blob was forgotten and its links are void."""

    digest: str
    since: str
    birth: str = ""


class SchemaRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which *version* of these structs the records are written in, and whose they are."""

    version: int
    registry: str


class ClaimRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Metadata that are being filled, *by* what and from which *source*; *run* fences off others.

    Once *done* they are whole, and the first registry that is opened over them ends the claim.
    """

    by: str
    source: str
    run: str
    done: bool = False


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change, as the journal keeps it."""

    action: str
    repository: str
    digest: str = ""
    tag: str = ""
    size: int = 0


def encode(record: msgspec.Struct) -> bytes:
    """Return the bytes of *record*."""
    return msgspec.json.encode(record)


def decode(kind: type[R], value: bytes) -> R:
    """Return the record of this *kind* that *value* holds."""
    return msgspec.json.decode(value, type=kind)


def named(manifest: bytes) -> bytes:
    """Return a stored manifest record once something names it: its time without a name is over."""
    record = decode(ManifestRecord, manifest)
    if not record.untagged:
        return manifest
    return encode(msgspec.structs.replace(record, untagged=""))


def stamp(moment: datetime) -> str:
    """Return *moment* as records write it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> datetime:
    """Return the moment that `stamp` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def _instant(text: str) -> str:
    """Return the moment that a pusher wrote as `stamp` would, or "" if it cannot be read."""
    try:
        given = datetime.fromisoformat(text)
        return stamp(given if given.tzinfo is not None else given.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return ""
