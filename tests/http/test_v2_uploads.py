from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ociappr.access import OpenAccess
from ociappr.digest import Digest
from ociappr.distribution.application import install
from ociappr.distribution.handlers import DistributionAPI
from ociappr.registry import Registry
from tests.http.client import Answer, Client, begin, on_both_stores, push_blob
from tests.http.conftest import Serve

DATA = bytes(range(256)) * 200
DIGEST = Digest.of(DATA)
CUT = 20_000


async def chunked(*blocks: bytes) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


def assert_stands_at(answer: Answer, status: int, offset: int) -> None:
    """Assert what every answer about an upload tells."""
    assert (answer.status, answer.body) == (status, b"")
    assert answer.headers["Range"] == f"0-{max(offset - 1, 0)}"
    upload = answer.headers["Docker-Upload-UUID"]
    assert answer.headers["Location"] == f"/v2/a/b/blobs/uploads/{upload}"
    assert "OCI-Chunk-Min-Length" not in answer.headers


def assert_created(answer: Answer, digest: Digest = DIGEST) -> None:
    """Assert what every answer to a finished upload tells."""
    assert (answer.status, answer.body) == (201, b"")
    assert answer.headers["Location"] == f"/v2/a/b/blobs/{digest}"
    assert answer.headers["Docker-Content-Digest"] == str(digest)


async def test_an_upload_begins_empty(v2: Client) -> None:
    answer = await v2("POST", "/v2/a/b/blobs/uploads/")
    assert_stands_at(answer, 202, 0)
    for method in ("GET", "HEAD"):
        assert_stands_at(await v2(method, answer.headers["Location"]), 204, 0)


@on_both_stores
async def test_one_put_after_the_post(v2: Client) -> None:
    location = await begin(v2, "a/b")
    assert_created(await v2("PUT", f"{location}?digest={DIGEST}", DATA))
    assert (await v2("GET", f"/v2/a/b/blobs/{DIGEST}")).body == DATA


@on_both_stores
async def test_one_put_without_a_length(v2: Client) -> None:
    location = await begin(v2, "a/b")
    answer = await v2("PUT", f"{location}?digest={DIGEST}", chunked(DATA[:CUT], DATA[CUT:]))
    assert_created(answer)


@on_both_stores
async def test_a_stream_as_docker_sends_it(v2: Client) -> None:
    location = await begin(v2, "a/b")
    patched = await v2("PATCH", location, chunked(DATA[:CUT], DATA[CUT:]))
    assert_stands_at(patched, 202, len(DATA))
    assert_created(await v2("PUT", f"{patched.headers['Location']}?digest={DIGEST}"))
    assert (await v2("GET", f"/v2/a/b/blobs/{DIGEST}")).body == DATA


@on_both_stores
@pytest.mark.parametrize("last", ["PATCH", "PUT"])
async def test_chunks_with_ranges(v2: Client, last: str) -> None:
    location = await begin(v2, "a/b")
    headers = {"Content-Range": f"0-{CUT - 1}"}
    assert_stands_at(await v2("PATCH", location, DATA[:CUT], headers=headers), 202, CUT)
    assert_stands_at(await v2("GET", location), 204, CUT)
    headers = {"Content-Range": f"{CUT}-{len(DATA) - 1}"}
    if last == "PUT":
        closing = await v2("PUT", f"{location}?digest={DIGEST}", DATA[CUT:], headers=headers)
    else:
        await v2("PATCH", location, DATA[CUT:], headers=headers)
        closing = await v2("PUT", f"{location}?digest={DIGEST}")
    assert_created(closing)
    assert (await v2("GET", f"/v2/a/b/blobs/{DIGEST}")).body == DATA


@on_both_stores
async def test_a_closing_put_with_a_body_and_no_range_goes_on_at_the_end(v2: Client) -> None:
    location = await begin(v2, "a/b")
    await v2("PATCH", location, DATA[:CUT])
    assert_created(await v2("PUT", f"{location}?digest={DIGEST}", DATA[CUT:]))


