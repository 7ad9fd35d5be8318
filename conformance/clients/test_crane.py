"""crane 0.22: push, append, mutate, flatten, index, copy, validate, export, catalog, ls, delete."""

from __future__ import annotations

import gzip
import json
import tarfile
from functools import partial
from pathlib import Path

import pytest

from conformance import wire
from conformance.clients import images
from conformance.clients.conftest import Client
from conformance.conftest import Run, Server, Tool


@pytest.fixture
def crane(run: Run, tool: Tool) -> Client:
    """Run crane, which speaks plain http to a loopback address by itself."""
    return partial(run, tool("crane"))


def write_tar(path: Path, **files: bytes) -> Path:
    path.write_bytes(images.tar(files))
    return path


def layers_of(server: Server, repo: str, reference: str) -> list[bytes]:
    """The unpacked layers of an image, each checked by digest on the way."""
    image = images.read_image(server, repo, reference)
    return [gzip.decompress(layer.data) for layer in image.layers]


def digest_of(printed: str) -> str:
    """The digest in the reference which crane prints after a push."""
    return printed.strip().rpartition("@")[2]


def test_push_of_an_image_and_pull_in_three_formats(
    crane: Client, server: Server, repo: str, here: str, tmp_path: Path
) -> None:
    image = images.build("pushed by crane")
    layout = images.write_layout(tmp_path / "layout", {"1": image})
    assert digest_of(crane("push", layout, f"{here}:1").stdout) == image.manifest.digest
    assert images.read(server, repo, "1") == image
    assert crane("digest", f"{here}:1").stdout.strip() == image.manifest.digest
    assert crane("manifest", f"{here}:1").stdout.encode() == image.manifest.data
    assert crane("config", f"{here}:1").stdout.encode() == image.config.data

    crane("pull", "--format=oci", f"{here}:1", tmp_path / "pulled")
    assert images.read_layout(tmp_path / "pulled") == images.contents(image)

    crane("pull", f"{here}:1", tmp_path / "image.tar")
    crane("push", tmp_path / "image.tar", f"{here}:again")
    again = images.read_image(server, repo, "again")
    assert again.manifest.media_type == images.DOCKER.manifest
    assert [layer.data for layer in again.layers] == [layer.data for layer in image.layers]

    crane("pull", "--format=legacy", f"{here}@{image.manifest.digest}", tmp_path / "legacy.tar")
    with tarfile.open(tmp_path / "legacy.tar") as archive:
        assert "manifest.json" in archive.getnames()


def test_push_of_an_index(
    crane: Client, server: Server, repo: str, here: str, tmp_path: Path
) -> None:
    index = images.build_index("both")
    layout = images.write_layout(tmp_path / "layout", {"1": index})
    pushed = digest_of(crane("push", "--index", layout, f"{here}:1").stdout)
    data, _, digest = wire.get_manifest(server, repo, "1")
    assert digest == pushed
    assert data == (layout / "index.json").read_bytes()
    assert images.read(server, repo, index.manifest.digest) == index
    for image in index.images:
        assert images.read(server, repo, image.manifest.digest) == image


def test_append(crane: Client, server: Server, repo: str, here: str, tmp_path: Path) -> None:
    below, above = {"a": b"one", "b": b"two"}, {"b": b"three"}
    first, second = write_tar(tmp_path / "1.tar", **below), write_tar(tmp_path / "2.tar", **above)
    crane("append", "--oci-empty-base", "-f", first, "-t", f"{here}:1")
    crane("append", "-b", f"{here}:1", "-f", second, "-t", f"{here}:2")
    assert layers_of(server, repo, "1") == [images.tar(below)]
    assert layers_of(server, repo, "2") == [images.tar(below), images.tar(above)]
    base, extended = (images.read_image(server, repo, tag) for tag in ("1", "2"))
    assert base.manifest.media_type == images.OCI.manifest
    assert extended.layers[0] == base.layers[0]


def test_mutate(crane: Client, server: Server, repo: str, here: str) -> None:
    image = images.build("mutated")
    images.push(server, repo, "1", image)
    crane("mutate", f"{here}:1", "-l", "kind=test", "-a", "note=kept", "-t", f"{here}:2")
    changed = images.read_image(server, repo, "2")
    assert json.loads(changed.config.data)["config"]["Labels"] == {"kind": "test"}
    assert json.loads(changed.manifest.data)["annotations"] == {"note": "kept"}
    assert changed.layers == image.layers
    assert images.read(server, repo, "1") == image

    untagged = digest_of(crane("mutate", f"{here}:1", "--entrypoint", "/hello").stdout)
    entry = images.read_image(server, repo, untagged)
    assert json.loads(entry.config.data)["config"]["Entrypoint"] == ["/hello"]
    assert wire.tags(server, repo) == ["1", "2"]


