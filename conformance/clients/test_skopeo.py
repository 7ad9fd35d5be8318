"""skopeo: copy whole indexes, between repositories and formats; inspect, list, sync, delete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance import wire
from conformance.clients import images
from conformance.clients.conftest import Client
from conformance.conftest import Server

BOTH_FORMATS = pytest.mark.parametrize("kind", [images.OCI, images.DOCKER], ids=["oci", "docker"])
ZSTD = b"\x28\xb5\x2f\xfd"  # the first bytes of every zstd frame


@pytest.fixture
def registry(here: str) -> str:
    """How skopeo names the test's repository."""
    return f"docker://{here}"


def test_a_layout_goes_to_the_registry_and_back(
    skopeo: Client, server: Server, repo: str, registry: str, tmp_path: Path
) -> None:
    both = images.build_index(repo)
    source = images.write_layout(tmp_path / "source", {"both": both})
    skopeo("copy", "--all", f"oci:{source}:both", f"{registry}:pushed")
    assert images.read(server, repo, "pushed") == both
    skopeo("copy", "--all", f"{registry}@{both.manifest.digest}", f"oci:{tmp_path}/back:both")
    assert images.read_layout(tmp_path / "back") == images.contents(both)


@BOTH_FORMATS
def test_an_index_is_copied_to_another_repository(
    skopeo: Client, server: Server, repo: str, registry: str, kind: images.Format
) -> None:
    both = images.build_index(repo, kind=kind)
    images.push(server, repo, "both", both)
    skopeo("copy", "--all", f"{registry}:both", f"{registry}-copy:copied")
    assert images.read(server, f"{repo}-copy", "copied") == both


def test_one_image_of_an_index_is_copied(
    skopeo: Client, server: Server, repo: str, registry: str
) -> None:
    both = images.build_index(repo)
    images.push(server, repo, "both", both)
    override = f"--override-arch={images.OTHER}"
    skopeo(override, "copy", f"{registry}:both", f"{registry}-copy:{images.OTHER}")
    assert images.read(server, f"{repo}-copy", images.OTHER) == both.of(images.OTHER)


@pytest.mark.parametrize(
    ("option", "source", "target"),
    [("v2s2", images.OCI, images.DOCKER), ("oci", images.DOCKER, images.OCI)],
    ids=["oci-to-docker", "docker-to-oci"],
)
def test_an_index_changes_its_format(
    skopeo: Client,
    server: Server,
    repo: str,
    registry: str,
    *,
    option: str,
    source: images.Format,
    target: images.Format,
) -> None:
    both = images.build_index(repo, kind=source)
    images.push(server, repo, "source", both)
    skopeo("copy", "--all", f"--format={option}", f"{registry}:source", f"{registry}:target")
    changed = images.read_index(server, repo, "target")
    assert changed.manifest.media_type == target.index
    for old, new in zip(both.images, changed.images, strict=True):
        assert new.manifest.media_type == target.manifest
        assert new.config.media_type == target.config
        assert json.loads(new.config.data) == json.loads(old.config.data)
        assert new.layers == tuple(images.Content(target.layer, part.data) for part in old.layers)
    assert images.read(server, repo, "source") == both


def test_layers_are_compressed_with_zstd(
    skopeo: Client, server: Server, repo: str, registry: str, tmp_path: Path
) -> None:
    plain = images.build(repo, kind=images.PLAIN)
    source = images.write_layout(tmp_path / "source", {"plain": plain})
    skopeo("copy", "--dest-compress-format=zstd", f"oci:{source}:plain", f"{registry}:zstd")
    stored = images.read_image(server, repo, "zstd")
    assert stored.config == plain.config
    for layer in stored.layers:
        assert layer.media_type == "application/vnd.oci.image.layer.v1.tar+zstd"
        assert layer.data.startswith(ZSTD)
    skopeo("copy", f"{registry}:zstd", f"dir:{tmp_path}/zstd")
    assert set(images.contents(stored).values()) <= set(files(tmp_path / "zstd").values())
    skopeo("copy", "--dest-decompress", f"{registry}:zstd", f"dir:{tmp_path}/back")
    assert {layer.data for layer in plain.layers} <= set(files(tmp_path / "back").values())


