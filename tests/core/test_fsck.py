"""fsck: silent about a sound registry, and finds each kind of damage that is done to it."""

from __future__ import annotations

import pytest

from ociappr.blobstore import Locator, UploadId
from ociappr.digest import ContentDigest, Digest
from ociappr.metadata import Delete, Put, Write
from ociappr.names import PackageName, RepositoryName
from ociappr.registry import Registry, keys
from ociappr.registry.records import BlobRecord, BlobState, encode
from tests.core.test_tags import publish
from tests.core.world import (
    MIDDLE,
    SMALL,
    A,
    World,
    chunks,
    content,
    finish,
    push_all,
    push_index,
    push_manifest,
    upload,
)
from tests.http.client import image, index

LAYERS = (content(SMALL), content(MIDDLE))
STORED = Digest.of(LAYERS[1])


@pytest.fixture
async def sound(world: World, registry: Registry) -> World:
    """A registry with some of everything."""
    await push_all(registry, LAYERS)
    subject = await push_manifest(registry, image(), "subject")
    raw = image(*LAYERS, subject=subject)
    await push_manifest(registry, raw, "image")
    await push_index(registry, index(raw), "index")
    await publish(registry, "1.0.0")
    await registry.channels.set(PackageName("library", "a"), "stable", "1.0.0")
    halves = content(MIDDLE, "halves")
    await finish(registry, await upload(registry, halves[:SMALL], halves[SMALL:]), halves)
    return world


async def findings(world: World) -> list[tuple[str, str]]:
    """Return what a fresh registry finds."""
    registry = await world.registry()
    return [(found.what, found.about) async for found in registry.fsck.run()]


async def place(world: World) -> Locator:
    """Return where the stored layer lies."""
    record = await world.blob(STORED)
    assert record is not None
    return record.parts[0][0]


async def replace(world: World, data: bytes) -> None:
    """Let the record of the stored layer name other bytes."""
    record = await world.blob(STORED)
    assert record is not None
    locator, _ = await world.store.stage(UploadId("damage"), chunks(data))
    changed = BlobRecord(
        record.size, record.birth, BlobState.LIVE, record.since, ((locator, len(data)),)
    )
    key, owner = keys.blob(STORED), keys.owner(locator)
    old = keys.owner(record.parts[0][0])
    writes: list[Write] = [Put(key, encode(changed)), Put(owner, str(STORED).encode()), Delete(old)]
    await world.metadata.commit([], writes)


async def test_a_sound_registry(sound: World) -> None:
    assert await findings(sound) == []
    await sound.collect(aged=False)
    assert await findings(sound) == []


async def test_a_flipped_byte(sound: World) -> None:
    data = bytearray(LAYERS[1])
    data[MIDDLE // 2] ^= 1
    await replace(sound, bytes(data))
    assert await findings(sound) == [("the bytes of a blob are damaged", str(STORED))]


async def test_a_wrong_length(sound: World) -> None:
    await replace(sound, LAYERS[1][:-1])
    assert await findings(sound) == [("the bytes of a blob are damaged", str(STORED))]


async def test_a_flipped_byte_of_an_inline_blob(sound: World) -> None:
    digest = Digest.of(LAYERS[0])
    record = await sound.blob(digest)
    assert record is not None
    key = keys.inline(digest, record.birth)
    await sound.metadata.commit([], [Put(key, b"x" * SMALL)])
    assert await findings(sound) == [("the bytes of a blob are damaged", str(digest))]


async def test_a_missing_file(sound: World) -> None:
    await sound.store.delete(await place(sound))
    assert await findings(sound) == [("the bytes of a blob are gone", str(STORED))]


async def test_missing_inline_bytes(sound: World) -> None:
    digest = Digest.of(LAYERS[0])
    record = await sound.blob(digest)
    assert record is not None
    await sound.metadata.commit([], [Delete(keys.inline(digest, record.birth))])
    assert await findings(sound) == [("the bytes of a blob are gone", str(digest))]


async def test_a_manifest_without_bytes(sound: World) -> None:
    digest = Digest.of(index(image(*LAYERS, subject=Digest.of(image()))))
    await sound.metadata.commit([], [Delete(keys.blob(digest))])
    (found,) = await findings(sound)
    assert "cannot be read" in found[0]
    assert found[1] == str(digest)


@pytest.mark.parametrize("kind", ["p", "f", "a"])
async def test_each_missing_derived_key(sound: World, kind: str) -> None:
    entries = await sound.entries(kind)
    assert entries
    for entry in entries:
        await sound.metadata.commit([], [Delete(entry.key)])
        assert await findings(sound) == [
            ("a derived key of a manifest is missing", " ".join(keys.parts(entry.key)))
        ]
        await sound.metadata.commit([], [Put(entry.key, entry.value)])
    assert await findings(sound) == []


async def test_a_derived_key_with_another_value(sound: World) -> None:
    (alias,) = await sound.entries("a")
    await sound.metadata.commit([], [Put(alias.key, str(STORED).encode())])
    ((what, _),) = await findings(sound)
    assert what == "a derived key of a manifest is missing"


async def test_a_missing_owner(sound: World) -> None:
    locator = await place(sound)
    await sound.metadata.commit([], [Delete(keys.owner(locator))])
    assert await findings(sound) == [("a blob's locator does not lead back to it", f"o {locator}")]


@pytest.mark.parametrize("owner", [STORED, Digest.of(b"never")])
async def test_a_foreign_owner(sound: World, owner: Digest) -> None:
    key = keys.owner(Locator("staging/nobody-00"))
    await sound.metadata.commit([], [Put(key, str(owner).encode())])
    assert await findings(sound) == [
        ("a locator belongs to a blob that does not name it", "staging/nobody-00")
    ]


async def test_a_dangling_tag(sound: World) -> None:
    entry = (await sound.metadata.get([keys.tag(A, "image")]))[keys.tag(A, "image")]
    await sound.metadata.commit([], [Put(keys.tag(A, "copy"), entry.value)])
    assert await findings(sound) == []
    text = str(Digest.of(b"never"))
    image_digest = str(Digest.of(image(*LAYERS, subject=Digest.of(image()))))
    broken = entry.value.replace(image_digest.encode(), text.encode())
    await sound.metadata.commit([], [Put(keys.tag(A, "copy"), broken)])
    assert await findings(sound) == [(f"a tag names manifest {text}, which is gone", f"{A}:copy")]


async def test_a_channel_may_wait_for_its_release(sound: World) -> None:
    await sound.metadata.commit([], [Delete(keys.tag(A, "1.0.0"))])
    assert await findings(sound) == []


@pytest.mark.parametrize(
    "key",
    [
        keys.pin(STORED, A, Digest.of(b"never")),
        keys.pin(STORED, RepositoryName("never"), Digest.of(image())),
        keys.referrer(A, STORED, Digest.of(b"never")),
        keys.alias(A, ContentDigest("0" * 64), Digest.of(b"never")),
    ],
)
async def test_a_derived_key_of_nothing(sound: World, key: bytes) -> None:
    await sound.metadata.commit([], [Put(key, b"")])
    assert await findings(sound) == [
        ("a derived key belongs to no manifest", " ".join(keys.parts(key)))
    ]
