"""Each rule of the deletion protocol, in the real code: the interleaving that loses without it.

The rules are the weakened variants of `tests.models.lifecycle`; each test was seen to fail with its
rule taken out of the code. "Rival" requests and collectors run at the worst moment of the one whose
story is told.

rule taken away                           test
promoter without Unchanged(b)             test_a_promotion_revives_nothing
asks o before u, asks x before o          test_the_sweeper_asks_in_the_order_of_handing_over
collector ignores pins                    test_a_pin_that_comes_first_keeps_the_blob
manifest does not check b                 test_a_manifest_does_not_name_what_goes_meanwhile
i without birth, deleted after b          test_the_bytes_of_a_new_birth_outlive_those_of_the_old
was: no bin entry for inline blobs        test_void_links_of_inline_blobs_are_deleted
was: x goes, links or not                 test_the_bin_entry_stays_while_a_link_does
was: one birth for all runs               test_each_run_draws_a_birth_of_its_own
l without birth                           test_an_old_link_does_not_show_a_new_birth
links cleaned unchecked                   test_a_link_of_a_new_birth_is_not_cleaned
was: an absent child is not checked       test_a_child_that_comes_meanwhile_is_revived
was: promote renames                      test_a_rival_end_finds_the_part_that_was_promoted
promoted name without nonce               test_two_ends_promote_under_names_of_their_own
cleans up after an unknown outcome        test_nothing_is_cleaned_up_after_an_unknown_outcome
a cancelled upload can be finished        test_a_cancelled_upload_cannot_be_finished
was: an expired upload is a fresh id      test_an_expired_upload_is_no_fresh_one
was: the loser deletes its part           test_the_loser_leaves_a_part_that_a_checkpoint_named
was: u comes with the first part          test_the_session_comes_before_its_first_byte
was: b without lengths                    test_a_blob_of_an_open_part_does_not_grow
was: an open part is promoted             test_an_open_part_is_copied_not_promoted
tag does not rewrite m                    test_a_tag_does_not_outlive_its_manifest
deleter does not look again               test_a_tag_does_not_outlive_its_manifest
deleter reads m after the tags            test_a_tag_that_comes_while_the_tags_are_deleted
was: hints dropped unchecked              test_a_hint_that_is_right_again_is_kept
was: tags deleted unchecked               test_a_tag_that_moved_on_is_kept
was: index does not rewrite m             test_an_index_collides_with_the_deletion_of_its_child
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ociappr.digest import Digest
from ociappr.errors import (
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
    RangeInvalid,
    StoreUnavailable,
    UploadUnknown,
)
from ociappr.names import Reference
from ociappr.registry import Registry, Settings, Sparse, keys
from ociappr.registry.records import BlobRecord, BlobState, decode
from tests.core.stage import Call, DirectedBlobs, DirectedMetadata, Scenes
from tests.core.world import (
    LARGE,
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
from tests.http.client import image, index

DATA = content(MIDDLE)
HALVES = (DATA[: MIDDLE // 2], DATA[MIDDLE // 2 :])
DIGEST = Digest.of(DATA)


@pytest.fixture
def scenes() -> Scenes:
    return Scenes()


@pytest.fixture
def stage(world: World, scenes: Scenes) -> World:
    """The world as the one sees it whose story is directed by `scenes`."""
    metadata = DirectedMetadata(world.metadata, scenes)
    return World(metadata, DirectedBlobs(world.store, scenes), world.clock, world.settings)


@pytest.fixture
async def directed(stage: World) -> Registry:
    """The registry whose story is told; `registry` is the rivals'."""
    return await stage.registry()


def doing(work: Callable[[], Awaitable[object]]) -> Callable[[Call], Awaitable[None]]:
    """Return an act that does *work* whatever the call is."""

    async def act(_: Call) -> None:
        await work()

    return act


def failing(_: Call) -> Awaitable[None]:
    """Answer that nobody knows what became of a commit."""
    raise StoreUnavailable("the connection broke")


async def push_halves(registry: Registry, digest: Digest = DIGEST) -> None:
    """Push a blob that is committed as two parts."""
    id_ = await upload(registry, *HALVES)
    await registry.uploads.finish(A, id_, digest, chunks())


