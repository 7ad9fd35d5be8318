"""Connections to one Redis server: a bounded number, each asked one thing at a time.

The library's pool and its retries are left aside, because nothing may be asked twice. A commit that
ran although its answer was lost would meet its own writes and report a conflict, which promises
that nothing was written; and one without checks would undo what others wrote in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from redis import exceptions
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection

from ociappr.errors import StoreFull, StoreUnavailable
from ociappr.metadata.redis_place import Place
from ociappr.metadata.redis_scripts import Argument, Script

Answer: TypeAlias = Any  # each command and script answers in its own way

_REPLICAS = (b"replica", b"slave")
_UNREACHED = (exceptions.ConnectionError, exceptions.TimeoutError)  # below them are answers, too
_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.OutOfMemoryError, "raise its maxmemory; deletes still work"),
    (exceptions.AuthenticationError, "see metadata.password, and the user named in metadata.url"),
    (exceptions.NoPermissionError, "its user needs the commands that docs/stores/redis.md lists"),
    (
        exceptions.ReadOnlyError,
        "name the server that takes writes, or wait until there is one again",
    ),
)


class Connections:
    """At most so many connections; who finds none idle waits, within the time for the answer."""

    def __init__(
        self, place: Place, *, ca_file: str, connections: int, patience: timedelta
    ) -> None:
        self._timeout = patience.total_seconds()
        self._all = [_connection(place, ca_file, self._timeout) for _ in range(connections)]
        self._idle: asyncio.LifoQueue[AbstractConnection] = asyncio.LifoQueue()
        for connection in self._all:
            self._idle.put_nowait(connection)
        self._outdated: set[AbstractConnection] = set()
        self._running: set[asyncio.Task[Answer]] = set()
        self._closed = False

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Answer:
        """Return the answer of *script*, which the server may know already."""
        rest = (len(keys), *keys, *arguments)
        return await self._to_the_end(("EVALSHA", script.sha, *rest), ("EVAL", script.text, *rest))

    async def ask(self, *command: Argument) -> Answer:
        """Return the answer to *command*."""
        return await self._to_the_end(command)

    async def ask_if_allowed(self, *command: Argument) -> Answer:
        """Return the answer to *command*, or None where the server refuses it."""
        try:
            return await self.ask(*command)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, exceptions.ResponseError):
                return None
            raise

    async def close(self) -> None:
        """Let what was asked be answered, then disconnect."""
        self._closed = True
        await asyncio.gather(*self._running, return_exceptions=True)
        partings = (connection.disconnect() for connection in self._all)
        await asyncio.gather(*partings, return_exceptions=True)

    async def _to_the_end(self, *forms: Sequence[Argument]) -> Answer:
        """Ask in a task of its own, so that a cancelled caller cuts no connection."""
        if self._closed:
            raise StoreUnavailable("the metadata store is closed")
        task = asyncio.create_task(self._answer(forms))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _answer(self, forms: Sequence[Sequence[Argument]]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._idle.get()
                try:
                    return await self._converse(connection, forms)
                finally:
                    self._idle.put_nowait(connection)
        except TimeoutError as error:
            late = f"metadata: Redis did not answer within {self._timeout:g} s"
            raise StoreUnavailable(late) from error
        except (exceptions.RedisError, OSError) as error:
            raise self._translated(error) from error

    async def _converse(
        self, connection: AbstractConnection, forms: Sequence[Sequence[Argument]]
    ) -> Answer:
        await self._freshen(connection)
        *shorter, longest = forms
        for form in shorter:
            # a server that was started anew or flushed knows no script, and has run nothing
            with contextlib.suppress(exceptions.NoScriptError):
                return await _exchange(connection, form)
        return await _exchange(connection, longest)

    async def _freshen(self, connection: AbstractConnection) -> None:
        """Connect, or connect anew what the server has closed or what a fail-over left behind."""
        if connection.is_connected and (
            connection in self._outdated or await connection.can_read()
        ):
            await connection.disconnect(nowait=True)
        self._outdated.discard(connection)
        await connection.connect()  # type: ignore[no-untyped-call] # it is just without types

    def _translated(self, error: Exception) -> StoreUnavailable:
        """Return *error* in the port's words: clients see them, so they tell no address."""
        hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")
        if isinstance(error, exceptions.OutOfMemoryError):
            return StoreFull("no room for metadata: Redis has no memory left", hint=hint)
        if isinstance(error, exceptions.ReadOnlyError):  # all the others still lead to it, too
            self._outdated.update(self._all)
        if isinstance(error, OSError) or type(error) in _UNREACHED:
            return StoreUnavailable("metadata: Redis cannot be reached")
        answer, *_ = str(error).split(" script: ")  # behind it is the line of ours that met it
        return StoreUnavailable(f"metadata: Redis answers: {answer}", hint=hint)


def _connection(place: Place, ca_file: str, timeout: float) -> AbstractConnection:
    """Return a connection that is made when it is first needed; who asks keeps the time."""
    shared: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "db": place.database,
        "username": place.user,
        "password": place.password,
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
        "redis_connect_func": _greet,
    }
    if place.tls:
        return SSLConnection(ssl_ca_certs=ca_file or None, **shared)
    return Connection(**shared)


async def _greet(connection: AbstractConnection) -> None:
    """Enter, and refuse a replica: what it shows may be old."""
    await connection.on_connect()
    said = await _exchange(connection, ["HELLO"])
    role = dict(zip(said[::2], said[1::2], strict=True))[b"role"]
    if role in _REPLICAS:
        raise exceptions.ReadOnlyError("it is a replica now")


async def _exchange(connection: AbstractConnection, words: Sequence[Argument]) -> Answer:
    """Return the answer to *words*; broken off, it leaves the connection closed."""
    await connection.send_command(*words)
    return await connection.read_response()
