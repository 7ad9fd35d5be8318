"""Media types: the constants, and what a client's ``Accept`` says about indexes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ociappr.errors import ManifestInvalid

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_SINGLE_PREFIXES = (OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v")
_FOREIGN = re.compile(
    r"application/vnd\.(oci\.image\.layer\.nondistributable\.|docker\.image\.rootfs\.foreign\.)"
)
# RFC 6838 section 4.2; nothing in it is special in a header or in JSON
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")
_UNTOLD = frozenset(
    {"application/json", "application/octet-stream", "application/x-www-form-urlencoded"}
)


def declared(content_type: str) -> str:
    """Return the manifest media type that a ``Content-Type`` tells, or "" if it tells none.

    Parameters are ignored (distribution-spec, Pushing Manifests); what clients send for want of
    anything better counts as nothing. Raises `ManifestInvalid` when it is malformed.
    """
    bare = content_type.partition(";")[0].strip()
    return "" if not bare or bare.lower() in _UNTOLD else checked(bare)


def checked(media_type: str) -> str:
    """Return the media type of a manifest, one that is known in its own spelling.

    It will stand in a header: raises `ManifestInvalid` when it is malformed.
    """
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise ManifestInvalid(f"{media_type[:80]!a} is not a media type")
    known = media_type.lower()
    return known if known in INDEXES | IMAGES else media_type


def is_foreign(media_type: str) -> bool:
    """Tell whether layers of this type live elsewhere and need not be pushed."""
    return _FOREIGN.match(media_type) is not None


def accepts_index(accept: Iterable[str], agent: str = "") -> bool:
    """Tell whether a client can follow an image index under a release's tag.

    It cannot if it names manifest types and no index type, or if it is Helm, which names an index
    and then fails on it (3.18 to 3.20, 4.0, 4.1): product token ``Helm/…``, RFC 9110 10.1.5.
    """
    if any(product.startswith("Helm/") for product in agent.split()):
        return False
    singles = False
    for line in accept:
        for element in line.split(","):
            media_type, _, parameters = element.partition(";")
            if "q=0" in parameters.replace(" ", "").split(";"):
                continue
            media_type = media_type.strip().lower()
            if media_type in INDEXES:
                return True
            singles = singles or media_type.startswith(_SINGLE_PREFIXES)
    return not singles
