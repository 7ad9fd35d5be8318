"""The contract of a blob store on a file system, and what only files can show."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from ociappr.blobstore import BLOCK, Files, Locator, Part, Stored, volume
from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown, StoreFull, StoreUnavailable
from tests.contracts.blobstore import (
    CHECKPOINT,
    UPLOAD,
    BlobStoreContract,
    CheckpointContract,
    DurableContract,
    Reopen,
    Told,
    content,
    every,
    read,
    staged,
    stream,
)
from tests.contracts.snapshots import SnapshotsContract

_CALLS = ("open", "write", "fdatasync", "fsync", "link", "rename", "unlink", "copy_file_range")


def files(root: Path) -> list[str]:
    """Return every file of a store, whatever its name."""
    return sorted(
        str(Path(directory, name).relative_to(root))
        for directory, _, names in os.walk(root)
        for name in names
    )


def descriptors(root: Path) -> list[str]:
    """Return what this process holds open below *root*."""
    found: list[Path] = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found.append(link.readlink())
    return [str(path) for path in found if path.is_relative_to(root)]


@dataclass
class Calls:
    """Records system calls by kind of path, and does *before* each of them."""

    root: Path
    made: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _: None

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        for name in _CALLS:
            patch.setattr(os, name, self._recorder(name, getattr(os, name)))

    def clear(self) -> None:
        self.made.clear()

    def _recorder(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def recorded(*args: object, **kwargs: object) -> object:
            touched = [self._kind(arg) for arg in args[: 2 if name in ("link", "rename") else 1]]
            text = " ".join((name, *touched))
            self.before(text)
            result = call(*args, **kwargs)
            if text != "open directory":
                self.made.append(text)
            return result

        return recorded

    def _kind(self, arg: object) -> str:
        path = Path(f"/proc/self/fd/{arg}").readlink() if isinstance(arg, int) else Path(str(arg))
        if path == self.root / "staging":
            return "staging/"
        relative = path.relative_to(self.root).parts
        if relative[0] == "blobs" and len(relative) == 3:
            return "blobs/"
        return relative[0]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root whose many directories are made once."""
    return tmp_path_factory.mktemp("blobs")


@pytest.fixture
def root(directories: Path) -> Path:
    """Return a root without any file."""
    for name in files(directories):
        (directories / name).unlink()
    return directories


@pytest.fixture
async def store(root: Path) -> AsyncIterator[FilesystemBlobs]:
    store = await FilesystemBlobs.open(root, checkpoint=CHECKPOINT)
    yield store
    await store.close()
    assert descriptors(root) == []


