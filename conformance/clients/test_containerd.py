"""ctr: fetch every platform, push an index to another repository, pull by tag and by digest."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from conformance import wire
from conformance.clients import images
from conformance.clients.conftest import Client
from conformance.conftest import Server

BOTH_FORMATS = pytest.mark.parametrize("kind", [images.OCI, images.DOCKER], ids=["oci", "docker"])
NATIVE = "--snapshotter=native"


@BOTH_FORMATS
def test_all_platforms_are_fetched(
    ctr: Client, server: Server, repo: str, here: str, tmp_path: Path, kind: images.Format
) -> None:
    both = images.build_index(repo, kind=kind)
    images.push(server, repo, "both", both)
    reference = f"{here}:both"
    ctr("content", "fetch", "--plain-http", "--all-platforms", reference)
    exported = tmp_path / "exported.tar"
    ctr("images", "export", "--all-platforms", str(exported), reference)
    assert blobs(exported) == images.contents(both)


@BOTH_FORMATS
def test_an_index_is_pushed_to_another_repository(
    ctr: Client, server: Server, repo: str, here: str, kind: images.Format
) -> None:
    both = images.build_index(repo, kind=kind)
    images.push(server, repo, "both", both)
    source, target = f"{here}:both", f"{here}-copy:pushed"
    ctr("content", "fetch", "--plain-http", "--all-platforms", source)
    ctr("images", "tag", source, target)
    ctr("images", "push", "--plain-http", target)
    assert images.read(server, f"{repo}-copy", "pushed") == both


def test_an_image_of_a_file_is_pushed(
    ctr: Client, server: Server, repo: str, here: str, tmp_path: Path
) -> None:
    both = images.build_index(repo)
    layout = images.write_layout(tmp_path / "layout", {"both": both})
    archive = tmp_path / "layout.tar"
    with tarfile.open(archive, "w") as packed:
        for path in sorted(layout.iterdir()):
            packed.add(path, path.name)
    ctr("images", "import", "--all-platforms", "--no-unpack", f"--base-name={here}", str(archive))
    ctr("images", "push", "--plain-http", f"{here}:both")
    assert images.read(server, repo, "both") == both


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_an_index_is_pulled_and_its_program_run(
    ctr: Client, server: Server, repo: str, here: str, by: str
) -> None:
    both = images.build_index(repo)
    images.push(server, repo, "both", both)
    reference = f"{here}:both" if by == "tag" else f"{here}@{both.manifest.digest}"
    ctr("images", "pull", "--plain-http", NATIVE, reference)
    listed = ctr("images", "list", f"name=={reference}").stdout.splitlines()[1].split()
    assert listed[:3] == [reference, both.manifest.media_type, both.manifest.digest]
    mine = both.of(images.HOST)
    pulled = {line.split()[0] for line in ctr("content", "list").stdout.splitlines()[1:]}
    assert pulled == {both.manifest.digest, *images.contents(mine)}
    config = ctr("content", "get", mine.config.digest).stdout
    assert config.encode() == mine.config.data
    assert ctr("run", "--rm", NATIVE, reference, "once").stdout == f"{repo} on {images.HOST}\n"


def test_an_absent_tag_is_told_as_such(ctr: Client, server: Server, repo: str, here: str) -> None:
    images.push(server, repo, "present", images.build(repo))
    pull = ("images", "pull", "--plain-http", NATIVE)
    told = ctr(*pull, f"{here}:absent", fails=True).stderr
    assert f"{here}:absent: not found" in told


def blobs(archive: Path) -> dict[str, bytes]:
    """The blobs of a packed OCI layout by digest, each checked against its name."""
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as packed:
        for member in packed:
            stream = packed.extractfile(member)
            if stream is not None and member.name.startswith("blobs/"):
                found[f"sha256:{Path(member.name).name}"] = stream.read()
    for digest, data in found.items():
        assert wire.digest_of(data) == digest
    return found
