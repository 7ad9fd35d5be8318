"""One content behind two doors: what is pushed through one is pulled through the other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from conformance.clients.appr import API, content_digest
from conformance.clients.charts import (
    CONFIG_TYPE,
    CONTENT_TYPE,
    PROVENANCE_TYPE,
    Chart,
    signing_key,
)
from conformance.clients.doors import COMPOSE, HELMS, Doors, error_codes
from conformance.conftest import Run, Server, Tool
from conformance.wire import (
    MANIFESTS,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Reply,
    digest_of,
    expect,
    fetch,
    get_blob,
    get_manifest,
    push_blob,
    push_image,
)

COMPOSE_TYPE = f"application/vnd.appr.package-manifest.{COMPOSE}.v0.json"


@pytest.fixture
def doors(run: Run, tool: Tool, server: Server, repo: str, tmp_path: Path) -> Doors:
    return Doors(run, tool, server, repo, tmp_path)


def by_tag(doors: Doors, tag: str, **headers: str) -> Reply:
    return expect(
        fetch(doors.server, "GET", f"/v2/{doors.repo}/manifests/{tag}", headers=headers), 200
    )


# a chart


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("version", ["1.0.0", "1.2.0+b1", "2.0.0-rc.1"])
def test_appr_push_then_helm_pull(doors: Doors, helm: str, version: str) -> None:
    archive = doors.appr_push_chart(version)
    pulled = doors.helm_pull(helm, "--version", version)
    assert pulled == (f"{doors.name}-{version}.tgz", archive)
    assert doors.appr_pull(f"@{version}", "helm") == archive


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize("version", ["1.0.0", "1.2.3+build.5"])
def test_helm_push_then_appr_pull(doors: Doors, helm: str, version: str) -> None:
    chart = Chart(doors.name, version)
    doors.helm_push(chart, helm)
    assert doors.releases() == [(version, "helm")]
    assert doors.appr_pull(f"@{version}", "helm") == chart.archive()
    assert doors.helm_pull(helm, "--version", version)[1] == chart.archive()


def test_release_and_tag_swap_plus_and_underscore(doors: Doors) -> None:
    doors.appr_push_chart("1.2.0+b1")
    doors.helm_push(Chart(doors.name, "1.2.0+b2"))
    assert doors.tags() == ["1.2.0_b1", "1.2.0_b2"]
    assert doors.releases() == [("1.2.0+b1", "helm"), ("1.2.0+b2", "helm")]


def test_chart_from_appr_is_a_true_helm_chart(doors: Doors) -> None:
    archive = doors.appr_push_chart("1.0.0")
    manifest = doors.manifest("1.0.0")
    assert manifest["mediaType"] == OCI_MANIFEST
    assert manifest["config"]["mediaType"] == CONFIG_TYPE
    (layer,) = manifest["layers"]
    assert (layer["mediaType"], layer["digest"]) == (CONTENT_TYPE, digest_of(archive))
    config = json.loads(get_blob(doors.server, doors.repo, manifest["config"]["digest"]))
    assert config == {
        "apiVersion": "v2",
        "name": doors.name,
        "version": "1.0.0",
        "appVersion": "7.5",
        "description": f"{doors.name} says hello",
        "type": "application",
    }


def test_config_is_what_helm_itself_would_push(doors: Doors) -> None:
    """The same Chart.yaml through both doors gives the same config, up to the order of keys."""
    doors.appr_push_chart("1.0.0")
    ours = doors.manifest("1.0.0")["config"]["digest"]
    doors.helm_push(Chart(doors.name, "1.0.1"))
    theirs = doors.manifest("1.0.1")["config"]["digest"]
    ours, theirs = (json.loads(get_blob(doors.server, doors.repo, x)) for x in (ours, theirs))
    assert ours | {"version": "1.0.1"} == theirs


@pytest.mark.parametrize("helm", HELMS)
def test_helm_shows_and_renders_what_appr_pushed(doors: Doors, helm: str) -> None:
    doors.appr_push_chart("1.0.0", greeting="moin")
    words = ("--plain-http", f"oci://{doors.reference}", "--version", "1.0.0")
    shown = doors.run(doors.tool(helm), "show", "chart", *words).stdout
    assert f"description: {doors.name} says moin\n" in shown
    assert 'greeting: "moin"\n' in doors.run(doors.tool(helm), "template", "my", *words).stdout


def test_signed_chart_is_a_package_without_its_provenance(doors: Doors) -> None:
    chart = Chart(doors.name, "1.0.0")
    folder = doors.new_folder()
    archive = chart.write(folder)
    provenance = chart.provenance(signing_key("signer"))
    (folder / f"{archive.name}.prov").write_bytes(provenance)
    here = f"oci://{doors.server.host}/{doors.repo.partition('/')[0]}"
    doors.run(doors.tool("helm-3.22"), "push", "--plain-http", archive, here)
    types = {layer["mediaType"] for layer in doors.manifest("1.0.0")["layers"]}
    assert types == {CONTENT_TYPE, PROVENANCE_TYPE}
    assert doors.appr_pull("@1.0.0", "helm") == chart.archive()


def test_chart_with_yaml_aliases_is_kept_but_not_as_a_chart(doors: Doors) -> None:
    folder = Chart(doors.name, "1.0.0").unpack(doors.new_folder())
    with (folder / "Chart.yaml").open("a") as metadata:
        metadata.write("annotations: {a: &a x, b: *a}\n")
    doors.appr.push(folder)
    archive = doors.appr.blob("1.0.0", "helm")
    manifest = doors.manifest("1.0.0")
    assert "helm.config" not in manifest["config"]["mediaType"]
    assert manifest["artifactType"] == COMPOSE_TYPE.replace(COMPOSE, "helm")
    assert [layer["digest"] for layer in manifest["layers"]] == [digest_of(archive)]
    assert doors.appr_pull("@1.0.0", "helm") == archive


# a package of another type


def test_appr_push_then_oras_pull(doors: Doors) -> None:
    archive = doors.appr_push_compose("1.0.0")
    manifest = doors.manifest("1.0.0")
    assert manifest["artifactType"] == COMPOSE_TYPE
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert list(doors.oras_pull(":1.0.0").values()) == [archive]


def test_oras_push_then_appr_pull(doors: Doors) -> None:
    archive = doors.appr_push_compose("1.0.0")
    folder = doors.new_folder()
    (folder / "mine.tar.gz").write_bytes(archive)
    content = f"application/vnd.appr.package.{COMPOSE}.v0.tar+gzip"
    words = ("--artifact-type", COMPOSE_TYPE, f"mine.tar.gz:{content}")
    doors.oras("push", ":2.0.0", *words, cwd=folder)
    assert doors.releases() == [("1.0.0", COMPOSE), ("2.0.0", COMPOSE)]
    assert doors.appr_pull("@2.0.0", COMPOSE) == archive
    assert list(doors.oras_pull(":2.0.0").items()) == [("mine.tar.gz", archive)]


# two types in one release


@pytest.fixture
def both(doors: Doors) -> dict[str, bytes]:
    """The archives of one release of two media types."""
    return {"helm": doors.appr_push_chart("1.0.0"), COMPOSE: doors.appr_push_compose("1.0.0")}


@pytest.mark.parametrize("helm", HELMS)
def test_helm_pulls_the_chart_of_two_types(doors: Doors, both: dict[str, bytes], helm: str) -> None:
    assert doors.helm_pull(helm, "--version", "1.0.0")[1] == both["helm"]
    assert doors.helm_pull(helm)[1] == both["helm"], "the newest version, without asking for it"


@pytest.mark.parametrize(
    ("helm", "follows"), [("helm-3.18", False), ("helm-3.22", True), ("helm-4.3", True)]
)
@pytest.mark.usefixtures("both")
def test_why_helm_is_never_given_the_index(doors: Doors, helm: str, follows: bool) -> None:  # noqa: FBT001
    """A repository of three segments holds no releases: there an index is served as stored."""
    target = f"{doors.server.host}/deep/{doors.repo}"
    copied = ("--from-plain-http", "--to-plain-http", f"{doors.reference}:1.0.0", f"{target}:1.0.0")
    doors.run(doors.tool("oras"), "cp", *copied)
    words = ("pull", "--plain-http", f"oci://{target}", "--version", "1.0.0")
    ran = doors.run(doors.tool(helm), *words, cwd=doors.new_folder(), fails=not follows)
    assert ("unable to retrieve blob" in ran.stderr) is not follows


def test_two_types_are_an_index_in_a_fixed_order(doors: Doors, both: dict[str, bytes]) -> None:
    index = doors.manifest("1.0.0")
    assert index["mediaType"] == OCI_INDEX
    entries = [doors.manifest(entry["digest"]) for entry in index["manifests"]]
    layers = [entry["layers"][0]["digest"] for entry in entries]
    assert layers == [digest_of(both[COMPOSE]), digest_of(both["helm"])]
    first = doors.appr_push_compose("2.0.0")
    second = doors.appr_push_chart("2.0.0")
    entries = [doors.manifest(x["digest"]) for x in doors.manifest("2.0.0")["manifests"]]
    assert [x["layers"][0]["digest"] for x in entries] == [digest_of(first), digest_of(second)]


def test_second_type_and_its_deletion_undo_each_other(doors: Doors) -> None:
    doors.appr_push_chart("1.0.0")
    alone = doors.digest("1.0.0")
    doors.appr_push_compose("1.0.0")
    assert doors.digest("1.0.0") != alone
    assert doors.manifest("1.0.0")["mediaType"] == OCI_INDEX
    doors.appr("delete-package", "@1.0.0", "-t", COMPOSE)
    assert doors.digest("1.0.0") == alone


def test_client_of_single_manifests_gets_the_chart(doors: Doors, both: dict[str, bytes]) -> None:
    one = by_tag(doors, "1.0.0", Accept=OCI_MANIFEST)
    assert one.headers["Content-Type"] == OCI_MANIFEST
    parsed: Any = one.json()
    assert parsed["layers"][0]["digest"] == digest_of(both["helm"])
    assert one.headers["Docker-Content-Digest"] == digest_of(one.body)
    for agent in ("Helm/3.18.4", "Helm/4.3.1"):
        helm = by_tag(doors, "1.0.0", **{"Accept": MANIFESTS, "User-Agent": agent})
        assert helm.body == one.body
    whole = by_tag(doors, "1.0.0", Accept=MANIFESTS)
    assert whole.headers["Content-Type"] == OCI_INDEX
    assert by_tag(doors, "1.0.0").body == whole.body
    stored = by_tag(doors, digest_of(whole.body), Accept=OCI_MANIFEST)
    assert stored.body == whole.body, "by digest there is nothing to negotiate"


def test_oras_copies_two_types_to_another_package(
    doors: Doors, both: dict[str, bytes], tmp_path: Path
) -> None:
    other = Doors(doors.run, doors.tool, doors.server, f"{doors.repo}-copy", tmp_path)
    source, target = f"{doors.reference}:1.0.0", f"{other.reference}:1.0.0"
    doors.run(doors.tool("oras"), "cp", "--from-plain-http", "--to-plain-http", source, target)
    assert other.digest("1.0.0") == doors.digest("1.0.0")
    assert other.releases() == doors.releases()
    shown = [expect(fetch(x.server, "GET", f"{API}/{x.repo}"), 200).body for x in (doors, other)]
    assert shown[0].replace(doors.repo.encode(), other.repo.encode()) == shown[1]
    assert b'"maintainers"' in shown[1], "what appr pushed beside the archive"
    for media_type, archive in both.items():
        assert other.appr_pull("@1.0.0", media_type) == archive
        path = f"{API}/{other.repo}/blobs/sha256/{content_digest(archive)}"
        assert expect(fetch(other.server, "GET", path), 200).body == archive


def test_oras_pulls_both_types_into_one_directory(doors: Doors, both: dict[str, bytes]) -> None:
    name = f"{doors.repo.replace('/', '_')}_1.0.0"
    assert doors.oras_pull(":1.0.0") == {
        f"{name}_{media_type}.tar.gz": archive for media_type, archive in both.items()
    }


# digests


def test_blob_has_two_digests_in_appr_and_one_in_oci(doors: Doors) -> None:
    archive = doors.appr_push_chart("1.0.0")
    own, unpacked = hashlib.sha256(archive).hexdigest(), content_digest(archive)
    for digest in (own, unpacked):
        path = f"{API}/{doors.repo}/blobs/sha256/{digest}"
        assert expect(fetch(doors.server, "GET", path), 200).body == archive
        assert doors.appr_pull(f"@sha256:{digest}", "helm") == archive
    assert get_blob(doors.server, doors.repo, f"sha256:{own}") == archive
    expect(fetch(doors.server, "GET", f"/v2/{doors.repo}/blobs/sha256:{unpacked}"), 404)


def test_digest_shown_for_a_chart_from_helm_finds_it(doors: Doors) -> None:
    chart = Chart(doors.name, "1.0.0")
    doors.helm_push(chart)
    path = f"{API}/{doors.repo}/1.0.0/helm"
    shown: Any = expect(fetch(doors.server, "GET", path), 200).json()
    assert shown["content"]["size"] == len(chart.archive())
    assert doors.appr_pull(f"@sha256:{shown['content']['digest']}", "helm") == chart.archive()


def test_false_content_digest_is_refused_by_the_oci_door(doors: Doors) -> None:
    """The annotation is found by its value: its name is the server's own affair."""
    archive = doors.appr_push_compose("1.0.0")
    body, media_type, _ = get_manifest(doors.server, doors.repo, "1.0.0")
    truth = content_digest(archive).encode()
    assert body.count(truth) == 1
    lie = body.replace(truth, hashlib.sha256(b"lie").hexdigest().encode())
    assert error_codes(doors.put("2.0.0", lie, media_type, 400)) == ["MANIFEST_INVALID"]
    doors.put("2.0.0", body, media_type, 201)
    assert doors.appr_pull("@2.0.0", COMPOSE) == archive


