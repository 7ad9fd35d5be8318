"""podman and buildah: both formats, manifest lists, the other architecture, tags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance import wire
from conformance.clients import images
from conformance.clients.conftest import Client
from conformance.conftest import Server

FORMATS = {"oci": images.OCI, "v2s2": images.DOCKER}
BOTH_FORMATS = pytest.mark.parametrize("form", FORMATS)
BOTH_CLIENTS = pytest.mark.parametrize("name", ["podman", "buildah"])
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")


@pytest.fixture
def client(name: str, request: pytest.FixtureRequest) -> Client:
    """Podman or buildah, which share most of their words."""
    chosen: Client = request.getfixturevalue(name)
    return chosen


@pytest.fixture
def reference(here: str) -> str:
    """A tag of the test's repository."""
    return f"{here}:tag"


@BOTH_FORMATS
@BOTH_CLIENTS
def test_a_built_image_comes_back_from_the_registry(
    client: Client,
    podman: Client,
    server: Server,
    repo: str,
    reference: str,
    tmp_path: Path,
    form: str,
) -> None:
    context, told = images.write_context(tmp_path / "context", repo), tmp_path / "digest"
    built = client("build", "--layers", "--quiet", "-t", reference, str(context)).stdout.strip()
    client("push", f"--format={form}", f"--digestfile={told}", reference)
    stored = images.read_image(server, repo, "tag")
    kind = FORMATS[form]
    assert stored.manifest.digest == told.read_text()
    assert stored.manifest.media_type == kind.manifest
    assert stored.config.media_type == kind.config
    assert {layer.media_type for layer in stored.layers} == {kind.layer}
    assert stored.files == images.context_files(repo)
    client("rmi", "--all", "--force")
    pulled = client("pull", reference).stdout.split()[-1]
    assert f"sha256:{pulled}" == stored.config.digest
    assert pulled == built
    assert printed(podman, reference) == repo


@BOTH_FORMATS
@BOTH_CLIENTS
def test_a_manifest_list_is_pushed_with_all_its_images(
    client: Client, server: Server, repo: str, here: str, reference: str, form: str
) -> None:
    both = images.build_index(repo, kind=FORMATS[form])
    for image in both.images:
        images.push(server, repo, image.architecture, image)
    client("manifest", "create", "local")
    for image in both.images:
        source = f"docker://{here}:{image.architecture}"
        client("manifest", "add", "local", source)
    target = f"docker://{reference.replace(repo, f'{repo}-list')}"
    client("manifest", "push", "--all", f"--format={form}", "local", target)
    stored = images.read_index(server, f"{repo}-list", "tag")
    assert stored.manifest.media_type == FORMATS[form].index
    assert stored.images == both.images
    shown = client("manifest", "inspect", target.removeprefix("docker://")).stdout
    assert json.loads(shown)["manifests"] == json.loads(stored.manifest.data)["manifests"]


@BOTH_FORMATS
@BOTH_CLIENTS
def test_the_image_of_the_other_architecture_is_pulled(
    client: Client, podman: Client, server: Server, repo: str, reference: str, form: str
) -> None:
    both = images.build_index(repo, kind=FORMATS[form])
    images.push(server, repo, "tag", both)
    for architecture in (images.OTHER, images.HOST):
        pulled = client("pull", f"--arch={architecture}", reference).stdout.split()[-1]
        assert f"sha256:{pulled}" == both.of(architecture).config.digest
        (inspected,) = json.loads(podman("inspect", pulled).stdout)
        assert inspected["RootFS"]["Layers"] == both.of(architecture).diff_ids
    assert printed(podman, reference) == f"{repo} on {images.HOST}"


def test_an_image_is_pulled_by_digest(podman: Client, server: Server, repo: str, here: str) -> None:
    image = images.build(repo)
    images.push(server, repo, "tag", image)
    images.push(server, repo, "tag", images.build(f"not {repo}"))
    reference = f"{here}@{image.manifest.digest}"
    podman("pull", reference)
    assert printed(podman, reference) == repo


def test_tags_are_searched(podman: Client, server: Server, repo: str, here: str) -> None:
    image = images.build(repo)
    names = sorted(f"v1.{number}" for number in range(30))
    for name in names:
        images.push(server, repo, name, image)
    words = ("search", "--list-tags", "--limit=100", "--format=json")
    found = json.loads(podman(*words, here).stdout)
    assert found == [{"Name": here, "Tags": names}]
    assert wire.tags(server, repo) == names


@BOTH_CLIENTS
def test_an_absent_tag_is_told_as_such(
    client: Client, server: Server, repo: str, here: str
) -> None:
    images.push(server, repo, "present", images.build(repo))
    told = client("pull", f"{here}:absent", fails=True).stderr
    assert "manifest unknown" in told


def printed(podman: Client, reference: str) -> str:
    """The line that a container of the image prints."""
    ran = podman("run", "--rm", "--pull=never", "--network=none", *LIMITS, reference)
    return ran.stdout.removesuffix("\n")
