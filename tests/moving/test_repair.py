"""fsck --repair: mends what can be, and says what has to be pushed again."""

from __future__ import annotations

import msgspec
import pytest

from ociappr.blobstore import UploadId
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown
from ociappr.metadata import Delete, Put
from ociappr.names import Reference, Tag
from ociappr.registry import keys
from ociappr.registry.fsck import Finding
from ociappr.registry.records import encode
from tests.core.stage import Call, DirectedMetadata, Scenes
from tests.core.world import A, B, World, chunks, push_blob, push_manifest, read, tagged
from tests.moving.house import LAYERS, NESTED, furnish
from tests.moving.picture import picture

STORED = Digest.of(LAYERS[1])
BREAKS = (f"{NESTED}:deep", f"{A}:image", f"{A}:index")


async def check(world: World, *, repair: bool = False) -> list[Finding]:
    return [one async for one in (await world.registry()).fsck.run(repair=repair)]


@pytest.mark.parametrize("kind", ["p", "f", "a", "o"])
async def test_missing_derived_keys_come_back(world: World, kind: str) -> None:
    await furnish(world)
    before = await world.entries(kind)
    await world.metadata.commit([], [Delete(entry.key) for entry in before])
    found = await check(world)
    assert len(found) == len(before)
    assert not any(one.repaired for one in found)
    repaired = await check(world, repair=True)
    assert {one.code for one in repaired} <= {"derived-missing", "owner-missing"}
    assert all(one.repaired for one in repaired)
    after = await world.entries(kind)
    assert [(one.key, one.value) for one in after] == [(one.key, one.value) for one in before]
    assert await check(world) == []


async def test_stray_derived_keys_go(world: World) -> None:
    await furnish(world)
    never = Digest.of(b"never")
    strays = [
        Put(keys.pin(STORED, A, never), b""),
        Put(keys.referrer(A, STORED, never), b"{}"),
        Put(b"o\0staging/nobody-00", str(STORED).encode()),
    ]
    await world.metadata.commit([], strays)
    repaired = await check(world, repair=True)
    assert [(one.code, one.repaired) for one in repaired] == [
        ("derived-stray", True),
        ("derived-stray", True),
        ("owner-stray", True),
    ]
    assert await check(world) == []


@pytest.mark.parametrize("state", ["gone", "damaged", "inline"])
async def test_a_blob_without_its_bytes_can_be_pushed_again(world: World, state: str) -> None:
    """It is set aside, its tags are told; pushed to one repository, it is back in all."""
    registry = await furnish(world)
    shown = await picture(world)
    data = LAYERS[0] if state == "inline" else LAYERS[1]
    digest = Digest.of(data)
    record = await world.blob(digest)
    assert record is not None
    if state == "inline":
        await world.metadata.commit([], [Put(keys.inline(digest, record.birth), b"wrong")])
    elif state == "gone":
        await world.store.delete(record.parts[0][0])
    else:
        locator, length = await world.store.stage(UploadId("damage"), chunks(b"wrong"))
        damaged = msgspec.structs.replace(record, parts=((locator, length),))
        owners = [Put(keys.owner(locator), str(digest).encode())]
        owners += [Put(keys.blob(digest), encode(damaged))]
        gone = Delete(keys.owner(record.parts[0][0]))
        await world.metadata.commit([], [*owners, gone])
    (found,) = [one for one in await check(world, repair=True) if one.code.startswith("blob-")]
    assert (found.about, found.repaired) == (str(digest), False)
    assert found.breaks == (BREAKS if state != "inline" else BREAKS[1:])
    assert "set aside: push it again" in found.what
    with pytest.raises(BlobUnknown):
        await read(registry, digest)
    assert [(one.code, one.breaks) for one in await check(world)] == [
        ("blob-missing", found.breaks)
    ]
    await push_blob(registry, data)
    repaired = await check(world, repair=True)
    assert {one.code for one in repaired} <= {"link-void"}
    assert all(one.repaired for one in repaired)
    assert await check(world) == []
    shown[str(B)]["blobs"].pop(str(digest), None)  # no manifest there needs it: it is not back
    assert await picture(world) == shown
    await world.settle()
    assert await world.faults() == []


async def test_on_another_registrys_storage_nothing_is_set_aside(world: World) -> None:
    """A wrong storage URL shows all bytes as gone: what is said of that must not come true."""
    registry = await furnish(world)
    before = {kind: await world.entries(kind) for kind in "blx"}
    foreign = World(world.metadata, MemoryBlobs(), world.clock, world.settings)
    found = await check(foreign, repair=True)
    gone = [one for one in found if one.code == "blob-gone"]
    assert str(STORED) in {one.about for one in gone}
    assert all("nothing was set aside" in one.what and "storage.url" in one.what for one in gone)
    assert {kind: await world.entries(kind) for kind in "blx"} == before
    assert await read(registry, STORED) == LAYERS[1]
    await world.settle()
    assert await world.faults() == []


async def test_a_dangling_tag_is_told_and_stays(world: World) -> None:
    registry = await furnish(world)
    value = await world.value(keys.tag(A, "image"))
    assert value is not None
    digest = Digest.of(b"never")
    stored = await registry.tags.read(A, Tag("image"))
    assert stored is not None
    broken = value.replace(stored.digest.encode(), str(digest).encode())
    await world.metadata.commit([], [Put(keys.tag(A, "image"), broken)])
    (found,) = await check(world, repair=True)
    assert (found.code, found.breaks, found.repaired) == ("tag-dangling", (f"{A}:image",), False)
    assert await world.value(keys.tag(A, "image")) == broken


async def test_a_deep_blob_breaks_every_tag_above_it(world: World) -> None:
    await furnish(world)
    record = await world.blob(STORED)
    assert record is not None
    await world.store.delete(record.parts[0][0])
    (found,) = await check(world)
    assert (found.code, found.breaks) == ("blob-gone", BREAKS)


async def test_a_repair_checks_that_what_it_found_is_still_so(memory: World) -> None:
    """A manifest is deleted, or pushed again, between the look and the commit."""
    registry = await furnish(memory)
    digest = await tagged(registry, "subject")
    raw = (await registry.manifests.get(Reference(A, digest))).raw
    pin, scenes = keys.pin(digest, A, digest), Scenes()
    directed = World(
        DirectedMetadata(memory.metadata, scenes), memory.store, memory.clock, memory.settings
    )

    async def delete(_: Call) -> None:
        await registry.manifests.delete(A, digest)

    async def push(_: Call) -> None:
        await push_manifest(registry, raw)

    await memory.metadata.commit([], [Delete(pin)])
    scenes.before_next("commit", "p", delete)
    found = await check(directed, repair=True)
    assert [(one.code, one.repaired) for one in found] == [("derived-missing", False)]
    assert scenes.played
    assert await memory.value(pin) is None
    await memory.metadata.commit([], [Put(pin, b"")])
    scenes.before_next("commit", "P", push)
    await check(directed, repair=True)
    assert scenes.played
    assert await memory.value(pin) is not None
    assert await check(memory) == []
