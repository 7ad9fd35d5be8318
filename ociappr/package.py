"""Packages as manifests: which manifests appr's door shows, and how they say what they are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ociappr.descriptor import Descriptor
from ociappr.digest import ContentDigest
from ociappr.errors import DigestInvalid, ManifestInvalid, MediaTypeInvalid
from ociappr.manifest import Manifest
from ociappr.media import HELM_CHART, HELM_CONFIG
from ociappr.names import shown

HELM = "helm"
CONTENT_DIGEST = "vnd.appr.content.digest"
"""Annotation: appr's digest of the gunzipped layer, verified through either door."""
METADATA = "vnd.appr.metadata"
"""Annotation: the ``metadata`` that came with an appr push, as JSON text."""
CREATED = "org.opencontainers.image.created"
TITLE = "org.opencontainers.image.title"
# a part of media types and of paths; "-" alone would mean any
_FORMAT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MANIFEST_TYPE = re.compile(r"application/vnd\.appr\.package-manifest\.(.+)\.v[0-9]+\.json")


def manifest_type(format_: str) -> str:
    """Return the long name of *format_*: its artifact type, and appr's manifest media type."""
    return f"application/vnd.appr.package-manifest.{format_}.v0.json"


def content_type(format_: str) -> str:
    """Return the media type of the archive of *format_*."""
    return f"application/vnd.appr.package.{format_}.v0.tar+gzip"


def parse_format(text: str) -> str:
    """Return the format that *text* names: appr's own long manifest type, or the name itself.

    Raises `MediaTypeInvalid`.
    """
    long = _MANIFEST_TYPE.fullmatch(text)
    format_ = long[1] if long else text
    if not _FORMAT.fullmatch(format_):
        hint = "use a short name such as helm, kpm or docker-compose"
        raise MediaTypeInvalid(f"{shown(text)} is not a media type", hint=hint)
    return format_


@dataclass(frozen=True, slots=True)
class PackageManifest:
    """What a manifest says of the package it is; no *content_digest* where the pusher gave none."""

    format: str
    content: Descriptor
    content_digest: ContentDigest | None
    created: str

    @classmethod
    def of(cls, manifest: Manifest) -> PackageManifest | None:
        """Return the package that *manifest* is, a Helm chart or of appr's types, or None.

        appr knows sha256 only: a layer named otherwise is none unless its content digest is given.
        Raises `ManifestInvalid` when its content digest is malformed.
        """
        format_ = _format(manifest)
        if format_ is None:
            return None
        layers = manifest.layers
        content = next((one for one in layers if one.media_type == HELM_CHART), layers[0])
        content_digest = _content_digest(manifest)
        if content_digest is None and content.digest.algorithm != "sha256":
            return None
        return cls(
            format=format_,
            content=content,
            content_digest=content_digest,
            created=manifest.annotations.get(CREATED, ""),
        )


def _format(manifest: Manifest) -> str | None:
    if manifest.is_index or manifest.config is None or not manifest.layers:
        return None
    if manifest.config.media_type == HELM_CONFIG:
        charts = [layer for layer in manifest.layers if layer.media_type == HELM_CHART]
        return HELM if len(charts) == 1 else None
    long = _MANIFEST_TYPE.fullmatch(manifest.artifact_type)
    return long[1] if long and len(manifest.layers) == 1 else None


def _content_digest(manifest: Manifest) -> ContentDigest | None:
    text = manifest.annotations.get(CONTENT_DIGEST)
    if text is None:
        return None
    try:
        return ContentDigest(text)
    except DigestInvalid as error:
        raise ManifestInvalid(f"annotation {CONTENT_DIGEST}: {error.message}") from None
