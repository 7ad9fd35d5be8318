"""What an S3 driver must stand on a real server: broken writes, cut reads, a server that fails.

A test class for a server inherits `S3Contract`; its module offers the fixture `server`.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import ClassVar

import pytest
from aiobotocore.session import AioSession

from conformance.backends.s3 import BUCKET, KEY, SECRET, S3Server
from ociappr.blobstore import Locator, Stored, locators
from ociappr.blobstore.s3 import S3Access, S3Blobs
from ociappr.blobstore.s3_body import Body, Verifier
from ociappr.blobstore.s3_writing import UNIT, Writer
from ociappr.digest import Digest
from ociappr.errors import StoreUnavailable
from tests.contracts.blobstore import (
    UPLOAD,
    BlobStoreContract,
    DurableContract,
    Reopen,
    SegmentContract,
    content,
    every,
    read,
    staged,
    stream,
)
from tests.contracts.multipart import MultipartContract
from tests.contracts.snapshots import SnapshotsContract

IMPATIENT = 1.0
"""Seconds that a frozen server is waited for."""

NOTICED = 1.0
"""Seconds within which a server has noticed that a connection is gone."""

SIZES = pytest.mark.parametrize("size", [UNIT // 2, 2 * UNIT], ids=["put", "part"])
"""Marks a test that is to write an object in one request, and in parts."""

_numbers = itertools.count()
_session = AioSession()  # it reads botocore's descriptions of services once for all tests


@dataclass(slots=True)
class Halt:
    """The first body that is sent stops in its middle, tells so, and waits."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
def halt(monkeypatch: pytest.MonkeyPatch) -> Halt:
    """Have the driver stand still inside a write."""
    halt, whole = Halt(), Body.__aiter__

    async def halting(body: Body) -> AsyncIterator[bytes]:
        sent = 0
        async for block in whole(body):
            if sent > body.size // 2 and not halt.arrived.is_set():
                halt.arrived.set()
                await halt.gate.wait()
            sent += len(block)
            yield block

    monkeypatch.setattr(Body, "__aiter__", halting)
    return halt


