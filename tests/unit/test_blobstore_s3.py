"""The contract of a blob store, kept in S3: here on moto, which knows the plain path only.

What moto cannot tell (checksums, broken connections, faults) is tested on real servers, in
``conformance/stores``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiobotocore.session import AioSession
from aiohttp import web

from ociappr.blobstore import Files, Locator, Part, Redirects, locators
from ociappr.blobstore.s3 import Redirect, S3Access, S3Blobs
from ociappr.blobstore.s3_body import Body, Verifier
from ociappr.blobstore.s3_joining import MINIMUM, plan
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, StoreUnavailable
from tests.contracts.blobstore import UPLOAD, BlobStoreContract, SegmentContract, every, staged
from tests.contracts.multipart import MultipartContract
from tests.contracts.snapshots import SnapshotsContract
from tests.s3 import BUCKET

MIB = 1024**2
_numbers = itertools.count()


@pytest.mark.slow
class TestS3Blobs(BlobStoreContract, MultipartContract, SegmentContract, SnapshotsContract):
    @pytest.fixture
    async def store(self, moto: S3Access, session: AioSession) -> AsyncIterator[S3Blobs]:
        prefix = f"{next(_numbers)}/"
        store = await S3Blobs.open(BUCKET, prefix, access=moto, session=session)
        yield store
        await store.close()


# -- what a cancelled write leaves ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "size"), [("put_object", MIB), ("complete_multipart_upload", 9 * MIB)]
)
async def test_cancelled_when_the_server_has_it_already_nothing_is_left(
    moto: S3Access, session: AioSession, monkeypatch: pytest.MonkeyPatch, request_: str, size: int
) -> None:
    store = await S3Blobs.open(BUCKET, f"{request_}/", access=moto, session=session)
    whole, landed = getattr(store._bucket._client, request_), asyncio.Event()

    async def unanswered(**parameters: object) -> None:
        await whole(**parameters)
        landed.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(store._bucket._client, request_, unanswered)
    task = asyncio.create_task(staged(store, bytes(size)))
    await landed.wait()
    assert len(await every(store)) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await every(store) == []
    await store.close()


# -- how parts are joined ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((), []),
        ((3,), [3]),
        ((3, 4, 5), [12]),
        ((64 * MIB,), [64 * MIB]),
        ((64 * MIB + 2,), [32 * MIB + 1] * 2),
        ((12 * MIB, 1, 12 * MIB, 3), [12 * MIB, MINIMUM, 7 * MIB + 1, 3]),
        ((12 * MIB, 1, 9 * MIB, 3), [12 * MIB, 9 * MIB + 1, 3]),
        ((3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB), [6 * MIB, 6 * MIB]),
        ((4 * MIB, 20 * MIB), [MINIMUM, 19 * MIB]),
    ],
)
def test_no_part_of_a_whole_is_too_small_or_too_large(
    lengths: Sequence[int], expected: Sequence[int]
) -> None:
    parts = [Part(Locator(f"{at}"), size, closed=True) for at, size in enumerate(lengths)]
    pieces = list(plan(parts))
    assert [sum(one.size for one in piece) for piece in pieces] == expected
    ranges = [one for piece in pieces for one in piece]
    for part in parts:  # each byte once, in order
        at = 0
        for one in ranges:
            if one.locator == part.locator:
                assert one.start == at
                at = one.stop
        assert at == part.length


def test_the_largest_blob_fits_into_the_parts_that_s3_allows() -> None:
    parts = [Part(Locator(f"{at}"), 20 * 1024 * MIB, closed=True) for at in range(250)]
    sizes = [sum(one.size for one in piece) for piece in plan(parts)]
    assert len(sizes) <= 10_000
    assert min(sizes) >= MINIMUM


# -- servers that are busy -----------------------------------------------------------------------

_SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your rate.</Message></Error>"


_GONE = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
_EMPTY = "<ListBucketResult/>"


@asynccontextmanager
async def answering(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[S3Access]:
    """Have a server run within the block that answers everything by a function."""

    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield S3Access(endpoint=endpoint, access_key="a", secret_key="b")
    finally:
        await runner.cleanup()


def xml(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, content_type="application/xml")


@pytest.mark.slow
async def test_a_server_that_is_busy_is_asked_three_times(session: AioSession) -> None:
    asked: list[str] = []

    def busy(request: web.Request) -> web.Response:
        asked.append(request.method)
        return xml(503, _SLOW_DOWN)

    async with answering(busy) as access:
        with pytest.raises(StoreUnavailable, match="SlowDown Please reduce"):
            await S3Blobs.open(BUCKET, "", access=access, session=session)
    assert len(asked) == 3


async def test_a_rival_that_deleted_first_is_no_error(session: AioSession) -> None:
    """Versitygw answers 404 to the slower one of two collectors."""
    asked: list[str] = []

    def gone(request: web.Request) -> web.Response:
        asked.append(request.method)
        return xml(404, _GONE) if request.method == "DELETE" else xml(200, _EMPTY)

    async with answering(gone) as access:
        store = await S3Blobs.open(BUCKET, "", access=access, session=session)
        await store.delete(locators.staged(UPLOAD, locators.nonce()))
        await store.close()
    assert asked[-1] == "DELETE"


@pytest.mark.parametrize("endpoint", ["nonsense", "http://"])
async def test_an_environment_that_means_nothing(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    access = S3Access(access_key="a", secret_key="b")
    with pytest.raises(StoreUnavailable) as caught:
        await S3Blobs.open(BUCKET, "", access=access)
    assert "AWS_ENDPOINT_URL" in caught.value.hint


# -- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("redirect", "public", "host"),
    [
        ("auto", "", None),
        ("auto", "https://blobs.example", "https://blobs.example"),
        ("never", "https://blobs.example", None),
        ("always", "", "http://127.0.0.1"),
    ],
)
async def test_clients_are_sent_to_where_they_can_read(
    moto: S3Access,
    session: AioSession,
    redirect: Redirect,
    public: str,
    host: str | None,
) -> None:
    access = replace(moto, public_endpoint=public)
    store = await S3Blobs.open(BUCKET, "", access=access, redirect=redirect, session=session)
    assert isinstance(store, Redirects)
    assert not isinstance(store, Files)
    part = await staged(store, b"bytes")
    url = await store.url(part.locator, timedelta(minutes=1), {})
    assert url is None if host is None else str(url).startswith(host)
    with pytest.raises(BlobUnknown):
        await store.url(Locator("../other"), timedelta(minutes=1), {})
    await store.close()


async def test_what_a_crash_left_open_for_long_is_taken_back(
    moto: S3Access, session: AioSession
) -> None:
    store = await S3Blobs.open(BUCKET, "left/", access=moto, session=session)
    await store._bucket.begin("staging/a-00")  # moto says that it was begun in 2010
    assert len(await store._bucket.begun_before(datetime.now(UTC))) == 1
    again = await S3Blobs.open(BUCKET, "left/", access=moto, session=session)
    assert await store._bucket.begun_before(datetime.now(UTC)) == []
    await again.close()
    await store.close()


async def test_keys_that_are_no_objects_are_left_alone(moto: S3Access, session: AioSession) -> None:
    store = await S3Blobs.open(BUCKET, "mixed/", access=moto, session=session)
    part = await staged(store, b"bytes")
    for name in ("README", "backup/1", "staging/.a~"):
        body = Body()
        await store._bucket.put(name, body, sha256=await body.sha256(Verifier(None)))
    assert [stored.locator for stored in await every(store)] == [part.locator]
    await store.close()


async def test_objects_are_encrypted_as_is_asked(moto: S3Access, session: AioSession) -> None:
    access = replace(moto, encryption="aws:kms", kms_key="a-key")
    store = await S3Blobs.open(BUCKET, "kms/", access=access, session=session)
    small = await staged(store, b"bytes")
    large = await staged(store, bytes(9 * MIB))
    copied = await store.promote(UPLOAD, [small], Digest.of(b"bytes"))
    for locator in (small.locator, large.locator, copied):
        found = await store._bucket._client.head_object(Bucket=BUCKET, Key=f"kms/{locator}")
        assert found["ServerSideEncryption"] == "aws:kms"
        assert found["SSEKMSKeyId"].endswith("a-key")
    await store.close()
