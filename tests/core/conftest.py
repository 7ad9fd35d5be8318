"""Worlds: over memory, and over SQLite and files."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.metadata.memory import MemoryMetadata
from ociappr.metadata.sqlite import SQLiteMetadata
from ociappr.registry import Registry
from tests.core.world import CHECKPOINT, World

NewWorld = Callable[[], AbstractAsyncContextManager[World]]


@asynccontextmanager
async def in_memory() -> AsyncIterator[World]:
    """Make a world in memory."""
    yield World(MemoryMetadata(), MemoryBlobs(checkpoint=CHECKPOINT))


@asynccontextmanager
async def on_files(folder: Path) -> AsyncIterator[World]:
    """Make a world on SQLite and files."""
    folder.mkdir(exist_ok=True)
    metadata = await SQLiteMetadata.open(folder / "metadata.db")
    store = await FilesystemBlobs.open(folder / "blobs", checkpoint=CHECKPOINT)
    yield World(metadata, store)
    await store.close()
    await metadata.close()


@pytest.fixture
def memory_worlds() -> NewWorld:
    """Makes worlds in memory."""
    return in_memory


@pytest.fixture
def file_worlds(tmp_path: Path) -> NewWorld:
    """Makes worlds on SQLite and files."""
    numbers = itertools.count()
    return lambda: on_files(tmp_path / f"{next(numbers)}")


@pytest.fixture
async def memory(memory_worlds: NewWorld) -> AsyncIterator[World]:
    """A world in memory."""
    async with memory_worlds() as world:
        yield world


@pytest.fixture
async def files(file_worlds: NewWorld) -> AsyncIterator[World]:
    """A world on SQLite and files."""
    async with file_worlds() as world:
        yield world


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
