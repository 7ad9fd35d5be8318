"""Metadata in one SQLite file: the embedded default, shared by every worker process of one host.

Short reads run on the loop, where a hop to a thread would cost several times the read; long ones
run in a thread. One writer thread takes the commits that wait together and makes them durable with
one fsync (group commit). Nothing named sqlite3 is seen outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from ociappr.errors import StoreFull, StoreUnavailable
from ociappr.metadata import Check, Conflict, Entry, Put, Unchanged, Write, prefix_end

T = TypeVar("T")
Row = tuple[bytes, bytes, int]

_SCHEMA = 1
_SHORT = 100  # keys read on the loop at most
_BATCH = 128  # keys in one statement at most, a power of two
_GROUP = 100  # commits in one group at most: what an error makes us repeat
_BUSY = 5.0  # seconds to wait for a foreign tool; our own writers queue at the lock file
_LOG = 64 * 1024 * 1024  # bytes of log that make a checkpoint wait for its readers
_PAGES = 4_000  # of log before a commit checkpoints; SQLite's 1,000 cost a sixth of the throughput
_CACHE = 16_384  # KiB per connection; SQLite's 2,048 make inserting half as dear again

_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE entry (
    key BLOB PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE revision (current INTEGER NOT NULL);
INSERT INTO revision VALUES (0);
"""
_ENTRY = "SELECT key, value, version FROM entry WHERE "
_SCAN = _ENTRY + "key >= ? AND key < ? ORDER BY key LIMIT ?"
_SCAN_REVERSE = _ENTRY + "key >= ? AND key < ? ORDER BY key DESC LIMIT ?"
_VERSION = "SELECT key, version FROM entry WHERE "
_FIRST = "SELECT 1 FROM entry WHERE key >= ? AND key < ? LIMIT 1"
_REVISION = "SELECT current FROM revision"
_ADVANCE = "UPDATE revision SET current = ?"
_PUT = "REPLACE INTO entry VALUES (?, ?, ?)"
_DELETE = "DELETE FROM entry WHERE key = ?"


