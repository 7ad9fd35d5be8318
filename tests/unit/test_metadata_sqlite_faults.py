"""What SQLite promises beyond the contract: processes, crashes, full disks, strange files."""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ociappr.errors import StoreFull, StoreUnavailable
from ociappr.metadata import (
    Check,
    Conflict,
    Delete,
    Empty,
    Put,
    Unchanged,
    Write,
    sqlite_writer,
    transact,
)
from ociappr.metadata.sqlite import SQLiteMetadata
from tests.contracts.metadata import entry, increment, keys, seed

Operations = tuple[Sequence[Check], Sequence[Write]]

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteMetadata]:
    store = await SQLiteMetadata.open(path)
    yield store
    await store.close()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Be the rival process whose turn it is to write."""
    with Path(f"{path}.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def operations(*commits: Operations) -> tuple[Operations, ...]:
    """Return *commits*, typed."""
    return commits


def content(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, text: bytes, *, at: int = 0) -> None:
    with path.open("r+b" if at else "wb") as file:
        file.seek(at)
        file.write(text)


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def statements(store: SQLiteMetadata) -> list[str]:
    """Return a list that fills with what the writer asks SQLite."""
    asked: list[str] = []
    store._writer._database.set_trace_callback(asked.append)
    return asked


# group commit


async def test_commits_that_wait_are_written_together(store: SQLiteMetadata, path: Path) -> None:
    asked = statements(store)
    with held(path):
        tasks = [asyncio.create_task(seed(store, b"%02d" % number)) for number in range(50)]
        await asyncio.sleep(0)
        assert await keys(store) == []
    await asyncio.gather(*tasks)
    assert asked.count("COMMIT") <= 2
    assert len(await keys(store)) == 50


async def test_an_error_fails_the_guilty_commit_only(store: SQLiteMetadata, path: Path) -> None:
    await seed(store, b"taken")
    asked = statements(store)
    checked: list[list[Check]] = [
        [],
        [],
        [Empty(b"k")],
        [Empty(b"\xff")],
        [Unchanged(b"taken", None)],
        [],
    ]
    with held(path):
        tasks = [
            asyncio.create_task(store.commit(checks, [Put(b"k%d" % number, b"")]))
            for number, checks in enumerate(checked)
        ]
        await asyncio.sleep(0)
    outcome = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in outcome] == [
        type(None),
        type(None),
        Conflict,
        ValueError,
        Conflict,
        type(None),
    ]
    assert await keys(store, b"k", b"l") == [b"k0", b"k1", b"k5"]
    assert "ROLLBACK" in asked


async def test_later_commits_of_a_group_see_the_earlier_ones(
    store: SQLiteMetadata, path: Path
) -> None:
    await seed(store, b"a", b"p/1")
    version = (await entry(store, b"a")).version
    with held(path):
        tasks = [
            asyncio.create_task(store.commit(checks, writes))
            for checks, writes in operations(
                ([], [Put(b"first", b"")]),
                ([Unchanged(b"a", version)], [Delete(b"a"), Delete(b"p/1")]),
                ([Unchanged(b"a", None), Empty(b"p/")], [Put(b"a", b"2"), Put(b"p/2", b"")]),
                ([Unchanged(b"a", version)], [Put(b"a", b"3")]),
                ([Empty(b"p/")], [Put(b"a", b"4")]),
            )
        ]
        await asyncio.sleep(0)
    outcome = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(error, Conflict) for error in outcome] == [False, False, False, True, True]
    assert (await entry(store, b"a")).value == b"2"


async def test_a_cancelled_commit_runs_to_its_end(store: SQLiteMetadata, path: Path) -> None:
    with held(path):
        task = asyncio.create_task(seed(store, b"a", b"b"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    await seed(store, b"c")
    assert await keys(store) == [b"a", b"b", b"c"]


async def test_a_get_of_several_statements_is_one_instant(
    store: SQLiteMetadata, path: Path
) -> None:
    names = [b"%03d" % number for number in range(300)]
    await store.commit([], [Put(name, b"0") for name in names])
    asked: list[str] = []
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as rival:

        def between(statement: str) -> None:
            asked.append(statement[:6])
            if asked.count("SELECT") == 2:
                rival.execute("UPDATE entry SET value = ?", (b"1",))

        store._long.set_trace_callback(between)
        assert {one.value for one in (await store.get(names)).values()} == {b"0"}
        assert {one.value for one in (await store.get(names)).values()} == {b"1"}


# several processes, crashes


def count_up(path: Path, times: int) -> None:
    async def run() -> None:
        store = await SQLiteMetadata.open(path)
        for _ in range(times):
            await asyncio.gather(*(transact(store, increment) for _ in range(2)))
        await store.close()

    asyncio.run(run())


async def test_two_processes_lose_no_update(path: Path) -> None:
    children = [SPAWN.Process(target=count_up, args=(path, 40)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        await asyncio.to_thread(child.join)
    assert [child.exitcode for child in children] == [0, 0]
    store = await SQLiteMetadata.open(path)
    assert (await entry(store, b"n")).value == b"160"
    await store.close()


def commit_until_killed(path: Path, acknowledged: Connection) -> None:
    async def write(store: SQLiteMetadata, name: str) -> None:
        for number in range(1_000_000):
            key = f"{name}/{number:07}".encode()
            await store.commit(
                [Unchanged(b"a" + key, None)], [Put(b"a" + key, b""), Put(b"b" + key, b"")]
            )
            acknowledged.send_bytes(key)

    async def run() -> None:
        store = await SQLiteMetadata.open(path)
        name = f"{len(await keys(store)):07}"
        await asyncio.gather(*(write(store, f"{name}-{writer}") for writer in range(4)))

    asyncio.run(run())


def acknowledged_until_killed(path: Path) -> set[bytes]:
    """Kill a writer in the middle of its work; return what it had been told is safe."""
    ours, theirs = SPAWN.Pipe(duplex=False)
    child = SPAWN.Process(target=commit_until_killed, args=(path, theirs))
    child.start()
    theirs.close()
    with ours, closing(child):
        seen = {ours.recv_bytes() for _ in range(100)}
        child.kill()
        child.join()
        try:
            while True:
                seen.add(ours.recv_bytes())
        except EOFError:
            return seen


async def test_kill_loses_nothing_that_was_acknowledged(path: Path) -> None:
    acknowledged: set[bytes] = set()
    for _ in range(3):
        acknowledged |= await asyncio.to_thread(acknowledged_until_killed, path)
        store = await SQLiteMetadata.open(path)
        found = await keys(store, limit=1_000_000)
        await store.close()
        assert {b"a" + key for key in acknowledged} <= set(found)
        assert [key[1:] for key in found if key[:1] == b"a"] == [
            key[1:] for key in found if key[:1] == b"b"
        ]


async def test_every_commit_is_synced(store: SQLiteMetadata) -> None:
    """Killing a process cannot show this; only a power loss could."""
    database = store._writer._database
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)


def leave_open(path: Path) -> None:
    asyncio.run(SQLiteMetadata.open(path))


async def test_a_store_left_open_does_not_keep_the_process(path: Path) -> None:
    child = SPAWN.Process(target=leave_open, args=(path,))
    child.start()
    await asyncio.to_thread(child.join, 20)
    exitcode = child.exitcode
    child.kill()
    assert exitcode == 0


async def test_many_may_open_a_new_file_at_once(path: Path) -> None:
    stores = await asyncio.gather(*(SQLiteMetadata.open(path) for _ in range(6)))
    await asyncio.gather(*(seed(store, b"%d" % number) for number, store in enumerate(stores)))
    assert await keys(stores[0]) == [b"%d" % number for number in range(6)]
    await asyncio.gather(*(store.close() for store in stores))


# room


async def fill(store: SQLiteMetadata) -> list[bytes]:
    """Return the keys that fitted before the disk was full."""
    fitted: list[bytes] = []
    for key in (b"l%02d" % number for number in range(100)):
        try:
            await store.commit([], [Put(key, b"x" * 4_000)])
        except StoreFull:
            return fitted
        fitted.append(key)
    pytest.fail("there is no end to this disk")


async def test_a_full_disk_is_told_and_loses_nothing(store: SQLiteMetadata, path: Path) -> None:
    database = store._writer._database
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages + 40}").fetchone()
    await seed(store, b"a")
    with held(path):
        tasks = [
            asyncio.create_task(store.commit([], [Put(b"k%d" % number, b"x" * size)]))
            for number, size in enumerate((10, 500_000, 20))
        ]
        await asyncio.sleep(0)
    outcome = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in outcome] == [type(None), StoreFull, type(None)]
    fitted = await fill(store)
    assert await keys(store, b"a", b"l") == [b"a", b"k0", b"k2"]
    assert await keys(store, b"l", b"m") == fitted
    database.execute("PRAGMA max_page_count = 1000000").fetchone()
    await store.commit([], [Put(b"k1", b"x" * 500_000)])


async def test_the_log_stays_bounded(
    store: SQLiteMetadata, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that stays keeps the log from starting over; once it left, the log is cut."""
    monkeypatch.setattr(sqlite_writer, "_LOG", 1_000_000)
    monkeypatch.setattr(store._writer, "_log_bound", 5_000_000)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entry").fetchall()
        for _ in range(12):
            await store.commit([], [Put(b"a", b"x" * 400_000)])
        assert log_size(path) > 4_500_000
    for _ in range(3):
        await store.commit([], [Put(b"a", b"x" * 400_000)])
    assert log_size(path) < 2_000_000


