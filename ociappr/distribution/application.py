"""Where the door hangs in a `web.Application`."""

from __future__ import annotations

from aiohttp import web

from ociappr.distribution.handlers import DistributionAPI


def install(app: web.Application, api: DistributionAPI) -> None:
    """Send everything at and below ``/v2`` to *api*, which answers unknown paths itself."""
    app.router.add_route("*", r"/v2/{path:[\s\S]*}", api.handle)
    app.router.add_route("*", "/v2", api.handle)
