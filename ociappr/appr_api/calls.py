"""What every handler of this door is given, and the small answers they share."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

from aiohttp import web

from ociappr.access import ANONYMOUS, Access, Action, Principal
from ociappr.appr_api import views
from ociappr.digest import Digest
from ociappr.names import PackageName, RepositoryName, Tag

Identify: TypeAlias = Callable[[web.BaseRequest], Awaitable[Principal]]
"""Tells who makes a request; credentials that are wrong are nobody's on this door."""
Pulled: TypeAlias = Callable[[RepositoryName, Tag | Digest], None]
"""Told of every archive that was asked for and found."""

CORS: Mapping[str, str] = {"Access-Control-Allow-Origin": "*"}
"""Stands in every answer: browsers may read all that is public, and no cookie is ever used."""
JSON: Mapping[str, str] = {"Content-Type": "application/json", **CORS}
"""The headers of a document; without a charset, which exact comparisons of types would break."""

_METHODS = "DELETE, GET, HEAD, OPTIONS, POST"
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


@dataclass(frozen=True, slots=True)
class Call:
    """A request and who makes it."""

    request: web.BaseRequest
    principal: Principal
    access: Access

    def require(self, package: PackageName, *actions: Action) -> None:
        """Return if the caller may do all *actions*; else raise `Unauthorized` or `Denied`."""
        self.access.require(self.principal, package.repository, *actions)

    def may_pull(self, repository: RepositoryName) -> bool:
        """Tell whether the caller may read *repository*."""
        return self.access.allows(self.principal, repository, Action.PULL)

    @property
    def content_type(self) -> str:
        """What the request says of its body."""
        return self.request.headers.get("Content-Type", "")


Handler: TypeAlias = Callable[[Any, Call], Awaitable[web.StreamResponse]]


async def anybody(_: web.BaseRequest) -> Principal:
    """Return the anonymous principal, whatever credentials came."""
    return ANONYMOUS


def unrecorded(_: RepositoryName, __: Tag | Digest) -> None:
    """Record no pull."""


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
