"""Real aiohttp servers in this process, over memory and over SQLite and files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from ociappr.access import OpenAccess
from ociappr.appr_api.application import install as install_appr
from ociappr.appr_api.handlers import ApprAPI
from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.distribution.application import install
from ociappr.distribution.handlers import DistributionAPI
from ociappr.metadata.memory import MemoryMetadata
from ociappr.metadata.sqlite import SQLiteMetadata
from ociappr.registry import Registry, Settings
from tests.http.client import Client

Install = Callable[[web.Application], None]
Serve = Callable[[Install], Awaitable[Client]]


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture(scope="session")
def blobs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory of blobs for all tests, each of which empties it: it takes long to make."""
    return tmp_path_factory.mktemp("blobs")


@pytest.fixture
async def registry(
    request: pytest.FixtureRequest, tmp_path: Path, blobs_root: Path, settings: Settings
) -> AsyncIterator[Registry]:
    """A registry in memory, or on files too where a test is marked `on_both_stores`."""
    metadata: MemoryMetadata | SQLiteMetadata = MemoryMetadata()
    store: MemoryBlobs | FilesystemBlobs = MemoryBlobs()
    if getattr(request, "param", "memory") == "files":
        metadata = await SQLiteMetadata.open(tmp_path / "metadata.db")
        store = await FilesystemBlobs.open(blobs_root)
    yield await Registry.open(metadata, store, settings)
    async for stored in store.walk():
        await store.delete(stored.locator)
    await store.close()
    await metadata.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server with the doors that a function installs, and return its client."""
    async with AsyncExitStack() as stack:

        async def start(install_doors: Install) -> Client:
            app = web.Application()
            install_doors(app)
            runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    auto_decompress=False, skip_auto_headers=["Accept", "Content-Type"]
                )
            )
            return Client(session, runner.addresses[0][1])

        yield start


@pytest.fixture
async def v2(registry: Registry, serve: Serve) -> Client:
    """A server with the Distribution API alone, open to everybody."""
    api = DistributionAPI(registry, OpenAccess())
    return await serve(lambda app: install(app, api))


@pytest.fixture
async def doors(registry: Registry, serve: Serve) -> Client:
    """A server with both doors, open to everybody."""

    def install_doors(app: web.Application) -> None:
        install(app, DistributionAPI(registry, OpenAccess()))
        install_appr(app, ApprAPI(registry, OpenAccess()))

    return await serve(install_doors)
