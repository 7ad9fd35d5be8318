"""What a server does from time to time: a snapshot of the metadata, beside the blobs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from ociappr.blobstore import Snapshots
from ociappr.config import Config
from ociappr.errors import OciapprError
from ociappr.moving import Stores
from ociappr.moving.backup import Backup, newest, trim
from ociappr.registry import Registry, utcnow

_LOOK = timedelta(hours=1)  # at most this long until it looks again: another replica may have died
_SPREAD = 60.0  # seconds, so that replicas that were started together do not all find it due

_log = logging.getLogger("ociappr")


@dataclass(frozen=True, slots=True)
class Timetable:
    """A snapshot each *interval*, the newest *keep* of them kept, whoever of the replicas writes.

    Two that look in the same moment both write one: that costs room, and no more.
    """

    backup: Backup
    shelf: Snapshots
    interval: timedelta
    keep: int
    now: Callable[[], datetime]

    async def step(self) -> timedelta:
        """Write a snapshot if one is due; return when to look again."""
        latest = await newest(self.shelf)
        if latest is not None and latest + self.interval > self.now():
            return min(latest + self.interval - self.now(), _LOOK)
        done = await self.backup.run(self.shelf)
        removed = await trim(self.shelf, self.keep)
        told = {"snapshot": done.name, "size": done.size, "removed": removed}
        _log.info("backed up", extra={"fields": told})
        if done.slow or done.unsettled:
            _log.warning("the snapshot is not of one piece: %s", _torn(done.unsettled))
        return min(self.interval, _LOOK)


@asynccontextmanager
async def backing_up(
    config: Config, stores: Stores, registry: Registry, *, runs: bool
) -> AsyncIterator[None]:
    """Write snapshots on their interval beside what is in the block."""
    interval = config.backup.interval
    if not (runs and interval):
        yield
        return
    if not isinstance(stores.blobs, Snapshots):
        _log.warning("this blob store keeps no snapshots: use `ociappr backup --to`")
        yield
        return
    grace = config.collector.grace
    backup = Backup(stores.metadata, registry.sessions, grace=grace, now=utcnow)
    timetable = Timetable(backup, stores.blobs, interval, config.backup.keep, utcnow)
    task = asyncio.create_task(_follow(timetable), name="backup")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _follow(timetable: Timetable) -> None:
    wait = timedelta()
    while True:
        spread = min(_SPREAD, timetable.interval.total_seconds() / 10)
        await asyncio.sleep(wait.total_seconds() + random.uniform(0, spread))  # noqa: S311 - no secret
        wait = min(timetable.interval, _LOOK)
        try:
            wait = await timetable.step()
        except OciapprError as error:
            _log.warning("no snapshot could be written: %s; it tries again", error.message)
        except Exception:  # noqa: BLE001 - logged; the server goes on
            _log.exception("no snapshot could be written; it tries again")


def _torn(unsettled: tuple[str, ...]) -> str:
    names = ", ".join(unsettled[:10])
    return f"these kept changing: {names}" if names else "it took longer than collector.grace"
