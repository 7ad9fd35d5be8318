"""The JSON of the old server, taken apart piece by piece: a bad piece is a loss, not an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from ociappr.legacy import Item, Load, Loss, Lost, OldChannel, OldFormat
from ociappr.manifest import encode
from ociappr.names import PackageName

T = TypeVar("T")

# appr's own, and those of the fork that Quay served
_MANIFEST_TYPE = re.compile(r"application/vnd\.(?:appr|cnr)\.package-manifest\.([^.]+)\..+")


class Content(msgspec.Struct):
    """What a manifest says of its archive; size and type follow from the bytes."""

    digest: str


class ManifestDocument(msgspec.Struct):
    """One format of a release; a restored store kept the *blob* of the dump in here."""

    created_at: str
    content: Content
    metadata: object = None
    blob: str | None = None


class _Release(msgspec.Struct):
    manifests: dict[str, object]
    channels: list[str] | None = None


class _Channel(msgspec.Struct):
    current: str


class _Releases(msgspec.Struct):
    """``releases.json``; pieces are taken apart one by one."""

    releases: dict[str, object]
    channels: dict[str, object] | None = None


class _Package(msgspec.Struct):
    created_at: str


class _Packages(msgspec.Struct):
    packages: dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Releases:
    """What one ``releases.json`` holds."""

    formats: tuple[OldFormat, ...]
    channels: tuple[OldChannel, ...]
    losses: tuple[Loss, ...]


def parse(data: bytes, kind: type[T], what: str) -> T:
    """Return the document *data*, called *what*; raise `Lost`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Lost(f"{what} is no JSON, or cut off: {error}") from None
    return shaped(document, kind, what)


def shaped(document: object, kind: type[T], what: str) -> T:
    """Return *document* as a *kind*; raise `Lost`."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise Lost(f"{what} does not have the form of appr: {error}") from None


def read_packages(data: bytes) -> Mapping[str, datetime | None]:
    """Return the packages of ``packages.json`` and when each began, if that is told."""
    document = parse(data, _Packages, "packages.json")
    return {
        f"{namespace}/{name}": _began(piece)
        for namespace, packages in document.packages.items()
        for name, piece in packages.items()
    }


def read_releases(
    package: PackageName, data: bytes, load: Callable[[ManifestDocument], Load]
) -> Releases:
    """Return what a ``releases.json`` holds; raise `Lost` if it is none."""
    document = parse(data, _Releases, "releases.json")
    releases: dict[str, _Release] = {}
    formats, channels, losses = [], [], list[Loss]()
    for text, piece in sorted(document.releases.items()):
        with noting(losses, Item(str(package), text)):
            releases[text] = shaped(piece, _Release, f"the release {text!a}")
    for text, release in releases.items():
        for format_, piece in sorted(release.manifests.items()):
            with noting(losses, Item(str(package), text, format_)):
                manifest = shaped(piece, ManifestDocument, "the manifest")
                formats.append(old_format(text, format_, manifest, load(manifest)))
    for name, piece in sorted((document.channels or {}).items()):
        with noting(losses, Item(str(package), channel=name)):
            current = shaped(piece, _Channel, "the channel").current
            members = (text for text, one in releases.items() if name in (one.channels or ()))
            channels.append(OldChannel(name, current, tuple(members)))
    return Releases(tuple(formats), tuple(channels), tuple(losses))


@contextmanager
def noting(losses: list[Loss], item: Item) -> Iterator[None]:
    """Write down that *item* is lost when the block raises `Lost`, and go on."""
    try:
        yield
    except Lost as loss:
        losses.append(Loss(item, str(loss)))


def old_format(release: str, format_: str, manifest: ManifestDocument, load: Load) -> OldFormat:
    """Return what *manifest* says; raise `Lost` if its time cannot be read."""
    metadata = None if manifest.metadata is None else encode(manifest.metadata).decode()
    created = moment(manifest.created_at)
    return OldFormat(release, format_, created, metadata, manifest.content.digest, load)


def format_of(media_type: str) -> str:
    """Return the format that a long manifest type means, or the text itself."""
    long = _MANIFEST_TYPE.fullmatch(media_type)
    return long[1] if long else media_type


def moment(text: str) -> datetime:
    """Return a time as the old server wrote it: UTC, without a zone; raise `Lost`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Lost(f"its time of creation, {text[:40]!a}, cannot be read") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _began(piece: object) -> datetime | None:
    try:
        return moment(shaped(piece, _Package, "the entry").created_at)
    except Lost:
        return None
