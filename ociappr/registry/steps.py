"""Steps: commits of housekeeping, several together, none faster than it may be.

A step checks all that it relies on. When a commit of several fails, each is tried alone; one that
fails alone met a rival, and the next round decides about it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ociappr.metadata import Check, Conflict, MetadataStore, Put, Write, commit

_TOGETHER = 50
_MOST_OPERATIONS = 400
_MOST_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is due: *what* is how it is counted, *about* and *reason* are for people."""

    what: str
    about: str
    reason: str
    checks: tuple[Check, ...] = ()
    writes: tuple[Write, ...] = ()

    @property
    def size(self) -> int:
        """How many bytes it writes."""
        values = (write.value for write in self.writes if isinstance(write, Put))
        return sum(map(len, values)) + sum(len(write.key) for write in self.writes)


class Pace:
    """Lets through *rate* items a second, or all at once when that is 0."""

    def __init__(
        self,
        rate: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._free = 0.0

    async def keep(self, items: int) -> None:
        """Return when *items* more may go."""
        if not self._rate or not items:
            return
        now = self._clock()
        begin = max(self._free, now)
        self._free = begin + items / self._rate
        if begin > now:
            await self._sleep(begin - now)


class Steps:
    """Takes steps and commits them; tells *count* of each that was done."""

    def __init__(
        self, metadata: MetadataStore, pace: Pace, *, count: Callable[[str], None]
    ) -> None:
        self._metadata = metadata
        self._pace = pace
        self._count = count
        self._waiting: list[Step] = []
        self.contested = 0

    async def take(self, step: Step) -> None:
        """Commit *step*, now or with others."""
        waiting = [*self._waiting, step]
        operations = sum(max(len(one.writes), len(one.checks)) for one in waiting)
        size = sum(one.size for one in waiting)
        if self._waiting and (operations > _MOST_OPERATIONS or size > _MOST_BYTES):
            await self.flush()
        self._waiting.append(step)
        if len(self._waiting) == _TOGETHER:
            await self.flush()
        await asyncio.sleep(0)  # who waits for this loop comes first

    async def flush(self) -> None:
        """Commit what waits."""
        steps, self._waiting = self._waiting, []
        await self._pace.keep(len(steps))
        if not steps or await self._commit(steps):
            return
        for step in steps:
            if len(steps) == 1 or not await self._commit([step]):
                self.contested += 1

    async def _commit(self, steps: Sequence[Step]) -> bool:
        """Commit *steps* together; tell whether all that they rely on was still so."""
        checks = [check for step in steps for check in step.checks]
        writes = [write for step in steps for write in step.writes]
        try:
            await commit(self._metadata, list(dict.fromkeys(checks)), writes)
        except Conflict:
            return False
        for step in steps:
            self._count(step.what)
        return True
