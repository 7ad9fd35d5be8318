"""From URLs to open stores: the one table of drivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from ociappr.blobstore import BlobStore
from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.config import Config, ConfigError
from ociappr.errors import StoreUnavailable
from ociappr.metadata import MetadataStore
from ociappr.metadata.memory import MemoryMetadata
from ociappr.metadata.sqlite import SQLiteMetadata

T = TypeVar("T")


async def _sqlite(url: str, _: Config) -> MetadataStore:
    path = _path(url, "metadata.url")
    _make_directory(path.parent)
    return await SQLiteMetadata.open(path)


async def _memory_metadata(_url: str, _: Config) -> MetadataStore:
    return MemoryMetadata()


async def _file(url: str, config: Config) -> BlobStore:
    root = _path(url, "storage.url")
    _make_directory(root)
    return await FilesystemBlobs.open(root, threaded=config.storage.threaded)


async def _memory_blobs(_url: str, _: Config) -> BlobStore:
    return MemoryBlobs()


_METADATA: Mapping[str, Callable[[str, Config], Awaitable[MetadataStore]]] = {
    "sqlite": _sqlite,
    "memory": _memory_metadata,
}
_BLOBS: Mapping[str, Callable[[str, Config], Awaitable[BlobStore]]] = {
    "file": _file,
    "memory": _memory_blobs,
}


async def open_metadata(config: Config) -> MetadataStore:
    """Return the metadata store that is configured; raise `ConfigError` or `StoreUnavailable`."""
    return await _driver(_METADATA, config.metadata_url, "metadata.url")(
        config.metadata_url, config
    )


async def open_blobs(config: Config) -> BlobStore:
    """Return the blob store that is configured; raise `ConfigError` or `StoreUnavailable`."""
    return await _driver(_BLOBS, config.storage_url, "storage.url")(config.storage_url, config)


def require(config: Config) -> None:
    """Raise `StoreUnavailable` unless the stores are there: looking must not make them."""
    for url, key in ((config.metadata_url, "metadata.url"), (config.storage_url, "storage.url")):
        path = _path(url, key) if urlsplit(url).scheme != "memory" else Path()
        if not path.exists():
            hint = "name the directory of the registry with --data, or start one there with serve"
            raise StoreUnavailable(f"there is no registry: {path} does not exist", hint=hint)


def check(config: Config) -> None:
    """Raise `ConfigError` for URLs without a driver and pairs that cannot work together."""
    for drivers, url, key in (
        (_METADATA, config.metadata_url, "metadata.url"),
        (_BLOBS, config.storage_url, "storage.url"),
    ):
        _driver(drivers, url, key)
        if urlsplit(url).scheme != "memory":
            _path(url, key)
        elif config.server.workers > 1:
            raise ConfigError(f"{key}: several workers cannot share memory")


def _driver(drivers: Mapping[str, T], url: str, key: str) -> T:
    scheme = urlsplit(url).scheme
    if scheme not in drivers:
        known = ", ".join(f"{name}://" for name in drivers)
        raise ConfigError(f"{key}: {url!r} begins with none of {known}")
    return drivers[scheme]


def _path(url: str, key: str) -> Path:
    """Return the path of ``scheme:///path``; raise `ConfigError` if there is more, or none."""
    parts = urlsplit(url)
    if parts.netloc or parts.query or parts.fragment or not parts.path.strip("/"):
        raise ConfigError(f"{key}: {url!r} does not read {parts.scheme}:///absolute/path")
    return Path(unquote(parts.path))


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "choose another directory with --data, or let this one be written"
        raise StoreUnavailable(f"cannot make {path}: {error.strerror}", hint=hint) from error
