"""The large repository: as many tags and manifests as the start and the tag page need.

This server gets them through its own door. For the other one, which needs minutes for that, the
files that it would have written are written.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from bench.connection import Connection
from bench.content import MANIFEST_TYPE, artifact, digest_of, manifest
from bench.pushing import push
from bench.servers import Running
from bench.workers import in_parallel

TAGGED: Final = "bench/tags"
_WRITERS: Final = 8


def tag_name(number: int) -> str:
    """Return the name of a tag; names sort as their numbers do."""
    return f"v{number:06d}"


def push_manifests(server: Running, count: int) -> None:
    """Push `count` different manifests of one config and layer, each under a tag of its own."""
    _push_first(server)
    in_parallel(_WRITERS, partial(_push_share, server.port, count))


def write_tags(server: Running, count: int) -> None:
    """Write `count` tags of one manifest into the directory of CNCF distribution."""
    _push_first(server)
    digest = digest_of(artifact("tags").manifest)
    tags = server.data / "docker/registry/v2/repositories" / TAGGED / "_manifests/tags"
    for number in range(1, count):
        _write_tag(tags / tag_name(number), digest)


def _push_first(server: Running) -> None:
    with Connection(server.port) as connection:
        push(connection, TAGGED, tag_name(0), artifact("tags"))


def _push_share(port: int, count: int, first: int) -> None:
    image = artifact("tags")
    with Connection(port) as connection:
        for number in range(first, count, _WRITERS):
            body = manifest(image.config, image.layer, note=str(number))
            path = f"/v2/{TAGGED}/manifests/{tag_name(number)}"
            connection.request("PUT", path, expect=201, body=body, media_type=MANIFEST_TYPE)


def _write_tag(tag: Path, digest: str) -> None:
    index = tag / "index" / "sha256" / digest.removeprefix("sha256:")
    for folder in (tag / "current", index):
        folder.mkdir(parents=True)
        (folder / "link").write_text(digest)
