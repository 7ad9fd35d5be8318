"""From the first request to the last: what runs is counted, and finished when the end comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

from ociappr.config import Config
from ociappr.distribution.handlers import DistributionAPI
from ociappr.server.health import Health

_READS = frozenset({"GET", "HEAD"})

Handle: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger("ociappr")


class Front:
    """Where requests come in: counts those that run, and lets reads of ``/v2`` take no detour.

    *rest* finds its way by the application's routes; for a read of *v2* that, and the signals of
    an application, would cost a tenth of its time.
    """

    def __init__(self, v2: Handle, rest: Handle, health: Health) -> None:
        self._v2 = v2
        self._rest = rest
        self._health = health
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @classmethod
    def before(cls, runner: web.AppRunner, v2: DistributionAPI, *, health: Health) -> Front:
        """Put a front before the application of *runner*."""
        server = runner.server
        if server is None:
            raise RuntimeError("the runner was not set up")
        front = cls(v2.handle, server.request_handler, health)
        server.request_handler = front.handle
        return front

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer *request*."""
        reads = request.method in _READS and request.rel_url.raw_path.startswith("/v2/")
        self._count += 1
        self._none.clear()
        try:
            response = await (self._v2 if reads else self._rest)(request)
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()
        if self._health.draining:
            response.force_close()
        return response

    async def wait(self) -> None:
        """Return when no request is being handled."""
        await self._none.wait()


class Life:
    """What ends a server: asked once it finishes what runs, asked again it does so at once."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    def ask(self) -> None:
        """Ask for the end."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def wait(self) -> None:
        """Return when the end was asked for."""
        await self._stop.wait()

    async def until(self, work: Awaitable[object], seconds: float) -> bool:
        """Wait for *work*, but no longer than *seconds* or a second asking; tell if it ended."""
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(self._hurry.wait())]
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        is_done = tasks[0].done()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return is_done


async def finish(config: Config, runner: web.AppRunner, front: Front, life: Life) -> None:
    """Let a proxy notice, stop listening, wait for what runs, and cut what is left.

    aiohttp's own shutdown comes last: from its beginning on it reads no more of any body, which
    would end every upload.
    """
    notice, drain = config.server.notice, config.server.drain
    if notice:
        _log.info("stopping in %s; /readyz tells so", notice)
        await life.until(asyncio.sleep(notice.total_seconds()), notice.total_seconds())
    _log.info("stopping: no new connections, %s for what runs", drain)
    for site in runner.sites:
        await site.stop()
    if not await life.until(front.wait(), drain.total_seconds()):
        _log.warning("stopping: cutting off what still runs")
    await runner.cleanup()