class SQLiteMetadata:
    """A connection for short reads on the loop, one for long reads, one for the writer thread."""

    def __init__(self, path: Path, writer: _Writer) -> None:
        self._writer = writer
        self._short = _connect(path, "query_only = ON")
        self._long = _connect(path, "query_only = ON")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="metadata-reader")
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> SQLiteMetadata:
        """Open the file, made when absent; raise `StoreUnavailable` if it cannot be used."""
        try:
            writer = await asyncio.to_thread(_Writer, path, asyncio.get_running_loop())
            with contextlib.ExitStack() as opened:
                opened.callback(writer.stop)
                store = cls(path, writer)
                opened.pop_all()
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"cannot open metadata at {path}: {error}") from error
        return store

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return the entries of those *keys* that exist, all seen at one instant."""
        if len(keys) > _SHORT:
            rows = await self._in_thread(lambda: _at_one_instant(self._long, keys))
        else:
            try:
                rows = _select(self._short, _ENTRY, keys)
            except sqlite3.Error as error:
                raise _translated(error) from error
        return {row[0]: Entry(*row) for row in rows}

    async def scan(
        self, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[Entry]:
        """Return the first *limit* entries of the range, or the last if *reverse*."""
        query = _SCAN_REVERSE if reverse else _SCAN
        bounds = (start, stop, limit)
        if limit > _SHORT:
            rows = await self._in_thread(lambda: self._long.execute(query, bounds).fetchall())
        else:
            rows = _run(lambda: self._short.execute(query, bounds).fetchall())
        return [Entry(*row) for row in rows]

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """Write all of *writes* if all of *checks* hold; a cancelled commit runs to its end."""
        self._require_open()
        await self._writer.write(checks, writes)

    async def close(self) -> None:
        """Let commits and reads under way finish, then let go of the file."""
        self._closed = True
        self._short.close()
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        self._reader.shutdown()
        self._long.close()
        self._writer.stop()

    async def _in_thread(self, read: Callable[[], list[Row]]) -> list[Row]:
        self._require_open()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, _run, read)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the metadata store is closed")


@dataclass(slots=True, eq=False)
class _Commit:
    """A commit that waits; *error* is set by the writer thread before the loop wakes it."""

    checks: Sequence[Check]
    writes: Sequence[Write]
    done: asyncio.Future[None]
    error: Exception | None = None


class _Writer:
    """The thread that writes: commits that wait together become one transaction of SQLite."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._log = Path(f"{path}-wal")
        self._log_bound = _LOG
        self._queue: queue.SimpleQueue[_Commit | None] = queue.SimpleQueue()
        self._thread = Thread(target=self._serve, name="metadata-writer", daemon=True)
        with contextlib.ExitStack() as opened:
            self._lock = _private(f"{path}.lock")
            opened.callback(os.close, self._lock)
            with self._turn():
                self._database = _prepare(path)
            opened.callback(self._database.close)
            self._opened = opened.pop_all()
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, then close; blocks."""
        self._queue.put(None)
        self._thread.join()

    async def write(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """Wait until the commit is durable or refused."""
        commit = _Commit(checks, writes, self._loop.create_future())
        self._queue.put(commit)
        await commit.done

    def _serve(self) -> None:
        with self._opened:
            while group := self._wait():
                try:
                    with self._turn():
                        self._together(group)
                except (sqlite3.Error, OSError) as error:
                    for commit in group:
                        commit.error = _translated(error)
                # once the loop is closed, nobody waits any more
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(_settle, group)
                self._bound_log()

    def _wait(self) -> list[_Commit]:
        """Return the commits that wait, at least one; none at all means the end."""
        group: list[_Commit] = []
        while not group or (len(group) < _GROUP and not self._queue.empty()):
            commit = self._queue.get()
            if commit is None:
                if group:  # the end waits for its own turn
                    self._queue.put(None)
                break
            group.append(commit)
        return group

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock file: SQLite's own way of waiting for another process sleeps in steps."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _together(self, group: Sequence[_Commit]) -> None:
        """Write *group* in one transaction; should that fail, each of them in its own."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            _apply(self._database, group)
            self._database.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whoever awaits the guilty commit gets it
            if self._database.in_transaction:  # SQLite ends it itself when the disk is full
                self._database.execute("ROLLBACK")
            if len(group) == 1:
                group[0].error = _translated(error)
                return
            for commit in group:
                self._together([commit])

    def _bound_log(self) -> None:
        """Cut a log that readers kept from starting over, once in `_LOG` bytes of growth."""
        # in vain, it only stays long and is tried again later
        with contextlib.suppress(sqlite3.Error, OSError):
            if self._log.stat().st_size <= self._log_bound:
                return
            with self._turn():
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._log_bound = self._log.stat().st_size + _LOG


def _settle(group: Sequence[_Commit]) -> None:
    for commit in group:
        if commit.done.done():  # cancelled
            continue
        if commit.error is None:
            commit.done.set_result(None)
        else:
            commit.done.set_exception(commit.error)


def _apply(database: sqlite3.Connection, group: Sequence[_Commit]) -> None:
    """Decide each commit after the writes of those before it, in few statements for all."""
    ahead = _Ahead(database, group)
    for commit in group:
        if all(map(ahead.holds, commit.checks)):
            commit.error = None
            ahead.write(commit.writes)
        else:
            commit.error = Conflict()
    ahead.flush()


