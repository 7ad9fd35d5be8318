"""What a server does from time to time beside answering: one job a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ociappr.config import Config
from ociappr.moving import Stores
from ociappr.registry import Registry
from ociappr.schedule.backups import backing_up
from ociappr.schedule.housekeeping import collecting
from ociappr.schedule.jobs import repeated
from ociappr.schedule.pulls import recording
from ociappr.telemetry import Metrics

__all__ = ["recording", "upkeep"]


@asynccontextmanager
async def upkeep(
    config: Config, stores: Stores, registry: Registry, *, metrics: Metrics, worker: int
) -> AsyncIterator[None]:
    """Do the jobs that one worker, the first, does for all, beside what is in the block."""
    jobs = (
        [collecting(config, registry, metrics=metrics), backing_up(config, stores, registry)]
        if worker == 0
        else []
    )
    async with repeated(job for job in jobs if job is not None):
        yield
