"""The composition root: from settings to stores, a registry and both doors in one application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from ociappr import stores
from ociappr.access import OpenAccess
from ociappr.appr_api.application import install as install_appr
from ociappr.appr_api.handlers import ApprAPI, Limits
from ociappr.calls import Pulled, unrecorded
from ociappr.config import Config
from ociappr.distribution.application import install as install_distribution
from ociappr.distribution.handlers import DistributionAPI
from ociappr.moving import Stores
from ociappr.registry import Registry, Settings
from ociappr.server.health import Health

_PRODUCT = "ociappr"  # what the world is told of us: no versions


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
