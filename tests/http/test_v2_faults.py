"""Clients that vanish, stall or lie about their bodies, and stores that fail in the middle."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from ociappr.access import OpenAccess
from ociappr.digest import Digest
from ociappr.distribution.application import install
from ociappr.distribution.handlers import DistributionAPI
from ociappr.errors import BlobUnknown
from ociappr.names import RepositoryName
from ociappr.registry import Registry
from tests.http.client import Client, begin, image, on_both_stores, push_blob
from tests.http.conftest import Serve

DATA = bytes(range(256)) * 4_096
DIGEST = Digest.of(DATA)


class Watched(DistributionAPI):
    """Tells how requests went on the server's side, after their connection was gone too."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*args, **options)
        self.task: asyncio.Task[Any] | None = None
        self.begun = asyncio.Semaphore(0)
        self.statuses: asyncio.Queue[int] = asyncio.Queue()

    async def handle(self, request: Any) -> Any:  # noqa: ANN401 - passed on
        self.task = asyncio.current_task()
        self.begun.release()
        response = await super().handle(request)
        self.statuses.put_nowait(response.status)
        return response


@pytest.fixture
async def watched(registry: Registry, serve: Serve) -> tuple[Client, Watched]:
    api = Watched(registry, OpenAccess())
    return await serve(lambda app: install(app, api)), api


async def status_of(api: Watched) -> int:
    """Return the status of the next request that ended."""
    return await asyncio.wait_for(api.statuses.get(), 10)


async def exchange(client: Client, request: bytes) -> bytes:
    """Send raw bytes and return all that the server says before it closes."""
    reader, writer = await client.connect()
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@on_both_stores
async def test_what_came_before_a_disconnect_is_kept_and_goes_on(
    watched: tuple[Client, Watched],
) -> None:
    client, api = watched
    location = await begin(client, "a/b")
    await status_of(api)
    _, writer = await client.connect()
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n"
    writer.write(head.encode() + DATA[: len(DATA) // 2])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await status_of(api) == 499
    standing = await client("GET", location)
    offset = int(standing.headers["Range"].removeprefix("0-")) + 1
    assert offset <= len(DATA) // 2
    if standing.headers["Range"] == "0-0":
        offset = 0
    done = await client("PUT", f"{location}?digest={DIGEST}", DATA[offset:])
    assert done.status == 201
    assert (await client("GET", f"/v2/a/b/blobs/{DIGEST}")).body == DATA


@on_both_stores
@pytest.mark.parametrize("method", ["PUT", "POST", "manifest"])
async def test_half_a_body_becomes_nothing(watched: tuple[Client, Watched], method: str) -> None:
    client, api = watched
    targets = {
        "PUT": f"PUT {await begin(client, 'a/b')}?digest={DIGEST}",
        "POST": f"POST /v2/a/b/blobs/uploads/?digest={DIGEST}",
        "manifest": "PUT /v2/a/b/manifests/v1",
    }
    await status_of(api)
    _, writer = await client.connect()
    head = f"{targets[method]} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(DATA)}\r\n\r\n"
    writer.write(head.encode() + DATA[:-1])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await status_of(api) == 499
    assert (await client("HEAD", f"/v2/a/b/blobs/{DIGEST}")).status == 404
    assert (await client("HEAD", "/v2/a/b/manifests/v1")).status == 404


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"2\r\ncdXX", b"-1\r\n"])
async def test_a_body_whose_framing_breaks_becomes_nothing(
    registry: Registry, serve: Serve, chunk: bytes
) -> None:
    api = Watched(registry, OpenAccess(), stall=0.05)
    client = await serve(lambda app: install(app, api))
    digest = Digest.of(b"ab")
    reader, writer = await client.connect()
    head = f"POST /v2/a/b/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n".encode())
    await api.begun.acquire()
    writer.write(chunk)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert await status_of(api) == 499
    assert (await client("HEAD", f"/v2/a/b/blobs/{digest}")).status == 404


async def test_a_client_that_stalls_is_cut_off(registry: Registry, serve: Serve) -> None:
    api = Watched(registry, OpenAccess(), stall=0.05)
    client = await serve(lambda app: install(app, api))
    location = await begin(client, "a/b")
    await status_of(api)
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    assert await exchange(client, head.encode() + b"12345") == b""
    assert await status_of(api) == 499
    assert (await client("GET", location)).headers["Range"] == "0-4"


