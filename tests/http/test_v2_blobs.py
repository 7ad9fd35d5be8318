from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest

from ociappr.digest import Digest
from ociappr.registry import Registry
from tests.http.client import Client, on_both_stores, push_blob

SMALL = b"small enough to lie in the metadata"
LARGE = bytes(range(256)) * 400
TYPE = "application/octet-stream"


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def data(request: pytest.FixtureRequest) -> bytes:
    return bytes(request.param)


@on_both_stores
async def test_a_blob_comes_back_as_it_went(v2: Client, data: bytes) -> None:
    digest = await push_blob(v2, "a/b", data)
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}")
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["Content-Length"] == str(len(data))
    assert answer.headers["Content-Type"] == TYPE
    assert answer.headers["Docker-Content-Digest"] == str(digest)
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.headers["Cache-Control"] == "max-age=31536000, immutable"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    assert "Last-Modified" not in answer.headers


@on_both_stores
async def test_head_tells_the_same_without_a_body(v2: Client, data: bytes) -> None:
    digest = await push_blob(v2, "a/b", data)
    got, head = [await v2(method, f"/v2/a/b/blobs/{digest}") for method in ("GET", "HEAD")]
    assert (head.status, head.body) == (200, b"")
    skipped = {"Date"}
    assert {k: v for k, v in head.headers.items() if k not in skipped} == {
        k: v for k, v in got.headers.items() if k not in skipped
    }


@on_both_stores
async def test_an_empty_blob_has_its_length_told(v2: Client) -> None:
    digest = await push_blob(v2, "a/b", b"")
    for method in ("GET", "HEAD"):
        answer = await v2(method, f"/v2/a/b/blobs/{digest}", headers={"Range": "bytes=0-9"})
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Length"] == "0"


async def test_nothing_is_compressed_whatever_a_client_accepts(v2: Client, data: bytes) -> None:
    digest = await push_blob(v2, "a/b", data)
    headers = {"Accept-Encoding": "zstd, gzip, deflate"}
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}", headers=headers)
    assert answer.body == data
    assert "Content-Encoding" not in answer.headers


@on_both_stores
async def test_sha512_is_as_good(v2: Client) -> None:
    digest = Digest.of(LARGE, algorithm="sha512")
    pushed = await v2("POST", f"/v2/a/b/blobs/uploads/?digest={digest}", LARGE)
    assert (pushed.status, pushed.headers["Docker-Content-Digest"]) == (201, str(digest))
    answer = await v2("GET", pushed.headers["Location"])
    assert (answer.status, answer.body) == (200, LARGE)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_blob_of_another_repository_is_unknown(v2: Client, method: str) -> None:
    digest = await push_blob(v2, "a/b", SMALL)
    answer = await v2(method, f"/v2/a/c/blobs/{digest}")
    assert answer.status == 404
    assert answer.body == b"" if method == "HEAD" else answer.code == "BLOB_UNKNOWN"


@pytest.mark.parametrize("condition", ['"{}"', "{}", 'W/"{}"', '"x", "{}"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_a_client_holds_is_not_sent_again(
    v2: Client, method: str, condition: str
) -> None:
    digest = await push_blob(v2, "a/b", SMALL)
    headers = {"If-None-Match": condition.format(digest), "Range": "bytes=0-1"}
    answer = await v2(method, f"/v2/a/b/blobs/{digest}", headers=headers)
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.headers["Docker-Content-Digest"] == str(digest)


async def test_what_a_client_does_not_hold_is_sent(v2: Client) -> None:
    digest = await push_blob(v2, "a/b", SMALL)
    headers = {"If-None-Match": '"sha256:other"'}
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}", headers=headers)
    assert (answer.status, answer.body) == (200, SMALL)


