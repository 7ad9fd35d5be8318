"""The blob store port: immutable objects, each under a locator of its own, for ever.

Every driver must keep these promises; `tests/contracts/blobstore.py` is their text as tests.

* There is no append. Each `stage` makes one new object; an upload is a list of them.
* Every locator that `stage` or `promote` makes ends in a fresh nonce and is never used again, so an
  unlink, however late, can only hit bytes that nothing will ever name again.
* What `stage` or `promote` returned, and what was reported as reached, survives a crash and a
  loss of power (in memory nothing does).
* A promoted locator holds exactly the bytes of its digest, verified or joined from verified parts.
* `delete` and failures of one object never touch another.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NewType, Protocol, runtime_checkable

from ociappr.digest import Digest

UploadId = NewType("UploadId", str)
"""Names an upload session: ``[A-Za-z0-9._]+`` without ``-``; a locator tells whose bytes it is."""

Locator = NewType("Locator", str)
"""Where one object lies; opaque above the driver."""

Reached = Callable[[Locator, int], Awaitable[None]]

BLOCK = 256 * 1024
"""Bytes that are moved at once; what takes longer would hold the event loop."""


@dataclass(frozen=True, slots=True)
class Part:
    """A staged object as an upload names it: *length* bytes of it are durable.

    Not *closed*: its writer may still be appending beyond *length*.
    """

    locator: Locator
    length: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that `BlobStore.walk` found; *digest* is set when it was promoted."""

    locator: Locator
    upload: UploadId
    digest: Digest | None
    size: int


class BlobStore(Protocol):
    """What a blob store driver provides."""

    @property
    def segment(self) -> int | None:
        """After how many bytes a caller had better end an object and stage the rest as another.

        None for stores that report what is `reached`: those lose little in a crash anyway.
        """

    async def stage(
        self,
        upload: UploadId,
        chunks: AsyncIterable[bytes],
        *,
        expected: Digest | None = None,
        reached: Reached | None = None,
    ) -> tuple[Locator, int]:
        """Store *chunks* as one new object and return its locator and length, both durable.

        With *expected* the object is promoted at once; a mismatch raises `DigestInvalid` and leaves
        nothing. *reached* is awaited now and then with the length that is durable so far, perhaps
        while *chunks* goes on, never twice at once nor after the return; a store where nothing is
        durable before the end never awaits it, and has a `segment`. When *chunks* or *reached*
        raises, or the caller is cancelled, the object is removed, unless *reached* was ever called
        for it: then what is durable stays. The exception passes on as it is.
        Raises `StoreFull` and `StoreUnavailable`.
        """

    async def promote(self, upload: UploadId, parts: Sequence[Part], digest: Digest) -> Locator:
        """Give the joined bytes of *parts* a new object named by *digest*; the parts stay.

        The caller knows that the bytes have this digest. Raises `BlobUnknown` when a part is gone
        or shorter than its length. Cancelled, it may leave an object that nobody knows.
        """

    def cheap(self, parts: Sequence[Part], /) -> bool:
        """Tell whether `promote` of *parts* takes no time to speak of (no bytes are moved)."""

    def read(
        self, locator: Locator, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open bytes *start* to *stop* (exclusive) as a stream of blocks of at most 256 KiB.

        What lies behind the end is left out. Raises `BlobUnknown` when the object is gone.
        """

    async def delete(self, locator: Locator) -> None:
        """Remove one object, staged or promoted; absent is no error."""

    def walk(self, after: Locator | None = None) -> AsyncIterator[Stored]:
        """Yield every object in a fixed order, beginning behind *after*."""

    async def close(self) -> None:
        """Let go of files and connections."""


@runtime_checkable
class Files(Protocol):
    """A store whose objects are files of this machine: they can be sent by the kernel."""

    def path(self, locator: Locator) -> Path:
        """Return the file of *locator*."""


@runtime_checkable
class Redirects(Protocol):
    """A store that clients can read from themselves."""

    async def url(
        self, locator: Locator, expires: timedelta, headers: Mapping[str, str]
    ) -> str | None:
        """Return where a client may GET the object for a while, or None to have it sent by us.

        The answer there carries *headers* as far as the store can.
        """


@runtime_checkable
class Snapshots(Protocol):
    """A store that also keeps named snapshots of metadata beside its objects.

    `BlobStore.walk` never shows them. A name is `snapshot_name`'s, so the order of the names is
    that of the times. A snapshot that is listed is whole and durable: one that was broken off
    leaves nothing, or a staged object of its *upload*.
    """

    async def put_snapshot(
        self, upload: UploadId, name: str, chunks: AsyncIterable[bytes], /
    ) -> int:
        """Store *chunks* under *name*, replacing what was there, and return their length.

        What *chunks* raises passes on. Raises `StoreFull` and `StoreUnavailable`.
        """

    async def snapshots(self) -> Sequence[tuple[str, int]]:
        """Return name and size of every snapshot, in the order of the names."""

    def read_snapshot(self, name: str, /) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a snapshot as a stream of blocks; raise `BlobUnknown` when there is none."""

    async def delete_snapshot(self, name: str, /) -> None:
        """Remove a snapshot; absent is no error."""


_SNAPSHOT = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\.gz")


def snapshot_name(created: datetime) -> str:
    """Return a fresh name for the snapshot that was begun then."""
    return f"{created.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.gz"


def is_snapshot_name(name: str) -> bool:
    """Tell whether `snapshot_name` can have made this; nothing else may lead to a file or key."""
    return _SNAPSHOT.fullmatch(name) is not None


def snapshot_begun(name: str) -> datetime:
    """Return the second in which the snapshot of a genuine *name* was begun."""
    return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
