"""Real aiohttp servers in this process, over memory and over SQLite and files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDictProxy
from yarl import URL

from ociappr.access import OpenAccess
from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.distribution.application import install
from ociappr.distribution.handlers import DistributionAPI
from ociappr.metadata.memory import MemoryMetadata
from ociappr.metadata.sqlite import SQLiteMetadata
from ociappr.registry import Registry, Settings

Install = Callable[[web.Application], None]


@dataclass(frozen=True)
class Answer:
    """An answer whose body was read."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of the first error, in the Distribution API's body."""
        return str(json.loads(self.body)["errors"][0]["code"])

    def json(self) -> object:
        """Return the body's document."""
        return json.loads(self.body)


class Client:
    """Sends requests exactly as they are written: no escaping, no decoding, no redirects."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self.port = port

    async def __call__(
        self,
        method: str,
        target: str,
        body: bytes | AsyncIterator[bytes] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return its answer; an iterator goes chunked."""
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        async with self._session.request(
            method, url, data=body, headers=headers, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a plain connection to the server."""
        return await asyncio.open_connection("127.0.0.1", self.port)


Serve = Callable[[Install], Awaitable[Client]]


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture(params=["memory", "files"])
async def registry(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Settings
) -> AsyncIterator[Registry]:
    metadata: MemoryMetadata | SQLiteMetadata = MemoryMetadata()
    store: MemoryBlobs | FilesystemBlobs = MemoryBlobs()
    if request.param == "files":
        metadata = await SQLiteMetadata.open(tmp_path / "metadata.db")
        store = await FilesystemBlobs.open(tmp_path / "blobs")
    yield await Registry.open(metadata, store, settings)
    await store.close()
    await metadata.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server with the doors that a function installs, and return its client."""
    async with AsyncExitStack() as stack:

        async def start(install_doors: Install) -> Client:
            app = web.Application()
            install_doors(app)
            server = TestServer(app)
            await server.start_server(auto_decompress=False)
            stack.push_async_callback(server.close)
            session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    auto_decompress=False, skip_auto_headers=["Accept", "Content-Type"]
                )
            )
            return Client(session, int(server.port or 0))

        yield start


@pytest.fixture
async def v2(registry: Registry, serve: Serve) -> Client:
    """A server with the Distribution API alone, open to everybody."""
    api = DistributionAPI(registry, OpenAccess())
    return await serve(lambda app: install(app, api))