class _Ahead:
    """How the entries stand after the commits of a group decided so far; SQLite lags behind."""

    def __init__(self, database: sqlite3.Connection, group: Sequence[_Commit]) -> None:
        checked = {
            check.key for commit in group for check in commit.checks if isinstance(check, Unchanged)
        }
        self._database = database
        self._versions = dict(_select(database, _VERSION, list(checked)))
        self._puts: dict[bytes, tuple[bytes, int, bytes]] = {}
        self._deletes: set[bytes] = set()
        (self._revision,) = database.execute(_REVISION).fetchone()

    def holds(self, check: Check) -> bool:
        if isinstance(check, Unchanged):
            return self._versions.get(check.key) == check.version
        self.flush()
        bounds = (check.prefix, prefix_end(check.prefix))
        return self._database.execute(_FIRST, bounds).fetchone() is None

    def write(self, writes: Sequence[Write]) -> None:
        self._revision += 1
        for write in writes:
            key = write.key
            if isinstance(write, Put):
                self._versions[key] = self._revision
                self._puts[key] = (key, self._revision, write.value)
                self._deletes.discard(key)
            else:
                self._versions.pop(key, None)
                self._puts.pop(key, None)
                self._deletes.add(key)

    def flush(self) -> None:
        """Let SQLite catch up."""
        if self._puts or self._deletes:
            self._database.executemany(_PUT, self._puts.values())
            self._database.executemany(_DELETE, [(key,) for key in self._deletes])
            self._database.execute(_ADVANCE, (self._revision,))
            self._puts.clear()
            self._deletes.clear()


def _private(path: Path | str) -> int:
    """Open a file, made when absent, for its owner alone: signing keys are kept in it."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _connect(path: Path, *pragmas: str) -> sqlite3.Connection:
    with contextlib.ExitStack() as opened:
        database = sqlite3.connect(
            path, timeout=_BUSY, isolation_level=None, check_same_thread=False
        )
        opened.callback(database.close)
        for pragma in (*pragmas, f"cache_size = -{_CACHE}"):
            database.execute(f"PRAGMA {pragma}").fetchall()
        opened.pop_all()
    return database


def _prepare(path: Path) -> sqlite3.Connection:
    """Return the writer's connection to a file of our schema."""
    os.close(_private(path))
    with contextlib.closing(_connect(path)) as database:
        (schema,) = database.execute("PRAGMA user_version").fetchone()
    if schema > _SCHEMA:
        raise StoreUnavailable(
            f"metadata at {path} has schema {schema}, this release knows {_SCHEMA}",
            hint="run the release that wrote it, or a newer one",
        )
    pragmas = ("journal_mode = WAL", "synchronous = FULL", f"wal_autocheckpoint = {_PAGES}")
    database = _connect(path, *pragmas)
    if schema == 0:
        database.executescript(f"{_TABLES} PRAGMA user_version = {_SCHEMA}; COMMIT")
    return database


@cache
def _marked(query: str, size: int) -> str:
    """Return *query* for *size* keys; `IN` sorts them first, which costs two keys a sixth more."""
    return " UNION ALL ".join([query + "key = ?"] * size)


def _select(database: sqlite3.Connection, query: str, keys: Sequence[bytes]) -> list[Any]:
    """Return the rows of *keys*; the last key fills up each statement to one of few sizes."""
    if len(keys) == 1:  # what every pull asks
        return database.execute(_marked(query, 1), keys).fetchall()
    rows: list[Any] = []
    for first in range(0, len(keys), _BATCH):
        batch = list(keys[first : first + _BATCH])
        size = 1 << (len(batch) - 1).bit_length()
        batch += batch[-1:] * (size - len(batch))
        rows += database.execute(_marked(query, size), batch).fetchall()
    return rows


def _at_one_instant(database: sqlite3.Connection, keys: Sequence[bytes]) -> list[Row]:
    database.execute("BEGIN")
    try:
        return _select(database, _ENTRY, keys)
    finally:
        database.execute("ROLLBACK")


def _run(read: Callable[[], T]) -> T:
    try:
        return read()
    except sqlite3.Error as error:
        raise _translated(error) from error


def _translated(error: Exception) -> Exception:
    """Return *error* in the port's words; what is not of the store stays what it is."""
    if not isinstance(error, sqlite3.Error | OSError):
        return error
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    ours = StoreFull("no room for metadata") if full else StoreUnavailable(f"metadata: {error}")
    ours.__cause__ = error
    return ours
