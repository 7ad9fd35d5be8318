"""The small answers that the handlers of this door share."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

API_VERSION: Mapping[str, str] = {
    "Docker-Distribution-API-Version": "registry/2.0",
    "Server": "ociappr",
}
"""Stands in every answer, and names no versions but the API's."""


def empty(status: HTTPStatus, headers: Mapping[str, str]) -> web.Response:
    """Return an answer without a body."""
    return web.Response(status=status, headers={**API_VERSION, **headers})


def document(
    body: bytes, headers: Mapping[str, str], media_type: str = "application/json"
) -> web.Response:
    """Return a JSON document; without a charset, which exact comparisons of types would break."""
    return web.Response(body=body, headers={"Content-Type": media_type, **API_VERSION, **headers})
