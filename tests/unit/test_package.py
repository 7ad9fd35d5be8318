"""Packages: which manifests appr's door shows."""

from __future__ import annotations

import pytest

from ociappr.descriptor import EMPTY, Descriptor
from ociappr.digest import ContentDigest, Digest
from ociappr.errors import ManifestInvalid, MediaTypeInvalid
from ociappr.manifest import Manifest, build_image, build_index
from ociappr.media import HELM_CHART, HELM_CONFIG, OCI_CONFIG
from ociappr.package import (
    CONTENT_DIGEST,
    HELM,
    PackageManifest,
    content_type,
    manifest_type,
    parse_format,
)

ARCHIVE = Digest.of(b"archive")
CONFIG = Descriptor(HELM_CONFIG, Digest.of(b"config"), 6)
CHART = Descriptor(HELM_CHART, ARCHIVE, 7)
PROVENANCE = Descriptor("application/vnd.cncf.helm.chart.provenance.v1.prov", Digest.of(b"p"), 1)
KPM = Descriptor(content_type("kpm"), ARCHIVE, 7)


def build(
    *layers: Descriptor, config: Descriptor = EMPTY, kind: str = "", **annotations: str
) -> Manifest:
    return build_image(config=config, layers=layers, artifact_type=kind, annotations=annotations)


def test_a_helm_chart_is_a_package_with_its_provenance_or_without() -> None:
    for layers in ([CHART], [CHART, PROVENANCE], [PROVENANCE, CHART]):
        package = PackageManifest.of(build(*layers, config=CONFIG))
        assert package is not None
        assert (package.format, package.content) == (HELM, CHART)


def test_a_manifest_of_apprs_type_is_a_package() -> None:
    package = PackageManifest.of(build(KPM, kind=manifest_type("kpm")))
    assert package is not None
    assert (package.format, package.content) == ("kpm", KPM)


@pytest.mark.parametrize(
    "manifest",
    [
        build(KPM),
        build(KPM, config=Descriptor(OCI_CONFIG, Digest.of(b"c"), 1)),
        build(config=CONFIG),
        build(CHART, Descriptor(HELM_CHART, Digest.of(b"2"), 1), config=CONFIG),
        build(KPM, PROVENANCE, kind=manifest_type("kpm")),
        build(kind=manifest_type("kpm")),
        build(KPM, kind="application/vnd.example"),
        build_index([KPM], {}),
    ],
    ids=range(8),
)
def test_everything_else_is_none(manifest: Manifest) -> None:
    assert PackageManifest.of(manifest) is None


def test_the_content_digest_is_what_the_annotation_says() -> None:
    content = ContentDigest("c" * 64)
    told = build_image(config=CONFIG, layers=[CHART], annotations={CONTENT_DIGEST: str(content)})
    package = PackageManifest.of(told)
    assert package is not None
    assert package.content_digest == content
    false = build_image(config=CONFIG, layers=[CHART], annotations={CONTENT_DIGEST: "no digest"})
    with pytest.raises(ManifestInvalid):
        PackageManifest.of(false)


def test_a_layer_that_appr_cannot_name_makes_no_package() -> None:
    layer = Descriptor(HELM_CHART, Digest.of(b"archive", algorithm="sha512"), 7)
    assert PackageManifest.of(build(layer, config=CONFIG)) is None


def test_formats_have_long_names() -> None:
    assert parse_format(manifest_type("helm")) == "helm"
    assert parse_format("application/vnd.appr.package-manifest.helm.v1.json") == "helm"
    assert parse_format("docker-compose") == "docker-compose"
    for text in ("application/vnd.cnr.package-manifest.helm.v0.json", "a.b", "-", ""):
        with pytest.raises(MediaTypeInvalid):
            parse_format(text)
