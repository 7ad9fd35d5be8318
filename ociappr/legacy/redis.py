"""An old store in Redis: plain strings."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager

from redis import asyncio as redis
from redis.exceptions import RedisError, ResponseError

from ociappr.errors import StoreUnavailable
from ociappr.legacy import Lost
from ociappr.legacy.keyed import RELEASES

_PATTERN = re.compile(r"[\\*?\[\]]")
_PAGE = 1_000
_PARTS = 3
_PATIENCE = 30  # seconds


class RedisKeys:
    """The strings of a database."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
        )

    async def get(self, key: str, *, limit: int) -> bytes | None:
        """Return a string."""
        with _translated():
            try:
                size = int(await self._client.strlen(key))
                if size > limit:
                    raise Lost(f"{key} has {size} bytes, more than {limit}")
                value = await self._client.get(key)
            except ResponseError as error:
                raise Lost(f"{key} cannot be read: {error}") from None
        return value.encode() if isinstance(value, str) else value

    async def packages(self, prefix: str) -> Collection[str]:
        """Return the packages that have releases."""
        found = set()
        async for rest in self._below(prefix, f"*/{RELEASES}"):
            parts = rest.split("/")
            if len(parts) == _PARTS:
                found.add(f"{parts[0]}/{parts[1]}")
        return found

    async def archives(self, prefix: str) -> Collection[str]:
        """Return what follows *prefix*."""
        return {rest async for rest in self._below(prefix, "*")}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _below(self, prefix: str, pattern: str) -> AsyncIterator[str]:
        """Yield what follows *prefix* in the keys that match, some perhaps twice."""
        match = _PATTERN.sub(r"\\\g<0>", prefix) + pattern
        with _translated():
            async for key in self._client.scan_iter(match=match, count=_PAGE):
                yield key.decode(errors="surrogateescape")[len(prefix) :]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        hint = "look whether it runs, and whether the address is right"
        raise StoreUnavailable(f"the old Redis does not answer: {error}", hint=hint) from error
