"""What the faces share of aiohttp: bodies in, blobs and streams out, and how both may fail.

A failure after the first byte of an answer cannot become a status. It must not look like a clean
end either: the connection is cut, so that the client sees too few bytes and tries again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from io import FileIO
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from ociappr.errors import (
    OciapprError,
    RangeInvalid,
    RequestInvalid,
    StoreUnavailable,
    TooLarge,
    Unavailable,
)
from ociappr.registry.blobs import Blob, Blobs

STALL = 60.0
"""How many seconds a client may send nothing in the middle of a body."""

IMMUTABLE = "max-age=31536000, immutable"
"""``Cache-Control`` of what is named by digest."""

_log = logging.getLogger(__name__)
_REQUEST_ID = web.RequestKey("request_id", str)
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)
_SHORT = 128 * 1024
_CLIENT_CLOSED = 499  # customary in access logs; never on the wire


def request_id(request: web.BaseRequest) -> str:
    """Return what names *request* in logs: what a proxy gave it, else made on first use."""
    known = request.get(_REQUEST_ID)
    if known is None:
        given = request.headers.get("X-Request-Id", "")
        # it guards nothing, so it need not be secret; each worker seeds its own
        known = given if _GIVEN_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
        request[_REQUEST_ID] = known
    return known


def report(request: web.BaseRequest, error: OciapprError) -> None:
    """Log an error that is the store's fault, with its cause; the others are the client's own."""
    if isinstance(error, Unavailable):
        cause = error.__cause__
        _log.warning("request %s: %s", request_id(request), error.message, exc_info=cause)


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
    """Answer a GET or HEAD of *blob*: 200, 206, 304, 307; raise `RangeInvalid` for 416.

    *headers* tell what it is; ``ETag`` among them is its quoted digest (RFC 9110, 13 to 15).
    """
    known = request.headers.get("If-None-Match")
    if known is not None and is_known(known, headers["ETag"]):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    part = _asked_for(request, blob.size, headers)
    if request.method == "HEAD":
        headers = {**headers, "Content-Length": str(part.length)}
        return web.Response(headers=headers)
    if blob.inline is not None:
        data = blob.inline[part.start : part.stop]
        return web.Response(status=part.status, body=data, headers=part.headers)
    file = _open(blobs.file(blob))
    if file is not None:
        with file:
            return await _send_file(request, file, part)
    if "If-Range" not in request.headers:  # it names our entity, which is not the store's
        url = await blobs.url(blob, headers)
        if url is not None:
            return _elsewhere(url, headers)
    async with blobs.read(blob, part.start, part.stop) as chunks:
        return await send_stream(
            request, chunks, size=part.length, headers=part.headers, status=part.status
        )


def _elsewhere(url: str, headers: Mapping[str, str]) -> web.Response:
    """Send the client to *url*, which is good for a while: the redirect itself is not kept."""
    headers = {**headers, "Location": url, "Cache-Control": "no-store"}
    return web.Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers=headers)


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


@dataclass(frozen=True, slots=True)
class _Slice:
    """Bytes *start* to *stop* (exclusive) of a blob, and the answer that they are."""

    start: int
    stop: int
    status: HTTPStatus
    headers: Mapping[str, str]

    @property
    def length(self) -> int:
        return self.stop - self.start


def _asked_for(request: web.BaseRequest, size: int, headers: Mapping[str, str]) -> _Slice:
    """Return the slice that a request asks for; ranges are a matter of GET alone."""
    text = request.headers.get("Range")
    # If-Range with another entity's tag, or a date, asks for the whole
    same = text is None or request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]
    span = parse_range(text, size) if text and same and request.method == "GET" else None
    if span is None:
        return _Slice(0, size, HTTPStatus.OK, headers)
    headers = {**headers, "Content-Range": f"bytes {span[0]}-{span[1] - 1}/{size}"}
    return _Slice(*span, HTTPStatus.PARTIAL_CONTENT, headers)


def _open(path: Path | None) -> FileIO | None:
    try:
        return FileIO(path) if path is not None else None
    except FileNotFoundError:
        return None


async def _send_file(request: web.BaseRequest, file: FileIO, part: _Slice) -> web.StreamResponse:
    """Send a slice of *file*: a short one together with its headers, a long one by the kernel."""
    if part.length <= _SHORT:
        data = os.pread(file.fileno(), part.length, part.start)
        _check_sent(len(data), part)
        return web.Response(status=part.status, body=data, headers=part.headers)
    loop = asyncio.get_running_loop()
    headers = {**part.headers, "Content-Length": str(part.length)}
    response = web.StreamResponse(status=part.status, headers=headers)

    async def send() -> None:
        if request.transport is None:
            raise ConnectionResetError
        _check_sent(await loop.sendfile(request.transport, file, part.start, part.length), part)

    return await _guarded(request, response, send)


def _check_sent(sent: int, part: _Slice) -> None:
    if sent != part.length:
        raise StoreUnavailable(f"the file ends {part.length - sent} bytes too early")


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
