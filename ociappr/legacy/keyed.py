"""The layout that the old server had on a filesystem, in etcd and in Redis: keys and values.

Below a prefix lie ``packages.json``, and for each package ``<ns>/<name>/releases.json`` and
``<ns>/<name>/digests/sha256/<hex>``, an archive in base64 under the digest of its *tar*. Locks end
in ``.lock`` and mean nothing any more.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Protocol

from ociappr.errors import NameInvalid
from ociappr.legacy import Item, Load, Loss, Lost, OldPackage, package_name
from ociappr.legacy.documents import ManifestDocument, read_packages, read_releases
from ociappr.names import PackageName

PREFIXES = ("appr/packages/", "cnr/packages/", "")
"""Where the servers kept their keys unless told otherwise; nothing, if a path leads there."""

INDEX = "packages.json"
RELEASES = "releases.json"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_DOCUMENT_LIMIT = 256 * 1024 * 1024


class Keys(Protocol):
    """Keys and values, whatever holds them."""

    async def get(self, key: str, *, limit: int) -> bytes | None:
        """Return a value, or None; raise `Lost` if it is none to read or has over *limit* bytes."""

    async def packages(self, prefix: str) -> Collection[str]:
        """Return each ``<ns>/<name>`` below *prefix* that has a ``releases.json``."""

    async def archives(self, prefix: str) -> Collection[str]:
        """Return the last parts of the keys directly below *prefix*; locks may be among them."""

    async def close(self) -> None:
        """Let go of what was opened."""


async def find_prefix(keys: Keys) -> str | None:
    """Return the prefix below which there is an index."""
    for prefix in PREFIXES:
        try:
            found = await keys.get(prefix + INDEX, limit=_DOCUMENT_LIMIT)
        except Lost:
            return prefix
        if found is not None:
            return prefix
    return None


class KeyedSource:
    """Reads packages from keys; archives of more than *limit* bytes in base64 are lost."""

    def __init__(self, keys: Keys, prefix: str, *, limit: int) -> None:
        self._keys = keys
        self._prefix = prefix
        self._limit = limit

    async def packages(self) -> AsyncIterator[OldPackage | Loss]:
        """Yield all packages that are in the index, or have releases without being in it."""
        created: Mapping[str, datetime | None] = {}
        try:
            index = await self._keys.get(self._prefix + INDEX, limit=_DOCUMENT_LIMIT)
            created = read_packages(index) if index is not None else {}
        except Lost as loss:
            yield Loss(Item(INDEX), str(loss))
        for text in sorted({*created, *await self._keys.packages(self._prefix)}):
            try:
                # no key is made of anything but a package's name: ".." leads out of a directory
                yield await self._package(package_name(text), created.get(text))
            except NameInvalid as error:
                yield Loss(Item(text), str(Lost.because(error)))
            except Lost as loss:
                yield Loss(Item(text), str(loss))

    async def _package(self, name: PackageName, created: datetime | None) -> OldPackage:
        prefix = f"{self._prefix}{name}/"
        data = await self._keys.get(prefix + RELEASES, limit=_DOCUMENT_LIMIT)
        if data is None:
            raise Lost(f"{INDEX} names it, but it has no {RELEASES}")
        found = read_releases(name, data, partial(self._loading, prefix))
        stored = await self._keys.archives(f"{prefix}digests/sha256/")
        archives = tuple(sorted(key for key in stored if _DIGEST.fullmatch(key)))
        return OldPackage(name, created, found.formats, found.channels, found.losses, archives)

    def _loading(self, prefix: str, manifest: ManifestDocument) -> Load:
        return partial(self._load, prefix, manifest.content.digest, manifest.blob)

    async def _load(self, prefix: str, digest: str, embedded: str | None) -> bytes:
        """Return what is stored under *digest*, or what a restored store kept in the manifest."""
        key = f"{prefix}digests/sha256/{digest}"
        is_key = _DIGEST.fullmatch(digest) is not None
        data = await self._keys.get(key, limit=self._limit) if is_key else None
        if data is not None:
            return data
        if embedded is None:
            raise Lost(f"its archive, digests/sha256/{digest[:80]}, is missing")
        return embedded.encode("ascii", "replace")
