from __future__ import annotations

import asyncio
from unittest import mock

import pytest
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import TransferEncodingError
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from ociappr.errors import ManifestTooLarge, RangeInvalid, RequestInvalid, TooLarge
from ociappr.http import body, is_known, parse_range, read, request_id

LIMIT = 10


def sending(*blocks: bytes, length: int | None = None) -> tuple[web.Request, StreamReader]:
    """Return a request whose body has begun with *blocks*, and the stream it is read from."""
    stream = StreamReader(mock.Mock(), 2**16, loop=asyncio.get_running_loop())
    for block in blocks:
        stream.feed_data(block)
    headers = {} if length is None else {"Content-Length": str(length)}
    return make_mocked_request("PUT", "/", headers=headers, payload=stream), stream


async def test_a_body_comes_block_by_block() -> None:
    request, stream = sending(b"ab", b"cd")
    blocks = body(request)
    assert await anext(blocks) == b"abcd"
    stream.feed_data(b"ef")
    assert await anext(blocks) == b"ef"
    stream.feed_eof()
    assert [block async for block in blocks] == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError("gone"), ConnectionResetError),
        (TransferEncodingError("chunk"), RequestInvalid),
    ],
)
async def test_a_body_that_breaks_off_says_so(error: Exception, expected: type[Exception]) -> None:
    request, stream = sending(b"ab")
    blocks = body(request)
    assert await anext(blocks) == b"ab"
    stream.set_exception(error)
    with pytest.raises(expected):
        await anext(blocks)


async def test_a_client_that_sends_nothing_is_not_waited_for() -> None:
    request, _ = sending()
    with pytest.raises(TimeoutError):
        await anext(body(request, stall=0.01))


async def test_a_body_within_the_limit_is_read() -> None:
    request, stream = sending(b"x" * LIMIT, length=LIMIT)
    stream.feed_eof()
    assert await read(request, limit=LIMIT) == b"x" * LIMIT


async def test_a_body_that_announces_too_much_is_not_read() -> None:
    request, _ = sending(length=LIMIT + 1)
    with pytest.raises(ManifestTooLarge):
        await read(request, limit=LIMIT, error=ManifestTooLarge)


async def test_a_body_that_becomes_too_large_is_not_read_to_its_end() -> None:
    request, _ = sending(b"x" * LIMIT, b"x")
    with pytest.raises(TooLarge):
        await read(request, limit=LIMIT)


@pytest.mark.parametrize("given_id", ["abcdefgh", "0-9._Z" * 2])
def test_a_request_keeps_the_id_it_was_given(given_id: str) -> None:
    request = make_mocked_request("GET", "/", headers={"X-Request-Id": given_id})
    assert request_id(request) == given_id


@pytest.mark.parametrize("given_id", ["", "short", "x" * 65, "new line here", 'quoted"""'])
def test_a_request_gets_an_id_once(given_id: str) -> None:
    request = make_mocked_request("GET", "/", headers={"X-Request-Id": given_id})
    made = request_id(request)
    assert made != given_id
    assert made.isalnum()
    assert request_id(request) == made


@pytest.mark.parametrize(
    ("condition", "known"),
    [
        ('"a"', True),
        ("a", True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("", False),
        ('"ab"', False),
        ("b,c", False),
    ],
)
def test_what_a_client_holds(condition: str, *, known: bool) -> None:
    assert is_known(condition, '"a"') is known


@given(st.integers(1, 10**12), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_range_is_the_bytes_it_names(size: int, first: int, last: int) -> None:
    text = f"bytes={first}-{last}"
    if first < size and first <= last:
        assert parse_range(text, size) == (first, min(last + 1, size))
    else:
        with pytest.raises(RangeInvalid) as caught:
            parse_range(text, size)
        assert caught.value.size == size


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_a_suffix_is_the_end(size: int, length: int) -> None:
    assert parse_range(f"bytes=-{length}", size) == (max(size - length, 0), size)


@given(st.text(max_size=20) | st.from_regex(r"bytes=[0-9, -]*", fullmatch=True), st.integers(0, 99))
def test_whatever_comes_is_a_range_the_whole_or_refused(text: str, size: int) -> None:
    try:
        span = parse_range(text, size)
    except RangeInvalid:
        return
    assert span is None or 0 <= span[0] < span[1] <= size
