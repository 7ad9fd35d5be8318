"""Where the door hangs in a `web.Application`."""

from __future__ import annotations

from aiohttp import web

from ociappr.appr_api.handlers import ApprAPI


def install(app: web.Application, api: ApprAPI) -> None:
    """Send every path that has no closer route to *api*, which answers unknown ones itself.

    The API has three prefixes, one of them empty, so the whole server but for the other door and
    the server's own pages is its.
    """
    app.router.add_route("*", r"/{path:[\s\S]*}", api.handle)