@BOTH_FORMATS
def test_an_image_is_inspected(
    skopeo: Client, server: Server, repo: str, registry: str, kind: images.Format
) -> None:
    both = images.build_index(repo, kind=kind)
    images.push(server, repo, "both", both)
    image = both.of(images.HOST)
    shown = json.loads(skopeo("inspect", f"{registry}:both").stdout)
    assert shown["Digest"] == both.manifest.digest
    assert shown["RepoTags"] == ["both"]
    assert shown["Architecture"] == images.HOST
    assert shown["Layers"] == [layer.digest for layer in image.layers]
    raw = skopeo("inspect", "--raw", f"{registry}:both").stdout
    assert raw.encode() == both.manifest.data
    config = skopeo("inspect", "--raw", "--config", f"{registry}@{image.manifest.digest}").stdout
    assert config.encode() == image.config.data


def test_an_absent_tag_is_told_as_such(
    skopeo: Client, server: Server, repo: str, registry: str
) -> None:
    images.push(server, repo, "present", images.build(repo))
    assert "manifest unknown" in skopeo("inspect", f"{registry}:absent", fails=True).stderr


def test_tags_are_listed(
    skopeo: Client, server: Server, repo: str, here: str, registry: str
) -> None:
    image = images.build(repo)
    names = sorted(f"v1.{number}" for number in range(30))
    for name in names:
        images.push(server, repo, name, image)
    listed = json.loads(skopeo("list-tags", registry).stdout)
    assert listed == {"Repository": here, "Tags": names}
    assert wire.tags(server, repo) == names


def test_a_repository_is_synced_through_a_directory(
    skopeo: Client, server: Server, repo: str, here: str, tmp_path: Path
) -> None:
    tagged: dict[str, images.Image | images.Index] = {
        "both": images.build_index(repo),
        "list": images.build_index(repo, kind=images.DOCKER),
        "one": images.build(repo),
    }
    for tag, image in tagged.items():
        images.push(server, repo, tag, image)
    folder = tmp_path / "synced"
    folder.mkdir()
    skopeo("sync", "--all", "--src=docker", "--dest=dir", here, str(folder))
    name = repo.rpartition("/")[2]
    for tag, image in tagged.items():
        assert set(images.contents(image).values()) <= set(files(folder / f"{name}:{tag}").values())
    target = f"{repo}-synced"
    skopeo("sync", "--all", "--src=dir", "--dest=docker", str(folder), f"{server.host}/{target}")
    assert wire.tags(server, f"{target}/{name}") == sorted(tagged)
    for tag, image in tagged.items():
        assert images.read(server, f"{target}/{name}", tag) == image


def test_a_repository_is_synced_to_another(
    skopeo: Client, server: Server, repo: str, here: str
) -> None:
    both = images.build_index(repo)
    images.push(server, repo, "both", both)
    images.push(server, repo, "again", both)
    target = f"{here}-synced"
    skopeo("sync", "--all", "--src=docker", "--dest=docker", here, target)
    synced = f"{repo}-synced/{repo.rpartition('/')[2]}"
    assert wire.tags(server, synced) == ["again", "both"]
    assert images.read(server, synced, "both") == images.read(server, synced, "again") == both


def test_delete_takes_the_image_with_all_its_tags(
    skopeo: Client, server: Server, repo: str, registry: str
) -> None:
    gone, kept = images.build(repo), images.build(f"{repo} kept")
    for tag, image in [("first", gone), ("kept", kept), ("second", gone)]:
        images.push(server, repo, tag, image)
    skopeo("delete", f"{registry}:first")
    assert wire.tags(server, repo) == ["kept"]
    assert json.loads(skopeo("list-tags", registry).stdout)["Tags"] == ["kept"]
    reply = wire.fetch(server, "GET", f"/v2/{repo}/manifests/{gone.manifest.digest}")
    assert reply.status == 404
    assert images.read(server, repo, "kept") == kept


def files(folder: Path) -> dict[str, bytes]:
    """The files of skopeo's `dir:` format by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
