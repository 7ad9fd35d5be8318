"""oras 1.3: push, pull, attach, discover, cp, index, blob, backup, restore, delete; oras-py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conformance import wire
from conformance.clients import images
from conformance.clients.conftest import Client
from conformance.conftest import Run, Server, Tool

FILES = {"hello.txt": b"hello\n", "noise": images.noise("oras", 300_000)}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder that holds `FILES`."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def oras(run: Run, tool: Tool, files: Path) -> Client:
    """Run oras in the folder of the test's files."""
    return partial(run, tool("oras"), cwd=files)


def push(oras: Client, reference: str, *words: str) -> str:
    """Push with oras and return the digest that it printed."""
    printed = oras("push", "--plain-http", "--format", "json", reference, *words).stdout
    return str(json.loads(printed)["digest"])


def attach(oras: Client, subject: str, kind: str, *words: str) -> str:
    """Attach with oras and return the digest that it printed."""
    words = ("--plain-http", "--format", "json", "--artifact-type", kind, subject, *words)
    return str(json.loads(oras("attach", *words).stdout)["digest"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def manifest_of(server: Server, repo: str, reference: str) -> dict[str, Any]:
    data, media_type, _ = wire.get_manifest(server, repo, reference)
    parsed: dict[str, Any] = json.loads(data)
    assert parsed["mediaType"] == media_type
    return parsed


def referrers(server: Server, repo: str, digest: str) -> list[str]:
    """The digests that the referrers API lists, in order."""
    return sorted(entry["digest"] for entry in wire.referrers(server, repo, digest))


def tree(oras: Client, reference: str) -> dict[str, Any]:
    """What `discover` finds: artifact types and digests, nested."""

    def branch(node: Mapping[str, Any]) -> dict[str, Any]:
        found = node.get("referrers", [])
        return {f"{kid['artifactType']} {kid['digest']}": branch(kid) for kid in found}

    return branch(
        json.loads(oras("discover", "--plain-http", "--format", "json", reference).stdout)
    )


def test_push_and_pull(oras: Client, server: Server, repo: str, here: str, tmp_path: Path) -> None:
    typed = ("hello.txt:text/plain", "noise", "--artifact-type", "application/vnd.test.box")
    digest = push(oras, f"{here}:1,latest", *typed, "--annotation", "note=kept")
    assert wire.tags(server, repo) == ["1", "latest"]
    manifest = manifest_of(server, repo, digest)
    assert manifest["artifactType"] == "application/vnd.test.box"
    assert manifest["annotations"]["note"] == "kept"
    stored = {
        layer["annotations"]["org.opencontainers.image.title"]: layer
        for layer in manifest["layers"]
    }
    assert stored["hello.txt"]["mediaType"] == "text/plain"
    for name, data in FILES.items():
        assert wire.get_blob(server, repo, stored[name]["digest"]) == data
    for number, reference in enumerate((":1", ":latest", f"@{digest}")):
        pulled = tmp_path / str(number)
        oras("pull", "--plain-http", f"{here}{reference}", "-o", pulled)
        assert contents(pulled) == FILES
        resolved = oras("resolve", "--plain-http", f"{here}{reference}").stdout
        assert resolved.strip() == digest


def test_pull_of_what_is_not_there(oras: Client, here: str) -> None:
    push(oras, f"{here}:1", "noise")
    assert "not found" in oras("pull", "--plain-http", f"{here}:2", fails=True).stderr


def test_push_with_a_config_file(oras: Client, server: Server, repo: str, here: str) -> None:
    digest = push(oras, f"{here}:1", "--config", "hello.txt:application/vnd.test.config", "noise")
    config = manifest_of(server, repo, digest)["config"]
    assert config["mediaType"] == "application/vnd.test.config"
    assert wire.get_blob(server, repo, config["digest"]) == FILES["hello.txt"]


def test_attach_and_discover(
    oras: Client, server: Server, repo: str, here: str, tmp_path: Path
) -> None:
    subject = push(oras, f"{here}:1", "noise")
    bill = attach(oras, f"{here}:1", "test/bill", "hello.txt")
    note = attach(oras, f"{here}@{subject}", "test/note", "--annotation", "said=so")
    signature = attach(oras, f"{here}@{bill}", "test/signature", "hello.txt")
    expected: dict[str, Any] = {
        f"test/bill {bill}": {f"test/signature {signature}": {}},
        f"test/note {note}": {},
    }
    assert tree(oras, f"{here}:1") == expected
    assert referrers(server, repo, subject) == sorted([bill, note])
    assert referrers(server, repo, bill) == [signature]
    assert wire.tags(server, repo) == ["1"]
    assert manifest_of(server, repo, bill)["subject"]["digest"] == subject

    one = ("discover", "--plain-http", "--format", "json", "--artifact-type", "test/note")
    found = json.loads(oras(*one, f"{here}:1").stdout)["referrers"]
    assert [entry["digest"] for entry in found] == [note]
    assert found[0]["annotations"]["said"] == "so"
    oras("pull", "--plain-http", f"{here}@{bill}", "-o", tmp_path / "bill")
    assert contents(tmp_path / "bill") == {"hello.txt": FILES["hello.txt"]}

    oras("manifest", "delete", "--plain-http", "-f", f"{here}@{bill}")
    assert referrers(server, repo, subject) == [note]


def test_recursive_copy_to_a_repository_and_through_a_layout(
    oras: Client, server: Server, repo: str, here: str, tmp_path: Path
) -> None:
    subject = push(oras, f"{here}:1", "noise", "hello.txt")
    bill = attach(oras, f"{here}:1", "test/bill", "hello.txt")
    attach(oras, f"{here}@{bill}", "test/signature", "noise")
    plain = ("--from-plain-http", "--to-plain-http")
    oras("cp", "-r", *plain, f"{here}:1", f"{here}-copy:1,2")
    layout = tmp_path / "layout"
    oras("cp", "-r", "--from-plain-http", f"{here}:1", "--to-oci-layout", f"{layout}:1")
    oras("cp", "-r", "--to-plain-http", "--from-oci-layout", f"{layout}:1", f"{here}-back:1")
    for copied in ("copy", "back"):
        assert tree(oras, f"{here}-{copied}:1") == tree(oras, f"{here}:1")
        target = f"{repo}-{copied}"
        assert wire.get_manifest(server, target, "1") == wire.get_manifest(server, repo, subject)
        assert referrers(server, target, subject) == [bill]
        oras("pull", "--plain-http", f"{here}-{copied}:1", "-o", tmp_path / copied)
        assert contents(tmp_path / copied) == FILES
    assert wire.tags(server, f"{repo}-copy") == ["1", "2"]


def test_copy_of_an_image_index(oras: Client, server: Server, repo: str, here: str) -> None:
    index = images.build_index("copied by oras")
    images.push(server, repo, "1", index)
    oras("cp", "--from-plain-http", "--to-plain-http", f"{here}:1", f"{here}-copy:1")
    assert images.read(server, f"{repo}-copy", "1") == index
    one = ("--platform", f"linux/{images.OTHER}")
    oras("cp", "--from-plain-http", "--to-plain-http", *one, f"{here}:1", f"{here}-copy:other")
    assert images.read(server, f"{repo}-copy", "other") == index.of(images.OTHER)


def test_manifest_index(oras: Client, server: Server, repo: str, here: str, tmp_path: Path) -> None:
    box = ("--artifact-type", "application/vnd.test.box")
    digests = {
        architecture: push(
            oras,
            f"{here}:{architecture}",
            *box,
            "--artifact-platform",
            f"linux/{architecture}",
            name,
        )
        for architecture, name in (("amd64", "hello.txt"), ("arm64", "noise"))
    }
    oras("manifest", "index", "create", "--plain-http", f"{here}:both", *digests)
    children = manifest_of(server, repo, "both")["manifests"]
    found = {child["platform"]["architecture"]: child["digest"] for child in children}
    assert found == digests
    oras("pull", "--plain-http", "--platform", "linux/arm64", f"{here}:both", "-o", tmp_path / "o")
    assert contents(tmp_path / "o") == {"noise": FILES["noise"]}

    update = ("manifest", "index", "update", "--plain-http", "--tag", "one", f"{here}:both")
    oras(*update, "--remove", digests["amd64"])
    children = manifest_of(server, repo, "one")["manifests"]
    assert [child["digest"] for child in children] == [digests["arm64"]]
    assert wire.get_manifest(server, repo, "one") == wire.get_manifest(server, repo, "both")
    oras("manifest", "index", "update", "--plain-http", f"{here}:both", "--add", "amd64")
    children = manifest_of(server, repo, "both")["manifests"]
    assert {child["digest"] for child in children} == set(digests.values())


def test_manifest_push_and_fetch(
    oras: Client, server: Server, repo: str, here: str, files: Path
) -> None:
    image = images.build("pushed by oras")
    images.push(server, repo, "1", image)
    (files / "manifest.json").write_bytes(image.manifest.data)
    oras("manifest", "push", "--plain-http", f"{here}:2", "manifest.json")
    assert images.read(server, repo, "2") == image
    fetched = oras("manifest", "fetch", "--plain-http", f"{here}:2").stdout
    assert fetched.encode() == image.manifest.data
    descriptor = json.loads(
        oras("manifest", "fetch", "--plain-http", "--descriptor", f"{here}:2").stdout
    )
    assert descriptor == image.manifest.descriptor()
    config = oras("manifest", "fetch-config", "--plain-http", f"{here}:2").stdout
    assert config.encode() == image.config.data


def test_blob(oras: Client, server: Server, repo: str, here: str, tmp_path: Path) -> None:
    digest = wire.digest_of(FILES["noise"])
    oras("blob", "push", "--plain-http", here, "noise")
    assert wire.get_blob(server, repo, digest) == FILES["noise"]
    oras("blob", "fetch", "--plain-http", f"{here}@{digest}", "--output", tmp_path / "noise")
    assert (tmp_path / "noise").read_bytes() == FILES["noise"]
    described = oras("blob", "fetch", "--plain-http", "--descriptor", f"{here}@{digest}").stdout
    assert json.loads(described)["size"] == len(FILES["noise"])
    oras("blob", "delete", "--plain-http", "-f", f"{here}@{digest}")
    assert wire.fetch(server, "HEAD", f"/v2/{repo}/blobs/{digest}").status == 404


@pytest.mark.parametrize("target", ["backup", "backup.tar"])
def test_backup_and_restore(
    oras: Client, server: Server, repo: str, here: str, tmp_path: Path, target: str
) -> None:
    subject = push(oras, f"{here}:1", "noise", "hello.txt")
    bill = attach(oras, f"{here}:1", "test/bill", "hello.txt")
    images.push(server, repo, "both", images.build_index("backed up"))
    saved = tmp_path / target
    oras("backup", "--plain-http", "--include-referrers", "-o", saved, f"{here}:1,both")
    oras("restore", "--plain-http", "--input", saved, f"{here}-back")
    back = f"{repo}-back"
    assert wire.tags(server, back) == ["1", "both"]
    assert images.read(server, back, "both") == images.build_index("backed up")
    assert referrers(server, back, subject) == [bill]
    assert wire.get_manifest(server, back, bill) == wire.get_manifest(server, repo, bill)
    oras("pull", "--plain-http", f"{here}-back:1", "-o", tmp_path / "pulled")
    assert contents(tmp_path / "pulled") == FILES


def test_tag_list_and_delete(oras: Client, server: Server, repo: str, here: str) -> None:
    digest = push(oras, f"{here}:1", "noise")
    oras("tag", "--plain-http", f"{here}:1", "2", "3")
    assert oras("repo", "tags", "--plain-http", here).stdout.split() == ["1", "2", "3"]
    assert oras("repo", "tags", "--plain-http", "--last", "1", here).stdout.split() == ["2", "3"]
    assert repo in oras("repo", "ls", "--plain-http", server.host).stdout.split()
    oras("manifest", "delete", "--plain-http", "-f", f"{here}@{digest}")
    assert wire.tags(server, repo) == []
    assert "not found" in oras("manifest", "fetch", "--plain-http", f"{here}:2", fails=True).stderr
    assert wire.get_blob(server, repo, wire.digest_of(FILES["noise"])) == FILES["noise"]


PYTHON = """
import json, sys
from oras.client import OrasClient

host, repo = sys.argv[1:]
client = OrasClient(hostname=host, insecure=True, tls_verify=False)
target = f"{host}/{repo}"
client.push(target=f"{target}:2", files=["noise"], do_chunked=True, chunk_size=70_000)
noted = {"note": "kept"}
client.push(target=f"{target}:1", files=["hello.txt", "noise"], manifest_annotations=noted)
pulled = client.pull(target=f"{target}:1", outdir="pulled")
manifest = client.get_manifest(f"{target}:1")
before = client.get_tags(target)
deleted = client.delete_tags(target, ["2"])
print(json.dumps([manifest, before, deleted, client.get_tags(target), pulled]))
"""


def test_oras_py(run: Run, tool: Tool, server: Server, repo: str, files: Path) -> None:
    ran = run(tool("oras-py"), "-c", PYTHON, server.host, repo, cwd=files)
    manifest, before, deleted, after, pulled = json.loads(ran.stdout.splitlines()[-1])
    assert manifest == manifest_of(server, repo, "1")
    assert manifest["annotations"] == {"note": "kept"}
    assert {Path(path).name: Path(path).read_bytes() for path in pulled} == FILES
    assert (before, deleted, after) == (["1", "2"], ["2"], ["1"])
    stored = [wire.get_blob(server, repo, layer["digest"]) for layer in manifest["layers"]]
    assert stored == list(FILES.values())