@pytest.fixture
def calls(store: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    calls = Calls(store.path(Locator("staging/a-00")).parent.parent)
    with monkeypatch.context() as patch:
        calls.watch(patch)
        yield calls


def failing(kind: str, number: int) -> Callable[[str], None]:
    """Return a hook that makes system calls of *kind* fail."""

    def fail(text: str) -> None:
        if text.startswith(kind):
            raise OSError(number, os.strerror(number))

    return fail


class TestFilesystemBlobs(
    BlobStoreContract, CheckpointContract, DurableContract, SnapshotsContract
):
    @pytest.fixture
    async def reopen(self, store: FilesystemBlobs, root: Path) -> AsyncIterator[Reopen]:
        opened: list[FilesystemBlobs] = []

        async def reopen() -> FilesystemBlobs:
            await store.close()
            opened.append(await FilesystemBlobs.open(root))
            return opened[-1]

        yield reopen
        for again in opened:
            await again.close()


@pytest.mark.slow
class TestThreadedFilesystemBlobs(BlobStoreContract, CheckpointContract):
    @pytest.fixture
    async def store(self, root: Path) -> AsyncIterator[FilesystemBlobs]:
        store = await FilesystemBlobs.open(root, threaded=True, checkpoint=CHECKPOINT)
        yield store
        await store.close()
        assert descriptors(root) == []


@pytest.mark.slow
class TestFilesystemBlobsWithoutLinks(BlobStoreContract, CheckpointContract):
    @pytest.fixture
    def store(self, store: FilesystemBlobs, calls: Calls) -> FilesystemBlobs:
        calls.before = failing("link", errno.EMLINK)
        return store


# -- the order of system calls, which is what survives a loss of power ---------------------------


async def test_staging_syncs_the_file_then_its_name(store: FilesystemBlobs, calls: Calls) -> None:
    await store.stage(UPLOAD, stream(b"bytes"))
    assert calls.made == [
        "open staging",
        "write staging",
        "fsync staging",
        "open staging/",
        "fsync staging/",
    ]


async def test_a_digest_names_only_what_is_synced(store: FilesystemBlobs, calls: Calls) -> None:
    await store.stage(UPLOAD, stream(b"bytes"), expected=Digest.of(b"bytes"))
    assert [call for call in calls.made if not call.startswith("open")] == [
        "write staging",
        "fsync staging",
        "fsync staging/",
        "fsync staging",
        "link staging blobs",
        "fsync blobs/",
        "unlink staging",
    ]


async def test_promoting_links_what_is_synced(store: FilesystemBlobs, calls: Calls) -> None:
    part = await staged(store, b"bytes")
    calls.clear()
    await store.promote(UPLOAD, [part], Digest.of(b"bytes"))
    assert calls.made == [
        "open staging",
        "fsync staging",
        "link staging blobs",
        "open blobs/",
        "fsync blobs/",
    ]


async def test_joining_names_only_the_synced_copy(store: FilesystemBlobs, calls: Calls) -> None:
    part = await staged(store, b"bytes")
    calls.clear()
    await store.promote(UPLOAD, [part, part], Digest.of(b"bytesbytes"))
    assert [call for call in calls.made if not call.startswith("open")] == [
        "copy_file_range staging",
        "copy_file_range staging",
        "fsync staging",
        "fsync staging/",
        "rename staging blobs",
        "fsync blobs/",
    ]


async def test_reached_is_told_after_the_bytes_and_the_name_are_synced(
    store: FilesystemBlobs, calls: Calls
) -> None:
    seen: list[list[str]] = []
    told = asyncio.Event()

    async def reached(_: Locator, length: int) -> None:
        assert length == CHECKPOINT
        seen.append(calls.made.copy())
        told.set()

    async def source() -> AsyncIterator[bytes]:
        yield content(CHECKPOINT)
        await told.wait()

    await store.stage(UPLOAD, source(), reached=reached)
    assert [call for call in seen[0] if not call.startswith(("open", "write"))] == [
        "fdatasync staging",
        "fsync staging/",
    ]


# -- beside the stream ---------------------------------------------------------------------------


async def test_the_stream_goes_on_while_it_is_synced_but_one_sync_behind_at_most(
    store: FilesystemBlobs,
) -> None:
    inside, gate, second = asyncio.Event(), asyncio.Event(), asyncio.Event()
    pulled = 0

    async def reached(_: Locator, length: int) -> None:
        inside.set()
        if length > CHECKPOINT:
            second.set()
        await gate.wait()

    async def source() -> AsyncIterator[bytes]:
        nonlocal pulled
        block = content(BLOCK)
        for pulled in range(1, 3 * CHECKPOINT // BLOCK + 1):
            yield block
            if pulled * BLOCK == CHECKPOINT:
                await inside.wait()
            if pulled * BLOCK == 2 * CHECKPOINT - BLOCK:
                gone_on.set()

    gone_on = asyncio.Event()
    task = asyncio.create_task(store.stage(UPLOAD, source(), reached=reached))
    await gone_on.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    assert pulled * BLOCK == 2 * CHECKPOINT
    assert not second.is_set()
    gate.set()
    assert (await task)[1] == 3 * CHECKPOINT
    assert second.is_set()


async def test_the_loop_writes_but_not_beside_a_sync(store: FilesystemBlobs, calls: Calls) -> None:
    inside, gate = asyncio.Event(), asyncio.Event()
    on_loop: list[bool] = []

    def note(text: str) -> None:
        if text == "write staging":
            on_loop.append(threading.current_thread() is threading.main_thread())

    async def reached(_: Locator, __: int) -> None:
        inside.set()
        await gate.wait()

    async def source() -> AsyncIterator[bytes]:
        yield content(CHECKPOINT)
        await inside.wait()
        yield content(2 * BLOCK)
        gate.set()

    calls.before = note
    await store.stage(UPLOAD, source(), reached=reached)
    assert on_loop == [True] * (CHECKPOINT // BLOCK) + [False] * 2


async def test_the_loop_gets_a_turn_between_blocks(root: Path) -> None:
    store = await FilesystemBlobs.open(root)
    blocks, turns, done = 64, 0, False

    async def count() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    async def ended() -> AsyncIterator[bytes]:
        nonlocal turns, done
        turns = 0
        yield bytes(blocks * BLOCK)
        done = True

    counting = asyncio.create_task(count())
    await store.stage(UPLOAD, ended())
    await counting
    await store.close()
    assert blocks - 1 <= turns <= blocks + 1


async def test_a_file_is_not_closed_under_a_system_call(
    store: FilesystemBlobs, calls: Calls, root: Path
) -> None:
    loop, inside, gate = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait(text: str) -> None:
        if text == "fsync staging":
            loop.call_soon_threadsafe(inside.set)
            assert gate.wait(timeout=30)

    calls.before = wait
    task = asyncio.create_task(store.stage(UPLOAD, stream(b"bytes")))
    await inside.wait()
    for _ in range(3):
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        assert len(descriptors(root)) == 1
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(root) == []


# -- a disk that fails ---------------------------------------------------------------------------

_FAULTS = [
    ("open staging", False),
    ("write", False),
    ("fdatasync", False),
    ("fsync staging", False),
    ("fsync staging/", False),
    ("link", True),
]


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EIO, StoreUnavailable),
        (errno.EMFILE, StoreUnavailable),
    ],
)
@pytest.mark.parametrize(("kind", "promoted"), _FAULTS)
@pytest.mark.parametrize("threaded", [False, True])
async def test_a_failing_disk_leaves_nothing(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    number: int,
    raised: type[StoreUnavailable],
    *,
    promoted: bool,
    threaded: bool,
) -> None:
    store = await FilesystemBlobs.open(root, threaded=threaded, checkpoint=CHECKPOINT)
    data = content(3 * CHECKPOINT)
    expected = Digest.of(data) if promoted else None
    with monkeypatch.context() as patch:
        Calls(root, before=failing(kind, number)).watch(patch)
        with pytest.raises(StoreUnavailable) as caught:
            await store.stage(UPLOAD, stream(data), expected=expected)
    assert type(caught.value) is raised
    assert files(root) == []
    assert descriptors(root) == []
    await store.close()


