"""The composition root: from settings to stores, a registry, both doors, and a server that runs."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from io import FileIO
from typing import TypeAlias

from aiohttp import web

from ociappr import __version__, stores
from ociappr.access import OpenAccess
from ociappr.appr_api.application import install as install_appr
from ociappr.appr_api.handlers import ApprAPI, Limits
from ociappr.calls import Pulled, unrecorded
from ociappr.config import Config, shown
from ociappr.distribution.application import install as install_distribution
from ociappr.distribution.handlers import DistributionAPI
from ociappr.errors import OciapprError
from ociappr.moving import Stores
from ociappr.registry import Registry, Settings
from ociappr.schedule import recording, upkeep
from ociappr.telemetry import ACCESS_LOG, AccessLog, Metrics, access_logger

BACKLOG = 1024
_CUT = 1.0  # seconds for what is left when the drain time is over
_PRODUCT = "ociappr"  # what the world is told of us: no versions
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_READS = frozenset({"GET", "HEAD"})

Handle: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger("ociappr")


def settings(config: Config) -> Settings:
    """Return what the core is told of *config*."""
    return Settings(
        sparse=config.manifests.sparse,
        manifest_limit=config.manifests.limit,
        cache_bytes=config.manifests.cache,
        inline_limit=config.inline,
        unpacked_limit=config.appr.unpacked,
        open_uploads=config.limits.uploads,
        grace=config.collector.grace,
        session_age=config.collector.sessions,
        journal_age=config.collector.journal,
        retention=config.retention,
        immutable=config.immutable,
        rate=config.collector.rate,
    )


@asynccontextmanager
async def open_stores(config: Config) -> AsyncIterator[Stores]:
    """Open the stores of *config* and close them at the end.

    Raises `ConfigError` and `StoreUnavailable`.
    """
    metadata = await stores.open_metadata(config)
    try:
        blobs = await stores.open_blobs(config)
        try:
            yield Stores(metadata, blobs, config.inline)
        finally:
            await blobs.close()
    finally:
        await metadata.close()


@asynccontextmanager
async def open_registry(config: Config) -> AsyncIterator[Registry]:
    """Open the stores of *config* and the registry over them; close them at the end.

    Raises `ConfigError` and `StoreUnavailable`.
    """
    async with open_stores(config) as opened:
        yield await Registry.open(opened.metadata, opened.blobs, settings(config))


# -- the application -----------------------------------------------------------------------------


class Health:
    """``/livez``: the process runs; ``/readyz``: it can and wants to serve; ``/metrics``."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics
        self.draining = False

    async def live(self, _: web.Request) -> web.Response:
        """Answer 200."""
        return web.Response(text="live\n")

    async def ready(self, _: web.Request) -> web.Response:
        """Answer 200 when the metadata answer, 503 when not, or when the server is stopping."""
        if self.draining:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="stopping\n")
        try:
            await self._registry.tags.repositories(limit=1)
        except OciapprError as error:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{error.message}\n")
        return web.Response(text="ready\n")

    async def metrics(self, _: web.Request) -> web.Response:
        """Answer the counters in Prometheus' text format."""
        return web.Response(body=self._metrics.render(), headers={"Content-Type": _METRICS_TYPE})


def distribution(config: Config, registry: Registry) -> DistributionAPI:
    """Return the ``/v2`` door."""
    return DistributionAPI(
        registry,
        OpenAccess(),
        pulled=_pulled(registry, config),
        manifest_limit=config.manifests.limit,
        chunk_minimum=config.limits.chunk,
        stall=config.server.stall.total_seconds(),
    )


