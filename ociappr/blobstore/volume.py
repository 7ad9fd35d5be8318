"""The system calls of the file system driver, and the threads that wait for them.

A call that has begun is waited for even when who asked is cancelled, so that no descriptor is
closed, and then given to another file, while a system call still uses it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from ociappr.blobstore import BLOCK, Locator, Stored, is_snapshot_name, locators
from ociappr.blobstore.shielding import to_the_end
from ociappr.errors import BlobUnknown, StoreFull, StoreUnavailable

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_THREADS = 32  # they wait for the disk, and syncs that wait together share one journal commit
_PAGE = 1000  # objects that one hop of a walk brings, if no directory holds more
_SHARDS = tuple(f"{shard:02x}" for shard in range(256))
DIRECTORIES = (
    *(f"blobs/{algorithm}/{shard}" for algorithm in ("sha256", "sha512") for shard in _SHARDS),
    "staging",
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_RANGES = frozenset({errno.EXDEV, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL})


class Threads:
    """Runs system calls that may wait for a disk."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="blobs")

    async def run(self, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Return what *call* returns, waiting for its end even when cancelled meanwhile."""
        loop = asyncio.get_running_loop()
        with translated():
            return await to_the_end(loop.run_in_executor(self._executor, call, *args))

    async def close(self) -> None:
        """Wait for what runs."""
        await asyncio.to_thread(self._executor.shutdown)


@contextmanager
def translated() -> Iterator[None]:
    """Raise the port's errors for those of system calls."""
    try:
        yield
    except OSError as error:
        raised = StoreFull if error.errno in _FULL else StoreUnavailable
        raise raised(f"the blob store's volume: {error.strerror}") from error


def make_directories(root: Path) -> None:
    """Make the directories that every store has."""
    make_directory(root / "staging")
    make_shards(root, "sha256")


def make_shards(root: Path, algorithm: str) -> None:
    """Make the directories of one digest algorithm, which each digest finds by its first byte."""
    parent = root / "blobs" / algorithm
    make_directory(parent)
    for shard in sorted(set(_SHARDS) - {path.name for path in parent.iterdir()}):
        (parent / shard).mkdir(exist_ok=True)
    sync_directory(parent)


def make_directory(path: Path) -> None:
    """Make *path* and what is above it, durably, even if a crash came before the sync last time."""
    if not path.parent.is_dir():
        make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in *path* durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_for_reading(path: Path, opened: list[int]) -> int:
    """Put the descriptor of *path* into *opened*, where a cancelled caller finds it too.

    Returns the size; raises `BlobUnknown`.
    """
    try:
        opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise gone(path) from None
    return os.fstat(opened[0]).st_size


def copy(source: int, target: int, offset: int, size: int) -> int:
    """Append up to *size* bytes at *offset* of *source* to *target*; return how many."""
    try:
        return os.copy_file_range(source, target, size, offset)
    except OSError as error:
        if error.errno not in _NO_RANGES:
            raise
    return os.write(target, os.pread(source, min(size, BLOCK), offset))


def publish(private: Path, target: Path) -> None:
    """Give a synced file that nobody else knows of the name *target*, durably."""
    try:
        private.rename(target)
    except OSError:
        unlink(private)
        raise
    sync_directory(target.parent)


def unlink(path: Path) -> None:
    """Remove *path* if it is there."""
    path.unlink(missing_ok=True)


def listing(root: Path, directories: Iterator[str]) -> list[Stored]:
    """Return the objects of the next few *directories* in order; nothing when all are done."""
    found: list[Stored] = []
    for directory in directories:
        found += sorted(_objects(root, directory), key=lambda stored: stored.locator)
        if len(found) >= _PAGE:
            break
    return found


def snapshots(directory: Path) -> list[tuple[str, int]]:
    """Return name and size of the snapshots in *directory*, which may be absent."""
    found = []
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if is_snapshot_name(entry.name):
                    found.append((entry.name, entry.stat().st_size))
    return sorted(found)


def _objects(root: Path, directory: str) -> Iterator[Stored]:
    """Yield the objects in one directory; files that are no objects are not ours."""
    with suppress(FileNotFoundError), os.scandir(root / directory) as entries:
        for entry in entries:
            locator = Locator(f"{directory}/{entry.name}")
            with suppress(BlobUnknown, FileNotFoundError):
                upload, digest = locators.read(locator)
                yield Stored(locator, upload, digest, entry.stat().st_size)


def gone(path: Path) -> BlobUnknown:
    """Return the error for a file that is not there."""
    return BlobUnknown("the object is gone", detail={"file": path.name})
