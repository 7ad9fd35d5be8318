"""Media types: what a Content-Type declares, and who can follow an index."""

from __future__ import annotations

import pytest

from ociappr.errors import ManifestInvalid
from ociappr.media import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    accepts_index,
    declared,
    is_foreign,
)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (OCI_MANIFEST, OCI_MANIFEST),
        (f"{OCI_INDEX}; charset=utf-8", OCI_INDEX),
        (f" {OCI_INDEX.upper()} ", OCI_INDEX),
        ("", ""),
        ("application/json", ""),
        ("application/octet-stream", ""),
        ("application/vnd.example+json", "application/vnd.example+json"),
    ],
)
def test_declared(content_type: str, expected: str) -> None:
    assert declared(content_type) == expected


@pytest.mark.parametrize(
    "content_type", ["json", "a/b/c", "a/", "/b", "a/b\nX: y", "\u00e9/b", "a" * 200 + "/b"]
)
def test_what_is_no_media_type(content_type: str) -> None:
    with pytest.raises(ManifestInvalid):
        declared(content_type)


@pytest.mark.parametrize(
    ("accept", "agent", "expected"),
    [
        ([], "", True),
        (["*/*"], "curl/8", True),
        ([OCI_MANIFEST], "", False),
        ([DOCKER_MANIFEST], "", False),
        ([OCI_MANIFEST, OCI_INDEX], "", True),
        ([f"{OCI_MANIFEST}, {DOCKER_LIST}"], "", True),
        ([f"{OCI_MANIFEST}, {OCI_INDEX};q=0"], "", False),
        ([f"{OCI_MANIFEST}, {OCI_INDEX}; q=0.5"], "", True),
        ([f"{OCI_MANIFEST}, */*"], "", False),
        ([OCI_INDEX], "Helm/3.18.4", False),
        ([OCI_INDEX], "Helmet/1", True),
        (["text/html"], "", True),
    ],
)
def test_accepts_index(accept: list[str], agent: str, *, expected: bool) -> None:
    assert accepts_index(accept, agent) is expected


def test_layers_that_live_elsewhere() -> None:
    assert is_foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    assert is_foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    assert not is_foreign("application/vnd.oci.image.layer.v1.tar+gzip")