async def bytes_of_promoted(world: World) -> None:
    """Assert that each promoted object is as long as its blob, and names no other bytes."""
    async for stored in world.store.walk():
        if stored.digest is not None:
            async with world.store.read(stored.locator) as blocks:
                data = b"".join([block async for block in blocks])
            assert Digest.of(data) == stored.digest


# -- promotion and the sweeper


@pytest.mark.parametrize("reborn", [False, True])
async def test_a_promotion_revives_nothing(
    world: World, stage: World, registry: Registry, scenes: Scenes, *, reborn: bool
) -> None:
    await push_halves(registry)

    async def rival() -> None:
        await world.collect(3)
        assert await world.blob(DIGEST) is None
        if reborn:
            await push_blob(registry, DATA)

    scenes.before_next("commit", "box", doing(rival))
    assert (await stage.collect(aged=False)).promoted == 0
    assert scenes.played
    assert (await world.blob(DIGEST) is not None) == reborn
    if reborn:
        assert await read(registry, DIGEST) == DATA
    await world.settle()
    assert await world.faults() == []


async def test_a_promotion_whose_session_expired_stops_no_collector(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    await push_all(registry, [])
    await push_halves(registry)
    await push_manifest(registry, image(DATA), "kept")

    async def rival() -> None:
        world.clock.advance(2 * world.settings.session_age)
        await world.collect(aged=False)

    scenes.before_next("commit", "box", doing(rival))
    assert (await stage.collect(aged=False)).promoted == 0
    assert scenes.played
    await world.settle()
    assert await read(registry, DIGEST) == DATA
    assert await world.faults() == []


@pytest.mark.parametrize("gap", ["u", "o", "x"])
@pytest.mark.parametrize("step", ["session to record", "record to bin"])
async def test_the_sweeper_asks_in_the_order_of_handing_over(
    world: World, stage: World, registry: Registry, scenes: Scenes, gap: str, step: str
) -> None:
    id_ = await upload(registry, *HALVES)
    part = (await world.objects())[0]
    if step == "record to bin":
        await registry.uploads.finish(A, id_, DIGEST, chunks())
        await world.collect(aged=False)
        part = (await world.objects())[0]
        world.clock.advance(world.settings.grace)
        await world.collect()
        assert await world.blob(DIGEST) is not None

    async def rival() -> None:
        if step == "record to bin":
            await world.collect()
            assert await world.value(keys.binned(part)) is not None
        else:
            await registry.uploads.finish(A, id_, DIGEST, chunks())

    scenes.before_next("walk", "", doing(lambda: arm(scenes, gap, rival)))
    await stage.collect(aged=False)
    assert scenes.played
    assert part in await world.objects()
    if step == "session to record":
        assert await read(registry, DIGEST) == DATA


async def arm(scenes: Scenes, gap: str, rival: Callable[[], Awaitable[object]]) -> None:
    """Let the rival act before the sweeper asks for the owners of one kind."""
    scenes.before_next("get", gap, doing(rival))


# -- pins


@pytest.mark.parametrize("state", [BlobState.LIVE, BlobState.CONDEMNED])
async def test_a_pin_that_comes_first_keeps_the_blob(
    world: World, stage: World, registry: Registry, scenes: Scenes, state: BlobState
) -> None:
    await push_all(registry, [DATA])
    if state is BlobState.CONDEMNED:
        await world.collect()
    else:
        world.clock.advance(world.settings.grace)

    async def rival() -> None:
        await push_all(registry, [])
        await push_manifest(registry, image(DATA), "kept")

    scenes.before_next("commit", "b", doing(rival), about=DIGEST)
    await stage.collect(aged=state is BlobState.CONDEMNED)
    assert scenes.played
    assert await read(registry, DIGEST) == DATA
    await world.collect(5)
    assert await read(registry, DIGEST) == DATA


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("data", [content(SMALL), DATA], ids=["inline", "stored"])
async def test_a_manifest_does_not_name_what_goes_meanwhile(
    world: World, directed: Registry, registry: Registry, scenes: Scenes, rounds: int, data: bytes
) -> None:
    await push_all(registry, [data])
    scenes.before_next("commit", "mp", doing(lambda: world.collect(rounds)))
    try:
        await push_manifest(directed, image(data), "kept")
    except ManifestBlobUnknown:
        assert rounds == 2
        with pytest.raises(ManifestUnknown):
            await tagged(registry, "kept")
    else:
        assert rounds == 1
        await world.collect(5)
        assert await read(registry, Digest.of(data)) == data
    assert scenes.played


# -- inline bytes, births and links


async def test_the_bytes_of_a_new_birth_outlive_those_of_the_old(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    data = content(SMALL)
    digest = await push_blob(registry, data)
    await world.collect()

    async def rival() -> None:
        assert await world.blob(digest) is None
        await push_all(registry, [data])
        await push_manifest(registry, image(data), "kept")

    scenes.after_next("commit", "Bx", doing(rival))
    await stage.collect(4)
    assert scenes.played
    assert await read(registry, digest) == data


async def test_void_links_of_inline_blobs_are_deleted(world: World, registry: Registry) -> None:
    for size in (SMALL, MIDDLE):
        await push_blob(registry, content(size))
        await push_blob(registry, content(size), B)
    await world.collect(2)
    assert await world.entries("b") == []
    assert len(await world.entries("l")) == 4
    assert len(await world.entries("x")) == 2
    await world.collect()
    assert await world.entries("lx") == []


async def test_the_bin_entry_stays_while_a_link_does(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    await push_blob(registry, content(SMALL))
    await push_blob(registry, content(SMALL), B)
    await world.collect(2)
    scenes.before_next("commit", "L", failing)
    with pytest.raises(StoreUnavailable):
        await stage.collect()
    assert await world.entries("l") != []
    assert await world.entries("x") != []
    await stage.collect()
    assert await world.entries("lx") == []


async def test_each_run_draws_a_birth_of_its_own(
    world: World, directed: Registry, registry: Registry, scenes: Scenes
) -> None:
    """The first run may have landed unseen: its birth may be the name of what is forgotten."""
    data = content(SMALL)

    async def rival() -> None:
        await push_blob(registry, data, B)
        scenes.before_next("get", "b", doing(lambda: world.collect(3)))

    scenes.before_next("commit", "bil", doing(rival))
    digest = await push_blob(directed, data)
    born = [call.put(keys.blob(digest)) for call in scenes.calls if call.concerns("commit", "bil")]
    births = [decode(BlobRecord, value).birth for value in born if value is not None]
    assert len(births) == len(set(births)) == 2


@pytest.mark.parametrize("size", [SMALL, MIDDLE])
async def test_an_old_link_does_not_show_a_new_birth(
    world: World, registry: Registry, size: int
) -> None:
    data = content(size)
    digest = await push_blob(registry, data)
    await world.collect(2)
    await push_all(registry, [data], B)
    await push_manifest(registry, image(data), "kept", repository=B)
    assert await world.value(keys.link(digest, A)) is not None
    await push_all(registry, [])
    with pytest.raises(BlobUnknown):
        await registry.blobs.find(A, digest)
    with pytest.raises(BlobUnknown):
        await registry.blobs.delete(A, digest)
    with pytest.raises(ManifestBlobUnknown):
        await push_manifest(registry, image(data), "stolen")
    assert not await registry.blobs.mount(A, digest, A, lambda _: True)
    assert await registry.blobs.mount(A, digest, None, lambda name: name == B)


async def test_a_link_of_a_new_birth_is_not_cleaned(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    data = content(SMALL)
    digest = await push_blob(registry, data)
    await world.collect(2)

    async def rival() -> None:
        await push_all(registry, [data])
        await push_manifest(registry, image(data), "kept")

    scenes.before_next("commit", "L", doing(rival))
    await stage.collect()
    assert scenes.played
    assert await read(registry, digest) == data
    await world.collect(3)
    assert await read(registry, digest) == data


# -- sparse manifests


async def test_a_child_that_comes_meanwhile_is_revived(
    world: World, stage: World, registry: Registry, scenes: Scenes
) -> None:
    settings = Settings(sparse=Sparse.ALL)
    directed = await stage.registry(settings)
    await push_all(registry, [])
    await push_manifest(registry, image(), "keeps-the-config")

    async def rival() -> None:
        await push_blob(registry, DATA, B)
        await world.collect()
        record = await world.blob(DIGEST)
        assert record is not None
        assert record.state is BlobState.CONDEMNED

    scenes.before_next("commit", "mp", doing(rival))
    await push_manifest(directed, image(DATA), "sparse")
    assert scenes.played
    record = await world.blob(DIGEST)
    assert record is not None
    assert record.state is BlobState.LIVE
    await world.collect(5)
    assert await read(registry, DIGEST, B) == DATA


# -- closing an upload


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_rival_end_finds_the_part_that_was_promoted(
    world: World, directed: Registry, registry: Registry, scenes: Scenes, moment: str
) -> None:
    """One ends the upload as it is, which promotes its part; the other with a last chunk."""
    id_ = await upload(registry, DATA)
    last = content(MIDDLE, "last")
    whole = Digest.of(DATA + last)

    async def rival() -> None:
        await finish(registry, id_, DATA + last, last)

    arm_ = scenes.before_next if moment == "before" else scenes.after_next
    arm_("promote", "s", doing(rival))
    with pytest.raises(UploadUnknown):
        await finish(directed, id_, DATA)
    assert scenes.played
    assert await read(registry, whole) == DATA + last
    await world.collect(aged=False)
    assert await read(registry, whole) == DATA + last
    with pytest.raises(BlobUnknown):
        await registry.blobs.find(A, DIGEST)


async def test_two_ends_promote_under_names_of_their_own(
    world: World, directed: Registry, registry: Registry, scenes: Scenes
) -> None:
    id_ = await upload(registry, DATA)
    scenes.after_next("promote", "s", doing(lambda: finish(registry, id_, DATA)))
    assert await finish(directed, id_, DATA) == DIGEST
    assert scenes.played
    assert await read(registry, DIGEST) == DATA
    promoted = [locator for locator in await world.objects() if locator.startswith("blobs/")]
    assert len(promoted) == 2
    await world.collect(aged=False)
    assert await read(registry, DIGEST) == DATA
    assert len(await world.objects()) == 1


Way = Callable[[Registry, bytes], Awaitable[object]]


async def one_request(registry: Registry, data: bytes) -> None:
    await push_blob(registry, data)


async def one_chunk(registry: Registry, data: bytes) -> None:
    await finish(registry, await upload(registry, data), data)


async def last_chunk(registry: Registry, data: bytes) -> None:
    await finish(registry, await upload(registry, data[:9_000]), data, data[9_000:])


async def halves(registry: Registry, data: bytes) -> None:
    await finish(registry, await upload(registry, data[:9_000], data[9_000:]), data)


@pytest.mark.parametrize("way", [one_request, one_chunk, last_chunk, halves])
@pytest.mark.parametrize("size", [10_000, MIDDLE, LARGE])
@pytest.mark.parametrize("landed", ["at once", "late", "never"])
async def test_nothing_is_cleaned_up_after_an_unknown_outcome(
    world: World, directed: Registry, registry: Registry, scenes: Scenes,
    way: Way, size: int, landed: str,
) -> None:  # fmt: skip
    data = content(size)
    digest = Digest.of(data)
    lost: list[Call] = []

    async def lose(call: Call) -> None:
        lost.append(call)
        raise StoreUnavailable("the connection broke")

    arm_ = scenes.after_next if landed == "at once" else scenes.before_next
    arm_("commit", "bl", lose)
    with pytest.raises(StoreUnavailable):
        await way(directed, data)
    assert len(lost) == 1
    if landed == "late":
        await world.collect(aged=False)
        await world.metadata.commit(lost[0].checks, lost[0].writes)
    if landed == "never":
        with pytest.raises(BlobUnknown):
            await registry.blobs.find(A, digest)
    else:
        assert await read(registry, digest) == data
        await world.collect(aged=False)
        assert await read(registry, digest) == data
    await world.settle()
    assert await world.faults() == []


async def test_nothing_is_cleaned_up_after_an_unknown_outcome_of_a_manifest(
    world: World, directed: Registry, registry: Registry, scenes: Scenes
) -> None:
    raw = image(annotations={"large": "x" * MIDDLE})
    await push_all(registry, [])
    scenes.after_next("commit", "mp", failing)
    with pytest.raises(StoreUnavailable):
        await push_manifest(directed, raw, "kept")
    assert await tagged(registry, "kept") == Digest.of(raw)
    await push_manifest(directed, raw, "kept")
    await world.settle()
    assert await tagged(await world.registry(), "kept") == Digest.of(raw)
    assert await world.faults() == []


@pytest.mark.parametrize("pieces", [(DATA,), HALVES, (content(SMALL),)])
async def test_a_cancelled_upload_cannot_be_finished(
    world: World,
    directed: Registry,
    registry: Registry,
    scenes: Scenes,
    pieces: tuple[bytes, ...],
) -> None:
    id_ = await upload(registry, *pieces)
    scenes.before_next("commit", "bl", doing(lambda: registry.uploads.cancel(A, id_)))
    with pytest.raises(UploadUnknown):
        await finish(directed, id_, b"".join(pieces))
    assert scenes.played
    assert await world.entries("bilo") == []
    await world.settle()
    assert await world.faults() == []


# -- checkpoints


async def growing(registry: Registry, rival: Callable[[], Awaitable[object]]) -> None:
    """Append one long chunk, in the middle of which, checkpointed, the rival acts."""
    id_ = (await registry.uploads.begin(A)).id

    async def body() -> AsyncIterator[bytes]:
        for number in range(4):
            yield content(256 * 1024, f"{number}")
            if number == 2:
                await rival()

    await registry.uploads.append(A, id_, body())


async def checkpointed(world: World) -> tuple[str, int]:
    """Wait for the only upload's checkpoint; return its id and how many bytes of it are named."""
    while not (session := (await world.sessions())[0]).parts:  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0)
    (entry,) = await world.entries("u")
    assert not session.parts[0].closed
    return keys.parts(entry.key)[1], session.offset


async def end_open_upload(world: World, registry: Registry) -> Digest:
    """Close the only upload, whose one part is being written, at its checkpoint."""
    id_, size = await checkpointed(world)
    whole = b"".join(content(256 * 1024, f"{number}") for number in range(4))
    assert 0 < size < len(whole)
    return await finish(registry, id_, whole[:size])


@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "checkpointed"])
async def test_an_expired_upload_is_no_fresh_one(
    world: World, directed: Registry, registry: Registry, *, named: bool
) -> None:
    id_ = (await directed.uploads.begin(A)).id

    async def body() -> AsyncIterator[bytes]:
        yield content(700_000 if named else 256 * 1024)
        if named:
            await checkpointed(world)
        world.clock.advance(2 * world.settings.session_age)
        assert (await world.collect(aged=False)).expired == 1
        yield content(MIDDLE)

    with pytest.raises(UploadUnknown):
        await directed.uploads.append(A, id_, body())
    assert await world.entries("u") == []
    with pytest.raises(UploadUnknown):
        await registry.uploads.append(A, id_, chunks(b"again"))
    await world.settle()
    assert await world.faults() == []


@pytest.mark.parametrize("again", [False, True])
async def test_the_loser_leaves_a_part_that_a_checkpoint_named(
    world: World, directed: Registry, registry: Registry, *, again: bool
) -> None:
    ended: list[Digest] = []

    async def rival() -> None:
        ended.append(await end_open_upload(world, registry))
        if again:
            await world.collect(aged=False)

    with pytest.raises((UploadUnknown, RangeInvalid)):
        await growing(directed, rival)
    record = await world.blob(ended[0])
    assert record is not None
    assert len(await read(registry, ended[0])) == record.size


async def test_the_session_comes_before_its_first_byte(
    world: World, directed: Registry, registry: Registry, scenes: Scenes
) -> None:
    data = content(MIDDLE)
    id_ = (await directed.uploads.begin(A)).id

    async def rival() -> None:
        assert len(await world.objects()) == 1
        await world.collect(aged=False)

    scenes.after_next("chunk", "", doing(rival))
    await directed.uploads.append(A, id_, chunks(data, b""))
    assert scenes.played
    assert await read(registry, await finish(registry, id_, data)) == data


async def test_a_large_body_has_a_session_before_its_first_byte(
    world: World, directed: Registry, scenes: Scenes
) -> None:
    data = content(LARGE)
    scenes.after_next("chunk", "", doing(lambda: world.collect(aged=False)))
    await directed.uploads.put(A, Digest.of(data), chunks(data, b""))
    assert scenes.played
    assert await read(directed, Digest.of(data)) == data


async def test_a_blob_of_an_open_part_does_not_grow(
    world: World, directed: Registry, registry: Registry
) -> None:
    ended: list[Digest] = []

    async def rival() -> None:
        ended.append(await end_open_upload(world, registry))

    with pytest.raises(UploadUnknown):
        await growing(directed, rival)
    assert Digest.of(await read(registry, ended[0])) == ended[0]


async def test_an_open_part_is_copied_not_promoted(
    world: World, directed: Registry, registry: Registry
) -> None:
    ended: list[Digest] = []

    async def rival() -> None:
        ended.append(await end_open_upload(world, registry))
        await world.collect(aged=False)

    with pytest.raises(UploadUnknown):
        await growing(directed, rival)
    await bytes_of_promoted(world)
    await world.collect(aged=False)
    assert Digest.of(await read(registry, ended[0])) == ended[0]
    await bytes_of_promoted(world)


# -- tags, hints and indexes


@pytest.fixture
async def manifest(registry: Registry) -> bytes:
    """A manifest that is pushed, without any tag."""
    await push_all(registry, [])
    raw = image(annotations={"one": "1"})
    await push_manifest(registry, raw)
    return raw


async def dangling(world: World) -> list[str]:
    """Return what fsck says of tags."""
    registry = await world.registry()
    return [one.about async for one in registry.fsck.run() if "tag" in one.what]


async def test_a_tag_does_not_outlive_its_manifest(
    world: World, directed: Registry, registry: Registry, scenes: Scenes, manifest: bytes
) -> None:
    scenes.before_next("commit", "M", doing(lambda: push_manifest(registry, manifest, "late")))
    await directed.manifests.delete(A, Digest.of(manifest))
    assert scenes.played
    assert await dangling(world) == []
    with pytest.raises(ManifestUnknown):
        await tagged(registry, "late")


async def test_a_tag_that_comes_while_the_tags_are_deleted(
    world: World, directed: Registry, registry: Registry, scenes: Scenes, manifest: bytes
) -> None:
    """The deleter must have read the manifest's record before it looks for tags."""
    await push_manifest(registry, manifest, "old")
    scenes.after_next("scan", "h", doing(lambda: push_manifest(registry, manifest, "late")))
    await directed.manifests.delete(A, Digest.of(manifest))
    assert scenes.played
    assert await dangling(world) == []
    assert (await registry.tags.list(A, limit=10)).items == ()


async def test_a_hint_that_is_right_again_is_kept(
    world: World, directed: Registry, registry: Registry, scenes: Scenes, manifest: bytes
) -> None:
    other = image(annotations={"two": "2"})
    await push_manifest(registry, manifest, "moving")
    await push_manifest(registry, other, "moving")
    scenes.before_next("commit", "H", doing(lambda: push_manifest(registry, manifest, "moving")))
    await directed.manifests.delete(A, Digest.of(manifest))
    assert scenes.played
    assert await dangling(world) == []


async def test_a_tag_that_moved_on_is_kept(
    directed: Registry, registry: Registry, scenes: Scenes, manifest: bytes
) -> None:
    other = image(annotations={"two": "2"})
    await push_manifest(registry, manifest, "moving")
    scenes.before_next("commit", "TH", doing(lambda: push_manifest(registry, other, "moving")))
    await directed.manifests.delete(A, Digest.of(manifest))
    assert scenes.played
    assert await tagged(registry, "moving") == Digest.of(other)
    with pytest.raises(ManifestUnknown):
        await registry.manifests.get(Reference(A, Digest.of(manifest)))


async def test_an_index_collides_with_the_deletion_of_its_child(
    directed: Registry, registry: Registry, scenes: Scenes, manifest: bytes
) -> None:
    scenes.before_next("commit", "M", doing(lambda: push_index(registry, index(manifest), "both")))
    await directed.manifests.delete(A, Digest.of(manifest))
    deletions = [call for call in scenes.calls if call.concerns("commit", "M")]
    assert len(deletions) == 2, "the first must have failed, for the index came meanwhile"
    assert await tagged(registry, "both") == Digest.of(index(manifest))
