"""Hostile requests, generated from a seed: none is the server's fault, each answer has our form."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest

from ociappr.digest import Digest
from ociappr.media import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from tests.http.client import Answer, Client, begin, image, index, push_blob, push_image

RAW = image()
NUMBER = 150
METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
NASTY = ["", ".", "..", "%2F", "%00", "%0d%0a", "%ff", "%", "%25", "%F0%9F%98%80", "~", "x" * 300]
DIGESTS = [
    str(Digest.of(RAW)),
    str(Digest.of(b"{}")),
    str(Digest.of(b"", algorithm="sha512")),
    "sha256:",
    "sha256:" + "0" * 64,
    "sha256:" + "A" * 64,
    "sha512:" + "0" * 64,
    "md5:" + "0" * 32,
    ":",
]
NAMES = ["a/b", "a", "A/b", "a//b", "a/b/", "a%2Fb", "c/d", "blobs/uploads", "_catalog", *NASTY]
VALUES = ["0", "1", "-1", "1e9", "9" * 400, "v1", "a/b", *DIGESTS, *NASTY]
KEYS = ["n", "last", "digest", "mount", "from", "tag", "artifactType", "digest-algorithm", "x"]
HEADERS = {
    "Content-Range": ["0-1", "1-0", "0-99999999999999999999", "bytes 0-1/2", "-", "", "1-1"],
    "Content-Type": [
        OCI_MANIFEST,
        OCI_INDEX,
        DOCKER_LIST,
        "",
        "x",
        "a/b; c=d",
        "\xe9/x",
        "a/" * 99,
    ],
    "Range": ["bytes=0-0", "bytes=-1", "bytes=9-1", "bytes=1-1,2-2", "bytes", "x=1", "bytes=-"],
    "Accept": ["*/*", OCI_MANIFEST, OCI_INDEX, ";;q=x,,", "\xff", ","],
    "If-None-Match": ["*", '"', "W/", '"x"', ",,"],
    "If-Range": ["", "x", "W/"],
    "Authorization": ["Basic x", "Bearer", "Digest \xff", ""],
    "User-Agent": ["Helm/3.18.4", "\xff", ""],
    "X-Request-Id": ["x" * 999, "a b", "\xff"],
}
DEEP = b'{"manifests":' * 20_000
BODIES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\x00\xff",
    b"{" * 10_000,
    DEEP,
    RAW,
    index(RAW),
    json.dumps({**json.loads(RAW), "config": {"digest": 1}}).encode(),
    json.dumps({**json.loads(RAW), "config": {"digest": "x", "size": 1}}).encode(),
    json.dumps({**json.loads(RAW), "layers": [{"digest": DIGESTS[0], "size": -1}]}).encode(),
    json.dumps({**json.loads(RAW), "annotations": {"a": None}}).encode(),
    json.dumps({**json.loads(RAW), "annotations": {"\ud800": "x"}}).encode(),
    json.dumps({**json.loads(RAW), "mediaType": "x\r\ny: z/w"}).encode(),
    json.dumps({**json.loads(RAW), "mediaType": ""}).encode(),
    json.dumps({**json.loads(RAW), "subject": {"digest": DIGESTS[-1], "size": 0}}).encode(),
    json.dumps({**json.loads(RAW), "schemaVersion": 10**30}).encode(),
    json.dumps({**json.loads(RAW), "artifactType": "\n" * 9}).encode(),
]


def target(dice: random.Random, upload: str) -> str:
    """Return a path and query that mix what is right with what is not."""
    last = dice.choice(["v1", "list", "uploads/", upload, *DIGESTS, *NASTY])
    kind = dice.choice(["manifests", "blobs", "blobs/uploads", "tags", "referrers", *NASTY])
    path = f"/v2/{dice.choice(NAMES)}/{kind}/{last}"
    if dice.random() < 0.3:
        path = f"/v2/{dice.choice(['_catalog', f'a/b/blobs/uploads/{upload}', 'a/b/tags/list'])}"
    pairs = [f"{dice.choice(KEYS)}={dice.choice(VALUES)}" for _ in range(dice.randrange(4))]
    return f"{path}?{dice.choice('&;').join(pairs)}"


def assert_well_formed(answer: Answer, method: str, sent: Sequence[object]) -> None:
    """Assert that an answer is not the server's fault, and an error in the door's own form."""
    assert answer.status < 500, sent
    if answer.status >= 400 and method != "HEAD":
        assert answer.headers["Content-Type"] == "application/json", sent
        assert answer.code.replace("_", "").isupper(), sent


@pytest.mark.parametrize("seed", range(3))
async def test_no_request_is_the_servers_fault(v2: Client, seed: int) -> None:
    dice = random.Random(seed)
    await push_image(v2, "a/b", RAW, "v1")
    for _ in range(NUMBER):
        method = dice.choice(METHODS)
        line = target(dice, (await begin(v2, "a/b")).rpartition("/")[2])
        names = dice.sample(sorted(HEADERS), dice.randrange(3))
        headers = {name: dice.choice(HEADERS[name]) for name in names}
        body = dice.choice(BODIES) if method in {"PUT", "POST", "PATCH"} else None
        answer = await v2(method, line, body, headers=headers)
        assert_well_formed(answer, method, (method, line, headers, body))


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_no_manifest_is_the_servers_fault(v2: Client, body: bytes) -> None:
    await push_blob(v2, "a/b", b"{}")
    for content_type in HEADERS["Content-Type"]:
        headers = {"Content-Type": content_type}
        answer = await v2("PUT", "/v2/a/b/manifests/v1", body, headers=headers)
        assert_well_formed(answer, "PUT", (content_type, body))
        for path in ("manifests/v1", "tags/list", f"referrers/{DIGESTS[-4]}"):
            got = await v2("GET", f"/v2/a/b/{path}")
            assert_well_formed(got, "GET", (path, content_type, body))
