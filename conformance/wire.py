"""Plain requests to a registry, with nothing between the test and the bytes on the wire."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A registry that runs: its ``HOST:PORT``, its address, its data directory."""

    host: str
    url: str
    data: Path


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered; names of headers match in any case."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> object:
        """Return the parsed body."""
        return json.loads(self.body)


def fetch(
    server: Server,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Reply:
    """Send one request on a connection of its own and return the whole answer."""
    connection = http.client.HTTPConnection(server.host, timeout=TIMEOUT)
    try:
        connection.request(method, path, body or None, dict(headers or {}))
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def expect(reply: Reply, *statuses: int) -> Reply:
    """Return the reply; assert that its status is one of those given."""
    assert reply.status in statuses, (
        f"status {reply.status}, not {' or '.join(map(str, statuses))}\n"
        f"{reply.headers}{reply.body[:2000].decode(errors='replace')}"
    )
    return reply


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def get_manifest(server: Server, repo: str, reference: str) -> tuple[bytes, str, str]:
    """Return bytes, media type and digest of a manifest, the digest checked against the bytes."""
    path = f"/v2/{repo}/manifests/{reference}"
    reply = expect(fetch(server, "GET", path, headers={"Accept": MANIFESTS + ", */*"}), 200)
    digest = digest_of(reply.body)
    assert reply.headers["Docker-Content-Digest"] == digest
    return reply.body, str(reply.headers["Content-Type"]), digest


def get_blob(server: Server, repo: str, digest: str) -> bytes:
    """Return a blob, checked against its sha256 or sha512 digest."""
    body = expect(fetch(server, "GET", f"/v2/{repo}/blobs/{digest}"), 200).body
    algorithm, _, expected = digest.partition(":")
    assert hashlib.new(algorithm, body).hexdigest() == expected
    return body


def tags(server: Server, repo: str) -> list[str]:
    """Return all tags of a repository, page by page; none when the repository does not exist."""
    found: list[str] = []
    path = f"/v2/{repo}/tags/list"
    while path:
        reply = expect(fetch(server, "GET", path), 200, 404)
        if reply.status == HTTPStatus.NOT_FOUND:
            return found
        page = json.loads(reply.body)
        assert page["name"] == repo
        found += page["tags"] or []
        path = next_page(reply)
    return found


def referrers(server: Server, repo: str, digest: str, query: str = "") -> list[dict[str, Any]]:
    """Return the descriptors that the referrers API lists for a digest, page by page."""
    found: list[dict[str, Any]] = []
    path = f"/v2/{repo}/referrers/{digest}{query}"
    while path:
        reply = expect(fetch(server, "GET", path), 200)
        assert reply.headers["Content-Type"] == OCI_INDEX
        found += json.loads(reply.body)["manifests"]
        path = next_page(reply)
    return found


def next_page(reply: Reply) -> str:
    """Return the target of the ``Link: <...>; rel="next"`` header, or an empty string."""
    link = reply.headers.get("Link", "")
    return link[1 : link.index(">")] if link.startswith("<") else ""


def push_blob(server: Server, repo: str, data: bytes) -> str:
    """Push a blob with POST and PUT and return its digest."""
    digest = digest_of(data)
    session = expect(fetch(server, "POST", f"/v2/{repo}/blobs/uploads/"), 202)
    location = str(session.headers["Location"]).removeprefix(server.url)
    target = location + ("&" if "?" in location else "?") + urlencode({"digest": digest})
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(data))}
    reply = expect(fetch(server, "PUT", target, headers=headers, body=data), 201)
    assert reply.headers["Docker-Content-Digest"] == digest
    return digest


def push_manifest(server: Server, repo: str, reference: str, data: bytes, media_type: str) -> str:
    """Push a manifest under a tag or its digest and return its digest."""
    path = f"/v2/{repo}/manifests/{reference}"
    expect(fetch(server, "PUT", path, headers={"Content-Type": media_type}, body=data), 201)
    return digest_of(data)


def push_image(server: Server, repo: str, tag: str, layers: Sequence[bytes] = (b"layer",)) -> str:
    """Push an image with these layers, each taken as it is, and return its manifest's digest."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    ).encode()
    push_blob(server, repo, config)
    for layer in layers:
        push_blob(server, repo, layer)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config),
        "layers": [descriptor(OCI_LAYER, layer) for layer in layers],
    }
    return push_manifest(server, repo, tag, json.dumps(manifest).encode(), OCI_MANIFEST)


def descriptor(media_type: str, data: bytes) -> dict[str, object]:
    """Return the descriptor of the bytes."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
