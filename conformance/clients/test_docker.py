"""docker: build, push, pull and run; tags, mounts, manifest lists, digests, all tags, no tag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conformance import wire
from conformance.clients import images
from conformance.clients.conftest import Client
from conformance.conftest import Server

BOTH_FORMATS = pytest.mark.parametrize("kind", [images.OCI, images.DOCKER], ids=["oci", "docker"])


@pytest.fixture
def built(docker: Client, repo: str, here: str, tmp_path: Path) -> str:
    """The reference of an image that docker built, and whose program prints the repository."""
    reference = f"{here}:built"
    docker("build", "-t", reference, images.write_context(tmp_path / "context", repo))
    return reference


@pytest.fixture
def two(server: Server, repo: str) -> images.Index:
    """Images of two architectures, pushed as ordinary tags of one repository."""
    index = images.build_index(repo, kind=images.DOCKER)
    for image in index.images:
        images.push(server, repo, image.architecture, image)
    return index


def test_a_built_image_comes_back_from_the_registry(
    docker: Client, server: Server, repo: str, built: str
) -> None:
    before = inspect(docker, built)
    pushed = push(docker, built)
    stored = images.read_image(server, repo, "built")
    assert stored.manifest.digest == pushed
    assert stored.manifest.media_type == images.DOCKER.manifest
    assert stored.config.digest == before["Id"]
    assert stored.files == images.context_files(repo)
    docker("rmi", built)
    assert pushed in docker("pull", built).stdout
    after = inspect(docker, built)
    assert after["Id"] == before["Id"]
    assert after["RootFS"]["Layers"] == stored.diff_ids
    assert printed(docker, built) == repo


def test_a_second_tag_uploads_nothing(
    docker: Client, server: Server, repo: str, here: str, built: str
) -> None:
    first = push(docker, built)
    again = f"{here}:again"
    docker("tag", built, again)
    output = docker("push", again).stdout
    assert output.count("Layer already exists") == 2
    assert wire.tags(server, repo) == ["again", "built"]
    assert wire.get_manifest(server, repo, "again")[2] == first


def test_a_second_repository_mounts_the_layers(
    docker: Client, server: Server, repo: str, built: str
) -> None:
    push(docker, built)
    other = f"{repo}-mounted"
    docker("tag", built, f"{server.host}/{other}:built")
    output = docker("push", f"{server.host}/{other}:built").stdout
    assert output.count(f"Mounted from {repo}") == 2
    assert images.read(server, other, "built") == images.read(server, repo, "built")


def test_a_manifest_list_names_both_architectures(
    docker: Client, server: Server, repo: str, here: str, two: images.Index
) -> None:
    sources = [f"{here}:{image.architecture}" for image in two.images]
    docker("manifest", "create", "--insecure", f"{here}:both", *sources)
    digest = docker("manifest", "push", "--insecure", f"{here}:both").stdout.split()[-1]
    stored = images.read_index(server, repo, "both")
    assert stored.manifest.digest == digest
    assert stored.manifest.media_type == images.DOCKER.index
    assert stored.images == two.images
    shown = docker("manifest", "inspect", "--insecure", f"{here}@{digest}").stdout
    assert json.loads(shown) == json.loads(stored.manifest.data)


@BOTH_FORMATS
def test_an_index_is_pulled_for_the_architecture_asked_for(
    docker: Client, server: Server, repo: str, here: str, kind: images.Format
) -> None:
    both = images.build_index(repo, kind=kind)
    images.push(server, repo, "both", both)
    reference = f"{here}:both"
    for architecture in (images.OTHER, images.HOST):
        output = docker("pull", "--platform", f"linux/{architecture}", reference).stdout
        assert f"Digest: {both.manifest.digest}\n" in output
        pulled = inspect(docker, reference)
        assert pulled["Id"] == both.of(architecture).config.digest
        assert pulled["RootFS"]["Layers"] == both.of(architecture).diff_ids
    assert printed(docker, reference) == f"{repo} on {images.HOST}"


@BOTH_FORMATS
def test_an_image_is_pulled_by_digest(
    docker: Client, server: Server, repo: str, here: str, kind: images.Format
) -> None:
    image = images.build(repo, kind=kind)
    images.push(server, repo, "pushed", image)
    images.push(server, repo, "pushed", images.build(f"not {repo}", kind=kind))
    reference = f"{here}@{image.manifest.digest}"
    docker("pull", reference)
    pulled = inspect(docker, reference)
    assert pulled["Id"] == image.config.digest
    assert pulled["RepoDigests"] == [reference]
    assert printed(docker, reference) == repo


def test_all_tags_are_pulled_at_once(
    docker: Client, server: Server, repo: str, here: str, two: images.Index
) -> None:
    image = two.of(images.HOST)
    images.push(server, repo, "again", image)
    docker("pull", "--all-tags", here)
    listed = docker("images", "--no-trunc", "--format={{.Tag}} {{.ID}}", here).stdout
    expected = {part.architecture: part.config.digest for part in two.images}
    assert dict(line.split() for line in listed.splitlines()) == expected | {
        "again": image.config.digest
    }


def test_an_absent_tag_is_told_as_such(
    docker: Client, server: Server, repo: str, here: str
) -> None:
    images.push(server, repo, "present", images.build(repo))
    reference = f"{here}:absent"
    assert "manifest unknown" in docker("pull", reference, fails=True).stderr
    assert wire.tags(server, repo) == ["present"]


def push(docker: Client, reference: str) -> str:
    """Push, and return the digest that docker reports."""
    last = docker("push", reference).stdout.splitlines()[-1]
    return next(word for word in last.split() if word.startswith("sha256:"))


def inspect(docker: Client, reference: str) -> dict[str, Any]:
    """What the engine knows about an image."""
    found: list[dict[str, Any]] = json.loads(docker("image", "inspect", reference).stdout)
    return found[0]


def printed(docker: Client, reference: str) -> str:
    """The line that a container of the image prints."""
    return docker("run", "--rm", "--network=none", reference).stdout.removesuffix("\n")
