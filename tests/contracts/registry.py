"""What a registry promises whatever its drivers: requests race on two replicas, and one truth wins.

A test class for a pair of drivers subclasses this and gives `world`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from ociappr.digest import Digest
from ociappr.errors import (
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
    RangeInvalid,
    ReleaseExists,
)
from ociappr.names import PackageName, Reference, Tag
from ociappr.registry import Registry
from ociappr.registry.submissions import examine
from ociappr.registry.uploads import Span
from ociappr.releases import Release
from tests.core.world import (
    MIDDLE,
    SMALL,
    A,
    B,
    World,
    chunks,
    content,
    finish,
    push_all,
    push_blob,
    push_index,
    push_manifest,
    read,
    tagged,
    upload,
)
from tests.http.appr import tgz
from tests.http.client import image, index

ROUNDS = 4
PACKAGE = PackageName("library", "a")


async def race(*entrants: Awaitable[object]) -> list[BaseException | None]:
    """Run all at once; return what each raised."""
    results = await asyncio.gather(*entrants, return_exceptions=True)
    return [result if isinstance(result, BaseException) else None for result in results]


def publish(registry: Registry, format_: str, number: int = 0) -> Awaitable[None]:
    """Publish the only release in a format."""
    data = tgz({"file": f"{format_} {number}".encode()})
    submission = examine(data, format_, limit=MIDDLE)
    return registry.publishing.push(PACKAGE, Release("1.0.0"), submission)


class RegistryContract:
    @pytest.fixture
    async def replicas(self, world: World) -> tuple[Registry, Registry]:
        """Two registries over the same stores."""
        return await world.registry(), await world.registry()

    async def test_chunks_of_one_upload(self, replicas: tuple[Registry, Registry]) -> None:
        one, two = replicas
        for number in range(ROUNDS):
            id_ = await upload(one, b"begun")
            raised = await race(
                one.uploads.append(A, id_, chunks(b"mine %d" % number), span=Span(5, 10)),
                two.uploads.append(A, id_, chunks(b"your %d" % number), span=Span(5, 10)),
            )
            assert [type(error) for error in raised].count(RangeInvalid) == 1
            word = b"mine" if raised[0] is None else b"your"
            data = b"begun" + word + b" %d" % number
            assert await read(two, await finish(two, id_, data)) == data

    async def test_first_pushes_of_one_blob(self, replicas: tuple[Registry, Registry]) -> None:
        one, two = replicas
        for size in (SMALL, MIDDLE):
            data = content(size)
            assert await race(push_blob(one, data), push_blob(two, data, B)) == [None, None]
            assert await read(two, Digest.of(data)) == await read(one, Digest.of(data), B) == data

    async def test_one_release_in_one_format(self, replicas: tuple[Registry, Registry]) -> None:
        one, two = replicas
        raised = await race(*(publish(by, "kpm", n) for n, by in enumerate((one, two, one, two))))
        assert raised.count(None) == 1
        assert [type(error) for error in raised].count(ReleaseExists) == 3

    async def test_one_release_in_many_formats(
        self, world: World, replicas: tuple[Registry, Registry]
    ) -> None:
        formats = ("a", "b", "c", "d")
        raised = await race(
            *(publish(replicas[n % 2], format_) for n, format_ in enumerate(formats))
        )
        assert raised == [None] * 4
        record = await replicas[0].tags.read(A, Tag("1.0.0"))
        assert record is not None
        assert tuple(one.format for one in record.formats) == formats
        await world.settle()
        assert await world.faults() == []

    async def test_tags_of_one_name(self, replicas: tuple[Registry, Registry]) -> None:
        one, two = replicas
        await push_all(one, [])
        images = [image(annotations={"number": f"{n}"}) for n in range(6)]
        raised = await race(
            *(push_manifest(replicas[n % 2], raw, "latest") for n, raw in enumerate(images))
        )
        assert raised == [None] * 6
        winner = await tagged(one, "latest")
        assert await two.tags.of_manifest(A, winner) == ("latest",)

    async def test_a_tag_and_the_deletion_of_its_manifest(
        self, world: World, replicas: tuple[Registry, Registry]
    ) -> None:
        one, two = replicas
        await push_all(one, [])
        raw = image()
        for number in range(ROUNDS):
            digest = await push_manifest(one, raw, "old")
            raised = await race(
                push_manifest(one, raw, f"new-{number}"), two.manifests.delete(A, digest)
            )
            assert raised == [None, None]
            names = set((await one.tags.list(A, limit=10)).items)
            if names:
                assert names == {f"new-{number}"}
                assert await tagged(two, f"new-{number}") == digest
                await one.manifests.delete(A, digest)
            else:
                with pytest.raises(ManifestUnknown):
                    await one.manifests.get(Reference(A, digest))
        assert [finding async for finding in one.fsck.run()] == []
        await world.settle()
        assert await world.faults() == []

    async def test_an_index_and_the_deletion_of_its_child(
        self, world: World, replicas: tuple[Registry, Registry]
    ) -> None:
        one, two = replicas
        await push_all(one, [])
        for number in range(ROUNDS):
            raw = image(annotations={"number": f"{number}"})
            digest = await push_manifest(one, raw, "image")
            raised = await race(
                push_index(one, index(raw), "index"), two.manifests.delete(A, digest)
            )
            assert raised == [None, None]
            assert await tagged(one, "index") == Digest.of(index(raw))
        await world.settle()
        assert await world.faults() == []

    async def test_a_mount_and_the_collector(
        self, world: World, replicas: tuple[Registry, Registry]
    ) -> None:
        one, two = replicas
        for rounds in range(ROUNDS):
            data = content(MIDDLE, f"{rounds}")
            digest = await push_blob(one, data)
            await world.collect(rounds % 3)
            world.clock.advance(world.settings.grace)
            raised = await race(one.blobs.mount(B, digest, A, lambda _: True), two.collector.run())
            assert raised == [None, None]
            try:
                found = await read(one, digest, B)
            except BlobUnknown:
                continue
            assert found == data
        await world.settle()
        assert await world.faults() == []

    async def test_a_manifest_and_two_collectors(
        self, world: World, replicas: tuple[Registry, Registry]
    ) -> None:
        one, two = replicas
        for rounds in range(ROUNDS):
            data = content(MIDDLE, f"{rounds}")
            await push_all(one, [data])
            await world.collect(rounds % 2)
            world.clock.advance(world.settings.grace)
            raised = await race(
                push_manifest(one, image(data), f"{rounds}"),
                one.collector.run(),
                two.collector.run(),
            )
            assert raised[1:] == [None, None]
            if raised[0] is None:
                await world.collect(3)
                assert await read(two, Digest.of(data)) == data
            else:
                assert isinstance(raised[0], ManifestBlobUnknown)
        await world.settle()
        assert await world.faults() == []
