"""Metadata in Redis, or Valkey: shared by any number of servers.

A commit is one script, so it is checked and written at one instant; the server answers once it is
in the append-only file, on disk if `appendfsync` is `always`. Nothing named redis is seen outside.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Sequence
from datetime import timedelta

from ociappr.errors import StoreUnavailable
from ociappr.metadata import Check, Conflict, Entry, Write
from ociappr.metadata import redis_durability as durability
from ociappr.metadata import redis_scripts as scripts
from ociappr.metadata.redis_connections import Connections
from ociappr.metadata.redis_place import Place

_log = logging.getLogger(__name__)

_SCHEMA = 1


class RedisMetadata:
    """Three scripts over the keys of one registry."""

    def __init__(self, place: Place, connections: Connections) -> None:
        self._keys = [place.key(part) for part in scripts.PARTS]
        self._connections = connections

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        password: str = "",
        ca_file: str = "",
        connections: int,
        patience: timedelta,
    ) -> RedisMetadata:
        """Connect; raise `ValueError` for what cannot be, `StoreUnavailable` if it cannot be used.

        Warns of settings of the server under which acknowledged commits may be lost.
        """
        place = Place.of(url, password=password)
        _require_certificates(ca_file)
        opened = Connections(place, ca_file=ca_file, connections=connections, patience=patience)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(opened.close)
            try:
                await _require_lasting(place, opened)
                await _require_schema(place, opened)
            except StoreUnavailable as error:
                reason = str(error.__cause__ or "") or error.message
                raise type(error)(f"{place}: {reason}", hint=error.hint) from error
            undo.pop_all()
        return cls(place, opened)

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return the entries of those *keys* that exist, all seen at one instant."""
        found = await self._connections.run(scripts.GET, self._keys, keys)
        return {entry.key: entry for entry in scripts.entries(keys, found)}

    async def scan(
        self, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[Entry]:
        """Return the first *limit* entries of the range, or the last if *reverse*."""
        interval = scripts.interval(start, stop, limit=limit, reverse=reverse)
        keys, *found = await self._connections.run(scripts.SCAN, self._keys, interval)
        return list(scripts.entries(keys, found))

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """Write all of *writes* if all of *checks* hold; a cancelled commit runs to its end."""
        operations = list(scripts.operations(checks, writes))
        if not await self._connections.run(scripts.COMMIT, self._keys, operations):
            raise Conflict

    async def close(self) -> None:
        """Let commits and reads under way finish, then disconnect."""
        await self._connections.close()


def _require_certificates(ca_file: str) -> None:
    try:
        ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise ValueError(f"cannot read certificates in {ca_file}: {error}") from None


async def _require_schema(place: Place, connections: Connections) -> None:
    """Raise `StoreUnavailable` for data of a newer release; mark a new registry as ours."""
    key = place.key("schema")
    found = await connections.ask("GET", key)
    if found is None:
        await connections.ask("SET", key, _SCHEMA, "NX")
        found = await connections.ask("GET", key)
    if not found.isdigit() or int(found) > _SCHEMA:
        raise StoreUnavailable(
            f"its metadata have schema {found.decode(errors='replace')},"
            f" this release knows {_SCHEMA}",
            hint="run the release that wrote them, or a newer one",
        )


async def _require_lasting(place: Place, connections: Connections) -> None:
    """Raise `StoreUnavailable` if the server deletes at will; warn of what it may lose."""
    told = await durability.settings(connections)
    if durability.evicts(told):
        raise StoreUnavailable(
            f"its maxmemory-policy, {told['maxmemory-policy']}, deletes metadata to make room",
            hint="set its maxmemory-policy to noeviction",
        )
    for loss in durability.losses(told):
        _log.warning("%s %s", place, loss)
