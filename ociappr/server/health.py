"""What the server tells of its own state."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from ociappr.errors import OciapprError
from ociappr.registry import Registry
from ociappr.telemetry import Metrics

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