# strange files, closed stores


async def test_its_files_are_private(store: SQLiteMetadata, path: Path) -> None:
    await seed(store, b"a")
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    suffixes = ("", ".lock", "-shm", "-wal")
    assert modes == {f"{path.name}{suffix}": 0o600 for suffix in suffixes}


async def test_a_newer_schema_is_refused(store: SQLiteMetadata, path: Path) -> None:
    await seed(store, b"a")
    await store.close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 2")
    before = content(path)
    with pytest.raises(StoreUnavailable, match="schema 2, this release knows 1") as refusal:
        await SQLiteMetadata.open(path)
    assert refusal.value.hint
    assert content(path) == before


@pytest.mark.parametrize("text", [b"this is no database" * 1_000, b"SQLite format 3\0" * 500])
async def test_what_is_no_database_is_refused(path: Path, text: bytes) -> None:
    write(path, text)
    with pytest.raises(StoreUnavailable, match="cannot open metadata"):
        await SQLiteMetadata.open(path)
    assert content(path) == text


async def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot open metadata"):
        await SQLiteMetadata.open(tmp_path / "absent" / "metadata.db")


async def test_a_closed_store_is_unavailable(store: SQLiteMetadata) -> None:
    await store.close()
    for attempt in (
        store.get([b"a"]),
        store.get([b"a"] * 500),
        store.scan(b"a", b"b", limit=1),
        store.scan(b"a", b"b", limit=1_000),
        store.commit([], [Put(b"a", b"")]),
    ):
        with pytest.raises(StoreUnavailable):
            await attempt


async def test_a_damaged_file_is_told_in_our_words(store: SQLiteMetadata, path: Path) -> None:
    await store.commit([], [Put(b"%04d" % number, b"x" * 3_000) for number in range(200)])
    await store.close()
    write(path, b"\xee" * 400_000, at=8_192)
    store = await SQLiteMetadata.open(path)
    for attempt in (
        store.scan(b"0", b"1", limit=100),
        store.scan(b"0", b"1", limit=1_000),
        store.get([b"0100"]),
        store.commit([], [Put(b"0100", b"")]),
    ):
        with pytest.raises(StoreUnavailable, match="metadata"):
            await attempt
    await store.close()
