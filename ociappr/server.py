"""The composition root: from settings to stores, a registry, both doors, and a server that runs."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from http import HTTPStatus

from aiohttp import web

from ociappr import __version__, stores
from ociappr.access import OpenAccess
from ociappr.appr_api.application import install as install_appr
from ociappr.appr_api.handlers import ApprAPI, Limits
from ociappr.config import Config, sparse
from ociappr.distribution.application import install as install_distribution
from ociappr.distribution.handlers import DistributionAPI
from ociappr.errors import OciapprError
from ociappr.registry import Registry, Settings
from ociappr.telemetry import ACCESS_LOG, METRICS, AccessLogger, Metrics

_log = logging.getLogger("ociappr")
BACKLOG = 1024


def settings(config: Config) -> Settings:
    """Return what the core is told of *config*."""
    return Settings(
        sparse=sparse(config),
        manifest_limit=config.manifests.limit,
        cache_bytes=config.manifests.cache,
        inline_limit=config.limits.inline,
        unpacked_limit=config.appr.unpacked,
        open_uploads=config.limits.uploads,
        grace=config.collector.grace,
        session_age=config.collector.sessions,
        journal_age=config.collector.journal,
    )


@asynccontextmanager
async def open_registry(config: Config) -> AsyncIterator[Registry]:
    """Open the stores of *config* and the registry over them; close them at the end.

    Raises `ConfigError` and `StoreUnavailable`.
    """
    metadata = await stores.open_metadata(config)
    try:
        blobs = await stores.open_blobs(config)
        try:
            yield await Registry.open(metadata, blobs, settings(config))
        finally:
            await blobs.close()
    finally:
        await metadata.close()


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
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.render(), headers=headers)


def application(config: Config, registry: Registry, health: Health) -> web.Application:
    """Return the application: both doors, and the server's own pages."""
    app = web.Application()
    access = OpenAccess()
    stall = config.server.stall.total_seconds()
    distribution = DistributionAPI(
        registry,
        access,
        manifest_limit=config.manifests.limit,
        chunk_minimum=config.limits.chunk,
        stall=stall,
    )
    install_distribution(app, distribution)
    limits = Limits(
        body=config.appr.body,
        unpacked=config.appr.unpacked,
        decodes=config.appr.decodes,
        stall=stall,
    )
    app.router.add_get("/livez", health.live)
    app.router.add_get("/readyz", health.ready)
    app.router.add_get("/metrics", health.metrics)
    install_appr(app, ApprAPI(registry, access, limits=limits))
    return app


async def run(config: Config, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve on *listener* until *stop*; then finish what runs and close the stores."""
    async with open_registry(config) as registry:
        metrics = Metrics()
        health = Health(registry, metrics)
        app = application(config, registry, health)
        app[METRICS] = metrics
        runner = web.AppRunner(
            app,
            access_log=logging.getLogger(ACCESS_LOG),
            access_log_class=AccessLogger,
            access_log_format=config.log.format,
            keepalive_timeout=config.server.keepalive.total_seconds(),
            shutdown_timeout=config.server.drain.total_seconds(),
        )
        await runner.setup()
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        _announce(config, listener)
        async with _collecting(config, registry, metrics):
            await stop.wait()
            _log.info("stopping: no new connections, %s for what runs", config.server.drain)
            health.draining = True
            await runner.cleanup()


def serve(config: Config, listener: socket.socket) -> None:
    """Run a server in this process until SIGTERM or SIGINT."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        await run(config, listener, stop)

    asyncio.run(main())


def bind(config: Config) -> socket.socket:
    """Return a socket bound to the address of *config*; raise `OSError`."""
    host, port = config.address
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = infos[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


@asynccontextmanager
async def _collecting(config: Config, registry: Registry, metrics: Metrics) -> AsyncIterator[None]:
    """Run the collector on its interval beside what is in the block."""
    if not config.collector.enabled:
        yield
        return
    task = asyncio.create_task(_collect(config, registry, metrics), name="collector")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _collect(config: Config, registry: Registry, metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(config.collector.interval.total_seconds())
        try:
            done = await registry.collector.run()
        except OciapprError as error:
            _log.warning("the collector stopped early: %s; it tries again", error.message)
            continue
        metrics.collected(asdict(done))
        _log.info("collected", extra={"fields": asdict(done)})


def _announce(config: Config, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    _log.info("ociappr %s listens on http://%s:%s", __version__, shown, port)
    _log.info("blobs: %s, metadata: %s", config.storage_url, config.metadata_url)
    if not host.startswith("127.") and host != "::1":
        _log.warning("access is open: everyone who reaches this address may do everything")
