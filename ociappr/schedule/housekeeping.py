"""Retention and collection, by one replica at a time."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial

from ociappr.config import Config
from ociappr.registry import Registry
from ociappr.schedule.jobs import Job
from ociappr.telemetry import Metrics

_RESTS = 0.9  # the part of its interval in which a replica's round counts for the others
_FIRST_RUN = 10  # the first round comes after so small a part of the interval

_log = logging.getLogger("ociappr")


def collecting(config: Config, registry: Registry, *, metrics: Metrics) -> Job | None:
    """Return the job of collecting garbage, if it is to be done."""
    if not config.collector.enabled:
        return None
    interval = config.collector.interval
    return Job(
        name="collector",
        round=partial(keep_house, config, registry, metrics=metrics),
        interval=interval,
        first=interval / _FIRST_RUN,
        failure="the collector stopped early",
    )


async def keep_house(config: Config, registry: Registry, *, metrics: Metrics) -> None:
    """Do one round of retention and collection, unless another replica did or does."""
    rest = config.collector.interval * _RESTS
    async with registry.leases.held("collector", rest=rest) as is_ours:
        if not is_ours:
            _log.debug("another replica collects")
            return
        if config.retention:
            retained = asdict(await registry.retention.run())
            metrics.retained(retained)
            _log.info("retained", extra={"fields": retained})
        done = asdict(await registry.collector.run())
        metrics.collected(done)
        _log.info("collected", extra={"fields": done})
