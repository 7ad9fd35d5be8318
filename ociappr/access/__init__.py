"""Who may do what: pure decisions; how somebody proves who they are lives beside this."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ociappr.names import RepositoryName


class Action(Enum):
    """What can be done to a repository; `CATALOG` asks about the registry as a whole."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks; the empty name is anonymous."""

    name: str = ""


ANONYMOUS = Principal()


class Access(Protocol):
    """What the faces ask before they do anything."""

    def require(
        self, principal: Principal, repository: RepositoryName | None, *actions: Action
    ) -> None:
        """Return if *principal* may do all *actions*; else raise `Unauthorized` or `Denied`."""

    def allows(
        self, principal: Principal, repository: RepositoryName | None, *actions: Action
    ) -> bool:
        """Tell whether *principal* may do all *actions*: lists show only what is allowed."""


class OpenAccess:
    """Everyone may do everything (``access.mode: open``)."""

    def require(
        self, principal: Principal, repository: RepositoryName | None, *actions: Action
    ) -> None:
        """Return."""

    def allows(
        self,
        principal: Principal,  # noqa: ARG002 - the protocol's parameter
        repository: RepositoryName | None,  # noqa: ARG002 - the protocol's parameter
        *actions: Action,  # noqa: ARG002 - the protocol's parameter
    ) -> bool:
        """Return True."""
        return True
