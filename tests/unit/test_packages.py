"""Packages in the core: what a push commits, byte for byte, and what lists may read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.errors import PackageUnknown, ReleaseExists
from ociappr.manifest import Manifest
from ociappr.media import OCI_INDEX
from ociappr.metadata import Check, Conflict, Entry, Write
from ociappr.metadata.memory import MemoryMetadata
from ociappr.metadata.sqlite import SQLiteMetadata
from ociappr.names import PackageName, Reference, Tag
from ociappr.registry import Registry
from ociappr.registry.submissions import examine
from ociappr.releases import Release
from tests.http.appr import chart, tgz

WEB = PackageName("shop", "web")
ONE = Release("1.0.0")
LIMIT = 10**6


class Watched(MemoryMetadata):
    """Remembers what was read, denies that a tag's commit landed, lets a rival be quicker."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[bytes] = set()
        self.deny_once = False
        self.rival: Callable[[], Awaitable[None]] | None = None

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        self.read |= set(keys)
        return await super().get(keys)

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        tags = any(write.key.startswith(b"t\0") for write in writes)
        rival = self.rival if tags else None
        if rival is not None:
            self.rival = None
            await rival()
        await super().commit(checks, writes)
        if tags and self.deny_once:
            self.deny_once = False
            raise Conflict


def clock() -> Callable[[], datetime]:
    """Return a clock that goes on by a second whenever it is asked."""
    moments = (datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(10_000))
    return lambda: next(moments)


@pytest.fixture
def metadata() -> Watched:
    return Watched()


@pytest.fixture
async def registry(metadata: Watched) -> Registry:
    return await Registry.open(metadata, MemoryBlobs(), now=clock())


async def push(registry: Registry, release: Release, format_: str, *, force: bool = False) -> None:
    submission = examine(chart(), format_, limit=LIMIT)
    await registry.publishing.push(WEB, release, submission, metadata='{"a":1}', force=force)


async def test_a_push_that_had_landed_unseen_succeeds(
    registry: Registry, metadata: Watched
) -> None:
    metadata.deny_once = True
    await push(registry, ONE, "helm")
    assert not metadata.deny_once
    with pytest.raises(ReleaseExists):
        await push(registry, ONE, "helm")
    assert len(await registry.packages.releases(WEB)) == 1


async def test_lists_and_pulls_read_no_manifest(registry: Registry, metadata: Watched) -> None:
    for number in range(5):
        for format_ in ("helm", "kpm"):
            await push(registry, Release(f"{number}.0.0"), format_)
    metadata.read.clear()
    assert len(await registry.packages.list(readable=lambda _: True)) == 1
    await registry.packages.find(WEB, "4.0.0", "helm")
    await registry.packages.channels(WEB)
    manifests = {key for key in metadata.read if key.startswith((b"b\0", b"i\0"))}
    assert manifests == set()


async def test_a_push_is_a_pure_function_of_its_inputs(registry: Registry) -> None:
    submission = examine(tgz({"manifest.yaml": b"kind: x\n"}), "kpm", limit=LIMIT)
    await registry.publishing.push(WEB, ONE, submission, metadata='{"b": [2]}')
    kpm = await registry.manifests.get(Reference(WEB.repository, ONE.tag))
    layer = submission.digest
    assert kpm.raw.decode() == (
        '{"annotations":{"org.opencontainers.image.created":"2024-01-01T00:00:00.000000Z",'
        f'"vnd.appr.content.digest":"{submission.content_digest}",'
        '"vnd.appr.metadata":"{\\"b\\": [2]}"},'
        '"artifactType":"application/vnd.appr.package-manifest.kpm.v0.json",'
        '"config":{"digest":"sha256:'
        '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",'
        '"mediaType":"application/vnd.oci.empty.v1+json","size":2},'
        '"layers":[{"annotations":{"org.opencontainers.image.title":'
        f'"shop_web_1.0.0_kpm.tar.gz"}},"digest":"{layer}",'
        '"mediaType":"application/vnd.appr.package.kpm.v0.tar+gzip",'
        f'"size":{len(submission.data)}}}],'
        '"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}'
    )


async def test_an_index_has_a_fixed_order_and_is_undone(registry: Registry) -> None:
    await push(registry, ONE, "kpm")
    alone = await registry.manifests.get(Reference(WEB.repository, ONE.tag))
    for format_ in ("zip", "helm"):
        await push(registry, ONE, format_)
    found = await registry.manifests.get(Reference(WEB.repository, ONE.tag))
    entries = Manifest.parse(found.raw, OCI_INDEX).manifests
    record = await registry.tags.read(WEB.repository, ONE.tag)
    assert record is not None
    assert [one.format for one in record.formats] == ["helm", "kpm", "zip"]
    assert [str(entry.digest) for entry in entries] == [one.manifest for one in record.formats]
    for format_ in ("zip", "helm"):
        await registry.publishing.delete(WEB, "1.0.0", format_)
    again = await registry.manifests.get(Reference(WEB.repository, ONE.tag))
    assert again == alone


