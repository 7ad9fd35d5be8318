"""What the tests of imports can ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ociappr.blobstore.memory import MemoryBlobs
from ociappr.legacy.importing import Importer, Outcome, Result
from ociappr.metadata.memory import MemoryMetadata
from ociappr.registry import Registry
from ociappr.sources import open_source
from tests.http.appr import chart, tgz
from tests.legacy.old import Old

LIMIT = 1_000_000

Import = Callable[..., Awaitable[list[Outcome]]]


@pytest.fixture
def metadata() -> MemoryMetadata:
    return MemoryMetadata()


@pytest.fixture
async def registry(metadata: MemoryMetadata) -> Registry:
    return await Registry.open(metadata, MemoryBlobs())


@pytest.fixture
def take(registry: Registry) -> Import:
    """Import from a path and return what became of each item."""

    async def run(
        where: Path, *, limit: int = LIMIT, prefix: str | None = None, **options: bool
    ) -> list[Outcome]:
        importer = Importer(registry, unpacked=LIMIT, **options)
        async with open_source(str(where), prefix=prefix, limit=limit) as source:
            return [outcome async for outcome in importer.run(source)]

    return run


@pytest.fixture
def old() -> Old:
    """A store in order: two packages, formats, metadata, channels."""
    store = Old()
    metadata = {"b": [2], "a": {"name": "é"}}
    store.push("shop/web", "1.0.0", chart("web", "1.0.0"), metadata=metadata)
    store.push("shop/web", "1.0.0", tgz({"manifest.yaml": b"a: 1\n"}), "kpm")
    store.push("shop/web", "1.1.0+b1", chart("web", "1.1.0"), created="2018-01-02T03:04:05")
    store.channel("shop/web", "stable", "1.0.0", members=["1.0.0", "1.1.0+b1"])
    store.push("shop/api", "2.0.0-rc1", tgz({"x": b"y" * 50_000}), "docker-compose")
    return store


def told(outcomes: list[Outcome]) -> dict[str, tuple[Result, str]]:
    """Return results and reasons by the words for their items."""
    found = {str(one.item): (one.result, one.reason) for one in outcomes}
    assert len(found) == len(outcomes), "an item was told twice"
    return found
