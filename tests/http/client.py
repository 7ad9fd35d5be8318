"""A client that sends exactly what it is told, and the content that tests push with it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
import pytest
from multidict import CIMultiDictProxy
from yarl import URL

from ociappr.descriptor import EMPTY, EMPTY_BYTES, Descriptor
from ociappr.digest import Digest
from ociappr.manifest import encode
from ociappr.media import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST

on_both_stores = pytest.mark.parametrize("registry", ["memory", "files"], indirect=True)
"""Marks a test that is to run over memory and over SQLite and files."""

LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Answer:
    """An answer whose body was read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of the first error, in the Distribution API's body."""
        return str(json.loads(self.body)["errors"][0]["code"])

    def json(self) -> object:
        """Return the body's document."""
        return json.loads(self.body)


class Client:
    """Sends requests exactly as they are written: no escaping, no decoding, no redirects."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self.port = port

    async def __call__(
        self,
        method: str,
        target: str,
        body: bytes | AsyncIterator[bytes] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return its answer; an iterator goes chunked."""
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        async with self._session.request(
            method, url, data=data, headers=headers, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a plain connection to the server."""
        return await asyncio.open_connection("127.0.0.1", self.port)


def image(
    *layers: bytes, subject: Digest | None = None, annotations: Mapping[str, str] | None = None
) -> bytes:
    """Return an image manifest with an empty config; equal arguments give equal bytes."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {**EMPTY.document(), "mediaType": OCI_CONFIG},
        "layers": [Descriptor(LAYER, Digest.of(data), len(data)).document() for data in layers],
        "annotations": dict(annotations or {}),
    }
    if subject is not None:
        document["subject"] = Descriptor(OCI_MANIFEST, subject, 2).document()
    return encode(document)


def index(*manifests: bytes) -> bytes:
    """Return an image index of image manifests."""
    entries = [Descriptor(OCI_MANIFEST, Digest.of(raw), len(raw)) for raw in manifests]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [entry.document() for entry in entries],
    }
    return encode(document)


async def push_blob(v2: Client, repository: str, data: bytes) -> Digest:
    """Push a blob in one request."""
    digest = Digest.of(data)
    answer = await v2("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", data)
    assert answer.status == 201
    return digest


async def push_manifest(
    v2: Client, repository: str, raw: bytes, reference: str = "", media_type: str = OCI_MANIFEST
) -> Digest:
    """Push a manifest, by its digest unless *reference* is a tag."""
    digest = Digest.of(raw)
    target = f"/v2/{repository}/manifests/{reference or digest}"
    answer = await v2("PUT", target, raw, headers={"Content-Type": media_type})
    assert answer.status == 201
    return digest


async def push_image(v2: Client, repository: str, raw: bytes, reference: str = "") -> Digest:
    """Push an image manifest without layers, and its config."""
    await push_blob(v2, repository, EMPTY_BYTES)
    return await push_manifest(v2, repository, raw, reference)


async def begin(v2: Client, repository: str) -> str:
    """Begin an upload and return its location."""
    answer = await v2("POST", f"/v2/{repository}/blobs/uploads/")
    assert answer.status == 202
    return answer.headers["Location"]