async def test_a_disk_that_fills_up_in_the_middle_leaves_what_was_reached(
    store: FilesystemBlobs, calls: Calls, root: Path
) -> None:
    data, told = content(CHECKPOINT), Told()

    async def source() -> AsyncIterator[bytes]:
        yield data
        await told.first.wait()
        calls.before = failing("write", errno.ENOSPC)
        yield data

    with pytest.raises(StoreFull):
        await store.stage(UPLOAD, source(), reached=told)
    assert files(root) == [told.parts[0].locator]
    assert await read(store, told.parts[0].locator) == data


async def test_short_writes_are_continued(
    store: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, write = content(BLOCK + 1), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda number, block: write(number, block[:1000]))
        part = await staged(store, data)
    assert await read(store, part.locator) == data


async def test_a_file_that_shrinks_under_its_reader_never_ends_cleanly(
    store: FilesystemBlobs,
) -> None:
    part = await staged(store, content(3 * BLOCK))
    async with store.read(part.locator) as blocks:
        await anext(blocks)
        os.truncate(store.path(part.locator), BLOCK)
        with pytest.raises(StoreUnavailable):
            await anext(blocks)


async def test_a_part_that_goes_just_before_its_link_is_unknown(
    store: FilesystemBlobs, calls: Calls, root: Path
) -> None:
    part = await staged(store, content(10))

    def vanish(text: str) -> None:
        if text.startswith("link"):
            store.path(part.locator).unlink()

    calls.before = vanish
    with pytest.raises(BlobUnknown):
        await store.promote(UPLOAD, [part], Digest.of(content(10)))
    assert files(root) == []


