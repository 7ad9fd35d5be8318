"""cosign 3.1 with a key pair and no log: old and new signatures, attest, tree, copy."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conformance import wire
from conformance.clients import images
from conformance.clients.conftest import Client
from conformance.conftest import Run, Server, Tool

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE = {"tested": True}
PREDICATE_TYPE = "https://example.invalid/tested"


@dataclass(frozen=True, slots=True)
class Form:
    """One way to keep signatures, and the flags that ask cosign for it."""

    writing: tuple[str, ...]
    reading: tuple[str, ...]


NEW = Form(("--signing-config=signing.json", "--trusted-root=root.json"), ())
OLD = Form(
    ("--use-signing-config=false", "--tlog-upload=false", "--new-bundle-format=false"),
    ("--new-bundle-format=false",),
)
FORMS = pytest.mark.parametrize("form", [pytest.param(NEW, id="new"), pytest.param(OLD, id="old")])


@pytest.fixture
def cosign(run: Run, tool: Tool, tmp_path: Path) -> Client:
    """Cosign with a key pair, and with services that all are absent."""
    call = partial(run, tool("cosign"), cwd=tmp_path, env={"COSIGN_PASSWORD": ""})
    call("generate-key-pair")
    none = [f"--no-default-{service}" for service in ("fulcio", "rekor", "tsa")]
    call("signing-config", "create", *none, "--no-default-oidc", "--out", "signing.json")
    call("trusted-root", "create", *none, "--no-default-ctfe", "--out", "root.json")
    (tmp_path / "predicate.json").write_text(json.dumps(PREDICATE))
    return call


@pytest.fixture
def image(server: Server, repo: str) -> images.Image:
    """An image that the registry holds under the tag 1."""
    built = images.build("signed")
    images.push(server, repo, "1", built)
    return built


@pytest.fixture
def signed(here: str, image: images.Image) -> str:
    """The image as cosign names it: by digest."""
    return f"{here}@{image.manifest.digest}"


def sign(cosign: Client, form: Form, reference: str) -> None:
    cosign("sign", "--allow-insecure-registry", "-y", "--key=cosign.key", *form.writing, reference)


def attest(cosign: Client, form: Form, reference: str) -> None:
    what = ("--predicate=predicate.json", f"--type={PREDICATE_TYPE}")
    words = ("--allow-insecure-registry", "-y", "--key=cosign.key", *form.writing, *what, reference)
    cosign("attest", *words)


def verify(cosign: Client, form: Form, reference: str) -> set[str]:
    """The digests that the key signed."""
    words = ("--allow-insecure-registry", "--insecure-ignore-tlog=true", *form.reading)
    printed = cosign("verify", *words, "--key=cosign.pub", reference).stdout
    return {claim["critical"]["image"]["docker-manifest-digest"] for claim in json.loads(printed)}


def verify_attestation(cosign: Client, form: Form, reference: str) -> list[dict[str, Any]]:
    """The statements about `reference` that the key signed."""
    words = ("--allow-insecure-registry", "--insecure-ignore-tlog=true", *form.reading)
    what = ("--key=cosign.pub", f"--type={PREDICATE_TYPE}")
    printed = cosign("verify-attestation", *words, *what, reference).stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    return [json.loads(base64.b64decode(line["payload"])) for line in lines]


def assert_states(statements: list[dict[str, Any]], digest: str) -> None:
    """Assert that there is one statement, and that it says `PREDICATE` about `digest`."""
    (statement,) = statements
    assert statement["predicateType"] == PREDICATE_TYPE
    assert statement["predicate"] == PREDICATE
    (subject,) = statement["subject"]
    assert f"sha256:{subject['digest']['sha256']}" == digest


def bundles(server: Server, repo: str, digest: str) -> list[dict[str, Any]]:
    """The bundles that the referrers API lists for `digest`, read and checked."""
    found = []
    for entry in wire.referrers(server, repo, digest):
        assert entry["artifactType"] == BUNDLE
        data, _, stored = wire.get_manifest(server, repo, entry["digest"])
        assert (stored, len(data)) == (entry["digest"], entry["size"])
        manifest = json.loads(data)
        assert manifest["subject"]["digest"] == digest
        (layer,) = manifest["layers"]
        assert layer["mediaType"] == BUNDLE
        found.append(json.loads(wire.get_blob(server, repo, layer["digest"])))
    return found


def old_tag(digest: str, kind: str) -> str:
    return f"{digest.replace(':', '-')}.{kind}"


def test_new_signature_is_a_referrer(
    cosign: Client, server: Server, repo: str, image: images.Image, signed: str
) -> None:
    sign(cosign, NEW, signed)
    digest = image.manifest.digest
    (bundle,) = bundles(server, repo, digest)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert statement["subject"][0]["digest"]["sha256"] == digest.removeprefix("sha256:")
    assert wire.tags(server, repo) == ["1"]
    assert verify(cosign, NEW, signed) == {digest}
    assert images.read(server, repo, "1") == image


def test_old_signature_is_a_tag(
    cosign: Client, server: Server, repo: str, image: images.Image, signed: str
) -> None:
    sign(cosign, OLD, signed)
    digest = image.manifest.digest
    assert wire.tags(server, repo) == ["1", old_tag(digest, "sig")]
    manifest = json.loads(wire.get_manifest(server, repo, old_tag(digest, "sig"))[0])
    (layer,) = manifest["layers"]
    claim = json.loads(wire.get_blob(server, repo, layer["digest"]))
    assert claim["critical"]["image"]["docker-manifest-digest"] == digest
    assert verify(cosign, OLD, signed) == {digest}

    sign(cosign, OLD, signed)
    again = json.loads(wire.get_manifest(server, repo, old_tag(digest, "sig"))[0])
    assert layer in again["layers"]


@FORMS
def test_another_key_did_not_sign(cosign: Client, signed: str, form: Form) -> None:
    words = ("verify", "--allow-insecure-registry", "--insecure-ignore-tlog=true", *form.reading)
    unsigned = cosign(*words, "--key=cosign.pub", signed, fails=True)
    assert "no signatures found" in unsigned.stderr
    sign(cosign, form, signed)
    cosign("generate-key-pair", "--output-key-prefix=other")
    cosign(*words, "--key=other.pub", signed, fails=True)
    cosign(*words, "--key=cosign.pub", signed)


@FORMS
def test_attest(
    cosign: Client, server: Server, repo: str, image: images.Image, signed: str, form: Form
) -> None:
    attest(cosign, form, signed)
    digest = image.manifest.digest
    assert_states(verify_attestation(cosign, form, signed), digest)
    assert len(bundles(server, repo, digest)) == (form is NEW)
    assert (old_tag(digest, "att") in wire.tags(server, repo)) == (form is OLD)


def test_tree(cosign: Client, server: Server, repo: str, image: images.Image, signed: str) -> None:
    for form in (OLD, NEW):
        sign(cosign, form, signed)
        attest(cosign, form, signed)
    printed = cosign("tree", "--allow-insecure-registry", signed).stdout
    digest = image.manifest.digest
    for kind in ("sig", "att"):
        tag = old_tag(digest, kind)
        assert f"{repo}:{tag}" in printed
        for layer in json.loads(wire.get_manifest(server, repo, tag)[0])["layers"]:
            assert layer["digest"] in printed
    listed = wire.referrers(server, repo, digest)
    assert len(listed) == 2
    for entry in listed:
        assert f"{repo}@{entry['digest']}" in printed


def test_copy_of_old_signatures(
    cosign: Client, server: Server, repo: str, here: str, image: images.Image, signed: str
) -> None:
    sign(cosign, OLD, signed)
    attest(cosign, OLD, signed)
    cosign("copy", "--allow-insecure-registry", f"{here}:1", f"{here}-copy:1")
    digest = image.manifest.digest
    assert images.read(server, f"{repo}-copy", "1") == image
    for kind in ("sig", "att"):
        tag = old_tag(digest, kind)
        copied = wire.get_manifest(server, f"{repo}-copy", tag)
        assert copied == wire.get_manifest(server, repo, tag)
    assert verify(cosign, OLD, f"{here}-copy@{digest}") == {digest}
    assert_states(verify_attestation(cosign, OLD, f"{here}-copy@{digest}"), digest)


def test_copy_of_new_signatures(
    cosign: Client,
    run: Run,
    tool: Tool,
    server: Server,
    repo: str,
    here: str,
    image: images.Image,
    signed: str,
) -> None:
    """With `oras cp -r`, as cosign advises: its own copy never asks for referrers."""
    sign(cosign, NEW, signed)
    attest(cosign, NEW, signed)
    digest = image.manifest.digest
    plain = ("--from-plain-http", "--to-plain-http")
    run(tool("oras"), "cp", "-r", *plain, f"{here}:1", f"{here}-copy:1")
    assert images.read(server, f"{repo}-copy", "1") == image
    copied = bundles(server, f"{repo}-copy", digest)
    assert sorted(copied, key=str) == sorted(bundles(server, repo, digest), key=str)
    assert verify(cosign, NEW, f"{here}-copy@{digest}") == {digest}
    assert_states(verify_attestation(cosign, NEW, f"{here}-copy@{digest}"), digest)


def test_save_load_and_clean(
    cosign: Client, server: Server, repo: str, here: str, image: images.Image, signed: str
) -> None:
    sign(cosign, OLD, signed)
    insecure = "--allow-insecure-registry"
    cosign("save", insecure, "--dir=saved", f"{here}:1")
    cosign("load", insecure, "--dir=saved", f"{here}-back:1")
    digest = image.manifest.digest
    assert images.read(server, f"{repo}-back", "1") == image
    assert verify(cosign, OLD, f"{here}-back@{digest}") == {digest}

    cosign("clean", insecure, "-f", f"{here}:1")
    assert wire.tags(server, repo) == ["1"]
    assert images.read(server, repo, "1") == image
