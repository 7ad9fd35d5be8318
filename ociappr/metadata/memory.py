"""Metadata in memory: for tests and for registries that may forget."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ociappr.metadata import (
    Check,
    Conflict,
    Delete,
    Entry,
    Unchanged,
    Write,
    prefix_end,
)


class MemoryMetadata:
    """Entries in a dict, their keys in a sorted list; no method waits, so each is one instant."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._entries: dict[bytes, Entry] = {}
        self._revision = 0

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return the entries of those *keys* that exist."""
        entries = self._entries
        return {key: entries[key] for key in keys if key in entries}

    async def scan(
        self, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[Entry]:
        """Return the first *limit* entries of the range, or the last if *reverse*."""
        first = bisect_left(self._keys, start)
        end = bisect_left(self._keys, stop, first)
        if reverse:
            found = self._keys[max(first, end - limit) : end]
            found.reverse()
        else:
            found = self._keys[first : min(end, first + limit)]
        return [self._entries[key] for key in found]

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """Write all of *writes* if all of *checks* hold, else raise `Conflict`."""
        if not all(map(self._holds, checks)):
            raise Conflict
        self._revision += 1
        for write in writes:
            if isinstance(write, Delete):
                self._delete(write.key)
            else:
                self._put(Entry(write.key, write.value, self._revision))

    async def close(self) -> None:
        """Nothing is held."""

    def _holds(self, check: Check) -> bool:
        if isinstance(check, Unchanged):
            entry = self._entries.get(check.key)
            return (entry.version if entry else None) == check.version
        first = bisect_left(self._keys, check.prefix)
        return first == bisect_left(self._keys, prefix_end(check.prefix), first)

    def _put(self, entry: Entry) -> None:
        if entry.key not in self._entries:
            self._keys.insert(bisect_left(self._keys, entry.key), entry.key)
        self._entries[entry.key] = entry

    def _delete(self, key: bytes) -> None:
        if self._entries.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]
