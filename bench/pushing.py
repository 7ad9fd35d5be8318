"""How real clients push, reduced to the requests they send."""

from __future__ import annotations

import re
from typing import Final

from bench.connection import Connection
from bench.content import MANIFEST_TYPE, Artifact, blocks, digest_of

LARGE: Final = "bench/large"


def push(connection: Connection, repository: str, tag: str, image: Artifact) -> None:
    """Push one small artifact as oras and helm do: POST and PUT for each blob, then the tag."""
    for blob in (image.config, image.layer):
        path = closing(begin(connection, repository), digest_of(blob))
        connection.request("PUT", path, expect=201, body=blob)
    path = f"/v2/{repository}/manifests/{tag}"
    connection.request("PUT", path, expect=201, body=image.manifest, media_type=MANIFEST_TYPE)


def put_large(connection: Connection, seed: str, digest: str, length: int) -> None:
    """Push one large blob as oras and containerd do, with its digest known from the start."""
    path = closing(begin(connection, LARGE), digest)
    connection.send("PUT", path, expect=201, blocks=blocks(seed, length), length=length)


def stream_large(connection: Connection, seed: str, digest: str, length: int) -> None:
    """Push one large blob as docker does: one PATCH, and the digest at the end."""
    path = begin(connection, LARGE)
    reply = connection.send("PATCH", path, expect=202, blocks=blocks(seed, length), length=length)
    connection.request("PUT", closing(_path(reply.headers["location"]), digest), expect=201)


def begin(connection: Connection, repository: str) -> str:
    """Open an upload and return its path."""
    reply = connection.request("POST", f"/v2/{repository}/blobs/uploads/", expect=202)
    return _path(reply.headers["location"])


def closing(upload: str, digest: str) -> str:
    """Return the path that ends an upload, whatever query its own path has."""
    return f"{upload}{'&' if '?' in upload else '?'}digest={digest}"


def _path(location: str) -> str:
    return re.sub(r"^https?://[^/]+", "", location)
