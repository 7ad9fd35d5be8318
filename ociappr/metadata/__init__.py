"""The metadata port: an ordered key-value store whose one way to write is a checked commit.

Every driver must keep these promises; `tests/contracts/metadata.py` is their text as tests.

* `commit` is atomic, isolated and durable: all checks hold at one instant and all writes happen at
  that same instant, or none does. Once it returned, neither crash nor power loss undoes it.
* `Conflict` means that nothing was written. `StoreUnavailable`, a time-out or a cancellation leave
  the outcome unknown: the commit may have landed, or land later.
* A version never repeats for a key, not even after the key was deleted and came back. Absence has
  no version: absent, present, absent again is invisible to ``Unchanged(key, None)``.
* Reads see every commit that returned before they began; `get` sees one instant for all its keys,
  `scan` one instant per call.
* Keys are ordered bytewise.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ociappr.errors import Contended, TooLarge

T = TypeVar("T")

MAX_OPERATIONS = 1_000
MAX_COMMIT = 1024 * 1024
MAX_VALUE = 512 * 1024
MAX_KEY = 700
PAGE = 1_000
_ATTEMPTS = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it was read; *version* never repeats for a key, even after deletion."""

    key: bytes
    value: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The key is still at *version*; ``None`` means it is absent now."""

    key: bytes
    version: int | None


@dataclass(frozen=True, slots=True)
class Empty:
    """No key starts with *prefix*."""

    prefix: bytes


@dataclass(frozen=True, slots=True)
class Put:
    """Set *key* to *value*."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove *key*; absent is no error."""

    key: bytes


Check = Unchanged | Empty
Write = Put | Delete


class Conflict(Exception):
    """A check did not hold; nothing was written."""


class MetadataStore(Protocol):
    """What a metadata driver provides."""

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return the entries of those *keys* that exist, all seen at one instant."""

    async def scan(
        self, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[Entry]:
        """Return the first *limit* entries of ``start <= key < stop``, or the last if *reverse*."""

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """Write all of *writes* if all of *checks* hold, else raise `Conflict`.

        No key may occur twice among *writes*. Raises `StoreUnavailable` when the outcome is
        unknown, of which `StoreFull` is a kind: etcd may write as it runs full, and tell only that.
        """

    async def close(self) -> None:
        """Let go of files and connections; commits under way finish first."""


def prefix_end(prefix: bytes) -> bytes:
    """Return the smallest key greater than every key that starts with *prefix*."""
    head = prefix.rstrip(b"\xff")
    if not head:
        raise ValueError("this prefix has no end")
    return head[:-1] + bytes([head[-1] + 1])


async def commit(store: MetadataStore, checks: Sequence[Check], writes: Sequence[Write]) -> None:
    """Commit within the limits that every driver can carry; beyond them raise `TooLarge`."""
    if len(checks) > MAX_OPERATIONS or len(writes) > MAX_OPERATIONS:
        raise TooLarge(f"a commit of {max(len(checks), len(writes))} operations is too large")
    total = 0
    for write in writes:
        length = len(write.value) if isinstance(write, Put) else 0
        if len(write.key) > MAX_KEY or length > MAX_VALUE:
            raise TooLarge(f"a record of {len(write.key)} + {length} bytes is too large")
        total += len(write.key) + length
    if total > MAX_COMMIT:
        raise TooLarge(f"a commit of {total} bytes is too large")
    await store.commit(checks, writes)


class Transaction:
    """Reads become checks, writes wait for the commit; what is only looked at can be released."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store
        self._read: dict[bytes, Entry | None] = {}
        self._checks: dict[bytes, Unchanged] = {}
        self._empty: dict[bytes, Empty] = {}
        self._writes: dict[bytes, Write] = {}

    async def get(self, key: bytes) -> bytes | None:
        """Return the value of *key* and promise that it is unchanged at the commit."""
        return (await self.get_many([key])).get(key)

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those *keys* that exist; all are promised unchanged."""
        found = await self.peek_many(keys)
        for key in keys:
            entry = self._read[key]
            self._checks[key] = Unchanged(key, entry.version if entry else None)
        return found

    async def peek_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those *keys* that exist, without any promise.

        What this transaction has written is seen already.
        """
        missing = [key for key in keys if key not in self._read]
        if missing:
            entries = await self._store.get(missing)
            self._read.update({key: entries.get(key) for key in missing})
        values = {key: entry.value for key in keys if (entry := self._read[key]) is not None}
        for key in keys if self._writes else ():
            match self._writes.get(key):
                case Put(value=value):
                    values[key] = value
                case Delete():
                    values.pop(key, None)
        return values

    async def peek(self, key: bytes) -> bytes | None:
        """Return the value of *key*, without any promise."""
        return (await self.peek_many([key])).get(key)

    def require_empty(self, prefix: bytes) -> None:
        """Promise that no key starts with *prefix* at the commit."""
        self._empty[prefix] = Empty(prefix)

    def put(self, key: bytes, value: bytes) -> None:
        """Write *value* at the commit."""
        self._writes[key] = Put(key, value)

    def delete(self, key: bytes) -> None:
        """Remove *key* at the commit."""
        self._writes[key] = Delete(key)

    def write(self, writes: Iterable[Write]) -> None:
        """Do all of *writes* at the commit."""
        self._writes |= {write.key: write for write in writes}

    async def commit(self) -> None:
        """Commit what was written, if anything; raise `Conflict` or what the driver raises."""
        if self._writes:
            checks: list[Check] = [*self._checks.values(), *self._empty.values()]
            await commit(self._store, checks, list(self._writes.values()))


async def transact(store: MetadataStore, body: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run *body* until its transaction commits; raise `Contended` after many conflicts.

    *body* has no side effects and may run again. When a commit's outcome was unknown and the caller
    tries again, the body must know its own finished work.
    """
    for attempt in range(_ATTEMPTS):
        txn = Transaction(store)
        result = await body(txn)
        try:
            await txn.commit()
        except Conflict:
            await asyncio.sleep(random.uniform(0, min(0.001 * 2**attempt, 0.1)))  # noqa: S311
        else:
            return result
    raise Contended(f"gave up after {_ATTEMPTS} conflicts")


async def scan_all(
    store: MetadataStore, prefix: bytes, *, after: bytes | None = None, page: int = PAGE
) -> AsyncIterator[Entry]:
    """Yield every entry whose key starts with *prefix*; only a page is one instant."""
    start, stop = prefix if after is None else after + b"\0", prefix_end(prefix)
    while entries := await store.scan(start, stop, limit=page):
        for entry in entries:
            yield entry
        if len(entries) < page:
            return
        start = entries[-1].key + b"\0"