# what is no package


@pytest.mark.parametrize("name", ["single-{0}", "a/b/{0}"])
def test_repository_without_two_segments_is_no_package(doors: Doors, name: str) -> None:
    repo = name.format(doors.name)
    folder = Chart(doors.name, "1.0.0")
    here = f"oci://{doors.server.host}/{repo}".rpartition("/")[0]
    renamed = Chart(repo.rpartition("/")[2], folder.version).write(doors.new_folder())
    doors.run(doors.tool("helm-3.22"), "push", "--plain-http", renamed, here)
    assert get_manifest(doors.server, repo, "1.0.0")
    listed: Any = expect(fetch(doors.server, "GET", API), 200).json()
    assert not [x for x in listed if doors.name in x["name"]]
    expect(fetch(doors.server, "GET", f"{API}/{repo}"), 404)


def test_image_tagged_as_a_release_is_no_package(doors: Doors) -> None:
    push_image(doors.server, doors.repo, "1.2.0", [b"one layer"])
    assert doors.tags() == ["1.2.0"]
    assert doors.releases() == []
    doors.appr_push_chart("1.3.0")
    assert doors.releases() == [("1.3.0", "helm")]
    assert doors.tags() == ["1.2.0", "1.3.0"]


def test_chart_under_a_tag_that_is_no_release_is_no_package(doors: Doors) -> None:
    doors.appr_push_chart("1.0.0")
    doors.oras("tag", ":1.0.0", "nightly")
    assert doors.releases() == [("1.0.0", "helm")]
    assert doors.channels() == {}, "an OCI tag is never a channel until set there"


