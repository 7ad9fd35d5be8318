"""SQLite's writer: the thread that makes commits durable, together where they wait together."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from ociappr.metadata import Check, Conflict, Put, Unchanged, Write, prefix_end
from ociappr.metadata.sqlite_file import prepare, private, select, translated

_GROUP = 100  # commits in one group at most: what an error makes us repeat
_LOG = 64 * 1024 * 1024  # bytes of log that make a checkpoint wait for its readers
_VERSION = "SELECT key, version FROM entry WHERE "
_FIRST = "SELECT 1 FROM entry WHERE key >= ? AND key < ? LIMIT 1"
_REVISION = "SELECT current FROM revision"
_ADVANCE = "UPDATE revision SET current = ?"
_PUT = "REPLACE INTO entry VALUES (?, ?, ?)"
_DELETE = "DELETE FROM entry WHERE key = ?"


@dataclass(slots=True, eq=False)
class _Commit:
    """A commit that waits; *error* is set by the writer thread before the loop wakes it."""

    checks: Sequence[Check]
    writes: Sequence[Write]
    done: asyncio.Future[None]
    error: Exception | None = None


class Writer:
    """The thread that writes: commits that wait together become one transaction of SQLite."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._log = Path(f"{path}-wal")
        self._log_bound = _LOG
        self._queue: queue.SimpleQueue[_Commit | None] = queue.SimpleQueue()
        self._thread = Thread(target=self._serve, name="metadata-writer", daemon=True)
        with contextlib.ExitStack() as opened:
            self._lock = private(f"{path}.lock")
            opened.callback(os.close, self._lock)
            with self._turn():
                self._database = prepare(path)
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
                        commit.error = translated(error)
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
                group[0].error = translated(error)
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
        self._versions = dict(select(database, _VERSION, list(checked)))
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
