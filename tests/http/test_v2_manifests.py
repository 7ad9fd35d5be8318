from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from ociappr.access import OpenAccess
from ociappr.digest import Digest
from ociappr.distribution.application import install
from ociappr.distribution.handlers import DistributionAPI
from ociappr.distribution.protocol import TAG_LIMIT
from ociappr.media import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from ociappr.registry import Registry
from tests.http.client import (
    Client,
    image,
    index,
    on_both_stores,
    push_blob,
    push_image,
    push_manifest,
)
from tests.http.conftest import Serve

RAW = image()
DIGEST = Digest.of(RAW)
TYPED = {"Content-Type": OCI_MANIFEST}


@pytest.fixture
async def pushed(v2: Client) -> Client:
    """A server that holds `RAW` as a/b:v1."""
    await push_image(v2, "a/b", RAW, "v1")
    return v2


@pytest.mark.parametrize("reference", ["v1", str(DIGEST)])
async def test_a_manifest_comes_back_as_it_went(pushed: Client, reference: str) -> None:
    answer = await pushed("GET", f"/v2/a/b/manifests/{reference}")
    assert (answer.status, answer.body) == (200, RAW)
    assert answer.headers["Content-Type"] == OCI_MANIFEST
    assert answer.headers["Content-Length"] == str(len(RAW))
    assert answer.headers["Docker-Content-Digest"] == str(DIGEST)
    assert answer.headers["ETag"] == f'"{DIGEST}"'
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    immutable = answer.headers.get("Cache-Control") == "max-age=31536000, immutable"
    assert immutable == (reference != "v1")


@pytest.mark.parametrize("reference", ["v1", str(DIGEST)])
async def test_head_tells_the_same_without_a_body(pushed: Client, reference: str) -> None:
    path = f"/v2/a/b/manifests/{reference}"
    got, head = [await pushed(method, path) for method in ("GET", "HEAD")]
    assert (head.status, head.body) == (200, b"")
    assert {k: v for k, v in head.headers.items() if k != "Date"} == {
        k: v for k, v in got.headers.items() if k != "Date"
    }


@pytest.mark.parametrize("accept", ["*/*", "application/json", OCI_INDEX, "text/html;q=0.1"])
async def test_what_is_stored_is_served_whatever_is_accepted(pushed: Client, accept: str) -> None:
    headers = {"Accept": accept, "Accept-Encoding": "gzip"}
    answer = await pushed("GET", "/v2/a/b/manifests/v1", headers=headers)
    assert (answer.status, answer.body) == (200, RAW)
    assert answer.headers["Content-Type"] == OCI_MANIFEST
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("condition", [f'"{DIGEST}"', str(DIGEST), f'W/"{DIGEST}"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_a_client_holds_is_not_sent_again(
    pushed: Client, method: str, condition: str
) -> None:
    headers = {"If-None-Match": condition}
    answer = await pushed(method, "/v2/a/b/manifests/v1", headers=headers)
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["Docker-Content-Digest"] == str(DIGEST)


async def test_a_push_tells_where_and_what(v2: Client) -> None:
    await push_blob(v2, "a/b", b"{}")
    for reference in ("v1", str(DIGEST)):
        answer = await v2("PUT", f"/v2/a/b/manifests/{reference}", RAW, headers=TYPED)
        assert (answer.status, answer.body) == (201, b"")
        assert answer.headers["Location"] == f"/v2/a/b/manifests/{DIGEST}"
        assert answer.headers["Docker-Content-Digest"] == str(DIGEST)
        assert "OCI-Subject" not in answer.headers
        assert "OCI-Tag" not in answer.headers


async def test_a_subject_is_told(v2: Client) -> None:
    await push_blob(v2, "a/b", b"{}")
    absent = Digest.of(b"absent")
    answer = await v2("PUT", "/v2/a/b/manifests/v1", image(subject=absent), headers=TYPED)
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, str(absent))


