"""From URLs to open stores: the one table of drivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import unquote, urlsplit

from ociappr.blobstore import BlobStore
from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.config import Config, ConfigError, shown
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


@dataclass(frozen=True, slots=True)
class _Driver(Generic[T]):
    """How a store is opened; *is_local* when its URL names a path of this machine."""

    open: Callable[[str, Config], Awaitable[T]]
    is_local: bool = False


_METADATA: Mapping[str, _Driver[MetadataStore]] = {
    "sqlite": _Driver(_sqlite, is_local=True),
    "memory": _Driver(_memory_metadata),
}
_BLOBS: Mapping[str, _Driver[BlobStore]] = {
    "file": _Driver(_file, is_local=True),
    "memory": _Driver(_memory_blobs),
}


async def open_metadata(config: Config) -> MetadataStore:
    """Return the metadata store that is configured; raise `ConfigError` or `StoreUnavailable`."""
    url = config.metadata_url
    return await _driver(_METADATA, url, "metadata.url").open(url, config)


async def open_blobs(config: Config) -> BlobStore:
    """Return the blob store that is configured; raise `ConfigError` or `StoreUnavailable`."""
    url = config.storage_url
    return await _driver(_BLOBS, url, "storage.url").open(url, config)


def require(config: Config) -> None:
    """Raise `StoreUnavailable` unless stores of this machine are there: looking makes none."""
    _require(_local(config))


def require_blobs(config: Config) -> None:
    """Raise `StoreUnavailable` unless the blobs are there, if they are on this machine."""
    _require(_local(config)[-1:] if _BLOBS[urlsplit(config.storage_url).scheme].is_local else [])


def _require(paths: list[Path]) -> None:
    for path in paths:
        if not path.exists():
            hint = "name the directory of the registry with --data, or start one there with serve"
            raise StoreUnavailable(f"there is no registry: {path} does not exist", hint=hint)


def check(config: Config) -> None:
    """Raise `ConfigError` for URLs without a driver and pairs that cannot work together."""
    _local(config)
    for url, key in ((config.metadata_url, "metadata.url"), (config.storage_url, "storage.url")):
        if urlsplit(url).scheme == "memory" and config.server.workers > 1:
            raise ConfigError(f"{key}: several workers cannot share memory")


def _local(config: Config) -> list[Path]:
    """Return the paths of the stores on this machine; raise `ConfigError`."""
    metadata, blobs = config.metadata_url, config.storage_url
    found = []
    if _driver(_METADATA, metadata, "metadata.url").is_local:
        found.append(_path(metadata, "metadata.url"))
    if _driver(_BLOBS, blobs, "storage.url").is_local:
        found.append(_path(blobs, "storage.url"))
    return found


def _driver(drivers: Mapping[str, _Driver[T]], url: str, key: str) -> _Driver[T]:
    scheme = urlsplit(url).scheme
    if scheme not in drivers:
        known = ", ".join(f"{name}://" for name in drivers)
        raise ConfigError(f"{key}: {shown(url)!r} begins with none of {known}")
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
