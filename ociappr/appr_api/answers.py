"""The small answers that the handlers of this door share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from ociappr.appr_api import views

CORS: Mapping[str, str] = {"Access-Control-Allow-Origin": "*"}
"""Stands in every answer: browsers may read all that is public, and no cookie is ever used."""
JSON: Mapping[str, str] = {"Content-Type": "application/json", **CORS}
"""The headers of a document; without a charset, which exact comparisons of types would break."""

_METHODS = "DELETE, GET, HEAD, OPTIONS, POST"
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


def document(content: object) -> web.Response:
    """Return a JSON document."""
    return web.Response(body=views.encode(content), headers=JSON)


def preflight(request: web.BaseRequest) -> web.Response:
    """Answer that any page may use all methods and the headers that it asks for."""
    headers = {**CORS, "Access-Control-Allow-Methods": _METHODS}
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    if _HEADER_NAMES.fullmatch(wanted):
        headers["Access-Control-Allow-Headers"] = wanted
    return web.Response(status=HTTPStatus.OK, headers=headers)
