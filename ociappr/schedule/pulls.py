"""Writing down last pulls, in every worker, as long as requests may tell of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from ociappr.config import Config
from ociappr.registry import Registry
from ociappr.registry.pulls import EVERY
from ociappr.schedule.jobs import Job, repeated


@asynccontextmanager
async def recording(config: Config, registry: Registry) -> AsyncIterator[None]:
    """Write last pulls from time to time beside what is in the block, and at its end."""
    if not config.records_pulls:
        yield
        return

    async def flush() -> None:
        await registry.pulls.flush()

    async def pause(wait: timedelta) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(registry.pulls.full(), wait.total_seconds())

    job = Job(
        name="pulls",
        round=flush,
        interval=EVERY,
        pause=pause,
        failure="last pulls were not written",
        then="they are kept for later",
    )
    try:
        async with repeated([job]):
            yield
    finally:
        await job.do()
