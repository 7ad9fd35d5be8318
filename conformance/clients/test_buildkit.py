"""BuildKit: push an image, build on one, keep the cache in the registry in each of its forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance import wire
from conformance.clients import images
from conformance.clients.conftest import Client
from conformance.conftest import Server

CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
CACHES = {
    "manifest": ("image-manifest=true,oci-mediatypes=true", images.OCI.manifest),
    "index": ("image-manifest=false,oci-mediatypes=true", images.OCI.index),
    "docker-list": ("image-manifest=false,oci-mediatypes=false", images.DOCKER.index),
}


def test_an_image_is_built_and_pushed(
    buildctl: Client, server: Server, repo: str, here: str, tmp_path: Path
) -> None:
    context = images.write_context(tmp_path / "context", repo)
    told = tmp_path / "told.json"
    image = f"type=image,name={here}:built,push=true"
    build(buildctl, context, f"--output={image}", f"--metadata-file={told}")
    stored = images.read_image(server, repo, "built")
    assert stored.manifest.digest == json.loads(told.read_text())["containerimage.digest"]
    assert stored.files == images.context_files(repo)


@pytest.mark.parametrize("kind", [images.OCI, images.DOCKER], ids=["oci", "docker"])
def test_an_image_is_built_on_another(
    buildctl: Client, server: Server, repo: str, here: str, tmp_path: Path, kind: images.Format
) -> None:
    both = images.build_index(repo, kind=kind)
    images.push(server, repo, "base", both)
    base = f"{here}:base"
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY Dockerfile /recipe\n")
    image = f"type=image,name={here}:built,push=true"
    build(buildctl, context, f"--output={image}")
    built, below = images.read_image(server, repo, "built"), both.of(images.HOST)
    assert built.diff_ids[:2] == below.diff_ids
    assert [layer.digest for layer in built.layers[:2]] == [part.digest for part in below.layers]
    assert built.files == below.files | {"recipe": (context / "Dockerfile").read_bytes()}


@pytest.mark.parametrize("form", CACHES)
def test_a_cache_is_kept_in_the_registry(
    buildctl: Client, server: Server, repo: str, here: str, tmp_path: Path, form: str
) -> None:
    options, media_type = CACHES[form]
    context = images.write_context(tmp_path / "context", repo)
    cache = f"type=registry,ref={here}:cache"
    first = build(buildctl, context, f"--export-cache={cache},mode=max,{options}")
    assert "CACHED" not in first
    layers = layers_of_cache(server, repo, media_type)
    assert images.unpack(layers.values()) == images.context_files(repo)
    buildctl("prune", "--all")
    out = tmp_path / "out"
    to_folder = f"--output=type=local,dest={out}"
    again = build(buildctl, context, f"--import-cache={cache}", to_folder)
    assert "CACHED" in again
    for digest in layers:
        assert f"extracting {digest}" in again
    assert {path.name: path.read_bytes() for path in out.iterdir()} == images.context_files(repo)


def build(buildctl: Client, context: Path, *options: str) -> str:
    """Build the Dockerfile of `context`, and return BuildKit's log."""
    folders = (f"--local=context={context}", f"--local=dockerfile={context}")
    words = ("build", "--progress=plain", "--frontend=dockerfile.v0")
    return buildctl(*words, *folders, *options).stderr


def layers_of_cache(server: Server, repo: str, media_type: str) -> dict[str, bytes]:
    """Read all blobs of the cache, and return its layers by digest.

    A cache that is an index has them as its children: an index of no manifest at all.
    """
    data, stored_type, _ = wire.get_manifest(server, repo, "cache")
    assert stored_type == media_type
    stored = json.loads(data)
    parts = stored["manifests"] if "manifests" in stored else [stored["config"], *stored["layers"]]
    blobs = {part["digest"]: wire.get_blob(server, repo, part["digest"]) for part in parts}
    for part in parts:
        assert len(blobs[part["digest"]]) == part["size"]
    (config,) = (part["digest"] for part in parts if part["mediaType"] == CACHE_CONFIG)
    return {digest: blob for digest, blob in blobs.items() if digest != config}