def application(
    config: Config, registry: Registry, health: Health, v2: DistributionAPI
) -> web.Application:
    """Return the application: both doors, and the server's own pages."""
    app = web.Application()
    app.on_response_prepare.append(_sign)
    install_distribution(app, v2)
    app.router.add_get("/livez", health.live)
    app.router.add_get("/readyz", health.ready)
    app.router.add_get("/metrics", health.metrics)
    limits = Limits(
        body=config.appr.body,
        unpacked=config.appr.unpacked,
        decodes=config.appr.decodes,
        stall=config.server.stall.total_seconds(),
    )
    pulled = _pulled(registry, config)
    install_appr(app, ApprAPI(registry, OpenAccess(), limits=limits, pulled=pulled))
    return app


def _pulled(registry: Registry, config: Config) -> Pulled:
    """Return who is told of pulls: nobody unless a rule asks for them."""
    return registry.pulls.record if config.records_pulls else unrecorded


async def _sign(_: web.Request, response: web.StreamResponse) -> None:
    """Name the product in *response*, where aiohttp would name itself and Python's version."""
    response.headers["Server"] = _PRODUCT


# -- a life --------------------------------------------------------------------------------------


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


def serve(
    config: Config,
    listener: socket.socket,
    *,
    worker: int = 0,
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Run a server in this process until one of *signals*; call *ready* when it takes requests.

    *worker* is its number among those on the same socket; the first of them collects garbage.
    Raises `ConfigError` and `OciapprError` when it cannot start.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each connection is a file

    async def main() -> None:
        life = Life()
        loop = asyncio.get_running_loop()
        for name in signals:
            loop.add_signal_handler(name, life.ask)
        await run(config, listener, life, worker=worker, ready=ready)
        for name in signals:  # whoever asks again must not kill what has ended well
            loop.remove_signal_handler(name)
            signal.signal(name, signal.SIG_IGN)

    asyncio.run(main())


async def run(
    config: Config,
    listener: socket.socket,
    life: Life,
    *,
    worker: int,
    ready: Callable[[], None],
) -> None:
    """Serve on *listener* to the end of *life*; then finish what runs and close the stores."""
    async with open_stores(config) as opened:
        registry = await Registry.open(opened.metadata, opened.blobs, settings(config))
        metrics = Metrics(worker)
        health = Health(registry, metrics)
        stderr = FileIO(sys.stderr.fileno(), "w", closefd=False) if config.log.access else None
        log = AccessLog(metrics, config.log.format, stderr, proxies=config.trusted_proxies)
        v2 = distribution(config, registry)
        runner = web.AppRunner(
            application(config, registry, health, v2),
            access_log=logging.getLogger(ACCESS_LOG),
            access_log_class=access_logger(log),
            auto_decompress=False,  # bytes are stored as they come, and bombs stay folded
            keepalive_timeout=config.server.keepalive.total_seconds(),
            shutdown_timeout=_CUT,
        )
        await runner.setup()
        front = _front(runner, v2, health)
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        if worker == 0:
            _announce(config, listener)
        ready()
        async with recording(config, registry):
            async with upkeep(config, opened, registry, metrics=metrics, worker=worker):
                await life.wait()
            health.draining = True
            await _finish(config, runner, front, life)
        log.flush()


def _front(runner: web.AppRunner, v2: DistributionAPI, health: Health) -> Front:
    """Put a front before the application of *runner*."""
    server = runner.server
    if server is None:
        raise RuntimeError("the runner was not set up")
    front = Front(v2.handle, server.request_handler, health)
    server.request_handler = front.handle
    return front


async def _finish(config: Config, runner: web.AppRunner, front: Front, life: Life) -> None:
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


def bind(config: Config) -> socket.socket:
    """Return a socket bound to the address of *config*; raise `OSError`."""
    host, port = config.address
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # localhost means 127.0.0.1 to those who will write localhost
    family, kind, protocol, _, address = min(infos, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _announce(config: Config, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    _log.info("ociappr %s listens on http://%s:%s", __version__, place, port)
    _log.info("blobs: %s, metadata: %s", shown(config.storage_url), shown(config.metadata_url))
    if not host.startswith("127.") and host != "::1":
        _log.warning("access is open: everyone who reaches this address may do everything")
