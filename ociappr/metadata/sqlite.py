"""Metadata in one SQLite file: the embedded default, shared by every worker process of one host.

Short reads run on the loop, where a hop to a thread would cost several times the read; long ones
run in a thread. One writer thread takes the commits that wait together and makes them durable with
one fsync (group commit). Nothing named sqlite3 is seen outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ociappr.errors import StoreUnavailable
from ociappr.metadata import Check, Entry, Write
from ociappr.metadata.sqlite_file import ENTRY, Row, connect, select, translated
from ociappr.metadata.sqlite_writer import Writer

T = TypeVar("T")

_SHORT = 100  # keys read on the loop at most
_SCAN = ENTRY + "key >= ? AND key < ? ORDER BY key LIMIT ?"
_SCAN_REVERSE = ENTRY + "key >= ? AND key < ? ORDER BY key DESC LIMIT ?"


class SQLiteMetadata:
    """A connection for short reads on the loop, one for long reads, one for the writer thread."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self._writer = writer
        self._short = connect(path, "query_only = ON")
        self._long = connect(path, "query_only = ON")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="metadata-reader")
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> SQLiteMetadata:
        """Open the file, made when absent; raise `StoreUnavailable` if it cannot be used."""
        try:
            writer = await asyncio.to_thread(Writer, path, asyncio.get_running_loop())
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
                rows = select(self._short, ENTRY, keys)
            except sqlite3.Error as error:
                raise translated(error) from error
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


def _at_one_instant(database: sqlite3.Connection, keys: Sequence[bytes]) -> list[Row]:
    database.execute("BEGIN")
    try:
        return select(database, ENTRY, keys)
    finally:
        database.execute("ROLLBACK")


def _run(read: Callable[[], T]) -> T:
    try:
        return read()
    except sqlite3.Error as error:
        raise translated(error) from error
