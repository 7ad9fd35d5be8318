"""python -m bench.retention [MANIFESTS]: what a large deletion does to pushes beside it.

One process over SQLite and files, as the first worker of a server is: manifests without a tag are
retired, and what they held is collected, while two clients push images one after the other. Prints
the latencies of pushes before and during that.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Final

from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.descriptor import EMPTY, EMPTY_BYTES
from ociappr.digest import Digest
from ociappr.manifest import Manifest, build_image
from ociappr.media import OCI_MANIFEST
from ociappr.metadata.sqlite import SQLiteMetadata
from ociappr.names import Reference, RepositoryName, Tag
from ociappr.registry import Registry, Settings
from ociappr.registry.rules import RetentionRule

_OLD: Final = RepositoryName("bench/old")
_NEW: Final = RepositoryName("bench/new")
_SETTINGS: Final = Settings(
    grace=timedelta(hours=1),
    retention=(RetentionRule(delete_untagged_after=timedelta(0)),),
)
_TYPE: Final = "application/vnd.example.bench"
_SEEDERS: Final = 64
_PUSHERS: Final = 2
_QUIET: Final = 5.0  # seconds
_ROUNDS: Final = 3


@dataclass(slots=True)
class Clock:
    """The time, and as much more as was asked for."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC) + self.ahead


@dataclass(slots=True)
class Phase:
    """What pushes took while something went on, in milliseconds."""

    name: str
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def show(self) -> None:
        """Print a line."""
        cuts = quantiles(self.latencies, n=100)
        print(
            f"{self.name:34} {self.seconds:7.1f} s  {len(self.latencies):6} pushes"
            f"  p50 {cuts[49]:6.1f}  p90 {cuts[89]:6.1f}  p99 {cuts[98]:6.1f}"
            f"  max {max(self.latencies):7.1f} ms"
        )


async def measure(manifests: int, folder: Path) -> list[Phase]:
    """Seed, delete and collect, and return what pushes took in each phase."""
    metadata = await SQLiteMetadata.open(folder / "metadata.db")
    store = await FilesystemBlobs.open(folder / "blobs")
    clock = Clock()
    registry = await Registry.open(metadata, store, _SETTINGS, now=clock)
    await _seed(registry, manifests)
    phases = [await _during("nothing else", registry, lambda: asyncio.sleep(_QUIET))]
    phases.append(
        await _during(f"retiring {manifests} manifests", registry, registry.retention.run)
    )
    for _ in range(_ROUNDS):
        clock.ahead += _SETTINGS.grace
        phase = await _during("a round of the collector", registry, registry.collector.run)
        phases.append(phase)
    await store.close()
    await metadata.close()
    return phases


async def _during(name: str, registry: Registry, work: Callable[[], Awaitable[object]]) -> Phase:
    """Push while *work* goes on."""
    phase, done, begun = Phase(name), asyncio.Event(), time.perf_counter()
    pushers = [
        asyncio.create_task(_push(registry, f"{name}-{number}", phase, done))
        for number in range(_PUSHERS)
    ]
    print(f"{name}: {await work()}", file=sys.stderr)
    phase.seconds = time.perf_counter() - begun
    done.set()
    await asyncio.gather(*pushers)
    return phase


async def _push(registry: Registry, name: str, phase: Phase, done: asyncio.Event) -> None:
    number = 0
    while not done.is_set():
        number += 1
        begun = time.perf_counter()
        await _blob(registry, _NEW, EMPTY_BYTES)
        tag = Tag(f"tag-{number % 100}")
        raw = _image(f"{name} {number} {begun}").raw
        await registry.manifests.put(Reference(_NEW, tag), OCI_MANIFEST, raw)
        phase.latencies.append((time.perf_counter() - begun) * 1000)


async def _seed(registry: Registry, manifests: int) -> None:
    await _blob(registry, _OLD, EMPTY_BYTES)
    numbers = iter(range(manifests))

    async def seeder() -> None:
        for number in numbers:
            raw = _image(f"old {number}").raw
            await registry.manifests.put(Reference(_OLD, Digest.of(raw)), OCI_MANIFEST, raw)

    await asyncio.gather(*(seeder() for _ in range(_SEEDERS)))


def _image(text: str) -> Manifest:
    annotations = {"text": text}
    return build_image(config=EMPTY, layers=[EMPTY], artifact_type=_TYPE, annotations=annotations)


async def _blob(registry: Registry, repository: RepositoryName, data: bytes) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        yield data

    await registry.uploads.put(repository, Digest.of(data), blocks(), size=len(data))


def main(arguments: list[str]) -> None:
    """Measure and print."""
    manifests = int(arguments[0]) if arguments else 10_000
    with tempfile.TemporaryDirectory(prefix="ociappr-bench-") as folder:
        for phase in asyncio.run(measure(manifests, Path(folder))):
            phase.show()


if __name__ == "__main__":
    main(sys.argv[1:])
