"""regctl and regsync 0.11: chunks, tag rm, artifacts, referrers, digest tags, copies, mirrors."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from conformance import wire
from conformance.clients import images
from conformance.clients.conftest import Client
from conformance.conftest import Run, Server, Tool
from conformance.servers import free_port, wait_ready

CHUNK = 65_536


@pytest.fixture
def regctl(run: Run, tool: Tool, server: Server) -> Client:
    """Run regctl, which knows the server and sends blobs to it in chunks of `CHUNK` bytes."""
    client = partial(run, tool("regctl"))
    sizes = (f"--blob-chunk={CHUNK}", f"--blob-max={CHUNK}")
    client("registry", "set", "--tls=disabled", *sizes, server.host)
    return client


@pytest.fixture
def peer(tool: Tool, tmp_path: Path) -> Iterator[Server]:
    """CNCF distribution: a registry of another make, which has no referrers API."""
    host = f"127.0.0.1:{free_port()}"
    server = Server(host, f"http://{host}", tmp_path / "peer")
    settings = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(server.data)}, "delete": {"enabled": True}},
        "http": {"addr": host},
    }
    path, log = tmp_path / "peer.yml", tmp_path / "peer.log"
    path.write_text(json.dumps(settings))
    with log.open("wb") as output:
        process = subprocess.Popen(
            (tool("registry"), "serve", str(path)),
            stdout=output,
            stderr=output,
            env={"OTEL_TRACES_EXPORTER": "none"},
        )
    wait_ready(server, "/v2/", process=process, log=log)
    yield server
    process.terminate()
    process.wait(30)


def attach(regctl: Client, subject: str, kind: str) -> str:
    """Push a referrer that holds the name of its type, and return the digest of its manifest."""
    shown = ("--format", "{{ .Manifest.GetDescriptor.Digest }}")
    words = ("--subject", subject, "--artifact-type", kind, "--annotation", f"k={kind}")
    return regctl("artifact", "put", *shown, *words, input=kind).stdout.strip()


def test_chunked_blob(regctl: Client, server: Server, repo: str, here: str) -> None:
    data = images.noise("chunks", 2 * CHUNK + 1).hex().encode()
    digest = wire.digest_of(data)
    ran = regctl("-v", "trace", "blob", "put", here, input=data)
    assert ran.stdout.strip() == digest
    assert ran.stderr.count("req-method=PATCH") == 5
    assert wire.get_blob(server, repo, digest) == data
    assert regctl("blob", "get", here, digest).stdout.encode() == data


def test_chunked_blob_by_sha512(regctl: Client, server: Server, repo: str, here: str) -> None:
    data = images.noise("long", 2 * CHUNK + 1)
    digest = f"sha512:{hashlib.sha512(data).hexdigest()}"
    assert regctl("blob", "put", "--digest", digest, here, input=data).stdout.strip() == digest
    assert wire.get_blob(server, repo, digest) == data


def test_tag_rm_leaves_the_manifest(regctl: Client, server: Server, repo: str, here: str) -> None:
    image = images.build("untagged")
    for tag in ("1", "2"):
        images.push(server, repo, tag, image)
    regctl("tag", "rm", f"{here}:1")
    assert regctl("tag", "ls", here).stdout.split() == wire.tags(server, repo) == ["2"]
    regctl("tag", "rm", f"{here}:2")
    assert wire.tags(server, repo) == []
    assert images.read(server, repo, image.manifest.digest) == image
    regctl("tag", "rm", f"{here}:2", fails=True)


def test_manifest_delete(regctl: Client, server: Server, repo: str, here: str) -> None:
    image = images.build("deleted")
    images.push(server, repo, "1", image)
    regctl("manifest", "delete", f"{here}@{image.manifest.digest}")
    assert wire.tags(server, repo) == []
    regctl("manifest", "get", f"{here}@{image.manifest.digest}", fails=True)


def test_artifact(regctl: Client, server: Server, repo: str, here: str, tmp_path: Path) -> None:
    files = {"a.txt": b"first\n", "b.bin": images.noise("artifact", CHUNK + 1)}
    words: list[str] = []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        words += ["--file", str(tmp_path / name), "--file-media-type", "application/vnd.test"]
    titles = ("--file-title", "--strip-dirs", "--artifact-type", "application/vnd.test.box")
    regctl("artifact", "put", *words, *titles, "--annotation", "note=kept", f"{here}:1")
    data, _, digest = wire.get_manifest(server, repo, "1")
    manifest = json.loads(data)
    assert manifest["artifactType"] == "application/vnd.test.box"
    assert manifest["annotations"] == {"note": "kept"}
    stored = [wire.get_blob(server, repo, layer["digest"]) for layer in manifest["layers"]]
    assert stored == list(files.values())
    assert regctl("image", "digest", f"{here}:1").stdout.strip() == digest
    assert regctl("manifest", "get", "--format=raw-body", f"{here}:1").stdout.encode() == data

    pulled = tmp_path / "pulled"
    pulled.mkdir()
    regctl("artifact", "get", "--output", pulled, f"{here}:1")
    assert {path.name: path.read_bytes() for path in pulled.iterdir()} == files


def test_referrers(regctl: Client, server: Server, repo: str, here: str) -> None:
    image = images.build("subject")
    images.push(server, repo, "1", image)
    digests = {kind: attach(regctl, f"{here}:1", kind) for kind in ("test/bill", "test/note")}
    listed = wire.referrers(server, repo, image.manifest.digest)
    assert {entry["artifactType"]: entry["digest"] for entry in listed} == digests
    for entry in listed:
        assert entry["annotations"]["k"] == entry["artifactType"]
    filtered = wire.referrers(server, repo, image.manifest.digest, "?artifactType=test/note")
    assert [entry["digest"] for entry in filtered] == [digests["test/note"]]
    assert wire.tags(server, repo) == ["1"]

    body = json.loads(regctl("artifact", "list", "--format=body", f"{here}:1").stdout)
    assert {entry["digest"] for entry in body["manifests"]} == set(digests.values())
    for kind, digest in digests.items():
        filters = ("--subject", f"{here}:1", "--filter-artifact-type", kind)
        assert regctl("artifact", "get", *filters).stdout == kind
        assert digest in regctl("artifact", "tree", f"{here}:1").stdout

    regctl("manifest", "delete", "--referrers", f"{here}@{digests['test/bill']}")
    left = wire.referrers(server, repo, image.manifest.digest)
    assert [entry["digest"] for entry in left] == [digests["test/note"]]


def test_copy_with_digest_tags_and_referrers(
    regctl: Client, server: Server, repo: str, here: str
) -> None:
    index, note = images.build_index("copied"), images.build("a note")
    images.push(server, repo, "1", index)
    tag = f"{index.manifest.digest.replace(':', '-')}.note"
    images.push(server, repo, tag, note)
    referrer = attach(regctl, f"{here}:1", "test/bill")
    plain, whole = f"{repo}-plain", f"{repo}-whole"
    regctl("image", "copy", f"{here}:1", f"{here}-plain:1")
    assert wire.tags(server, plain) == ["1"]
    assert wire.referrers(server, plain, index.manifest.digest) == []
    regctl("image", "copy", "--digest-tags", "--referrers", f"{here}:1", f"{here}-whole:1")
    assert wire.tags(server, whole) == ["1", tag]
    assert images.read(server, plain, "1") == images.read(server, whole, "1") == index
    assert images.read(server, whole, tag) == note
    copied = wire.referrers(server, whole, index.manifest.digest)
    assert [entry["digest"] for entry in copied] == [referrer]
    listed = regctl("artifact", "list", "--digest-tags", f"{here}-whole:1").stdout
    assert note.manifest.digest in listed
    assert referrer in listed


@pytest.mark.parametrize("kind", [images.OCI, images.DOCKER], ids=["oci", "docker"])
def test_export_and_import(
    regctl: Client, server: Server, repo: str, here: str, tmp_path: Path, kind: images.Format
) -> None:
    index = images.build_index("exported", kind=kind)
    images.push(server, repo, "1", index)
    saved = tmp_path / "saved.tar"
    regctl("image", "export", f"{here}:1", saved)
    with tarfile.open(saved) as archive:
        for image in index.images:
            for part in (image.manifest, image.config, *image.layers):
                stored = archive.extractfile(f"blobs/sha256/{part.digest.removeprefix('sha256:')}")
                assert stored is not None
                assert stored.read() == part.data
    regctl("image", "import", f"{here}-back:1", saved)
    assert images.read(server, f"{repo}-back", "1") == index


def test_index_create(regctl: Client, server: Server, repo: str, here: str) -> None:
    index = images.build_index("chosen")
    images.push(server, repo, "1", index)
    words = ("--ref", f"{here}:1", "--platform", f"linux/{images.OTHER}")
    regctl("index", "create", *words, f"{here}:other")
    assert images.read_index(server, repo, "other").images == (index.of(images.OTHER),)


def test_repo_copy_and_ls(regctl: Client, server: Server, repo: str, here: str) -> None:
    pushed: dict[str, images.Image | images.Index] = {
        "1": images.build("one"),
        "2": images.build_index("two"),
        "x": images.build("three"),
    }
    for tag, image in pushed.items():
        images.push(server, repo, tag, image)
    referrer = attach(regctl, f"{here}:1", "test/bill")
    regctl("repo", "copy", "--referrers", here, f"{here}-copy")
    copy = f"{repo}-copy"
    assert {tag: images.read(server, copy, tag) for tag in wire.tags(server, copy)} == pushed
    subject = pushed["1"].manifest.digest
    assert [entry["digest"] for entry in wire.referrers(server, copy, subject)] == [referrer]

    regctl("repo", "copy", "--include", "[0-9]", here, f"{here}-some")
    assert wire.tags(server, f"{repo}-some") == ["1", "2"]
    listed = regctl("repo", "ls", "--limit", "10000", server.host).stdout.split()
    assert {repo, f"{repo}-copy", f"{repo}-some"} <= set(listed)
    after = regctl("repo", "ls", "--limit", "1", "--last", repo, server.host).stdout.split()
    assert after == [f"{repo}-copy"]


def mirror(run: Run, tool: Tool, folder: Path, source: str, target: str) -> None:
    """Run regsync once from one repository to another, referrers and digest tags included."""
    hosts = {reference.partition("/")[0] for reference in (source, target)}
    settings = {
        "version": 1,
        "creds": [{"registry": host, "tls": "disabled"} for host in sorted(hosts)],
        "defaults": {"referrers": True, "digestTags": True},
        "sync": [{"source": source, "target": target, "type": "repository"}],
    }
    path = folder / "regsync.yml"
    path.write_text(json.dumps(settings))
    run(tool("regsync"), "once", "--abort-on-error", "--config", path)


def test_mirror_both_ways(
    run: Run,
    tool: Tool,
    regctl: Client,
    server: Server,
    peer: Server,
    repo: str,
    here: str,
    tmp_path: Path,
) -> None:
    pushed: dict[str, images.Image | images.Index] = {
        "1": images.build("one"),
        "2": images.build("two", kind=images.DOCKER),
        "both": images.build_index("three"),
    }
    for tag, image in pushed.items():
        images.push(server, repo, tag, image)
    subject = pushed["both"].manifest.digest
    bill = attach(regctl, f"{here}:both", "test/bill")
    there, back = f"{peer.host}/{repo}", f"{here}-back"
    mirror(run, tool, tmp_path, here, there)
    assert {tag: images.read(peer, repo, tag) for tag in pushed} == pushed
    mirror(run, tool, tmp_path, there, back)
    assert {tag: images.read(server, f"{repo}-back", tag) for tag in pushed} == pushed
    returned = wire.referrers(server, f"{repo}-back", subject)
    assert [entry["digest"] for entry in returned] == [bill]
    original = wire.get_manifest(server, repo, bill)
    assert wire.get_manifest(server, f"{repo}-back", bill) == original

    changed = images.build("moved")
    images.push(server, repo, "1", changed)
    mirror(run, tool, tmp_path, here, there)
    assert images.read(peer, repo, "1") == changed
