"""A large deletion beside pushes: none of them waits for more than a few steps of it.

What that is in milliseconds `python -m bench.retention` measures; here it is counted, so that the
test means the same on a slow machine.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from statistics import quantiles

import pytest

from ociappr.digest import Digest
from ociappr.media import OCI_MANIFEST
from ociappr.names import Reference, Tag
from ociappr.registry import Registry, Settings
from ociappr.registry.retiring import Retained
from ociappr.registry.rules import RetentionRule
from tests.core.stage import Call, DirectedMetadata
from tests.core.world import A, B, World, push_all
from tests.http.client import image

MANIFESTS = 3_000
AT_ONCE = Settings(retention=(RetentionRule(delete_untagged_after=timedelta(0)),))


class Counting:
    """A director that counts commits."""

    def __init__(self) -> None:
        self.commits = 0

    async def before(self, call: Call) -> None:
        self.commits += call.name == "commit"

    async def after(self, _: Call) -> None:
        pass


async def push(registry: Registry, number: int, *, tag: bool) -> None:
    """Push one of many images, under a tag into B, or by its digest into A."""
    raw = image(annotations={"number": f"{number}"})
    target = Reference(B, Tag("new")) if tag else Reference(A, Digest.of(raw))
    await registry.manifests.put(target, OCI_MANIFEST, raw)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_pushes_go_on_beside_a_large_deletion(files: World) -> None:
    registry, counting = await files.registry(), Counting()
    for repository in (A, B):
        await push_all(registry, [], repository)
    numbers = iter(range(MANIFESTS))

    async def seed() -> None:
        for number in numbers:
            await push(registry, number, tag=False)

    await asyncio.gather(*(seed() for _ in range(32)))
    stage = World(DirectedMetadata(files.metadata, counting), files.store, files.clock)
    retention = (await stage.registry(AT_ONCE)).retention
    deleting: asyncio.Task[Retained] = asyncio.create_task(retention.run())
    waited: list[int] = []
    while not deleting.done():
        before = counting.commits
        await push(registry, MANIFESTS + len(waited), tag=True)
        waited.append(counting.commits - before)
    assert (await deleting).manifests >= MANIFESTS
    assert counting.commits > MANIFESTS / 100
    assert len(waited) > counting.commits / 10
    assert quantiles(waited, n=100)[98] <= 3, "a push waits for some steps"
    assert max(waited) <= 10
