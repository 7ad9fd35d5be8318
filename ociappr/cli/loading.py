"""From flags, environment and file to settings, for every command that needs them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ociappr.config import Config, Loaded, load

if TYPE_CHECKING:
    from ociappr.blobstore import BlobStore, Snapshots


def loaded(file: Path | None, flags: Mapping[str, str | None]) -> Loaded:
    """Return the settings; a flag's name is its key with ``__`` for the dot.

    Raises `ConfigError`.
    """
    given = {name.replace("__", "."): value for name, value in flags.items() if value is not None}
    return load(file=file, environ=os.environ, flags=given)


@asynccontextmanager
async def shelf(config: Config, blobs: BlobStore, place: str | None) -> AsyncIterator[Snapshots]:
    """Open where snapshots are kept: *place*, a storage URL or a directory, or beside *blobs*.

    Raises `ConfigError` and `StoreUnavailable`.
    """
    from ociappr.moving.backup import snapshots_of  # noqa: PLC0415 - start-up time of --help
    from ociappr.stores import open_blobs  # noqa: PLC0415 - as above

    if place is None:
        yield snapshots_of(blobs)
        return
    storage = msgspec.structs.replace(config.storage, url=_url(place))
    other = await open_blobs(msgspec.structs.replace(config, storage=storage))
    try:
        yield snapshots_of(other)
    finally:
        await other.close()


def _url(place: str) -> str:
    return place if "://" in place else Path(place).absolute().as_uri()
