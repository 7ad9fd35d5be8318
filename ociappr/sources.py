"""From a path or URL to what an old server left: the one table of old layouts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ociappr.config import ConfigError, shown
from ociappr.errors import StoreUnavailable
from ociappr.legacy import Source
from ociappr.legacy.dump import Dump
from ociappr.legacy.filesystem import FilesystemKeys
from ociappr.legacy.keyed import PREFIXES, KeyedSource, Keys, find_prefix


def _redis(url: str) -> Keys:
    try:
        from ociappr.legacy.redis import RedisKeys  # noqa: PLC0415 - an optional library
    except ImportError:
        message = "to read an old Redis, the library of the extra is needed"
        raise ConfigError(f"{message}: pip install ociappr[redis]") from None
    return RedisKeys(url)


def _etcd(url: str) -> Keys:
    from ociappr.legacy.etcd import EtcdKeys  # noqa: PLC0415 - start-up time of the others

    parts = urlsplit(url)
    if not parts.hostname or parts.path.strip("/"):
        raise ValueError("it does not read etcd://HOST:PORT")
    return EtcdKeys(f"{parts.scheme.replace('etcd', 'http')}://{parts.netloc}")


_SERVERS: Mapping[str, Callable[[str], Keys]] = {
    "redis": _redis,
    "rediss": _redis,
    "etcd": _etcd,
    "etcds": _etcd,
}


@asynccontextmanager
async def open_source(where: str, *, prefix: str | None, limit: int) -> AsyncIterator[Source]:
    """Give what lies at *where*; an archive may have *limit* bytes in base64.

    Without *prefix* the usual ones are tried. Raises `ConfigError` and `StoreUnavailable`.
    """
    path = _path(where)
    if path is not None and not await asyncio.to_thread(path.is_dir):
        dump = await asyncio.to_thread(Dump, path, limit=limit)
        try:
            yield dump
        finally:
            await dump.close()
        return
    keys = FilesystemKeys(path) if path is not None else _server(where)
    try:
        found = prefix if prefix is not None else await find_prefix(keys)
        if found is None:
            tried = ", ".join(repr(one) for one in PREFIXES)
            raise StoreUnavailable(
                f"there is no appr store at {shown(where)}: no packages.json below {tried}",
                hint="name what DATABASE_URL named, or the prefix of its keys with --prefix",
            )
        yield KeyedSource(keys, found, limit=limit)
    finally:
        await keys.close()


def _server(where: str) -> Keys:
    """Return the keys that a server has; raise `ConfigError`."""
    scheme, _, rest = where.partition("://")
    try:
        return _SERVERS[scheme](where)
    except ValueError as error:
        message = f"{scheme}://{rest.rpartition('@')[2]} is no address: {error}"
        raise ConfigError(message) from None


def _path(where: str) -> Path | None:
    """Return the path that *where* is, None if it is the URL of a server; raise `ConfigError`."""
    scheme, separator, _ = where.partition("://")
    if not separator:
        return Path(where)
    if scheme == "file":
        return Path(unquote(urlsplit(where).path))
    if scheme in _SERVERS:
        return None
    known = ", ".join(f"{name}://" for name in ("file", *_SERVERS))
    raise ConfigError(f"{shown(where)!r} is no path, and begins with none of {known}")