async def test_a_forced_push_leaves_the_old_manifest_by_digest(registry: Registry) -> None:
    await push(registry, ONE, "helm")
    old = await registry.manifests.get(Reference(WEB.repository, ONE.tag))
    await push(registry, ONE, "helm", force=True)
    new = await registry.manifests.get(Reference(WEB.repository, ONE.tag))
    assert old.digest != new.digest
    assert await registry.manifests.get(Reference(WEB.repository, old.digest)) == old
    record = await registry.tags.read(WEB.repository, Tag("1.0.0"))
    assert record is not None
    assert record.published


async def test_releases_that_share_precedence_are_found_by_name(registry: Registry) -> None:
    for text in ("1.0.0+b", "1.0.0", "1.0.0+a"):
        await push(registry, Release(text), "helm")
    for text in ("1.0.0", "1.0.0+a", "1.0.0+b"):
        found = await registry.packages.find(WEB, text, "helm")
        assert str(found.release) == text
    (listed,) = await registry.packages.list(readable=lambda _: True)
    assert [str(one.release) for one in listed.releases] == ["1.0.0+b", "1.0.0+a", "1.0.0"]


async def test_lists_show_what_may_be_read(registry: Registry) -> None:
    await push(registry, ONE, "helm")
    assert await registry.packages.list(readable=lambda _: False) == []


async def test_a_channel_cannot_be_set_to_a_release_deleted_meanwhile(
    registry: Registry, metadata: Watched
) -> None:
    await push(registry, ONE, "helm")
    metadata.rival = partial(registry.publishing.delete, WEB, "1.0.0", "helm")
    with pytest.raises(PackageUnknown):
        await registry.channels.set(WEB, "beta", "1.0.0")
    assert await registry.packages.channels(WEB) == []


async def test_a_release_deleted_meanwhile_leaves_the_channel_that_got_it(
    registry: Registry, metadata: Watched
) -> None:
    await push(registry, ONE, "helm")

    async def join() -> None:
        await registry.channels.set(WEB, "beta", "1.0.0")

    metadata.rival = join
    await registry.publishing.delete(WEB, "1.0.0", "helm")
    await push(registry, ONE, "helm")
    channel = await registry.packages.channel(WEB, "beta")
    assert (channel.current, channel.releases) == ("1.0.0", ())


async def test_a_format_pushed_meanwhile_stays(registry: Registry, metadata: Watched) -> None:
    metadata.rival = partial(push, registry, ONE, "kpm")
    await push(registry, ONE, "helm")
    packages = await registry.packages.release(WEB, "1.0.0")
    assert [one.record.format for one in packages] == ["helm", "kpm"]


async def test_the_same_format_pushed_meanwhile_wins(registry: Registry, metadata: Watched) -> None:
    metadata.rival = partial(push, registry, ONE, "helm")
    with pytest.raises(ReleaseExists):
        await push(registry, ONE, "helm")
    assert len(await registry.packages.release(WEB, "1.0.0")) == 1


async def test_of_pushers_on_several_replicas_one_wins(tmp_path: Path) -> None:
    stores = [await SQLiteMetadata.open(tmp_path / "metadata.db") for _ in range(2)]
    blobs = await FilesystemBlobs.open(tmp_path / "blobs")
    replicas = [await Registry.open(store, blobs) for store in stores]
    formats = ["helm"] * 5 + ["kpm"] * 5
    results = await asyncio.gather(
        *(push(replica, ONE, format_) for replica in replicas for format_ in formats),
        return_exceptions=True,
    )
    assert results.count(None) == 2
    assert all(isinstance(one, ReleaseExists | None) for one in results)
    shown = await replicas[0].packages.release(WEB, "1.0.0")
    assert [one.record.format for one in shown] == ["helm", "kpm"]
    for store in stores:
        await store.close()
    await blobs.close()


async def test_a_query_over_many_releases_finds_the_same(registry: Registry) -> None:
    submission = examine(chart(), "helm", limit=LIMIT)
    for number in range(120):
        await registry.publishing.push(WEB, Release(f"1.{number}.0"), submission)
    for query, found in ((">=1.5,<1.100", "1.99.0"), ("default", "1.119.0"), ("1.7", "1.7.0")):
        assert str((await registry.packages.find(WEB, query, "helm")).release) == found