# who may change a release


def test_release_from_appr_is_immutable_for_oci(doors: Doors) -> None:
    archive = doors.appr_push_chart("1.0.0")
    body, media_type, digest = get_manifest(doors.server, doors.repo, "1.0.0")
    doors.put("1.0.0", body, media_type, 201)
    refused = doors.helm_push(Chart(doors.name, "1.0.0", "changed"), fails=True)
    assert "403" in refused.stderr
    blob = push_blob(doors.server, doors.repo, b"layer")
    other = json.loads(body) | {
        "layers": [{"mediaType": OCI_LAYER, "digest": blob, "size": 5}],
        "annotations": {},
    }
    reply = doors.put("1.0.0", json.dumps(other).encode(), media_type, 403)
    assert error_codes(reply) == ["DENIED"]
    assert doors.digest("1.0.0") == digest
    assert doors.appr_pull("@1.0.0", "helm") == archive


def test_release_from_helm_stays_mutable_for_helm(doors: Doors) -> None:
    doors.helm_push(Chart(doors.name, "1.0.0"))
    changed = Chart(doors.name, "1.0.0", "changed")
    doors.helm_push(changed)
    assert doors.appr_pull("@1.0.0", "helm") == changed.archive()


def test_release_from_helm_is_there_for_appr(doors: Doors) -> None:
    chart = Chart(doors.name, "1.0.0")
    doors.helm_push(chart)
    folder = Chart(doors.name, "1.0.0", "changed").unpack(doors.new_folder())
    refused = doors.appr("push", ".", cwd=folder, fails=True)
    assert "409 Client Error" in refused.stderr
    assert doors.helm_pull("helm-3.22", "--version", "1.0.0")[1] == chart.archive()
    doors.appr.push(folder, "-f")
    forced = doors.appr.blob("1.0.0", "helm")
    assert forced != chart.archive()
    for helm in HELMS:
        assert doors.helm_pull(helm, "--version", "1.0.0")[1] == forced