@pytest.mark.parametrize("kind", ["copy_file_range", "fsync staging", "rename"])
async def test_a_failing_copy_leaves_the_parts_alone(
    store: FilesystemBlobs, calls: Calls, root: Path, kind: str
) -> None:
    part = await staged(store, content(10))
    calls.before = failing(kind, errno.ENOSPC)
    with pytest.raises(StoreFull):
        await store.promote(UPLOAD, [part, part], Digest.of(b""))
    assert files(root) == [part.locator]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL])
async def test_where_ranges_cannot_be_copied_bytes_are(
    store: FilesystemBlobs, calls: Calls, number: int
) -> None:
    data = content(2 * BLOCK + 5)
    part = await staged(store, data)
    calls.before = failing("copy_file_range", number)
    named = await store.promote(UPLOAD, [part, part], Digest.of(data * 2))
    assert await read(store, named) == data * 2


@pytest.mark.parametrize(
    ("number", "cheap"),
    [(errno.EPERM, False), (errno.ENOTSUP, False), (errno.EXDEV, False), (errno.EMLINK, True)],
)
async def test_where_hard_links_are_refused_bytes_are_copied(
    store: FilesystemBlobs, calls: Calls, number: int, *, cheap: bool
) -> None:
    data = content(BLOCK + 5)
    part = await staged(store, data)
    assert store.cheap([part])
    calls.before = failing("link", number)
    named = await store.promote(UPLOAD, [part], Digest.of(data))
    assert await read(store, named) == data
    assert await read(store, part.locator) == data
    assert store.path(named).stat().st_ino != store.path(part.locator).stat().st_ino
    assert store.cheap([part]) is cheap


async def test_a_name_that_is_taken_is_never_written_over(root: Path) -> None:
    store = await FilesystemBlobs.open(root, nonce=lambda: "00")
    data = content(10)
    part = await staged(store, data)
    with pytest.raises(StoreUnavailable):
        await staged(store, b"other bytes")
    named = await store.promote(UPLOAD, [part], Digest.of(data))
    with pytest.raises(StoreUnavailable):
        await store.promote(UPLOAD, [part], Digest.of(data))
    assert [await read(store, locator) for locator in (part.locator, named)] == [data, data]
    await store.close()


# -- files ---------------------------------------------------------------------------------------


async def test_the_file_of_an_object_can_be_sent_by_the_kernel(
    store: FilesystemBlobs, root: Path
) -> None:
    assert isinstance(store, Files)
    data = content(10)
    digest = Digest.of(data)
    locator, _ = await store.stage(UPLOAD, stream(data), expected=digest)
    path = store.path(locator)
    assert path.read_bytes() == data
    assert path.parent == root / "blobs" / "sha256" / digest.hex[:2]
    assert path.name.startswith(f"{digest.hex}.{UPLOAD}-")
    for foreign in ("../x", "/etc/passwd", "staging/../../a-00"):
        with pytest.raises(BlobUnknown):
            store.path(Locator(foreign))


async def test_files_that_are_no_objects_are_left_alone(store: FilesystemBlobs, root: Path) -> None:
    part = await staged(store, content(10))
    for name in ("staging/README", "staging/.a-00~", "blobs/sha256/aa/bb.a-00", "backup"):
        (root / name).write_text("not ours")
    assert [stored.locator for stored in await every(store)] == [part.locator]