@on_both_stores
@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-14", 5, 15),
        ("bytes=20-", 20, None),
        ("bytes=20-999999999", 20, None),
        ("bytes=-7", -7, None),
        ("bytes=-999999999", 0, None),
        ("Bytes=1-2", 1, 3),
        ("bytes= 1 - 2 ", 1, 3),
    ],
)
async def test_a_range_is_answered_with_just_that(
    v2: Client, data: bytes, text: str, start: int, stop: int | None
) -> None:
    digest = await push_blob(v2, "a/b", data)
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": text})
    expected = data[start:stop]
    first = start if start >= 0 else len(data) + start
    assert (answer.status, answer.body) == (206, expected)
    assert answer.headers["Content-Length"] == str(len(expected))
    last = first + len(expected) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
    assert answer.headers["Docker-Content-Digest"] == str(digest)


@pytest.mark.parametrize("text", ["bytes=500-0", "bytes=999999999-", "bytes=999999999-9999999999"])
async def test_a_range_of_nothing_cannot_be_satisfied(v2: Client, data: bytes, text: str) -> None:
    digest = await push_blob(v2, "a/b", data)
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": text})
    assert (answer.status, answer.code) == (416, "RANGE_INVALID")
    assert answer.headers["Content-Range"] == f"bytes */{len(data)}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,5-6"},
        {"Range": "items=0-1"},
        {"Range": "bytes=x"},
        {"Range": "bytes=-"},
        {"Range": "bytes=0-1", "If-Range": '"sha256:other"'},
        {"Range": "bytes=0-1", "If-Range": "Tue, 24 Nov 2026 03:00:00 GMT"},
    ],
    ids=str,
)
async def test_what_need_not_be_understood_means_the_whole(
    v2: Client, data: bytes, headers: dict[str, str]
) -> None:
    digest = await push_blob(v2, "a/b", data)
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}", headers=headers)
    assert (answer.status, answer.body) == (200, data)


async def test_a_range_of_the_same_entity_is_a_range(v2: Client) -> None:
    digest = await push_blob(v2, "a/b", LARGE)
    headers = {"Range": "bytes=3-5", "If-Range": f'"{digest}"'}
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}", headers=headers)
    assert (answer.status, answer.body) == (206, LARGE[3:6])


async def test_head_knows_no_ranges(v2: Client) -> None:
    digest = await push_blob(v2, "a/b", LARGE)
    answer = await v2("HEAD", f"/v2/a/b/blobs/{digest}", headers={"Range": "bytes=3-5"})
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(LARGE)))


@on_both_stores
async def test_deleting_takes_the_blob_out_and_a_push_brings_it_back(
    v2: Client, data: bytes
) -> None:
    digest = await push_blob(v2, "a/b", data)
    path = f"/v2/a/b/blobs/{digest}"
    assert (await v2("DELETE", path)).status == 202
    assert (await v2("HEAD", path)).status == 404
    assert (await v2("DELETE", path)).code == "BLOB_UNKNOWN"
    await push_blob(v2, "a/b", data)
    assert (await v2("GET", path)).body == data


@on_both_stores
async def test_bytes_that_vanished_before_the_first_one_are_a_404(
    v2: Client, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await push_blob(v2, "a/b", LARGE)
    find = registry.blobs.find

    async def find_and_lose(*args: object) -> object:
        blob = await find(*args)  # type: ignore[arg-type]
        for locator, _ in blob.parts:
            await registry.blobs._store.delete(locator)
        return blob

    monkeypatch.setattr(registry.blobs, "find", find_and_lose)
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


@on_both_stores
async def test_a_large_blob_streams_through_both_ways(v2: Client) -> None:
    block, count = bytes(65536), 320
    digest = Digest("sha256", hashlib.sha256(block * count).hexdigest())

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield block

    pushed = await v2("POST", f"/v2/a/b/blobs/uploads/?digest={digest}", blocks())
    assert pushed.status == 201
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}")
    assert len(answer.body) == len(block) * count
    assert Digest.of(answer.body) == digest
