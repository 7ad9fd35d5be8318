"""Manifests: raw bytes kept for ever, and one parsed view; nothing else knows the shapes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from ociappr.descriptor import Descriptor
from ociappr.digest import Digest
from ociappr.errors import DigestInvalid, ManifestInvalid
from ociappr.media import (
    IMAGES,
    INDEXES,
    OCI_INDEX,
    OCI_MANIFEST,
    checked,
    is_foreign,
)

_SCHEMA_VERSION = 2


class _Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None
    urls: list[str] | None = None


class _Document(msgspec.Struct, rename="camel"):
    schema_version: int | None = None
    media_type: str | None = None
    artifact_type: str | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    blobs: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None


_DECODER = msgspec.json.Decoder(_Document)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it was pushed (*raw*), and what the registry reads in it.

    *children* are all contents it names, each digest once; *foreign* are those of them that may be
    absent because they live elsewhere. *artifact_type* is the effective one: the manifest's, else
    its config's media type (distribution-spec, Listing Referrers); "" where there is none.
    """

    media_type: str
    raw: bytes
    digest: Digest
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    manifests: tuple[Descriptor, ...]
    foreign: frozenset[Digest]
    subject: Descriptor | None
    artifact_type: str
    annotations: Mapping[str, str]

    @property
    def is_index(self) -> bool:
        """Whether this is a manifest of manifests."""
        return self.media_type in INDEXES

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """All contents named, each digest once, in their order."""
        config = (self.config,) if self.config else ()
        return _distinct((*config, *self.layers, *self.manifests))

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of this manifest, as a referrers list shows it."""
        return Descriptor(
            self.media_type, self.digest, len(self.raw), self.artifact_type, self.annotations
        )

    @classmethod
    def parse(cls, raw: bytes, media_type: str = "", *, digest: Digest | None = None) -> Manifest:
        """Return the view of *raw*; *media_type* is what the pusher declared, perhaps nothing.

        With *digest* the bytes must have it, else `DigestInvalid`. Raises `ManifestInvalid` for
        what is no manifest, contradicts itself, or could be read as two kinds of manifest at once
        (image-spec, GHSA-77vh-xpmg-72qh). Unknown media types and fields are kept as they are.
        """
        document = _decode(raw)
        actual = _kind(document, media_type)
        computed = Digest.of(raw, algorithm=digest.algorithm if digest else "sha256")
        if digest is not None and computed != digest:
            detail = {"given": str(digest), "computed": str(computed)}
            raise DigestInvalid("the manifest does not have the digest of its path", detail=detail)
        is_index = actual in INDEXES
        config = None if is_index else _descriptor(document.config)
        layers = () if is_index else _all(document.layers, document.blobs)
        manifests = () if actual in IMAGES else _all(document.manifests)
        artifact_type = document.artifact_type or (config.media_type if config else "")
        return cls(
            media_type=actual,
            raw=raw,
            digest=computed,
            config=config,
            layers=layers,
            manifests=manifests,
            foreign=frozenset(() if is_index else _foreign(document)),
            subject=_descriptor(document.subject),
            artifact_type=artifact_type,
            annotations=document.annotations or {},
        )


def encode(document: object) -> bytes:
    """Return the one JSON text of *document*: keys sorted, no spaces, UTF-8."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")


def build_image(
    *,
    config: Descriptor,
    layers: Iterable[Descriptor],
    artifact_type: str = "",
    annotations: Mapping[str, str],
) -> Manifest:
    """Return the image manifest of these parts: a pure function of them, byte for byte."""
    document: dict[str, object] = {
        "schemaVersion": _SCHEMA_VERSION,
        "mediaType": OCI_MANIFEST,
        "config": config.document(),
        "layers": [layer.document() for layer in layers],
        "annotations": dict(annotations),
    }
    if artifact_type:
        document["artifactType"] = artifact_type
    return Manifest.parse(encode(document))


def build_index(entries: Iterable[Descriptor], annotations: Mapping[str, str]) -> Manifest:
    """Return the image index of *entries* in their order: a pure function, byte for byte."""
    document = {
        "schemaVersion": _SCHEMA_VERSION,
        "mediaType": OCI_INDEX,
        "manifests": [entry.document() for entry in entries],
        "annotations": dict(annotations),
    }
    return Manifest.parse(encode(document))


def _decode(raw: bytes) -> _Document:
    try:
        return _DECODER.decode(raw)
    except msgspec.ValidationError as error:
        raise ManifestInvalid(f"this is no manifest: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ManifestInvalid(f"the manifest is not JSON: {error}") from None


def _kind(document: _Document, declared: str) -> str:
    """Return the media type of *document*; its own word and the pusher's must agree."""
    said = checked(document.media_type) if document.media_type else ""
    if said and declared and said != declared:
        message = f"the body says {said!a}, Content-Type says {declared!a}"
        raise ManifestInvalid(message, hint="send the same media type in both")
    kind = said or declared or _guess(document)
    image = document.config is not None or document.layers is not None
    if (kind in INDEXES and image) or (kind in IMAGES and document.manifests is not None):
        raise ManifestInvalid("a manifest is an image or an index, not both")
    if kind in IMAGES and document.config is None:
        raise ManifestInvalid("an image manifest has a config")
    if kind in INDEXES and document.manifests is None:
        raise ManifestInvalid("an index has manifests")
    if kind in IMAGES | INDEXES and document.schema_version != _SCHEMA_VERSION:
        raise ManifestInvalid("schemaVersion is not 2")
    return kind


def _guess(document: _Document) -> str:
    if document.manifests is not None and document.config is None:
        return OCI_INDEX
    if document.config is not None and document.manifests is None:
        return OCI_MANIFEST
    hint = "send Content-Type, or a mediaType in the body"
    raise ManifestInvalid("nothing tells what kind of manifest this is", hint=hint)


def _descriptor(found: _Descriptor | None) -> Descriptor | None:
    if found is None:
        return None
    if found.size < 0:
        raise ManifestInvalid("a descriptor's size is negative")
    try:
        digest = Digest.parse(found.digest)
    except DigestInvalid as error:
        raise ManifestInvalid(f"a descriptor's digest: {error.message}") from None
    return Descriptor(
        found.media_type, digest, found.size, found.artifact_type or "", found.annotations or {}
    )


def _all(*lists: list[_Descriptor] | None) -> tuple[Descriptor, ...]:
    parsed = (_descriptor(found) for some in lists for found in some or ())
    return tuple(descriptor for descriptor in parsed if descriptor is not None)


def _foreign(document: _Document) -> Iterator[Digest]:
    """Yield the digests of layers that a registry need not hold (they have URLs, or the type)."""
    for layer in document.layers or ():
        if layer.urls or is_foreign(layer.media_type):
            yield Digest.parse(layer.digest)


def _distinct(descriptors: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    return tuple({descriptor.digest: descriptor for descriptor in descriptors}.values())
