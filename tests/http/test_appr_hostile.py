"""No request makes the appr door fail by its content: any path, any query, any body."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import string
from urllib.parse import quote

import pytest

from tests.http.appr import PACKAGES, chart, push
from tests.http.client import Client

WORDS = [
    *("shop", "web", "channels", "blobs", "sha256", "search", "pull", "json", "api", "v1", "cnr"),
    *("1.0.0", "default", "-", "helm", "beta", ">=1", "*", "", ".", "..", "é", "\0", "a/b", "%"),
    *("0" * 64, "x" * 300, "9" * 400, "\ud7ff", "\U0010ffff", "<b>", '"', "\\", "\n", "+", " "),
]
METHODS = ["GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS", "PATCH", "TRACE"]
VALUES: list[object] = [
    *("1.0.0", "2.0.0", "", "helm", "kpm", "true", "x" * 1000, "é\0", "-", "../..", "\ud7ff"),
    *(None, True, False, 0, -1, 1.5, 10**40, [], {}, [[]], {"a": {"b": None}}),
]


def some_path(chance: random.Random) -> str:
    words = [chance.choice(WORDS) for _ in range(chance.randrange(7))]
    if chance.random() < 0.8:
        words = ["api", "v1", "packages", *words]
    if chance.random() < 0.3:
        words = [chance.choice(["cnr", "appr"]), *words]
    path = "/" + "/".join(quote(word, safe="") for word in words)
    if chance.random() < 0.1:
        path += chance.choice(["%ff", "%", "%zz", "//", "%00", ";x=1"])
    if chance.random() < 0.5:
        name = chance.choice(["format", "q", "query", "namespace", "media_type", "release", "%ff"])
        path += f"?{name}={quote(chance.choice(WORDS), safe='')}"
    return path


def some_body(chance: random.Random, blob: str) -> bytes:
    if chance.random() < 0.2:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(60)))
    names = ["release", "blob", "media_type", "metadata", "force", "namespace", "user", "q"]
    document = {name: chance.choice([*VALUES, blob, blob]) for name in names}
    body = json.dumps(document if chance.random() < 0.9 else chance.choice(VALUES)).encode()
    return body if chance.random() < 0.8 else body[: chance.randrange(len(body) + 1)]


@pytest.mark.parametrize("seed", range(3))
async def test_no_request_fails(doors: Client, seed: int) -> None:
    chance = random.Random(seed)
    await push(doors, "shop/web", "1.0.0", chart())
    await doors("POST", f"{PACKAGES}/shop/web/channels/beta/1.0.0")
    blob = base64.b64encode(chart()).decode()
    for _ in range(250):
        method, path = chance.choice(METHODS), some_path(chance)
        body = some_body(chance, blob) if chance.random() < 0.5 else None
        kinds = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/x"]
        headers = {"Content-Type": chance.choice(kinds)} if body is not None else {}
        answer = await doors(method, path, body, headers=headers)
        assert answer.status < 500, f"{method} {path} {body!r}"
        if answer.status >= 400 and method != "HEAD":
            document = json.loads(answer.body)
            assert set(document) == {"error", "message", "details"}, f"{method} {path}"
    assert (await doors("GET", f"{PACKAGES}")).status == 200


@pytest.mark.parametrize("seed", range(2))
async def test_no_pushed_field_breaks_what_is_read_afterwards(doors: Client, seed: int) -> None:
    chance = random.Random(seed)
    blob = base64.b64encode(chart()).decode()
    for number in range(80):
        fields = {
            "release": f"{number}.0.0",
            "media_type": "".join(chance.choices(string.ascii_letters + "-_", k=3)),
            "metadata": chance.choice(VALUES),
            "blob": blob,
        }
        body = json.dumps(fields).encode()
        answer = await doors("POST", f"{PACKAGES}/shop/web", body)
        assert answer.status < 500, body
    for path in ("", "/shop/web", "/shop/web/default/-"):
        assert (await doors("GET", PACKAGES + path)).status == 200


async def test_a_raw_request_line_is_answered(doors: Client) -> None:
    for target in (b"*", b"/api/v1/packages/\xff\xfe", b"/" + b"a/" * 3000, b"//x", b"/%"):
        reader, writer = await doors.connect()
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            status_line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        assert b" 5" not in status_line[:13], target
