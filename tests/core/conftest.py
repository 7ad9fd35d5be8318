"""Worlds: over memory, and over SQLite and files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.metadata.memory import MemoryMetadata
from ociappr.metadata.sqlite import SQLiteMetadata
from ociappr.registry import Registry
from tests.core.world import CHECKPOINT, World


@pytest.fixture
async def memory() -> World:
    """A world in memory."""
    return World(MemoryMetadata(), MemoryBlobs(checkpoint=CHECKPOINT))


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[World]:
    """A world on SQLite and files."""
    metadata = await SQLiteMetadata.open(tmp_path / "metadata.db")
    store = await FilesystemBlobs.open(tmp_path / "blobs", checkpoint=CHECKPOINT)
    yield World(metadata, store)
    await store.close()
    await metadata.close()


@pytest.fixture(params=["memory", pytest.param("files", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest) -> World:
    """Each kind of world in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, World)
    return found


@pytest.fixture
async def registry(world: World) -> Registry:
    """A registry over the stores of the world."""
    return await world.registry()
