"""What the handlers of both doors are given: a request, who makes it, and whom to ask and tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from aiohttp import web

from ociappr.access import ANONYMOUS, Access, Action, Principal
from ociappr.digest import Digest
from ociappr.names import RepositoryName, Tag

Identify: TypeAlias = Callable[[web.BaseRequest], Awaitable[Principal]]
"""Tells who makes a request; raises `Unauthorized` for credentials that are wrong."""

Pulled: TypeAlias = Callable[[RepositoryName, Tag | Digest], None]
"""Told of every manifest, blob and archive that was asked for and found."""


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

    @property
    def content_type(self) -> str:
        """What the request says of its body."""
        return self.request.headers.get("Content-Type", "")


Handler: TypeAlias = Callable[[Any, Call], Awaitable[web.StreamResponse]]
Handlers: TypeAlias = Mapping[type, Handler]


async def anybody(_: web.BaseRequest) -> Principal:
    """Return the anonymous principal, whatever credentials came."""
    return ANONYMOUS


def unrecorded(_: RepositoryName, __: Tag | Digest) -> None:
    """Record no pull."""