@on_both_stores
async def test_a_download_that_is_given_up_hurts_nobody(
    watched: tuple[Client, Watched], caplog: pytest.LogCaptureFixture
) -> None:
    client, api = watched
    data = DATA * 32
    digest = await push_blob(client, "a/b", data)
    await status_of(api)
    reader, writer = await client.connect()
    writer.write(f"GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.transport.abort()
    assert await status_of(api) == 499
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (await client("GET", f"/v2/a/b/blobs/{digest}")).body == data


@on_both_stores
async def test_a_download_that_a_shutdown_ends_has_no_clean_end(
    watched: tuple[Client, Watched],
) -> None:
    client, api = watched
    data = DATA * 32
    digest = await push_blob(client, "a/b", data)
    reader, writer = await client.connect()
    writer.write(f"GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert api.task is not None
    api.task.cancel()
    with suppress(ConnectionResetError):
        assert len(await reader.read()) < len(data)
    writer.transport.abort()


@pytest.mark.parametrize("end", ["error", "early"])
async def test_a_store_that_fails_midway_never_makes_a_clean_end(
    watched: tuple[Client, Watched],
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    end: str,
) -> None:
    client, api = watched
    digest = await push_blob(client, "a/b", DATA)
    await status_of(api)

    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:1_000]
        if end == "error":
            raise BlobUnknown("deleted meanwhile")

    @asynccontextmanager
    async def read(*_: object) -> AsyncIterator[AsyncIterator[bytes]]:
        yield broken()

    monkeypatch.setattr(registry.blobs, "read", read)
    request = f"GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await exchange(client, request.encode())
    assert b"404" not in answer
    assert len(answer) < len(DATA)
    assert await status_of(api) == 499
    assert "broke off" in caplog.text


async def damage(registry: Registry, digest: Digest) -> None:
    """Cut the file of a blob short, as no store of ours would."""
    blob = await registry.blobs.find(RepositoryName("a/b"), digest)
    path = registry.blobs.file(blob)
    assert path is not None
    path.chmod(0o600)
    os.truncate(path, 1_000)


@pytest.mark.parametrize("registry", ["files"], indirect=True)
async def test_a_file_that_is_too_short_never_makes_a_clean_end(
    watched: tuple[Client, Watched], registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    client, api = watched
    digest = await push_blob(client, "a/b", DATA)
    await status_of(api)
    await damage(registry, digest)
    request = f"GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await exchange(client, request.encode())
    assert f"Content-Length: {len(DATA)}".encode() in answer
    assert await status_of(api) == 499
    assert "broke off" in caplog.text


@pytest.mark.parametrize("registry", ["files"], indirect=True)
async def test_a_short_file_that_is_too_short_is_not_sent_at_all(
    v2: Client, registry: Registry
) -> None:
    digest = await push_blob(v2, "a/b", DATA[:100_000])
    await damage(registry, digest)
    answer = await v2("GET", f"/v2/a/b/blobs/{digest}")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")


@pytest.mark.parametrize(
    "line", [b"GET /v2/ HTTP/1.0\r\n\r\n", b"GET http://elsewhere/v2/ HTTP/1.0\r\n\r\n"]
)
async def test_old_and_absolute_request_lines(watched: tuple[Client, Watched], line: bytes) -> None:
    answer = await exchange(watched[0], line)
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n{}")


async def test_an_early_refusal_reads_no_more_than_it_must(
    watched: tuple[Client, Watched],
) -> None:
    client, _ = watched
    size = 64 * 1024 * 1024 * 1024
    head = f"PUT /v2/a/b/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    reader, writer = await client.connect()
    writer.write(head.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.transport.abort()


async def test_a_client_may_wait_for_a_word_before_it_sends(
    watched: tuple[Client, Watched],
) -> None:
    client, _ = watched
    raw = b"12345"
    head = f"POST /v2/a/b/blobs/uploads/?digest={Digest.of(raw)} HTTP/1.1\r\nHost: x\r\n"
    reader, writer = await client.connect()
    writer.write(f"{head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(raw)
    assert (await reader.readline()).startswith(b"HTTP/1.1 201")
    writer.transport.abort()


async def test_a_body_that_claims_a_coding_is_kept_as_it_is(v2: Client) -> None:
    raw = image()
    digest = Digest.of(raw)
    headers = {"Content-Encoding": "gzip"}
    answer = await v2("POST", f"/v2/a/b/blobs/uploads/?digest={digest}", raw, headers=headers)
    assert answer.status == 201
    assert (await v2("GET", f"/v2/a/b/blobs/{digest}")).body == raw