@on_both_stores
async def test_many_tags_in_one_push(v2: Client) -> None:
    await push_blob(v2, "a/b", b"{}")
    names = [f"t{i}" for i in range(TAG_LIMIT)]
    query = "&".join(f"tag={name}" for name in names)
    answer = await v2("PUT", f"/v2/a/b/manifests/{DIGEST}?{query}", RAW, headers=TYPED)
    assert answer.status == 201
    assert answer.headers["OCI-Tag"].split(", ") == names
    for name in (names[0], names[-1]):
        assert (await v2("GET", f"/v2/a/b/manifests/{name}")).body == RAW


@on_both_stores
async def test_sha512_of_a_manifest_and_its_tags(v2: Client) -> None:
    await push_blob(v2, "a/b", b"{}")
    digest = Digest.of(RAW, algorithm="sha512")
    answer = await v2("PUT", f"/v2/a/b/manifests/{digest}?tag=v1", RAW, headers=TYPED)
    assert answer.headers["Docker-Content-Digest"] == str(digest)
    for reference in (digest, "v1"):
        got = await v2("GET", f"/v2/a/b/manifests/{reference}")
        assert (got.body, got.headers["Docker-Content-Digest"]) == (RAW, str(digest))


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        (f"{Digest.of(b'other')}", 400, "DIGEST_INVALID"),
        (f"{DIGEST}%20%20", 400, "DIGEST_INVALID"),
        ("sha256:baddigeststring", 400, "DIGEST_INVALID"),
        ("-x", 400, "TAG_INVALID"),
        ("a%2Fb", 400, "TAG_INVALID"),
        ("v1?tag=v2", 400, "TAG_INVALID"),
        (f"{DIGEST}?tag=-", 400, "TAG_INVALID"),
        (f"{DIGEST}?" + "&".join(["tag=x"] * (TAG_LIMIT + 1)), 414, "TAG_INVALID"),
    ],
)
async def test_references_that_cannot_be_pushed(
    v2: Client, target: str, status: int, code: str
) -> None:
    await push_blob(v2, "a/b", b"{}")
    answer = await v2("PUT", f"/v2/a/b/manifests/{target}", RAW, headers=TYPED)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b"", OCI_MANIFEST),
        (b"{", OCI_MANIFEST),
        (b"[]", OCI_MANIFEST),
        (b"\xff\xfe", OCI_MANIFEST),
        (b'{"schemaVersion":2}', OCI_MANIFEST),
        (b"[" * 100_000, OCI_MANIFEST),
        (RAW, "what is this"),
        (RAW.replace(OCI_MANIFEST.encode(), b"a/b\\r\\nSet-Cookie: c"), ""),
        (RAW, DOCKER_MANIFEST),
        (json.dumps({**json.loads(RAW), "manifests": []}).encode(), OCI_MANIFEST),
        (RAW.replace(b'"digest":"sha256:', b'"digest":"sha1:'), OCI_MANIFEST),
    ],
    ids=range(11),
)
async def test_manifests_that_are_none(v2: Client, raw: bytes, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = await v2("PUT", "/v2/a/b/manifests/v1", raw, headers=headers)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


async def test_absent_children_are_named(v2: Client) -> None:
    answer = await v2("PUT", "/v2/a/b/manifests/v1", RAW, headers=TYPED)
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert str(Digest.of(b"{}")) in answer.body.decode()


async def test_an_index_may_be_sparse(v2: Client) -> None:
    digest = await push_manifest(v2, "a/b", index(RAW), "v1", OCI_INDEX)
    answer = await v2("GET", f"/v2/a/b/manifests/{digest}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, OCI_INDEX)


@pytest.mark.parametrize(
    "media_type",
    [DOCKER_MANIFEST, DOCKER_LIST, "application/vnd.x.y+json", "application/vnd.Exact.Case"],
)
async def test_other_media_types_are_kept(v2: Client, media_type: str) -> None:
    await push_blob(v2, "a/b", b"{}")
    document = json.loads(index() if media_type == DOCKER_LIST else RAW)
    raw = json.dumps({**document, "mediaType": media_type}, indent=3).encode()
    await push_manifest(v2, "a/b", raw, "v1", f"{media_type}; charset=utf-8")
    answer = await v2("GET", "/v2/a/b/manifests/v1", headers={"Accept": OCI_MANIFEST})
    assert (answer.body, answer.headers["Content-Type"]) == (raw, media_type)


@on_both_stores
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_manifest_may_have_four_mebibytes_and_no_more(v2: Client, *, chunked: bool) -> None:
    await push_blob(v2, "a/b", b"{}")
    limit = 4 * 1024 * 1024
    padding = {"x": "y" * (limit - len(image(annotations={"x": ""})))}
    raw = image(annotations=padding)
    assert len(raw) == limit
    await push_manifest(v2, "a/b", raw, "v1")

    async def blocks() -> AsyncIterator[bytes]:
        yield raw
        yield b" "

    body = blocks() if chunked else raw + b" "
    answer = await v2("PUT", "/v2/a/b/manifests/v2", body, headers=TYPED)
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")


async def test_the_limit_can_be_set(registry: Registry, serve: Serve) -> None:
    api = DistributionAPI(registry, OpenAccess(), manifest_limit=len(RAW) - 1)
    client = await serve(lambda app: install(app, api))
    answer = await client("PUT", "/v2/a/b/manifests/v1", RAW, headers=TYPED)
    assert answer.status == 413


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [
        ("v2", 404, "MANIFEST_UNKNOWN"),
        (".INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN"),
        (str(Digest.of(b"absent")), 404, "MANIFEST_UNKNOWN"),
        (str(Digest.of(b"{}")), 404, "MANIFEST_UNKNOWN"),
        ("sha256:totallywrong", 400, "DIGEST_INVALID"),
        ("blake3:" + "0" * 64, 400, "DIGEST_INVALID"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_what_is_not_there(
    pushed: Client, method: str, reference: str, status: int, code: str
) -> None:
    answer = await pushed(method, f"/v2/a/b/manifests/{reference}")
    assert answer.status == status
    assert answer.body == b"" if method == "HEAD" else answer.code == code


async def test_deleting_a_tag_deletes_only_the_name(pushed: Client) -> None:
    await push_manifest(pushed, "a/b", RAW, "v2")
    assert (await pushed("DELETE", "/v2/a/b/manifests/v1")).status == 202
    assert (await pushed("GET", "/v2/a/b/manifests/v1")).status == 404
    assert (await pushed("DELETE", "/v2/a/b/manifests/v1")).status == 404
    for reference in ("v2", DIGEST):
        assert (await pushed("GET", f"/v2/a/b/manifests/{reference}")).body == RAW


@on_both_stores
async def test_deleting_a_digest_deletes_its_tags(pushed: Client) -> None:
    other = image(annotations={"other": "1"})
    await push_manifest(pushed, "a/b", other, "v2")
    assert (await pushed("DELETE", f"/v2/a/b/manifests/{DIGEST}")).status == 202
    for reference in ("v1", DIGEST):
        assert (await pushed("GET", f"/v2/a/b/manifests/{reference}")).status == 404
    assert (await pushed("DELETE", f"/v2/a/b/manifests/{DIGEST}")).status == 404
    assert (await pushed("GET", "/v2/a/b/manifests/v2")).body == other


async def test_a_tag_moves(pushed: Client) -> None:
    other = image(annotations={"other": "1"})
    await push_manifest(pushed, "a/b", other, "v1")
    assert (await pushed("GET", "/v2/a/b/manifests/v1")).body == other
    assert (await pushed("GET", f"/v2/a/b/manifests/{DIGEST}")).body == RAW


async def test_a_manifest_is_a_blob_nowhere_else(pushed: Client) -> None:
    await push_blob(pushed, "a/c", b"{}")
    assert (await pushed("GET", f"/v2/a/c/manifests/{DIGEST}")).status == 404
