"""Manifests: one parsed view over bytes that are never changed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociappr.descriptor import EMPTY, Descriptor
from ociappr.digest import Digest
from ociappr.errors import DigestInvalid, ManifestInvalid
from ociappr.manifest import Manifest, build_image, build_index, encode
from ociappr.media import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

LAYER = Descriptor("application/x-layer", Digest.of(b"layer"), 5)
OTHER = Descriptor("application/x-layer", Digest.of(b"other"), 5)


def image(**changes: object) -> dict[str, object]:
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": EMPTY.document(),
        "layers": [LAYER.document()],
    }
    document.update(changes)
    return {key: value for key, value in document.items() if value is not ...}


def index(**changes: object) -> dict[str, object]:
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [LAYER.document()],
    }
    document.update(changes)
    return {key: value for key, value in document.items() if value is not ...}


def parse(document: object, media_type: str = "") -> Manifest:
    return Manifest.parse(json.dumps(document).encode(), media_type)


def test_an_image() -> None:
    manifest = parse(image(annotations={"a": "b"}))
    assert manifest.children == (EMPTY, LAYER)
    assert manifest.media_type == OCI_MANIFEST
    assert not manifest.is_index
    assert manifest.annotations == {"a": "b"}
    assert manifest.digest == Digest.of(manifest.raw)


def test_an_index() -> None:
    manifest = parse(index(artifactType="a/b"))
    assert manifest.is_index
    assert manifest.manifests == manifest.children == (LAYER,)
    assert manifest.artifact_type == "a/b"


@pytest.mark.parametrize(
    ("document", "media_type", "expected"),
    [
        (image(mediaType=...), "", OCI_MANIFEST),
        (image(mediaType=...), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (index(mediaType=...), "", OCI_INDEX),
        (index(mediaType=DOCKER_LIST), DOCKER_LIST, DOCKER_LIST),
        ({"any": "thing"}, "application/x-own+json", "application/x-own+json"),
    ],
)
def test_what_kind_it_is(document: object, media_type: str, expected: str) -> None:
    assert parse(document, media_type).media_type == expected


def test_each_child_counts_once() -> None:
    twice = [LAYER.document(), LAYER.document(), OTHER.document(), EMPTY.document()]
    assert parse(image(layers=twice)).children == (EMPTY, LAYER, OTHER)


def test_a_layer_that_lives_elsewhere_may_be_absent() -> None:
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    by_url = {**LAYER.document(), "urls": ["https://example.com/layer"]}
    by_type = Descriptor(foreign, OTHER.digest, 5).document()
    manifest = parse(image(layers=[by_url, by_type]))
    assert manifest.foreign == {LAYER.digest, OTHER.digest}
    assert parse(image()).foreign == frozenset()


def test_the_effective_artifact_type() -> None:
    assert parse(image()).artifact_type == EMPTY.media_type
    assert parse(image(artifactType="a/b")).artifact_type == "a/b"
    assert parse(index()).artifact_type == ""


def test_the_subject() -> None:
    assert parse(image(subject=OTHER.document())).subject == OTHER
    assert OTHER not in parse(image(subject=OTHER.document())).children


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        5,
        None,
        {},
        image(manifests=[]),
        index(config=EMPTY.document()),
        index(layers=[]),
        image(config=...),
        index(manifests=...),
        image(schemaVersion=1),
        image(schemaVersion="2"),
        image(schemaVersion=...),
        image(layers={}),
        image(layers=[{"digest": "sha256:totallywrong", "size": 1}]),
        image(layers=[{"digest": str(LAYER.digest), "size": -1}]),
        image(layers=[{"digest": str(LAYER.digest), "size": "1"}]),
        image(layers=[{"digest": str(LAYER.digest)}]),
        image(annotations={"a": 1}),
        image(annotations=[]),
        image(subject="sha256"),
        image(mediaType=7),
    ],
)
def test_what_is_no_manifest(document: object) -> None:
    with pytest.raises(ManifestInvalid):
        parse(document)


def test_the_body_and_its_declaration_must_agree() -> None:
    with pytest.raises(ManifestInvalid):
        parse(image(), OCI_INDEX)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"{} {}"])
def test_what_is_no_json(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(raw, OCI_MANIFEST)


@given(st.binary())
def test_no_bytes_do_anything_but_parse_or_be_refused(raw: bytes) -> None:
    try:
        assert Manifest.parse(raw, "application/x-own+json").raw == raw
    except ManifestInvalid:
        return


def test_the_digest_of_the_path_must_be_that_of_the_bytes() -> None:
    raw = json.dumps(image()).encode()
    sha512 = Digest.of(raw, algorithm="sha512")
    assert Manifest.parse(raw, digest=sha512).digest == sha512
    with pytest.raises(DigestInvalid):
        Manifest.parse(raw + b" ", digest=sha512)


def test_built_manifests_are_frozen_byte_for_byte() -> None:
    """Mirroring a package twice is a no-op only while these bytes never change."""
    built = build_image(
        config=EMPTY, layers=[LAYER], artifact_type="a/b", annotations={"b": "\u00e9", "a": "1"}
    )
    entry = Descriptor(OCI_MANIFEST, built.digest, len(built.raw), "a/b")
    made = build_index([entry], {})
    assert built.raw.decode() == (
        '{"annotations":{"a":"1","b":"\u00e9"},"artifactType":"a/b","config":{"digest":"'
        + str(EMPTY.digest)
        + '","mediaType":"application/vnd.oci.empty.v1+json","size":2},"layers":[{"digest":"'
        + str(LAYER.digest)
        + '","mediaType":"application/x-layer","size":5}],"mediaType":"'
        + OCI_MANIFEST
        + '","schemaVersion":2}'
    )
    assert made.raw.decode() == (
        '{"annotations":{},"manifests":[{"artifactType":"a/b","digest":"'
        + str(built.digest)
        + f'","mediaType":"{OCI_MANIFEST}","size":{len(built.raw)}'
        + '}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}'
    )


def test_encode_never_fails_on_what_json_can_carry() -> None:
    assert json.loads(encode({"a": "\ud800"})) == {"a": "?"}
