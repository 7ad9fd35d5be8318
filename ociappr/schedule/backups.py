"""Snapshots of the metadata, beside the blobs."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ociappr.blobstore import Snapshots
from ociappr.config import Config
from ociappr.moving import Stores
from ociappr.moving.backup import Backup, newest, trim
from ociappr.registry import Registry, utcnow
from ociappr.registry.leases import Leases
from ociappr.schedule.jobs import Job, rest

_LOOK = timedelta(hours=1)  # at most this long until it looks again: another replica may have died
_SPREAD = timedelta(minutes=1)  # so that replicas that were started together do not look together

_log = logging.getLogger("ociappr")


def backing_up(config: Config, stores: Stores, registry: Registry) -> Job | None:
    """Return the job of writing snapshots, if any are wanted and the blob store keeps them."""
    interval = config.backup.interval
    if not interval:
        return None
    if not isinstance(stores.blobs, Snapshots):
        _log.warning("this blob store keeps no snapshots: use `ociappr backup --to`")
        return None
    grace = config.collector.grace
    backup = Backup(stores.metadata, registry.sessions, grace=grace, now=utcnow)
    timetable = Timetable(
        backup, stores.blobs, registry.leases, interval, config.backup.keep, utcnow
    )
    spread = min(_SPREAD, interval / 10)

    async def pause(wait: timedelta) -> None:
        await rest(wait + spread * random.random())  # noqa: S311 - no secret

    return Job(
        name="backup",
        round=timetable.step,
        interval=min(interval, _LOOK),
        pause=pause,
        failure="no snapshot could be written",
    )


@dataclass(frozen=True, slots=True)
class Timetable:
    """A snapshot each *interval*, the newest *keep* of them kept, whoever of the replicas writes.

    Who has the lease looks and writes. Two can have it when clocks differ: that costs room, and no
    more.
    """

    backup: Backup
    shelf: Snapshots
    leases: Leases
    interval: timedelta
    keep: int
    now: Callable[[], datetime]

    async def step(self) -> timedelta:
        """Write a snapshot if one is due and nobody else does; return when to look again."""
        async with self.leases.held("backup", rest=timedelta()) as is_ours:
            if not is_ours:
                _log.debug("another replica backs up")
                return min(self.interval, _LOOK)
            latest = await newest(self.shelf)
            if latest is not None and latest + self.interval > self.now():
                return min(latest + self.interval - self.now(), _LOOK)
            await self._write()
            return min(self.interval, _LOOK)

    async def _write(self) -> None:
        done = await self.backup.run(self.shelf)
        removed = await trim(self.shelf, self.keep)
        told = {"snapshot": done.name, "size": done.size, "removed": removed}
        _log.info("backed up", extra={"fields": told})
        if done.slow or done.unsettled:
            _log.warning("the snapshot is not of one piece: %s", _torn(done.unsettled))


def _torn(unsettled: tuple[str, ...]) -> str:
    names = ", ".join(unsettled[:10])
    return f"these kept changing: {names}" if names else "it took longer than collector.grace"
