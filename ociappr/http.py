"""What the faces share of aiohttp: bodies in, blobs and streams out, and how both may fail.

A failure after the first byte of an answer cannot become a status. It must not look like a clean
end either: the connection is cut, so that the client sees too few bytes and tries again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ociappr.errors import RangeInvalid, RequestInvalid, StoreUnavailable, TooLarge
from ociappr.registry.blobs import Blob, Blobs

STALL = 60.0
"""How many seconds a client may send nothing in the middle of a body."""

IMMUTABLE = "max-age=31536000, immutable"
"""``Cache-Control`` of what is named by digest."""

_log = logging.getLogger(__name__)
_REQUEST_ID = web.RequestKey("request_id", str)
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)
_CLIENT_CLOSED = 499  # customary in access logs; never on the wire


def request_id(request: web.BaseRequest) -> str:
    """Return what names *request* in logs: what a proxy gave it, else made on first use."""
    known = request.get(_REQUEST_ID)
    if known is None:
        given = request.headers.get("X-Request-Id", "")
        known = given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
        request[_REQUEST_ID] = known
    return known


# -- bodies in -----------------------------------------------------------------------------------


async def body(request: web.BaseRequest, *, stall: float = STALL) -> AsyncIterator[bytes]:
    """Yield the body block by block.

    Raises `ConnectionError` when the client went away, `TimeoutError` when it sent nothing for
    *stall* seconds, `RequestInvalid` when its framing is broken.
    """
    content = request.content
    try:
        while not content.at_eof():
            block = content.read_nowait()
            if not block:
                async with asyncio.timeout(stall):
                    block = await content.readany()
            if block:
                yield block
    except (HttpProcessingError, aiohttp.ClientPayloadError) as error:
        raise RequestInvalid(f"the body cannot be read: {type(error).__name__}") from None


async def read(
    request: web.BaseRequest,
    *,
    limit: int,
    error: type[TooLarge] = TooLarge,
    stall: float = STALL,
) -> bytes:
    """Return the whole body; raise *error* as soon as it is known to exceed *limit* bytes."""
    blocks: list[bytes] = []
    room = limit - (request.content_length or 0)
    if room >= 0:
        room = limit
        async for block in body(request, stall=stall):
            room -= len(block)
            if room < 0:
                break
            blocks.append(block)
    if room < 0:
        raise error(f"the body is larger than {limit} bytes")
    return b"".join(blocks)


# -- answers out ---------------------------------------------------------------------------------


def abandoned(request: web.BaseRequest) -> web.Response:
    """Cut the connection and return the answer that nobody will get, for the log."""
    cut(request)
    return web.Response(status=_CLIENT_CLOSED, reason="Client Closed Request")


def cut(request: web.BaseRequest) -> None:
    """Close the connection at once; what was sent so far must not pass for an answer."""
    if request.transport is not None:
        request.transport.abort()


async def send_stream(
    request: web.BaseRequest,
    chunks: AsyncIterable[bytes],
    *,
    size: int,
    headers: Mapping[str, str],
    status: int = HTTPStatus.OK,
) -> web.StreamResponse:
    """Send *chunks*, which must be *size* bytes; raise `ConnectionError` if they could not be sent.

    Nothing is sent before the first chunk is there: until then *chunks* may raise what becomes a
    status.
    """
    stream = aiter(chunks)
    first = await anext(stream, b"")
    response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(size)})

    async def send() -> None:
        sent = len(first)
        await response.write(first)
        async for chunk in stream:
            sent += len(chunk)
            await response.write(chunk)
        if sent != size:
            raise StoreUnavailable(f"{sent} bytes came where {size} were promised")

    return await _guarded(request, response, send)


async def send_blob(
    request: web.BaseRequest, blobs: Blobs, blob: Blob, *, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer a GET or HEAD of *blob*: 200, 206, 304; raise `RangeInvalid` for 416.

    *headers* tell what it is; ``ETag`` among them is its quoted digest (RFC 9110, 13 to 15).
    """
    given = request.headers
    if "If-None-Match" in given and is_known(given["If-None-Match"], headers["ETag"]):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    span = None
    if "Range" in given and request.method == "GET":
        # If-Range with another entity's tag, or a date, asks for the whole
        same = given.get("If-Range", headers["ETag"]) == headers["ETag"]
        span = parse_range(given["Range"], blob.size) if same else None
    status, start, stop = HTTPStatus.OK, 0, blob.size
    if span is not None:
        status, (start, stop) = HTTPStatus.PARTIAL_CONTENT, span
        headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{blob.size}"}
    if request.method == "HEAD":
        headers = {**headers, "Content-Length": str(stop - start)}
        return web.Response(status=status, headers=headers)
    if blob.inline is not None:
        data = blob.inline if span is None else blob.inline[start:stop]
        return web.Response(status=status, body=data, headers=headers)
    path = blobs.file(blob)
    if path is not None and stop > start:
        sent = await _send_file(request, path, start, stop - start, headers=headers, status=status)
        if sent is not None:
            return sent
    async with blobs.read(blob, start, stop) as chunks:
        return await send_stream(request, chunks, size=stop - start, headers=headers, status=status)


def is_known(if_none_match: str, etag: str) -> bool:
    """Tell whether the client holds the entity of *etag* already; a bare digest counts too."""
    candidates = [text.strip().removeprefix("W/") for text in if_none_match.split(",")]
    return etag in candidates or "*" in candidates or etag.strip('"') in candidates


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return start and stop (exclusive) of the range that ``Range`` asks for, None for the whole.

    What need not be understood means the whole: other units, several ranges, any range of nothing.
    Raises `RangeInvalid` for a single range that holds no byte.
    """
    found = _RANGE.fullmatch(text)
    if found is None or size == 0 or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, stop = max(size - int(found[2]), 0), size
    else:
        start, stop = int(found[1]), min(int(found[2] or size) + 1, size)
    if start >= stop:
        raise RangeInvalid(f"the blob has {size} bytes, none in this range", size=size)
    return start, stop


async def _send_file(
    request: web.BaseRequest,
    path: Path,
    start: int,
    length: int,
    *,
    headers: Mapping[str, str],
    status: int,
) -> web.StreamResponse | None:
    """Let the kernel send a slice of a file; None if it is gone, and then nothing was sent."""
    loop = asyncio.get_running_loop()
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return None
    response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(length)})

    async def send() -> None:
        if request.transport is None:
            raise ConnectionResetError
        sent = await loop.sendfile(request.transport, file, start, length)
        if sent != length:
            raise StoreUnavailable(f"{path.name} ends {length - sent} bytes too early")

    with file:
        return await _guarded(request, response, send)


async def _guarded(
    request: web.BaseRequest, response: web.StreamResponse, send: Callable[[], Awaitable[None]]
) -> web.StreamResponse:
    """Prepare *response*, *send* its body and end it well, or cut the connection."""
    try:
        await response.prepare(request)
        await send()
        await response.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        cut(request)
        raise
    except Exception as error:
        cut(request)
        _log.exception("request %s broke off", request_id(request))
        raise ConnectionAbortedError("the answer broke off") from error
    return response
