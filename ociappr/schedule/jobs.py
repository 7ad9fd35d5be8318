"""Jobs: what is done again and again beside answering requests, whatever fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from ociappr.errors import OciapprError

_log = logging.getLogger("ociappr")


async def rest(wait: timedelta) -> None:
    """Return after *wait*."""
    await asyncio.sleep(wait.total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Rounds of work, *interval* apart unless a round returns another time until the next.

    When a round fails, *failure* says what that means, and *then* what becomes of it.
    """

    name: str
    round: Callable[[], Awaitable[timedelta | None]]
    interval: timedelta
    first: timedelta = timedelta()
    pause: Callable[[timedelta], Awaitable[None]] = rest
    failure: str
    then: str = "it tries again"

    async def do(self) -> timedelta:
        """Do one round, and tell if it fails; return how long it is until the next."""
        try:
            wait = await self.round()
        except OciapprError as error:
            _log.warning("%s: %s; %s", self.failure, error.message, self.then)
        except Exception:  # noqa: BLE001 - logged; the server goes on
            _log.exception("%s; %s", self.failure, self.then)
        else:
            return self.interval if wait is None else wait
        return self.interval


@asynccontextmanager
async def repeated(jobs: Iterable[Job]) -> AsyncIterator[None]:
    """Do *jobs* again and again beside what is in the block, until it ends."""
    tasks = [asyncio.create_task(_repeat(job), name=job.name) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _repeat(job: Job) -> None:
    wait = job.first
    while True:
        await job.pause(wait)
        wait = await job.do()
