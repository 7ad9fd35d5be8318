"""What every blob store that keeps snapshots must keep, as tests; see `ociappr.blobstore`.

A driver's test class inherits `SnapshotsContract` and offers the fixture `store`: an empty store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ociappr.blobstore import (
    BLOCK,
    BlobStore,
    Snapshots,
    UploadId,
    is_snapshot_name,
    snapshot_begun,
    snapshot_name,
)
from ociappr.errors import BlobUnknown

UPLOAD = UploadId("20260101.a_b.sha256.0123")
MOMENT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield *chunks*."""
    for chunk in chunks:
        yield chunk


async def cut(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield *chunks*, and break."""
    for chunk in chunks:
        yield chunk
    raise ConnectionError("cut")


def shelf(store: BlobStore) -> Snapshots:
    """Return *store* as the capability that it offers."""
    assert isinstance(store, Snapshots)
    return store


async def content(store: BlobStore, name: str) -> bytes:
    """Return the bytes of a snapshot, having looked at its blocks."""
    async with shelf(store).read_snapshot(name) as blocks:
        found = [block async for block in blocks]
    assert all(0 < len(block) <= BLOCK for block in found)
    return b"".join(found)


class SnapshotsContract:
    """The promises of `Snapshots`."""

    @pytest.mark.parametrize("size", [0, 1, BLOCK, 3 * BLOCK + 7])
    async def test_what_was_put_comes_back(self, store: BlobStore, size: int) -> None:
        name, data = snapshot_name(MOMENT), bytes(range(256)) * (size // 256 + 1)
        assert await shelf(store).put_snapshot(UPLOAD, name, stream(data[:size])) == size
        assert await shelf(store).snapshots() == [(name, size)]
        assert await content(store, name) == data[:size]

    async def test_names_are_in_the_order_of_time(self, store: BlobStore) -> None:
        names = [snapshot_name(MOMENT + timedelta(days=day)) for day in range(5)]
        for name in reversed(names):
            await shelf(store).put_snapshot(UPLOAD, name, stream(b"content"))
        assert [name for name, _ in await shelf(store).snapshots()] == names
        assert snapshot_begun(names[2]) == MOMENT + timedelta(days=2)

    async def test_the_walk_shows_none(self, store: BlobStore) -> None:
        await shelf(store).put_snapshot(UPLOAD, snapshot_name(MOMENT), stream(b"content"))
        assert [one async for one in store.walk()] == []

    async def test_one_that_breaks_off_is_not_there(self, store: BlobStore) -> None:
        name = snapshot_name(MOMENT)
        with pytest.raises(ConnectionError):
            await shelf(store).put_snapshot(UPLOAD, name, cut(b"content" * BLOCK))
        assert await shelf(store).snapshots() == []
        assert [one async for one in store.walk() if one.upload != UPLOAD] == []

    async def test_one_that_breaks_off_leaves_what_was_there(self, store: BlobStore) -> None:
        name = snapshot_name(MOMENT)
        await shelf(store).put_snapshot(UPLOAD, name, stream(b"content"))
        with pytest.raises(ConnectionError):
            await shelf(store).put_snapshot(UPLOAD, name, cut(b"other"))
        assert await content(store, name) == b"content"
        await shelf(store).put_snapshot(UPLOAD, name, stream(b"other"))
        assert await content(store, name) == b"other"

    async def test_deleting(self, store: BlobStore) -> None:
        first, second = snapshot_name(MOMENT), snapshot_name(MOMENT)
        for name in (first, second):
            await shelf(store).put_snapshot(UPLOAD, name, stream(b"content"))
        await shelf(store).delete_snapshot(first)
        await shelf(store).delete_snapshot(first)
        assert await shelf(store).snapshots() == [(second, 7)]

    @pytest.mark.parametrize("name", ["", "..", "../x", "20300102T030405Z-00000000.gz", "a\0b"])
    async def test_what_is_not_there(self, store: BlobStore, name: str) -> None:
        assert is_snapshot_name(name) is name.startswith("2030")
        with pytest.raises(BlobUnknown):
            await content(store, name)
