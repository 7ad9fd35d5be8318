"""Blobs that clients fetch from the bucket themselves."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest
from aiobotocore.session import AioSession
from yarl import URL

from ociappr.blobstore.s3 import S3Access, S3Blobs
from ociappr.digest import Digest
from ociappr.metadata.memory import MemoryMetadata
from ociappr.registry import Registry
from tests.http.appr import PACKAGES, chart, push
from tests.http.client import Answer, Client, begin, push_blob
from tests.s3 import BUCKET

_numbers = itertools.count()
LARGE = bytes(range(256)) * 400


@pytest.fixture
async def registry(moto: S3Access, session: AioSession) -> AsyncIterator[Registry]:
    metadata, prefix = MemoryMetadata(), f"http-{next(_numbers)}/"
    store = await S3Blobs.open(BUCKET, prefix, access=moto, redirect="always", session=session)
    yield await Registry.open(metadata, store)
    await store.close()
    await metadata.close()


async def follow(answer: Answer, headers: Mapping[str, str] | None = None) -> Answer:
    """Go where a redirect leads, with the headers that were sent before."""
    assert answer.status == 307
    assert answer.body == b""
    assert answer.headers["Cache-Control"] == "no-store"
    url = URL(answer.headers["Location"], encoded=True)
    async with (
        aiohttp.ClientSession() as client,
        client.get(url, headers=headers) as response,
    ):
        return Answer(response.status, response.headers, await response.read())


async def test_a_blob_is_fetched_from_the_bucket(v2: Client) -> None:
    digest = await push_blob(v2, "a/b", LARGE)
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}")
    assert answer.headers["Docker-Content-Digest"] == str(digest)
    fetched = await follow(answer)
    assert (fetched.status, fetched.body) == (200, LARGE)
    assert fetched.headers["Content-Type"] == "application/octet-stream"
    assert fetched.headers["Cache-Control"] == "max-age=31536000, immutable"


async def test_a_range_is_fetched_from_the_bucket(v2: Client) -> None:
    digest = await push_blob(v2, "a/b", LARGE)
    headers = {"Range": "bytes=5-9"}
    fetched = await follow(await v2("GET", f"/v2/a/b/blobs/{digest}", headers=headers), headers)
    assert (fetched.status, fetched.body) == (206, LARGE[5:10])
    assert fetched.headers["Content-Range"] == f"bytes 5-9/{len(LARGE)}"


async def test_what_needs_no_bytes_is_answered_here(v2: Client) -> None:
    digest = await push_blob(v2, "a/b", LARGE)
    target = f"/v2/a/b/blobs/{digest}"
    head = await v2("HEAD", target)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(LARGE)))
    known = await v2("GET", target, headers={"If-None-Match": f'"{digest}"'})
    assert known.status == 304
    behind = await v2("GET", target, headers={"Range": f"bytes={len(LARGE)}-"})
    assert behind.status == 416


async def test_a_condition_on_our_entity_is_answered_here(v2: Client) -> None:
    digest = await push_blob(v2, "a/b", LARGE)
    headers = {"Range": "bytes=5-9", "If-Range": f'"{digest}"'}
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}", headers=headers)
    assert (answer.status, answer.body) == (206, LARGE[5:10])


async def test_small_blobs_and_blobs_in_parts_are_sent_from_here(v2: Client) -> None:
    digest = await push_blob(v2, "a/b", b"small")
    assert (await v2("GET", f"/v2/a/b/blobs/{digest}")).body == b"small"
    location = await begin(v2, "a/b")
    for part in (LARGE, LARGE[::-1]):
        location = (await v2("PATCH", location, part)).headers["Location"]
    whole = LARGE + LARGE[::-1]
    joined = await v2("PUT", f"{location}?digest={Digest.of(whole)}")
    assert joined.status == 201
    assert (await v2("GET", joined.headers["Location"])).body == whole


async def test_a_package_is_fetched_from_the_bucket(doors: Client) -> None:
    data = chart(noise=random.Random(0).randbytes(20_000))
    assert (await push(doors, "a/b", "1.0.0", data)).status == 200
    fetched = await follow(await doors("GET", f"{PACKAGES}/a/b/1.0.0/helm/pull"))
    assert fetched.body == data
    assert fetched.headers["Content-Type"] == "application/x-gzip"
    assert fetched.headers["Content-Disposition"] == "a_b_1.0.0.tar.gz"
