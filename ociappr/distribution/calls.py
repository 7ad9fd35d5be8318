"""What every handler of this door is given, and the small answers they share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

from aiohttp import web

from ociappr.access import Access, Action, Principal
from ociappr.digest import Digest
from ociappr.names import RepositoryName, Tag

API_VERSION: Mapping[str, str] = {
    "Docker-Distribution-API-Version": "registry/2.0",
    "Server": "ociappr",
}
"""Stands in every answer, and names no versions but the API's."""

Pulled: TypeAlias = Callable[[RepositoryName, Tag | Digest], None]
"""Told of every manifest and blob that was asked for and found."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request and who makes it."""

    request: web.BaseRequest
    principal: Principal
    access: Access

    def require(self, repository: RepositoryName | None, *actions: Action) -> None:
        """Return if the caller may do all *actions*; else raise `Unauthorized` or `Denied`."""
        self.access.require(self.principal, repository, *actions)

    def may_pull(self, repository: RepositoryName) -> bool:
        """Tell whether the caller may read *repository*."""
        return self.access.allows(self.principal, repository, Action.PULL)


Handler: TypeAlias = Callable[[Any, Call], Awaitable[web.StreamResponse]]
Handlers: TypeAlias = Mapping[type, Handler]


def empty(status: HTTPStatus, headers: Mapping[str, str]) -> web.Response:
    """Return an answer without a body."""
    return web.Response(status=status, headers={**API_VERSION, **headers})


def document(
    body: bytes, headers: Mapping[str, str], media_type: str = "application/json"
) -> web.Response:
    """Return a JSON document; without a charset, which exact comparisons of types would break."""
    return web.Response(body=body, headers={"Content-Type": media_type, **API_VERSION, **headers})