@on_both_stores
async def test_an_empty_chunk_is_a_chunk(v2: Client) -> None:
    location = await begin(v2, "a/b")
    assert_stands_at(await v2("PATCH", location, b""), 202, 0)
    empty = Digest.of(b"")
    assert_created(await v2("PUT", f"{location}?digest={empty}"), empty)
    assert (await v2("HEAD", f"/v2/a/b/blobs/{empty}")).headers["Content-Length"] == "0"


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("start", [0, CUT - 1, CUT + 1])
async def test_a_chunk_out_of_order_is_told_where_to_go_on(
    v2: Client, method: str, start: int
) -> None:
    location = await begin(v2, "a/b")
    await v2("PATCH", location, DATA[:CUT])
    query = f"?digest={DIGEST}" if method == "PUT" else ""
    headers = {"Content-Range": f"{start}-{start + 9}"}
    answer = await v2(method, location + query, DATA[start : start + 10], headers=headers)
    assert (answer.status, answer.code) == (416, "RANGE_INVALID")
    assert answer.headers["Location"] == location
    assert answer.headers["Range"] == f"0-{CUT - 1}"
    assert_stands_at(await v2("GET", location), 204, CUT)
    assert_created(await v2("PUT", f"{location}?digest={DIGEST}", DATA[CUT:]))


