"""What the original appr server left behind, read without that server.

A source yields whole packages, and what it lost instead of raising: old stores are dirty, and one
damaged document must not hide the others. Archives are loaded one by one, when they are asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from ociappr.errors import OciapprError
from ociappr.names import PackageName, shown


class Lost(Exception):
    """Something of an old store cannot be had; the text says why."""

    @classmethod
    def because(cls, error: OciapprError) -> Lost:
        """Return the loss of what *error* says cannot be."""
        return cls(reason(error))


@dataclass(frozen=True, slots=True)
class Item:
    """What is told of: a package, or one format of a release of it, or a channel, or an archive."""

    package: str
    release: str = ""
    format: str = ""
    channel: str = ""
    archive: str = ""

    def __str__(self) -> str:
        """Return it in words, whatever the names hold."""
        words = [self.package, self.release, self.format]
        words += ["channel", self.channel] if self.channel else []
        words += ["archive", self.archive] if self.archive else []
        return " ".join(word if word.isprintable() else shown(word) for word in words if word)


@dataclass(frozen=True, slots=True)
class Loss:
    """An item that a source cannot give."""

    item: Item
    reason: str


Load: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns an archive as the old server kept it, in base64; raises `Lost`."""


@dataclass(frozen=True, slots=True)
class OldFormat:
    """One format of one release; *digest* is what the old server called its content digest."""

    release: str
    format: str
    created: datetime
    metadata: str | None
    digest: str
    load: Load


@dataclass(frozen=True, slots=True)
class OldChannel:
    """A channel: its current release, perhaps deleted, and all releases that are in it."""

    name: str
    current: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OldPackage:
    """A package, perhaps without any release; *archives* are the content digests stored for it."""

    name: PackageName
    created: datetime | None
    formats: tuple[OldFormat, ...]
    channels: tuple[OldChannel, ...]
    losses: tuple[Loss, ...] = ()
    archives: tuple[str, ...] = ()


class Source(Protocol):
    """An old store or a dump of one."""

    def packages(self) -> AsyncIterator[OldPackage | Loss]:
        """Yield all packages in the order of their names; raise `StoreUnavailable`."""


def package_name(text: str) -> PackageName:
    """Return the name that *text* spells; raise `NameInvalid`."""
    namespace, _, name = text.partition("/")
    return PackageName(namespace, name)


def reason(error: OciapprError) -> str:
    """Return what happened, and what to do about it, in one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message
