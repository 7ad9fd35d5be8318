"""A gate between the checks and the writes of every commit, so that rivals can meet there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qs, urlsplit

import asyncpg

_KEY = 1  # of the advisory lock that shuts the gate; the driver's own have two numbers
_TRIGGER = """
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({key});
    RETURN NULL;
END $$;
CREATE TRIGGER gate BEFORE INSERT ON entry EXECUTE FUNCTION gate();
"""
_WAITING = """
SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
"""
_UNSETTLED = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory') OR EXISTS (
    SELECT FROM pg_stat_activity WHERE application_name = 'ociappr' AND state <> 'idle'
)
"""
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ociappr'"
_SCANS = "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'entry'::regclass"
_PATIENCE = 20  # seconds


@dataclass(frozen=True, slots=True)
class Gate:
    """Who shuts it; every commit of one registry has to pass it after its checks have held."""

    connection: asyncpg.Connection

    @classmethod
    @asynccontextmanager
    async def built(cls, url: str) -> AsyncIterator[Self]:
        """Build one into the registry at `url`, which is there already."""
        parts = urlsplit(url)
        schema = parse_qs(parts.query)["schema"][0]
        connection = await asyncpg.connect(parts._replace(query="sslmode=disable").geturl())
        try:
            await connection.execute(f"SET search_path = {schema}")
            await connection.execute(_TRIGGER.format(key=_KEY))
            yield cls(connection)
        finally:
            await connection.close()

    @asynccontextmanager
    async def shut(self) -> AsyncIterator[None]:
        """Let nobody pass within the block."""
        await self.connection.execute(f"SELECT pg_advisory_lock({_KEY})")
        try:
            yield
        finally:
            await self.connection.execute(f"SELECT pg_advisory_unlock({_KEY})")

    async def waiting(self, count: int) -> list[int]:
        """Return which `count` backends wait, here or for their turn, once they do."""
        async with asyncio.timeout(_PATIENCE):
            while len(found := await self.connection.fetch(_WAITING)) != count:
                pass
        return [row["pid"] for row in found]

    async def settled(self) -> None:
        """Return once nobody holds or awaits an advisory lock, or is within a transaction."""
        async with asyncio.timeout(_PATIENCE):
            while await self.connection.fetchval(_UNSETTLED):
                pass

    async def scans_of_the_whole_table(self) -> int:
        """Return how often it was read without its key; sessions tell when they have ended."""
        async with asyncio.timeout(_PATIENCE):
            while await self.connection.fetchval(_SESSIONS):
                pass
        return int(await self.connection.fetchval(_SCANS))