def test_flatten_and_export(
    crane: Client, server: Server, repo: str, here: str, tmp_path: Path
) -> None:
    image = images.build("flattened")
    images.push(server, repo, "1", image)
    crane("flatten", f"{here}:1", "-t", f"{here}:flat")
    flat = images.read_image(server, repo, "flat")
    assert len(flat.layers) == 1
    assert flat.files == image.files
    for tag in ("1", "flat"):
        crane("export", f"{here}:{tag}", tmp_path / "export.tar")
        with tarfile.open(tmp_path / "export.tar") as archive:
            found = {entry.name: archive.extractfile(entry) for entry in archive}
            assert {name: file.read() for name, file in found.items() if file} == image.files


def test_index_append_filter_and_list(crane: Client, server: Server, repo: str, here: str) -> None:
    both = [images.build(name, architecture=name) for name in ("amd64", "arm64")]
    for image in both:
        images.push(server, repo, image.architecture, image)
    crane("index", "append", "-m", f"{here}:amd64", "-m", f"{here}:arm64", "-t", f"{here}:both")
    assert images.read_index(server, repo, "both").images == tuple(both)

    crane("index", "filter", f"{here}:both", "--platform", "linux/arm64", "-t", f"{here}:one")
    assert images.read_index(server, repo, "one").images == (both[1],)
    listed = crane("index", "list", f"{here}:both").stdout
    assert all(image.manifest.digest in listed for image in both)
    chosen = crane("digest", "--platform", "linux/amd64", f"{here}:both").stdout.strip()
    assert chosen == both[0].manifest.digest


def test_copy_of_all_tags(crane: Client, server: Server, repo: str, here: str) -> None:
    pushed: dict[str, images.Image | images.Index] = {
        "1": images.build("one"),
        "2": images.build("two", kind=images.DOCKER),
        "both": images.build_index("three"),
    }
    for tag, image in pushed.items():
        images.push(server, repo, tag, image)
    crane("copy", "-a", here, f"{here}-copy")
    assert crane("ls", f"{here}-copy").stdout.split() == list(pushed)
    assert {tag: images.read(server, f"{repo}-copy", tag) for tag in pushed} == pushed


def test_copy_takes_what_another_repository_lost(
    crane: Client, server: Server, repo: str, here: str
) -> None:
    image = images.build("copied")
    images.push(server, repo, "1", image)
    crane("copy", f"{here}:1", f"{here}-copy:1")
    crane("delete", f"{here}@{image.manifest.digest}")
    assert images.read(server, f"{repo}-copy", "1") == image


def test_validate(crane: Client, server: Server, repo: str, here: str) -> None:
    images.push(server, repo, "1", images.build_index("valid"))
    images.push(server, repo, "2", images.build("valid", kind=images.DOCKER))
    for tag in ("1", "2"):
        assert crane("validate", "--remote", f"{here}:{tag}").stdout.startswith("PASS")


def test_blob(crane: Client, server: Server, repo: str, here: str) -> None:
    data = b"a blob, read by crane\n"
    digest = wire.push_blob(server, repo, data)
    assert crane("blob", f"{here}@{digest}").stdout.encode() == data


def test_catalog_and_ls(crane: Client, server: Server, repo: str, here: str) -> None:
    image = images.build("listed")
    tags = ["1.0", "A", "a", "latest", "z_9"]
    for tag in reversed(tags):
        images.push(server, repo, tag, image)
    images.push(server, f"{repo}-other", "1", image)
    assert crane("ls", here).stdout.split() == tags == wire.tags(server, repo)
    assert crane("ls", "--full-ref", here).stdout.split() == [f"{here}:{tag}" for tag in tags]
    listed = crane("catalog", server.host).stdout.split()
    assert {repo, f"{repo}-other"} <= set(listed)


def test_delete(crane: Client, server: Server, repo: str, here: str) -> None:
    image = images.build("deleted")
    for tag in ("1", "2", "3"):
        images.push(server, repo, tag, image)
    crane("tag", f"{here}:1", "4")
    crane("delete", f"{here}:1")
    assert crane("ls", here).stdout.split() == ["2", "3", "4"]
    assert images.read(server, repo, image.manifest.digest) == image

    crane("delete", f"{here}@{image.manifest.digest}")
    assert crane("ls", here).stdout.split() == []
    for reference in (":2", f"@{image.manifest.digest}"):
        assert "MANIFEST_UNKNOWN" in crane("manifest", f"{here}{reference}", fails=True).stderr
