"""Metadata in PostgreSQL, shared by any number of replicas: one table, one function that commits.

A read is one statement, and so is a commit: its checks and writes are one call of a function that
first waits for its turn at an advisory lock. Nothing named asyncpg is seen outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from ociappr.errors import StoreFull, StoreUnavailable
from ociappr.metadata import (
    Check,
    Conflict,
    Delete,
    Empty,
    Entry,
    Put,
    Unchanged,
    Write,
    prefix_end,
)
from ociappr.metadata.postgres_address import Address
from ociappr.metadata.postgres_schema import prepare, settings

_Rows = list[asyncpg.Record]
_Question = Coroutine[object, object, _Rows]

_ENTRY = "SELECT key, value, version FROM entry WHERE "
_GET = _ENTRY + "key = ANY ($1)"
_SCAN = _ENTRY + "key >= $1 AND key < $2 ORDER BY key LIMIT $3"
_SCAN_REVERSE = _ENTRY + "key >= $1 AND key < $2 ORDER BY key DESC LIMIT $3"
_COMMIT = "SELECT checked_commit($1, $2, $3, $4, $5, $6, $7)"
_AT_ONCE: AbstractAsyncContextManager[object] = nullcontext()
_WRITERS = 2  # connections that commit: one has the lock, one waits at the server for it

_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_HINTS: dict[type[Exception], str] = {
    asyncpg.InvalidAuthorizationSpecificationError: "see metadata.password and the user of the URL",
    asyncpg.InvalidCatalogNameError: "make the database, or name another one in metadata.url",
    asyncpg.InsufficientPrivilegeError: "let the user create in the database: GRANT CREATE",
    asyncpg.TooManyConnectionsError: "raise max_connections, or lower metadata.connections",
    asyncpg.TargetServerAttributeNotMatched: "name the server that may be written in metadata.url",
    ssl.SSLError: "name who signed it in metadata.ca_file, and the server as it is named there",
    OSError: "see that the server runs, and where metadata.url says",
}


class PostgresMetadata:
    """A pool of connections; few of them commit, so that reads find the others free."""

    def __init__(self, pool: asyncpg.Pool, *, timeout: float, writers: int) -> None:
        self._pool = pool
        self._timeout = timeout
        self._turns = asyncio.Semaphore(writers)
        self._running: set[asyncio.Task[_Rows]] = set()
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        password: str = "",
        ca_file: str = "",
        connections: int,
        patience: timedelta,
    ) -> PostgresMetadata:
        """Connect, and make the tables when absent; raise `ValueError` or `StoreUnavailable`."""
        address = Address.parse(url, ca_file=ca_file)
        seconds = patience.total_seconds()
        pool = asyncpg.create_pool(
            address.dsn,
            password=password or None,
            ssl=address.tls,
            min_size=0,
            max_size=connections,
            timeout=seconds,
            reset=_leave_as_is,
            server_settings=settings(address.schema, timeout=seconds),
            target_session_attrs=SessionAttribute.read_write,
        )
        with contextlib.ExitStack() as opened:
            await pool  # which connects nowhere yet
            opened.callback(pool.terminate)
            try:
                async with asyncio.timeout(seconds), pool.acquire() as connection:
                    await prepare(connection, address.schema)
            except asyncpg.ClientConfigurationError as error:
                raise ValueError(str(error)) from error
            except _ERRORS as error:
                raise _refusal(error, address.place) from error
            opened.pop_all()
        return cls(pool, timeout=seconds, writers=min(_WRITERS, connections))

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return the entries of those *keys* that exist, all seen at one instant."""
        rows = await self._to_its_end(self._ask(_GET, keys)) if keys else []
        return {row["key"]: Entry(*row) for row in rows}

    async def scan(
        self, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[Entry]:
        """Return the first *limit* entries of the range, or the last if *reverse*."""
        query = _SCAN_REVERSE if reverse else _SCAN
        return [Entry(*row) for row in await self._to_its_end(self._ask(query, start, stop, limit))]

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """Write all of *writes* if all of *checks* hold; a cancelled commit runs to its end."""
        exact = [check for check in checks if isinstance(check, Unchanged)]
        prefixes = [check.prefix for check in checks if isinstance(check, Empty)]
        puts = [write for write in writes if isinstance(write, Put)]
        question = self._ask(
            _COMMIT,
            [check.key for check in exact],
            [check.version for check in exact],
            prefixes,
            [prefix_end(prefix) for prefix in prefixes],
            [write.key for write in writes if isinstance(write, Delete)],
            [put.key for put in puts],
            [put.value for put in puts],
            turn=self._turns,
        )
        ((has_landed,),) = await self._to_its_end(question)
        if not has_landed:
            raise Conflict

    async def close(self) -> None:
        """Let commits and reads under way finish, then let go of the connections."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        try:
            async with asyncio.timeout(self._timeout):
                await self._pool.close()
        except _ERRORS:  # the server is gone: nothing is left to tell it
            self._pool.terminate()

    async def _to_its_end(self, question: _Question) -> _Rows:
        """Return the answer; whoever asked may be cancelled, the question is not."""
        if self._closed:
            question.close()
            raise StoreUnavailable("the metadata store is closed")
        task = asyncio.create_task(question)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _ask(
        self,
        query: str,
        *arguments: object,
        turn: AbstractAsyncContextManager[object] = _AT_ONCE,
    ) -> _Rows:
        try:
            async with asyncio.timeout(self._timeout), turn, self._pool.acquire() as connection:
                try:
                    return await connection.fetch(query, *arguments)
                except asyncio.CancelledError:
                    # its answer may still come: nobody may take it for that to another question
                    connection.terminate()
                    raise
        except _ERRORS as error:
            raise _translated(error) from error


async def _leave_as_is(_: asyncpg.Connection) -> None:
    """Skip what a pool asks of a connection that comes back: ours carry no state."""


def _translated(error: Exception) -> StoreUnavailable:
    if isinstance(error, asyncpg.DiskFullError):
        return StoreFull("no room for metadata: the disk of PostgreSQL is full")
    if isinstance(error, TimeoutError):
        return StoreUnavailable("metadata: PostgreSQL did not answer in time")
    return StoreUnavailable(f"metadata: {error}")


def _refusal(error: Exception, place: str) -> StoreUnavailable:
    """Return why the store cannot be opened, and what to do."""
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), "")
    reason = _translated(error).message.removeprefix("metadata: ")
    return StoreUnavailable(f"cannot open metadata at {place}: {reason}", hint=hint)
