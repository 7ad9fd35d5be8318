"""An old store in etcd: its first keyspace, which only the API ``/v2/keys`` shows.

etcd up to 3.5 serves it when it is started with ``--enable-v2``. A directory is listed with the
values in it, so that of the archives is read as a stream.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import quote

import aiohttp
import msgspec

from ociappr.errors import StoreUnavailable
from ociappr.legacy import Lost
from ociappr.legacy.keyed import RELEASES

_NO_KEY = re.compile(rb'"errorCode":(100|104)\b')  # nothing there; what is above is no directory
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=30)
_ENVELOPE = 64 * 1024
_ESCAPES = 2  # how much longer a value may be as JSON: line breaks in base64 take two characters
_LISTING_LIMIT = 64 * 1024 * 1024
_BLOCK = 256 * 1024
_KEY = re.compile(rb'"key":"[^"]*/([0-9a-f]{64})"')
_KEY_LIMIT = 1024


class _Node(msgspec.Struct):
    key: str = "/"
    value: str | None = None
    nodes: tuple[_Node, ...] = ()
    dir: bool = False


class _Answer(msgspec.Struct):
    node: _Node


class EtcdKeys:
    """The keys below ``/v2/keys`` at *url*."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)

    async def get(self, key: str, *, limit: int) -> bytes | None:
        """Return a value."""
        node = await self._node(key, limit=_ESCAPES * limit + _ENVELOPE)
        if node is None:
            return None
        if node.value is None:
            raise Lost(f"{key} is a directory")
        if len(node.value) > limit:
            raise Lost(f"{key} has {len(node.value)} characters, more than {limit}")
        return node.value.encode()

    async def packages(self, prefix: str) -> Collection[str]:
        """Return the packages that have releases."""
        found = []
        for namespace in await self._directories(prefix):
            for package in await self._directories(f"{prefix}{namespace}/"):
                name = f"{namespace}/{package}"
                if await self._exists(f"{prefix}{name}/{RELEASES}"):
                    found.append(name)
        return found

    async def archives(self, prefix: str) -> Collection[str]:
        """Return the digests among the keys directly below *prefix*."""
        found: set[str] = set()
        rest = b""
        async with self._read(prefix) as response:
            if response is None:
                return found
            async for block in response.content.iter_chunked(_BLOCK):
                text = rest + block
                found |= {digest.decode() for digest in _KEY.findall(text)}
                rest = text[-_KEY_LIMIT:]  # a key that the border of a block cuts
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _directories(self, prefix: str) -> Collection[str]:
        node = await self._node(prefix, limit=_LISTING_LIMIT)
        children = node.nodes if node is not None else ()
        return [child.key.rpartition("/")[2] for child in children if child.dir]

    async def _exists(self, key: str) -> bool:
        async with self._read(key) as response:
            return response is not None

    async def _node(self, key: str, *, limit: int) -> _Node | None:
        async with self._read(key) as response:
            if response is None:
                return None
            data = bytearray()
            async for block in response.content.iter_chunked(_BLOCK):
                data += block
                if len(data) > limit:
                    raise Lost(f"{key} has more than {limit} bytes")
        try:
            return msgspec.json.decode(data, type=_Answer).node
        except msgspec.DecodeError as error:
            raise Lost(f"etcd's answer for {key} cannot be read: {error}") from None

    @asynccontextmanager
    async def _read(self, key: str) -> AsyncIterator[aiohttp.ClientResponse | None]:
        """Give the answer for *key*, or None if there is no such key; translate failures."""
        url = f"{self._url}/v2/keys/{quote(key, safe='/')}"
        try:
            async with self._session.get(url) as response:
                if response.status == HTTPStatus.OK:
                    yield response
                    return
                body = (await response.content.read(_ENVELOPE)).replace(b" ", b"")
        except (aiohttp.ClientError, OSError) as error:
            hint = "look whether it runs, and whether the address is right"
            raise StoreUnavailable(f"the old etcd does not answer: {error}", hint=hint) from error
        if not _NO_KEY.search(body):
            hint = "start an etcd up to 3.5 over the old data, with --enable-v2"
            message = f"the old etcd does not serve /v2/keys: status {response.status}"
            raise StoreUnavailable(message, hint=hint)
        yield None
