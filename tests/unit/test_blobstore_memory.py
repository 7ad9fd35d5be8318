"""The contract of a blob store, kept in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ociappr.blobstore import Files
from ociappr.blobstore.memory import MemoryBlobs
from tests.contracts.blobstore import CHECKPOINT, BlobStoreContract, CheckpointContract
from tests.contracts.snapshots import SnapshotsContract


class TestMemoryBlobs(BlobStoreContract, CheckpointContract, SnapshotsContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[MemoryBlobs]:
        store = MemoryBlobs(checkpoint=CHECKPOINT)
        yield store
        await store.close()

    async def test_it_has_no_files(self, store: MemoryBlobs) -> None:
        assert not isinstance(store, Files)
