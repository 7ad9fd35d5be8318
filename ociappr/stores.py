"""From URLs to open stores: the one table of drivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Generic, Protocol, TypeVar
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


async def _etcd(url: str, config: Config) -> MetadataStore:
    from ociappr.metadata.etcd import EtcdMetadata  # noqa: PLC0415 - as the other servers'

    return await _reached(EtcdMetadata.open, url, config)


async def _postgres(url: str, config: Config) -> MetadataStore:
    with _extra("postgres"):
        from ociappr.metadata.postgres import PostgresMetadata  # noqa: PLC0415 - an extra

    return await _reached(PostgresMetadata.open, url, config)


async def _redis(url: str, config: Config) -> MetadataStore:
    with _extra("redis"):
        from ociappr.metadata.redis import RedisMetadata  # noqa: PLC0415 - an extra

    return await _reached(RedisMetadata.open, url, config)


class _Open(Protocol):
    """How the drivers of metadata servers are opened; raises `ValueError` for what cannot be."""

    async def __call__(
        self, url: str, *, password: str, ca_file: str, connections: int, patience: timedelta
    ) -> MetadataStore: ...


async def _reached(driver: _Open, url: str, config: Config) -> MetadataStore:
    """Open a server's metadata with what the settings say of it."""
    try:
        return await driver(
            url,
            password=config.metadata.password.reveal(),
            ca_file=config.metadata.ca_file,
            connections=config.metadata.connections,
            patience=config.metadata.timeout,
        )
    except ValueError as error:
        raise ConfigError(f"metadata.url: {error}") from None
    except StoreUnavailable as error:
        hint = error.hint or "see that the server runs, and that metadata.url leads to it"
        raise StoreUnavailable(error.message, hint=hint) from error


async def _memory_metadata(_url: str, _: Config) -> MetadataStore:
    return MemoryMetadata()


async def _file(url: str, config: Config) -> BlobStore:
    root = _path(url, "storage.url")
    _make_directory(root)
    return await FilesystemBlobs.open(
        root, threaded=config.storage.threaded, checkpoint=config.storage.checkpoint
    )


async def _memory_blobs(_url: str, _: Config) -> BlobStore:
    return MemoryBlobs()


async def _s3(url: str, config: Config) -> BlobStore:
    with _extra("s3"):
        from ociappr.blobstore.s3 import S3Access, S3Blobs  # noqa: PLC0415 - an extra

    bucket, prefix = _bucket(url)
    access = S3Access(
        endpoint=config.storage.s3.endpoint,
        public_endpoint=config.storage.s3.public_endpoint,
        region=config.storage.s3.region,
        access_key=config.storage.s3.access_key,
        secret_key=config.storage.s3.secret_key.reveal(),
        addressing=config.storage.s3.addressing,
        ca_file=config.storage.s3.ca_file,
        encryption=config.storage.s3.encryption,
        kms_key=config.storage.s3.kms_key,
    )
    redirect = config.storage.s3.redirect
    return await S3Blobs.open(bucket, prefix, access=access, redirect=redirect)


@dataclass(frozen=True, slots=True)
class _Driver(Generic[T]):
    """How a store is opened; *is_local* when its URL names a path of this machine."""

    open: Callable[[str, Config], Awaitable[T]]
    is_local: bool = False


_METADATA: Mapping[str, _Driver[MetadataStore]] = {
    "sqlite": _Driver(_sqlite, is_local=True),
    "memory": _Driver(_memory_metadata),
    "etcd": _Driver(_etcd),
    "etcds": _Driver(_etcd),
    "postgresql": _Driver(_postgres),
    "postgres": _Driver(_postgres),
    "redis": _Driver(_redis),
    "rediss": _Driver(_redis),
}
_BLOBS: Mapping[str, _Driver[BlobStore]] = {
    "file": _Driver(_file, is_local=True),
    "memory": _Driver(_memory_blobs),
    "s3": _Driver(_s3),
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


def exist(config: Config) -> bool:
    """Tell whether the stores of this machine are there; those of others are taken to be."""
    return all(path.exists() for path in _local(config))


def check(config: Config) -> None:
    """Raise `ConfigError` for URLs without a driver and pairs that cannot work together."""
    _local(config)
    if urlsplit(config.storage_url).scheme == "s3":
        _bucket(config.storage_url)
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


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Say how to install what an import within the block did not find."""
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install 'ociappr[{name}]'"
        raise ConfigError(message) from None


def _path(url: str, key: str) -> Path:
    """Return the path of ``scheme:///path``; raise `ConfigError` if there is more, or none."""
    parts = urlsplit(url)
    if parts.netloc or parts.query or parts.fragment or not parts.path.strip("/"):
        raise ConfigError(f"{key}: {url!r} does not read {parts.scheme}:///absolute/path")
    return Path(unquote(parts.path))


def _bucket(url: str) -> tuple[str, str]:
    """Return bucket and prefix of ``s3://bucket/prefix``; raise `ConfigError` if there is more."""
    parts = urlsplit(url)
    if not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"storage.url: {shown(url)!r} does not read s3://bucket/prefix")
    prefix = unquote(parts.path).strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "choose another directory with --data, or let this one be written"
        raise StoreUnavailable(f"cannot make {path}: {error.strerror}", hint=hint) from error
