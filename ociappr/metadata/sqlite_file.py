"""The SQLite file of the metadata: its schema and connections, how it is read, its errors."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ociappr.errors import StoreFull, StoreUnavailable

Row = tuple[bytes, bytes, int]

ENTRY = "SELECT key, value, version FROM entry WHERE "

_SCHEMA = 1
_BATCH = 128  # keys in one statement at most, a power of two
_BUSY = 5.0  # seconds to wait for a foreign tool; our own writers queue at the lock file
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


def private(path: Path | str) -> int:
    """Open a file, made when absent, for its owner alone: signing keys are kept in it."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def connect(path: Path, *pragmas: str) -> sqlite3.Connection:
    """Return a connection that any thread may use; transactions begin only when asked for."""
    with contextlib.ExitStack() as opened:
        database = sqlite3.connect(
            path, timeout=_BUSY, isolation_level=None, check_same_thread=False
        )
        opened.callback(database.close)
        for pragma in (*pragmas, f"cache_size = -{_CACHE}"):
            database.execute(f"PRAGMA {pragma}").fetchall()
        opened.pop_all()
    return database


def prepare(path: Path) -> sqlite3.Connection:
    """Return the writer's connection to a file of our schema."""
    os.close(private(path))
    with contextlib.closing(connect(path)) as database:
        (schema,) = database.execute("PRAGMA user_version").fetchone()
    if schema > _SCHEMA:
        raise StoreUnavailable(
            f"metadata at {path} has schema {schema}, this release knows {_SCHEMA}",
            hint="run the release that wrote it, or a newer one",
        )
    pragmas = ("journal_mode = WAL", "synchronous = FULL", f"wal_autocheckpoint = {_PAGES}")
    database = connect(path, *pragmas)
    if schema == 0:
        database.executescript(f"{_TABLES} PRAGMA user_version = {_SCHEMA}; COMMIT")
    return database


@cache
def _marked(query: str, size: int) -> str:
    """Return *query* for *size* keys; `IN` sorts them first, which costs two keys a sixth more."""
    return " UNION ALL ".join([query + "key = ?"] * size)


def select(database: sqlite3.Connection, query: str, keys: Sequence[bytes]) -> list[Any]:
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


def translated(error: Exception) -> Exception:
    """Return *error* in the port's words; what is not of the store stays what it is."""
    if not isinstance(error, sqlite3.Error | OSError):
        return error
    full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    ours = StoreFull("no room for metadata") if full else StoreUnavailable(f"metadata: {error}")
    ours.__cause__ = error
    return ours