@on_both_stores
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_chunk_whose_range_lies_about_its_length(v2: Client, method: str) -> None:
    location = await begin(v2, "a/b")
    query = f"?digest={DIGEST}" if method == "PUT" else ""
    headers = {"Content-Range": f"0-{len(DATA)}"}
    answer = await v2(method, location + query, DATA, headers=headers)
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")
    assert_stands_at(await v2("GET", location), 204, 0)


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("x", 400, "BLOB_UPLOAD_INVALID"),
        ("bytes 0-9/10", 400, "BLOB_UPLOAD_INVALID"),
        ("9-0", 416, "RANGE_INVALID"),
    ],
)
async def test_a_range_that_cannot_be(v2: Client, text: str, status: int, code: str) -> None:
    location = await begin(v2, "a/b")
    answer = await v2("PATCH", location, DATA[:10], headers={"Content-Range": text})
    assert (answer.status, answer.code) == (status, code)
    assert_stands_at(await v2("GET", location), 204, 0)


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:x", "?digest=md5:0"])
async def test_a_digest_that_is_none_leaves_the_upload_open(v2: Client, query: str) -> None:
    location = await begin(v2, "a/b")
    await v2("PATCH", location, DATA)
    answer = await v2("PUT", f"{location}{query}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert_created(await v2("PUT", f"{location}?digest={DIGEST}"))


@on_both_stores
async def test_wrong_bytes_get_no_name(v2: Client) -> None:
    wrong = DATA[:-1] + b"!"
    location = await begin(v2, "a/b")
    answers = [
        await v2("POST", f"/v2/a/b/blobs/uploads/?digest={DIGEST}", wrong),
        await v2("PUT", f"{location}?digest={DIGEST}", wrong),
    ]
    location = await begin(v2, "a/b")
    await v2("PATCH", location, wrong)
    answers.append(await v2("PUT", f"{location}?digest={DIGEST}"))
    assert [(answer.status, answer.code) for answer in answers] == [(400, "DIGEST_INVALID")] * 3
    assert (await v2("HEAD", f"/v2/a/b/blobs/{DIGEST}")).status == 404


@on_both_stores
async def test_the_whole_blob_in_the_post(v2: Client) -> None:
    target = f"/v2/a/b/blobs/uploads/?digest={DIGEST}"
    for body in (DATA, chunked(DATA), DATA):
        assert_created(await v2("POST", target, body))


@on_both_stores
async def test_knowing_a_digest_is_no_right_to_its_bytes(v2: Client) -> None:
    await push_blob(v2, "private/b", DATA)
    answer = await v2("POST", f"/v2/a/b/blobs/uploads/?digest={DIGEST}", b"")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert (await v2("HEAD", f"/v2/a/b/blobs/{DIGEST}")).status == 404


@on_both_stores
async def test_a_sha512_announced_and_unannounced(v2: Client) -> None:
    digest = Digest.of(DATA, algorithm="sha512")
    for query in ("?digest-algorithm=sha512", ""):
        opened = await v2("POST", f"/v2/a/b/blobs/uploads/{query}")
        await v2("PATCH", opened.headers["Location"], DATA)
        assert_created(await v2("PUT", f"{opened.headers['Location']}?digest={digest}"), digest)


@on_both_stores
async def test_a_repeated_closing_put_succeeds_again(v2: Client) -> None:
    location = await begin(v2, "a/b")
    await v2("PATCH", location, DATA)
    for _ in range(2):
        assert_created(await v2("PUT", f"{location}?digest={DIGEST}"))


@on_both_stores
@pytest.mark.parametrize("source", ["&from=c/d", ""])
async def test_a_mount_shows_the_blob_here(v2: Client, source: str) -> None:
    await push_blob(v2, "c/d", DATA)
    target = f"/v2/a/b/blobs/uploads/?mount={DIGEST}{source}&origin=example.org"
    assert_created(await v2("POST", target))
    assert (await v2("GET", f"/v2/a/b/blobs/{DIGEST}")).body == DATA


@pytest.mark.parametrize("source", ["&from=c/d", "&from=e/f", ""])
async def test_a_mount_of_nothing_opens_an_upload(v2: Client, source: str) -> None:
    await push_blob(v2, "c/d", b"something else")
    answer = await v2("POST", f"/v2/a/b/blobs/uploads/?mount={DIGEST}{source}")
    assert_stands_at(answer, 202, 0)
    closing = await v2("PUT", f"{answer.headers['Location']}?digest={DIGEST}", DATA)
    assert_created(closing)


@on_both_stores
async def test_cancelling_ends_an_upload(v2: Client) -> None:
    location = await begin(v2, "a/b")
    await v2("PATCH", location, DATA)
    answer = await v2("DELETE", location)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Docker-Upload-UUID"] == location.rpartition("/")[2]
    again = [
        await v2("GET", location),
        await v2("PATCH", location, DATA),
        await v2("PUT", f"{location}?digest={DIGEST}"),
        await v2("DELETE", location),
    ]
    assert [(a.status, a.code) for a in again] == [(404, "BLOB_UPLOAD_UNKNOWN")] * 4


@pytest.mark.parametrize("upload", ["nothing", "a.b.sha256.c", "x-y", "%2E%2E", "x" * 300])
@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
async def test_uploads_that_never_were(v2: Client, method: str, upload: str) -> None:
    target = f"/v2/a/b/blobs/uploads/{upload}?digest={DIGEST}"
    answer = await v2(method, target, b"x" if method in {"PATCH", "PUT"} else None)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_an_upload_belongs_to_its_repository(v2: Client) -> None:
    location = await begin(v2, "a/b")
    answer = await v2("GET", location.replace("/a/b/", "/a/c/"))
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


@on_both_stores
async def test_a_location_may_be_extended_and_reordered(v2: Client) -> None:
    location = await begin(v2, "a/b")
    await v2("PATCH", f"{location}?_state=x&ns=docker.io", DATA)
    target = f"{location}?x=y&digest=sha256%3A{DIGEST.hex}&ns=docker.io"
    assert_created(await v2("PUT", target))


@on_both_stores
async def test_of_two_writers_on_one_upload_one_is_told_the_truth(v2: Client) -> None:
    location = await begin(v2, "a/b")
    begun, done = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield DATA[:CUT]
        begun.set()
        await done.wait()
        yield DATA[CUT:]

    headers = {"Content-Range": f"0-{len(DATA) - 1}"}
    first = asyncio.create_task(v2("PATCH", location, slow(), headers=headers))
    await begun.wait()
    second = await v2("PATCH", location, DATA, headers=headers)
    done.set()
    answers = sorted([await first, second], key=lambda answer: answer.status)
    assert [answer.status for answer in answers] == [202, 416]
    assert answers[1].headers["Range"] == f"0-{len(DATA) - 1}"
    assert_stands_at(await v2("GET", location), 204, len(DATA))
    assert_created(await v2("PUT", f"{location}?digest={DIGEST}"))


@on_both_stores
async def test_one_blob_by_many_uploads_at_once(v2: Client) -> None:
    locations = [await begin(v2, "a/b") for _ in range(4)]
    targets = [f"{location}?digest={DIGEST}" for location in locations]
    for answer in await asyncio.gather(*(v2("PUT", target, DATA) for target in targets)):
        assert_created(answer)
    assert (await v2("GET", f"/v2/a/b/blobs/{DIGEST}")).body == DATA


async def test_a_least_length_of_chunks_is_told(registry: Registry, serve: Serve) -> None:
    api = DistributionAPI(registry, OpenAccess(), chunk_minimum=5)
    client = await serve(lambda app: install(app, api))
    answer = await client("POST", "/v2/a/b/blobs/uploads/")
    assert answer.headers["OCI-Chunk-Min-Length"] == "5"