async def test_a_walk_holds_few_directories_at_a_time(
    store: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        data = content(10, seed)
        await store.stage(UPLOAD, stream(data), expected=Digest.of(data))
    await staged(store, content(10))
    whole, pages = await every(store), list[int]()
    listing = volume.listing

    def counted(root: Path, directories: Iterator[str]) -> list[Stored]:
        page = listing(root, directories)
        pages.append(len(page))
        return page

    monkeypatch.setattr(volume, "_PAGE", 1)
    monkeypatch.setattr(volume, "listing", counted)
    assert await every(store) == whole
    assert pages == [1, 1, 1, 1, 1, 1, 1, 0]


async def test_two_processes_may_share_one_root(store: FilesystemBlobs, root: Path) -> None:
    other = await FilesystemBlobs.open(root)
    data = content(10)
    part = await staged(store, data)
    named = await other.promote(UPLOAD, [part], Digest.of(data))
    await other.delete(part.locator)
    assert await read(store, named) == data
    await other.close()


async def test_a_root_is_made_as_deep_as_need_be(tmp_path: Path) -> None:
    root = tmp_path / "as" / "deep"
    store = await FilesystemBlobs.open(root)
    assert len(list((root / "blobs" / "sha256").iterdir())) == 256
    data = content(10)
    digest = Digest.of(data, algorithm="sha512")
    locator, _ = await store.stage(UPLOAD, stream(data), expected=digest)
    assert len(list((root / "blobs" / "sha512").iterdir())) == 256
    assert [stored.locator for stored in await every(store)] == [locator]
    await store.close()


async def test_a_root_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        await FilesystemBlobs.open(tmp_path / "file" / "store")


# -- kill -9 -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_any_system_call_it_keeps_what_it_returned_and_nothing_is_torn(
    root: Path, tmp_path: Path
) -> None:
    for step in range(200):
        log = tmp_path / f"{step}.log"
        killed = _life(root, log, step)
        asyncio.run(_check_after_death(root, log))
        for name in files(root):
            (root / name).unlink()
        if not killed:
            assert step > 40
            return
    pytest.fail("the child never came to its end")


def _life(root: Path, log: Path, step: int) -> bool:
    """Let a child use the store, and kill it at its system call number *step*."""
    child = os.fork()
    if child == 0:
        _child(root, log, step)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _child(root: Path, log: Path, step: int) -> NoReturn:
    left = step

    def before(_: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    code = 1
    try:
        with log.open("w", buffering=1) as lines:
            asyncio.run(_use(root, lines.write, before))
        code = 0
    finally:
        os._exit(code)


async def _use(root: Path, tell: Callable[[str], object], before: Callable[[str], None]) -> None:
    store = await FilesystemBlobs.open(root, checkpoint=CHECKPOINT)
    data = content(CHECKPOINT + BLOCK)
    digest, twice = Digest.of(data), Digest.of(data * 2)

    async def reached(locator: Locator, length: int) -> None:
        tell(f"{locator} {Digest.of(data[:length])} {length}\n")

    with pytest.MonkeyPatch.context() as patch:
        Calls(root, before=before).watch(patch)
        locator, length = await store.stage(UPLOAD, stream(data), reached=reached)
        part = Part(locator, length, closed=True)
        tell(f"{locator} {digest} {length}\n")
        tell(f"{await store.promote(UPLOAD, [part], digest)} {digest} {length}\n")
        tell(f"{await store.promote(UPLOAD, [part] * 2, twice)} {twice} {length * 2}\n")
        locator, _ = await store.stage(UPLOAD, stream(data), expected=digest)
        tell(f"{locator} {digest} {length}\n")
    await store.close()


async def _check_after_death(root: Path, log: Path) -> None:
    store = await FilesystemBlobs.open(root)
    for line in log.read_text().splitlines():
        locator, digest, length = line.split()
        found = await read(store, Locator(locator), 0, int(length))
        assert Digest.of(found) == Digest.parse(digest)
    for stored in await every(store):
        if stored.digest is not None:
            assert Digest.of(await read(store, stored.locator)) == stored.digest
    for name in files(root / "blobs"):
        path = root / "blobs" / name
        assert Digest.of(path.read_bytes()).hex == path.name.partition(".")[0]
    await store.close()
