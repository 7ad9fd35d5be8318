"""What an import commits: as a push would have, once, and never over something else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ociappr.blobstore.memory import MemoryBlobs
from ociappr.errors import ChannelUnknown, PackageUnknown, StoreUnavailable
from ociappr.legacy.importing import Importer, Outcome, Result
from ociappr.manifest import build_index
from ociappr.media import OCI_INDEX
from ociappr.metadata import Check, Write
from ociappr.metadata.memory import MemoryMetadata
from ociappr.names import PackageName, Reference, Tag
from ociappr.registry import Registry
from ociappr.registry.contents import Channel
from ociappr.registry.submissions import examine
from ociappr.releases import Release
from ociappr.sources import open_source
from tests.http.appr import chart, tgz
from tests.legacy.conftest import LIMIT, Import, told
from tests.legacy.old import MOMENT, Old

WEB = PackageName("shop", "web")
ONE, TWO = Release("1.0.0"), Release("1.1.0+b1")


class Failing(MemoryMetadata):
    """Fails at one commit, before or after it landed."""

    def __init__(self, *, landed: bool) -> None:
        super().__init__()
        self.left = -1
        self.landed = landed

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        fails = self.left == 0
        self.left -= 1
        if self.landed or not fails:
            await super().commit(checks, writes)
        if fails:
            raise StoreUnavailable("the power is gone")


def summary(outcomes: list[Outcome]) -> set[Result]:
    return {outcome.result for outcome in outcomes}


async def run(registry: Registry, where: Path) -> list[Outcome]:
    async with open_source(str(where), prefix=None, limit=LIMIT) as source:
        return [one async for one in Importer(registry, unpacked=LIMIT).run(source)]


async def everything(metadata: MemoryMetadata) -> list[tuple[bytes, bytes]]:
    entries = await metadata.scan(b"\0", b"\xff", limit=10_000)
    return [(entry.key, entry.value) for entry in entries]


async def shown(registry: Registry) -> list[object]:
    """Return all that the appr door can show, and the manifests of the other one."""
    found: list[object] = []
    for listing in await registry.packages.list(readable=lambda _: True):
        found.append(listing)
        found += await registry.packages.releases(listing.package)
        found += await registry.packages.channels(listing.package)
        for published in listing.releases:
            reference = Reference(listing.package.repository, published.release.tag)
            found.append(await registry.manifests.get(reference))
    return found


async def pull(registry: Registry, package: PackageName, release: str, format_: str) -> bytes:
    found = await registry.packages.find(package, release, format_)
    blob = await registry.packages.archive(found)
    async with registry.blobs.read(blob) as blocks:
        return b"".join([block async for block in blocks])


async def test_everything_is_kept(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    outcomes = await take(old.write(tmp_path))
    assert {(str(one.item), one.result, one.reason) for one in outcomes} == {
        ("shop/api 2.0.0-rc1 docker-compose", Result.IMPORTED, ""),
        ("shop/web 1.0.0 helm", Result.IMPORTED, ""),
        ("shop/web 1.0.0 kpm", Result.IMPORTED, ""),
        ("shop/web 1.1.0+b1 helm", Result.IMPORTED, ""),
        ("shop/web channel stable", Result.IMPORTED, ""),
    }
    helm = await registry.packages.show(WEB, "1.0.0", "helm")
    assert helm.record.created == "2017-03-01T10:11:12.123456Z"
    assert helm.metadata == '{"a":{"name":"é"},"b":[2]}'
    assert await pull(registry, WEB, "1.0.0", "helm") == chart("web", "1.0.0")
    later = await registry.packages.show(WEB, "1.1.0+b1", "helm")
    assert later.record.created == "2018-01-02T03:04:05.000000Z"
    assert await registry.packages.channels(WEB) == [Channel("stable", "1.0.0", (TWO, ONE))]
    listed = {
        str(one.package): one for one in await registry.packages.list(readable=lambda _: True)
    }
    assert listed["shop/web"].created == "2017-03-01T10:11:12.123456Z"


async def test_it_is_what_pushes_at_those_times_would_have_made(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    del old.releases["shop/api"], old.packages["shop"]["api"]
    del old.document("shop/web")["releases"]["1.1.0+b1"]
    await take(old.write(tmp_path))
    pushed = await Registry.open(MemoryMetadata(), MemoryBlobs(), now=lambda: MOMENT)
    for format_, archive, metadata in (
        ("helm", chart("web", "1.0.0"), '{"a":{"name":"é"},"b":[2]}'),
        ("kpm", tgz({"manifest.yaml": b"a: 1\n"}), None),
    ):
        submission = examine(archive, format_, limit=LIMIT)
        await pushed.publishing.push(WEB, ONE, submission, metadata=metadata)
    await pushed.channels.set(WEB, "stable", "1.0.0")
    assert await shown(registry) == await shown(pushed)


async def test_a_second_run_writes_nothing(
    old: Old, take: Import, metadata: MemoryMetadata, tmp_path: Path
) -> None:
    old.push("shop/gone", "1.0.0", tgz({"x": b"1"}))
    old.document("shop/gone")["releases"].clear()
    first = await take(old.write(tmp_path))
    before = await everything(metadata)
    second = await take(tmp_path)
    assert await everything(metadata) == before
    assert [one.item for one in second] == [one.item for one in first]
    assert summary(second) == {Result.PRESENT, Result.LEFT}


async def test_a_dry_run_says_the_same_and_writes_nothing(
    old: Old, take: Import, metadata: MemoryMetadata, registry: Registry, tmp_path: Path
) -> None:
    old.push("shop/gone", "1.0.0", tgz({"x": b"1"}))
    old.document("shop/gone")["releases"].clear()
    before = await everything(metadata)
    dry = await take(old.write(tmp_path), dry=True)
    assert await everything(metadata) == before
    assert summary(dry) == {Result.NEW, Result.LEFT}
    assert await registry.packages.list(readable=lambda _: True) == []
    wet = await take(tmp_path)
    assert [(one.item, one.reason) for one in wet] == [(one.item, one.reason) for one in dry]


@pytest.mark.parametrize("landed", [False, True])
async def test_a_run_after_a_crash_completes_the_first(
    old: Old, take: Import, registry: Registry, tmp_path: Path, *, landed: bool
) -> None:
    await take(old.write(tmp_path))
    whole = await shown(registry)
    for crash in range(1_000):
        metadata = Failing(landed=landed)
        broken = await Registry.open(metadata, MemoryBlobs())
        metadata.left = crash
        try:
            await run(broken, tmp_path)
        except StoreUnavailable:
            assert summary(await run(broken, tmp_path)) <= {Result.IMPORTED, Result.PRESENT}
            assert await shown(broken) == whole
        else:
            break
    assert 10 < crash < 999


async def test_what_is_here_and_different_is_never_overwritten(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    other, same = chart("web", "9.9.9"), tgz({"manifest.yaml": b"a: 1\n"})
    await registry.publishing.push(WEB, ONE, examine(other, "helm", limit=LIMIT))
    await registry.publishing.push(WEB, ONE, examine(same, "kpm", limit=LIMIT))
    await registry.publishing.push(WEB, TWO, examine(other, "zip", limit=LIMIT))
    await registry.channels.set(WEB, "stable", "1.0.0")
    before = await shown(registry)
    found = told(await take(old.write(tmp_path)))
    assert found["shop/web 1.0.0 helm"] == (
        Result.REFUSED,
        "the release has another archive here; --force replaces it",
    )
    assert found["shop/web 1.0.0 kpm"] == (
        Result.REFUSED,
        "the release has the same archive with another time or metadata here; --force replaces it",
    )
    assert found["shop/web 1.1.0+b1 helm"] == (Result.IMPORTED, "")
    assert found["shop/web channel stable"] == (
        Result.REFUSED,
        "shop/web:stable is a channel that leads to 1.0.0, with 1.0.0; --force replaces it",
    )
    for one in before:
        if isinstance(one, Channel):
            assert one in await shown(registry)
    assert await pull(registry, WEB, "1.0.0", "helm") == other
    assert told(await take(tmp_path, dry=True))["shop/web 1.0.0 helm"][0] is Result.REFUSED


async def test_a_tag_with_the_name_of_a_release_is_never_taken_over_unasked(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    index = build_index((), {})
    await registry.manifests.put(Reference(WEB.repository, ONE.tag), OCI_INDEX, index.raw)
    old.write(tmp_path)
    for dry in (True, False):
        result, reason = told(await take(tmp_path, dry=dry))["shop/web 1.0.0 helm"]
        assert result is Result.REFUSED
        assert "the tag 1.0.0 holds what is no package" in reason
    assert told(await take(tmp_path, force=True))["shop/web 1.0.0 helm"][0] is Result.IMPORTED


async def test_force_replaces_it(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    other = chart("web", "9.9.9")
    await registry.publishing.push(WEB, ONE, examine(other, "helm", limit=LIMIT))
    await registry.channels.set(WEB, "stable", "1.0.0")
    old.write(tmp_path)
    assert summary(await take(tmp_path, force=True, dry=True)) == {Result.NEW}
    assert summary(await take(tmp_path, force=True)) == {Result.IMPORTED}
    assert await pull(registry, WEB, "1.0.0", "helm") == chart("web", "1.0.0")
    assert await registry.packages.channels(WEB) == [Channel("stable", "1.0.0", (TWO, ONE))]
    assert summary(await take(tmp_path, force=True)) == {Result.PRESENT}


async def test_a_package_that_began_here_earlier_stays_so_old(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    await registry.publishing.begin(WEB, datetime(2016, 1, 1, tzinfo=UTC))
    await take(old.write(tmp_path))
    listed = {
        str(one.package): one for one in await registry.packages.list(readable=lambda _: True)
    }
    assert listed["shop/web"].created == "2016-01-01T00:00:00.000000Z"


async def test_an_emptied_package_answers_as_it_did(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    old.push("shop/gone", "1.0.0", tgz({"x": b"1"}))
    old.channel("shop/gone", "old", "1.0.0", members=["1.0.0"])
    old.document("shop/gone")["releases"].clear()
    del old.packages["shop"]["gone"]
    found = told(await take(old.write(tmp_path)))
    assert found["shop/gone channel old"] == (
        Result.IMPORTED,
        "its current release, 1.0.0, is not there",
    )
    gone = PackageName("shop", "gone")
    assert await registry.packages.releases(gone) == []
    assert await registry.packages.channels(gone) == [Channel("old", "1.0.0", ())]
    with pytest.raises(PackageUnknown):
        await registry.packages.releases(PackageName("shop", "never"))


async def test_a_channel_may_lead_where_it_is_no_member(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    """The original left it so when the current release was deleted and pushed again."""
    old.channel("shop/web", "edge", "1.0.0", members=["1.1.0+b1"])
    await take(old.write(tmp_path))
    assert await registry.packages.channel(WEB, "edge") == Channel("edge", "1.0.0", (TWO,))


@pytest.mark.parametrize(
    ("name", "current", "why"),
    [
        ("a b", "1.0.0", "'a b' cannot be a channel; a channel is called like a tag"),
        ("2.0.0", "1.0.0", "'2.0.0' cannot be a channel; a channel is called like a tag"),
        ("edge", "newest", "Invalid version string: 'newest'; MAJOR.MINOR.PATCH"),
    ],
)
async def test_channels_that_cannot_be(
    old: Old, take: Import, registry: Registry, tmp_path: Path, name: str, current: str, why: str
) -> None:
    old.channel("shop/web", name, current, members=["1.0.0"])
    result, reason = told(await take(old.write(tmp_path)))[f"shop/web channel {name}"]
    assert result is Result.REFUSED
    assert reason.startswith(why)
    with pytest.raises(ChannelUnknown):
        await registry.packages.channel(WEB, name)


async def test_a_tag_is_no_channel_unless_forced(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    await registry.publishing.push(WEB, ONE, examine(chart(), "zip", limit=LIMIT))
    release = await registry.manifests.get(Reference(WEB.repository, ONE.tag))
    reference = Reference(WEB.repository, Tag("stable"))
    await registry.manifests.put(reference, release.media_type, release.raw)
    found = told(await take(old.write(tmp_path)))
    assert found["shop/web channel stable"][0] is Result.REFUSED
    assert "shop/web:stable is a tag that is no channel" in found["shop/web channel stable"][1]
    await take(tmp_path, force=True)
    assert await registry.packages.channels(WEB) == [Channel("stable", "1.0.0", (TWO, ONE))]


async def test_an_import_that_a_rival_overtakes_finds_its_work_done(
    old: Old, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = registry.publishing.push

    async def overtaken(*args: Any, **options: Any) -> None:  # noqa: ANN401 - passed on
        await push(*args, **options)
        await push(*args, **options)

    monkeypatch.setattr(registry.publishing, "push", overtaken)
    outcomes = await run(registry, old.write(tmp_path))
    assert [one.result for one in outcomes] == [*[Result.PRESENT] * 4, Result.IMPORTED]


async def test_two_imports_at_once_are_one(
    old: Old, registry: Registry, take: Import, tmp_path: Path
) -> None:
    old.write(tmp_path)
    both = await asyncio.gather(take(tmp_path), take(tmp_path))
    assert summary([*both[0], *both[1]]) <= {Result.IMPORTED, Result.PRESENT}
    assert len(await registry.packages.releases(WEB)) == 3