class S3Contract(
    BlobStoreContract, MultipartContract, SegmentContract, SnapshotsContract, DurableContract
):
    memory: ClassVar[int] = 7 * UNIT

    @pytest.fixture
    def access(self, server: S3Server) -> S3Access:
        return S3Access(endpoint=server.endpoint, access_key=KEY, secret_key=SECRET)

    @pytest.fixture
    def prefix(self) -> str:
        """Keys that no other test has."""
        return f"test-{next(_numbers)}/"

    @pytest.fixture
    async def store(self, access: S3Access, prefix: str) -> AsyncIterator[S3Blobs]:
        store = await S3Blobs.open(BUCKET, prefix, access=access, session=_session)
        yield store
        await store.close()

    @pytest.fixture
    async def hasty(self, access: S3Access, prefix: str) -> AsyncIterator[S3Blobs]:
        """The same store for somebody who does not wait long."""
        access = replace(access, patience=IMPATIENT)
        store = await S3Blobs.open(BUCKET, prefix, access=access, session=_session)
        yield store
        await store.close()

    @pytest.fixture
    async def reopen(self, store: S3Blobs, access: S3Access, prefix: str) -> AsyncIterator[Reopen]:
        opened: list[S3Blobs] = []

        async def again() -> S3Blobs:
            opened.append(await S3Blobs.open(BUCKET, prefix, access=access, session=_session))
            return opened[-1]

        yield again
        for one in opened:
            await one.close()

    # -- broken writes -------------------------------------------------------------------------

    @SIZES
    async def test_cancelled_inside_a_write_nothing_is_left(
        self, server: S3Server, store: S3Blobs, prefix: str, halt: Halt, size: int
    ) -> None:
        store._nonce = lambda: "ab"
        task = asyncio.create_task(store.stage(UPLOAD, stream(content(size))))
        await halt.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await every(store) == []
        assert server.open_uploads(prefix + locators.staged(UPLOAD, "ab")) == 0

    async def test_cancelled_anywhere_it_is_whole_or_not_there(
        self, server: S3Server, store: S3Blobs, prefix: str
    ) -> None:
        data = content(UNIT + 1)
        digest = Digest.of(data)
        for turns in range(0, 400, 9):
            store._nonce = partial(str, turns)
            task = asyncio.create_task(store.stage(UPLOAD, stream(data), expected=digest))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for stored in await every(store):
                assert Digest.of(await read(store, stored.locator)) == digest
                await store.delete(stored.locator)
            key = prefix + locators.promoted(digest, UPLOAD, f"{turns}")
            assert server.open_uploads(key) == 0

    @SIZES
    @pytest.mark.parametrize("checksum", ["_crc32", "_sha256"])
    async def test_bytes_that_break_under_way_are_refused(
        self, store: S3Blobs, monkeypatch: pytest.MonkeyPatch, size: int, checksum: str
    ) -> None:
        right = getattr(Body, checksum)

        def wrong(body: Body, verifier: Verifier) -> int | bytes:
            found: int | bytes = right(body, verifier)
            return found ^ 1 if isinstance(found, int) else bytes(reversed(found))

        monkeypatch.setattr(Body, checksum, wrong)
        is_used = (checksum == "_sha256") is (size < UNIT)
        if is_used:
            with pytest.raises(StoreUnavailable):
                await store.stage(UPLOAD, stream(content(size)))
            assert await every(store) == []
        else:
            await store.stage(UPLOAD, stream(content(size)))

    @SIZES
    async def test_a_writer_that_dies_inside_a_write_leaves_no_name(
        self, store: S3Blobs, halt: Halt, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> None:
        await self.die_inside_a_write(store, halt, monkeypatch, size)
        assert await self.left(store) == []

    async def die_inside_a_write(
        self, store: S3Blobs, halt: Halt, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> None:
        """Break off as a process does that is killed: nothing is taken back."""

        async def nothing(*_: object) -> None:
            pass

        monkeypatch.setattr(Writer, "_take_back", nothing)
        task = asyncio.create_task(store.stage(UPLOAD, stream(content(size))))
        await halt.arrived.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def left(self, store: S3Blobs) -> list[Stored]:
        """Return what there is, as soon as there is anything: servers notice a little later."""
        found: list[Stored] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTICED):
                while not found:
                    found = await every(store)
        return found

    async def test_the_end_of_an_upload_may_be_asked_for_twice(
        self, store: S3Blobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        complete = store._bucket._client.complete_multipart_upload

        async def twice(**parameters: object) -> object:
            await complete(**parameters)  # type: ignore[arg-type]  # what the driver gave
            return await complete(**parameters)  # type: ignore[arg-type]  # as above

        monkeypatch.setattr(store._bucket._client, "complete_multipart_upload", twice)
        data = content(UNIT + 1)
        locator, _ = await store.stage(UPLOAD, stream(data))
        assert await read(store, locator) == data

    # -- a server that fails -------------------------------------------------------------------

    @SIZES
    async def test_a_server_restarted_inside_a_write_gets_it_again(
        self, server: S3Server, store: S3Blobs, halt: Halt, size: int
    ) -> None:
        data = content(size)
        task = asyncio.create_task(store.stage(UPLOAD, stream(data)))
        await halt.arrived.wait()
        server.daemon.restart()
        halt.gate.set()
        locator, _ = await task
        assert Digest.of(await read(store, locator)) == Digest.of(data)

    @SIZES
    async def test_a_server_killed_inside_a_write_leaves_no_name(
        self, server: S3Server, store: S3Blobs, halt: Halt, size: int
    ) -> None:
        data = content(size)
        task = asyncio.create_task(store.stage(UPLOAD, stream(data), expected=Digest.of(data)))
        await halt.arrived.wait()
        with server.daemon.down():
            halt.gate.set()
            with pytest.raises(StoreUnavailable):
                await task
        assert await every(store) == []
        await staged(store, data)

    @SIZES
    async def test_a_server_frozen_inside_a_write_is_given_up(
        self, server: S3Server, hasty: S3Blobs, halt: Halt, size: int
    ) -> None:
        data = content(size)
        task = asyncio.create_task(hasty.stage(UPLOAD, stream(data)))
        await halt.arrived.wait()
        with server.daemon.frozen():
            halt.gate.set()
            with pytest.raises(StoreUnavailable):
                await task
        halt.arrived.clear()
        await self.settled(server, hasty)
        assert Digest.of(await read(hasty, (await staged(hasty, data)).locator)) == Digest.of(data)

    async def settled(self, server: S3Server, store: S3Blobs) -> None:
        """Restart the server that was frozen, which may go on with what it had begun."""
        server.daemon.restart()
        for stored in await every(store):  # whole, if it is there: the sweeper would take it
            await store.delete(stored.locator)

    async def test_a_server_restarted_inside_a_read_is_asked_again(
        self, server: S3Server, store: S3Blobs
    ) -> None:
        data = content(4 * UNIT)
        part = await staged(store, data)
        found = bytearray()
        async with store.read(part.locator, 5) as source:
            async for block in source:
                if not found:
                    server.daemon.restart()
                found += block
        assert Digest.of(bytes(found)) == Digest.of(data[5:])

    @pytest.mark.parametrize("state", ["down", "frozen"])
    async def test_a_server_that_fails_inside_a_read_never_ends_it_cleanly(
        self, server: S3Server, hasty: S3Blobs, state: str
    ) -> None:
        data = content(4 * UNIT)
        part = await staged(hasty, data)
        found = bytearray()
        async with hasty.read(part.locator) as source:
            found += await anext(source)
            with getattr(server.daemon, state)(), pytest.raises(StoreUnavailable):
                async for block in source:
                    found += block
        assert len(found) < len(data)
        assert data.startswith(found)
        assert Digest.of(await read(hasty, part.locator)) == Digest.of(data)

    # -- what is wrong from the start ----------------------------------------------------------

    @pytest.mark.parametrize(
        ("wrong", "advice"),
        [
            ({"secret_key": "other"}, "secret_key"),
            ({"access_key": "nobody"}, "access_key"),
            ({"endpoint": "http://127.0.0.1:1"}, "endpoint"),
        ],
    )
    async def test_what_cannot_be_used_is_refused_with_advice(
        self, access: S3Access, wrong: dict[str, str], advice: str
    ) -> None:
        with pytest.raises(StoreUnavailable) as caught:
            await S3Blobs.open(BUCKET, "", access=replace(access, **wrong), session=_session)  # type: ignore[arg-type]  # texts all
        assert advice in caught.value.hint

    async def test_a_bucket_that_is_not_there_is_refused(self, access: S3Access) -> None:
        with pytest.raises(StoreUnavailable, match="NoSuchBucket") as caught:
            await S3Blobs.open("absent", "", access=access, session=_session)
        assert "create the bucket" in caught.value.hint

    async def test_a_bucket_that_vanishes_is_no_blob_that_vanished(
        self, server: S3Server, access: S3Access
    ) -> None:
        name = f"vanishing-{next(_numbers)}"
        server.call("create_bucket", Bucket=name)
        store = await S3Blobs.open(name, "", access=access, session=_session)
        part = await staged(store, b"bytes")
        await store.delete(part.locator)
        server.call("delete_bucket", Bucket=name)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: read(store, part.locator),
            lambda: store.promote(UPLOAD, [part], Digest.of(b"bytes")),
            lambda: staged(store, b"bytes"),
            lambda: staged(store, content(2 * UNIT)),
            lambda: every(store),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
                await call()
        await store.close()

    # -- many objects, and clients of their own ------------------------------------------------

    async def test_a_walk_passes_a_thousand(self, store: S3Blobs) -> None:
        async def some() -> list[Locator]:
            return [(await staged(store, b"x")).locator for _ in range(110)]

        made = sorted(itertools.chain(*await asyncio.gather(*(some() for _ in range(10)))))
        assert [stored.locator for stored in await every(store)] == made
        assert [stored.locator for stored in await every(store, made[50])] == made[51:]

    async def test_a_client_reads_a_range_by_itself(self, access: S3Access, prefix: str) -> None:
        store = await S3Blobs.open(
            BUCKET, prefix, access=access, redirect="always", session=_session
        )
        part = await staged(store, b"0123456789")
        headers = {"Content-Type": "application/x-gzip", "X-Other": "not passed on"}
        url = await store.url(part.locator, timedelta(minutes=1), headers)
        assert url is not None
        command = ["curl", "--silent", "--include", "--range", "5-7", url]
        answer = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
        head, _, body = answer.stdout.partition(b"\r\n\r\n")
        assert body == b"567"
        assert b"206 Partial Content" in head
        assert b"content-type: application/x-gzip" in head.lower()
        await store.close()
